//! What a client is told, exactly; that it is told no more is asked of every refusal by the client.

use axum::http::Method;
use tenantry::{ResolveError, ResolveErrorKind as Kind};

use crate::client::{A, MARKER};
use crate::service::{Framework, REFUSALS, Stand};

pub async fn resolver_refuses<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for kind in REFUSALS {
        let refuse = format!("refuse {kind:?}");
        let ask = stand.ask(Method::GET, "/notes").header("x-tenant", &refuse);
        let token = |name| {
            let rule = ResolveError::new(kind);
            format!(r#"401 {name} Bearer error="invalid_token", error_description="{rule}""#)
        };
        let expected = match kind {
            Kind::Absent => "400 no-tenant".to_owned(),
            Kind::Malformed => "400 bad-tenant".to_owned(),
            Kind::Disagreement => "400 tenants-disagree".to_owned(),
            Kind::TokenAbsent => "401 token-absent Bearer".to_owned(),
            Kind::TokenMalformed => token("token-malformed"),
            Kind::TokenAlgorithm => token("token-algorithm"),
            Kind::TokenKey => token("token-key"),
            Kind::TokenSignature => token("token-signature"),
            Kind::TokenExpired => token("token-expired"),
            Kind::TokenNotYetValid => token("token-not-yet-valid"),
            Kind::TokenIssuer => token("token-issuer"),
            Kind::TokenAudience => token("token-audience"),
            Kind::TokenClaims => token("token-claims"),
            Kind::Unavailable => "503 unavailable after 1".to_owned(),
            other => panic!("{other:?} has no line here"),
        };
        assert_eq!(ask.send().await.rejection(), expected, "{kind:?}");
    }
    // No header at all, two of them, one that is none.
    let bare = stand.ask(Method::GET, "/notes");
    let twice = stand.get("/notes").header("x-tenant", A);
    let odd = bare.clone().header("x-tenant", "../etc");
    assert_eq!(bare.send().await.rejection(), "400 no-tenant");
    assert_eq!(twice.send().await.rejection(), "400 bad-tenant");
    assert_eq!(odd.send().await.rejection(), "400 bad-tenant");
    assert_eq!(stand.world.sessions().await, 0);
}

pub async fn tenant_is_refused<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let long = format!("{A} {}", "u".repeat(256));
    for (tenant, expected) in [
        ("nobody-1", "404 unknown-tenant"),
        ("suspended-1", "403 tenant-suspended"),
        ("deleted-1", "410 tenant-deleted"),
        ("undirected-1", "503 unavailable after 1"),
        (long.as_str(), "400 bad-tenant"),
    ] {
        let ask = stand.ask(Method::GET, "/notes").header("x-tenant", tenant);
        assert_eq!(ask.send().await.rejection(), expected, "{tenant}");
    }
    let moving = stand
        .ask(Method::GET, "/notes")
        .header("x-tenant", "moving-1");
    let moving = moving.send().await;
    let seconds: u64 = moving
        .header("retry-after")
        .and_then(|seconds| seconds.parse().ok())
        .expect("whole seconds");
    assert!(seconds >= 1);
    let expected = format!("503 tenant-moving after {seconds}");
    assert_eq!(moving.rejection(), expected);
    assert_eq!(stand.world.sessions().await, 0);
}

pub async fn errors_of_handlers<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for (what, expected) in [
        ("invalid-tenant-id", "400 bad-tenant"),
        ("invalid-context", "400 bad-tenant"),
        ("unknown-setting", "400 bad-tenant"),
        ("invalid-option", "500 internal"),
        ("statement-refused", "500 internal"),
        ("connection-lost", "503 connection-lost"),
        ("row-not-found", "404 not-found"),
        ("decode", "500 internal"),
        ("syntax", "500 internal"),
        ("time-out", "504 timed-out"),
        ("23505", "409 conflict"),
        ("23514", "409 conflict"),
        ("23503", "409 conflict"),
        ("40001", "503 contended after 1"),
        ("40P01", "503 contended after 1"),
        ("55P03", "503 contended after 1"),
        ("42501", "500 internal"),
        ("P0001", "500 internal"),
        ("22003", "500 internal"),
    ] {
        let answer = stand.post(&format!("/fail/{what}"), "").send().await;
        assert_eq!(answer.rejection(), expected, "{what}");
    }
    for (what, expected) in [
        ("aborted", "500 internal"),
        ("twice", "409 conflict"),
        ("swallowed", "500 internal"),
        ("40001", "503 contended after 1"),
        ("P0001", "500 internal"),
    ] {
        let answer = stand.post(&format!("/fail-in/{what}"), "").send().await;
        assert_eq!(answer.rejection(), expected, "{what}");
    }
    assert!(stand.kept().await.is_empty());
    stand.logged("ERROR", "a reason that is not the client's");
    stand.logged("WARN", "refused for its context");
    stand.serves().await;
}

pub async fn connections_that_are_not_to_be_had<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for path in ["/notes", "/notes-in-tx"] {
        let ask = stand
            .ask(Method::GET, path)
            .header("x-tenant", "unreachable-1");
        let answer = ask.send().await;
        assert_eq!(answer.status, 503);
        assert!(answer.rejection().starts_with("503 unavailable after "));
    }
    let lines = stand.log.lines();
    let told = |line: &&String| line.contains("tenantry::web") && line.contains(MARKER);
    assert!(!lines.iter().any(|line| told(&line)));
}

/// The transaction has the only one, and the scope is asked meanwhile.
pub async fn connection_that_the_request_itself_has<F: Framework>() {
    let stand = Stand::impatient::<F>().await;
    stand.serves().await;
    let answer = stand.post("/fail-in/acquire-timeout", "").send().await;
    assert_eq!(answer.rejection(), "503 busy after 1");
    stand.serves().await;
}

pub async fn registry_that_is_closed<F: Framework>() {
    let stand = Stand::start::<F>().await;
    stand.service.registry.close();
    let answer = stand.get("/notes").send().await;
    assert_eq!(answer.rejection(), "503 unavailable after 1");
}

pub async fn extraction_without_the_layer<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let answer = stand.get("/bare/scope").send().await;
    assert_eq!(answer.rejection(), "500 internal");
    stand.logged("ERROR", "no tenantry::web::TenantLayer is installed");
    let answer = stand.post("/bare/tx", "x").send().await;
    assert_eq!(answer.rejection(), "500 internal");
    let answer = stand.post("/bare/lazy", "x").send().await;
    assert_eq!(answer.rejection(), "500 internal");
    let answer = stand.post("/half/tx", "x").send().await;
    assert_eq!(answer.rejection(), "500 internal");
    stand.logged("ERROR", "no tenantry::web::TransactionLayer is installed");
    assert!(stand.kept().await.is_empty());
}
