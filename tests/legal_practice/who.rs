//! Who may do what, and since when.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::tokens;
use crate::world::{SECRET, World, assert_refused};

pub async fn a_token_is_needed(world: &World) {
    let mut nobody = world.anybody(None);
    assert_refused(&nobody.get("/cases").await, 401, "token-absent");
    let mut partner = world.user("partner", "axo").await;
    assert_eq!(partner.get("/cases").await.status, 200);
    let token = partner.token.clone().expect("a token");
    let (signed, _signature) = token.rsplit_once('.').expect("a signature");
    let mut forger = world.anybody(Some(format!("{signed}.{}", "A".repeat(43))));
    assert_refused(&forger.get("/cases").await, 401, "token-signature");
    let mut garbler = world.anybody(Some("x".to_owned()));
    assert_refused(&garbler.get("/cases").await, 401, "token-malformed");
    // Signed by another process, that is, by another key of the same name.
    let elsewhere = tokens::Tokens::new().expect("a secret");
    let axo = "axo".parse().expect("a tenant");
    let token = elsewhere.sign("partner", &axo).expect("a token");
    let mut stranger = world.anybody(Some(token));
    assert_refused(&stranger.get("/cases").await, 401, "token-signature");
    // Signed by us, for somebody who is no member: the one refusal that asks the database.
    let token = world
        .practice
        .tokens
        .sign("stranger", &axo)
        .expect("a token");
    let mut stranger = world.anybody(Some(token));
    assert_refused(&stranger.get("/cases").await, 403, "not-a-member");
}

/// Each defect has its own refusal, and none of them is a question to the database.
pub async fn a_bad_token_is_refused_before_anything_is_asked(world: &World) {
    let good = json!({
        "iss": tokens::ISSUER, "aud": tokens::AUDIENCE, "sub": "partner", "org": "axo",
        "exp": now() + 600,
    });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        sign(&header("HS256", tokens::KEY), &claims)
    };
    let mut partner = world.anybody(Some(sign(&header("HS256", tokens::KEY), &good)));
    assert_eq!(partner.get("/cases").await.status, 200);

    let leases = world.practice.registry.status().leases;
    for (token, name) in [
        (with("exp", json!(now() - 600)), "token-expired"),
        (with("nbf", json!(now() + 600)), "token-not-yet-valid"),
        (
            with("aud", json!("https://elsewhere.example/")),
            "token-audience",
        ),
        (
            with("iss", json!("https://elsewhere.example/")),
            "token-issuer",
        ),
        (with("org", json!(["axo", "bruma"])), "token-claims"),
        (with("org", Value::Null), "token-claims"),
        (sign(&header("none", tokens::KEY), &good), "token-algorithm"),
        (
            sign(&header("RS256", tokens::KEY), &good),
            "token-algorithm",
        ),
        (sign(&header("HS256", "another"), &good), "token-key"),
    ] {
        let mut somebody = world.anybody(Some(token));
        assert_refused(&somebody.get("/cases").await, 401, name);
    }
    assert_eq!(
        world.practice.registry.status().leases,
        leases,
        "the database was asked"
    );
    // The one refusal that does ask, because it is not the token that is wrong.
    let mut stranger = world.anybody(Some(with("sub", json!("stranger"))));
    assert_refused(&stranger.get("/cases").await, 403, "not-a-member");
    assert!(world.practice.registry.status().leases > leases);
}

fn header(algorithm: &str, key: &str) -> Value {
    json!({"typ": "JWT", "alg": algorithm, "kid": key})
}

/// With HS256 and the right secret, whatever the header says.
fn sign(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(&SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.expect("signed"))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

pub async fn roles_decide_what_a_user_may(world: &World) {
    let mut clerk = world.user("clerk", "axo").await;
    let mut bookkeeper = world.user("bookkeeper", "axo").await;
    let mut partner = world.user("partner", "axo").await;
    let case = crate::routes::open_case(&mut clerk, "Shared").await;
    let invoice = json!({"case_id": case.id, "amount": 100});
    let refused = "permission-denied";
    assert_refused(&clerk.post("/invoices", &invoice).await, 403, refused);
    assert_refused(&clerk.get("/trail").await, 403, refused);
    assert_eq!(bookkeeper.post("/invoices", &invoice).await.status, 201);
    assert_eq!(bookkeeper.get("/trail").await.status, 200);
    // Granted by `*:view`, and denied by name.
    assert_refused(&bookkeeper.get("/members").await, 403, refused);
    let case = crate::routes::open_case(&mut clerk, "Removed").await;
    let path = format!("/cases/{}?version=1", case.id);
    assert_refused(&bookkeeper.delete(&path).await, 403, refused);
    assert_refused(&clerk.delete(&path).await, 403, refused);
    assert_eq!(partner.delete(&path).await.status, 200);
    // A role of one organisation is none in another.
    let mut other = world.user("clerk", "bruma").await;
    let promote = "/members/clerk/roles/partner";
    assert_eq!(partner.ask(Method::PUT, promote, &()).await.status, 200);
    assert_refused(&other.get("/trail").await, 403, refused);
}

/// Through HTTP, and in a second process that shares nothing with the first but the servers.
pub async fn a_revoked_role_is_gone_within_the_bound(world: &World) {
    let second = second_process(world).await;
    let mut partner = world.user("partner", "axo").await;
    let mut clerk = world.user("clerk", "axo").await;
    let context = tenantry::TenantContext::new("axo".parse::<tenantry::TenantId>().expect("id"));
    let scope = second
        .registry
        .scope(context.user("clerk"))
        .await
        .expect("a scope");
    let view: tenantry::Permission = "trail:view".parse().expect("a permission");
    let role = "/members/clerk/roles/bookkeeper";
    for _ in 0..5 {
        assert_eq!(partner.put(role, &()).await.status, 200);
        let granted = async {
            while second.authorizer.check(&scope, &view).await != tenantry::Decision::Granted {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), granted).await;
        in_time.expect("granted at last");
        // The process that made the change hears of it as any other does.
        while clerk.get("/trail").await.status != 200 {}

        assert_eq!(partner.delete(role).await.status, 200);
        let revoked = Instant::now();
        let mut tries = 0;
        let mut late = 0;
        while tries < 10_000 || revoked.elapsed() < Duration::from_secs(1) {
            let decision = second.authorizer.check(&scope, &view).await;
            if decision == tenantry::Decision::Granted && revoked.elapsed() >= BOUND {
                late += 1;
            }
            tries += 1;
        }
        assert_eq!(late, 0, "of {tries} tries");
        assert_refused(&clerk.get("/trail").await, 403, "permission-denied");
    }
}

/// As `Authorizer` states it.
const BOUND: Duration = Duration::from_secs(1);

pub async fn a_member_who_left_is_out(world: &World) {
    let mut partner = world.user("partner", "axo").await;
    let mut clerk = world.user("clerk", "axo").await;
    assert_eq!(clerk.get("/cases").await.status, 200);
    assert_eq!(partner.delete("/members/clerk").await.status, 200);
    tokio::time::sleep(BOUND).await;
    // The token is still good; its organisation is not the user's any more.
    assert_refused(&clerk.get("/cases").await, 403, "not-a-member");
    assert_refused(
        &partner.delete("/members/clerk").await,
        404,
        "no-such-member",
    );
    assert_eq!(
        world
            .user("clerk", "bruma")
            .await
            .get("/cases")
            .await
            .status,
        200
    );
}

async fn second_process(world: &World) -> crate::practice::Practice {
    crate::app::practice(world.database.service.clone(), None)
        .await
        .expect("a practice")
}
