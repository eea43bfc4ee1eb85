//! Ids of tenants.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use serde_json::json;
use sqlx::Connection as _;
use tenantry::{
    HeaderFields, HeaderResolver, HostResolver, PathResolver, RequestHead, TenantContext, TenantId,
    TenantJob, TenantResolver,
};

use crate::corpus::{self, NO_TEXT, shown};
use crate::issuer::{SECRET, Signer, claims, header, hs256, resolver};
use crate::support::world;
use crate::untouched::picture;

/// What the docs of `TenantId` say, written down once more.
fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.len() <= 63
        && text.bytes().next().is_some_and(is_plain)
        && text
            .bytes()
            .all(|byte| is_plain(byte) || b"-_.".contains(&byte))
}

#[test]
fn id_is_taken_whole_or_refused_by_every_way_in() {
    for text in corpus::texts() {
        let quoted = json!(text).to_string();
        let context = json!({ "tenant": text }).to_string();
        let job = json!({ "context": { "tenant": text }, "payload": 1 }).to_string();
        let ways: [(&str, Option<TenantId>); 6] = [
            ("parse", text.parse().ok()),
            ("&str", TenantId::try_from(&*text).ok()),
            ("String", TenantId::try_from(text.clone()).ok()),
            ("JSON", serde_json::from_str(&quoted).ok()),
            (
                "context",
                serde_json::from_str(&context)
                    .ok()
                    .map(|context: TenantContext| context.tenant().clone()),
            ),
            (
                "job",
                serde_json::from_str(&job)
                    .ok()
                    .map(|job: TenantJob<u32>| job.context().tenant().clone()),
            ),
        ];
        for (way, id) in ways {
            let expected = is_id(&text).then_some(&*text);
            assert_eq!(
                id.as_ref().map(TenantId::as_str),
                expected,
                "{way}: {}",
                shown(&text)
            );
        }
        let token = sign(json!({ "org": text })["org"].to_string().as_bytes());
        let id = resolver(hs256()).verify(&token).ok();
        assert_eq!(
            id.as_ref().map(|context| context.tenant().as_str()),
            is_id(&text).then_some(&*text),
            "{}",
            shown(&text)
        );
    }
}

/// A token with this organisation, as it stands in the claims.
fn sign(organisation: &[u8]) -> String {
    let mut all = claims();
    all["org"] = json!("here");
    let all = all.to_string();
    let (before, after) = all.split_once("\"here\"").expect("it is there");
    let claims = [before.as_bytes(), organisation, after.as_bytes()].concat();
    let header = header("HS256", None).to_string();
    let encoded = [header.as_bytes(), &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    Signer::hs256(SECRET).sign_message(&encoded.join("."))
}

struct Field<'r>(&'r [u8]);

impl HeaderFields for Field<'_> {
    fn each<'r>(&'r self, name: &str, each: &mut dyn FnMut(&'r [u8])) {
        if name == "x-tenant-id" {
            each(self.0);
        }
    }
}

fn resolved(resolver: &impl TenantResolver, head: &RequestHead<'_>) -> Option<String> {
    let answer = resolver.resolve(head).now_or_never().expect("no waiting");
    answer.ok().map(|context| context.tenant().to_string())
}

#[test]
fn request_names_the_tenant_that_was_sent_or_none() {
    let by_header = HeaderResolver::new("x-tenant-id").expect("a name");
    let by_path = PathResolver::after("/t").expect("a prefix");
    let by_host = HostResolver::subdomain_of("example.com").expect("a domain");
    for text in corpus::texts() {
        let field = Field(text.as_bytes());
        let tenant = resolved(&by_header, &RequestHead::new(None, "/", &field));
        let expected = is_id(&text).then(|| text.clone());
        assert_eq!(tenant, expected, "{}", shown(&text));

        let path = format!("/t/{text}/invoices");
        let tenant = resolved(&by_path, &RequestHead::new(None, &path, &[]));
        if let Some(tenant) = tenant {
            let segment = text.split('/').next().expect("one");
            assert_eq!(tenant, segment, "{}", shown(&text));
        }

        let host = format!("{text}.example.com");
        let tenant = resolved(&by_host, &RequestHead::new(Some(&host), "/", &[]));
        if let Some(tenant) = tenant {
            assert_eq!(tenant, text.to_ascii_lowercase(), "{}", shown(&text));
        }
        // Nor is any of it a domain, a prefix or a field that would mean another one.
        for refused in ["\0", "a\nb", "a\r\nX-Tenant-Id: b"] {
            assert!(HostResolver::subdomain_of(refused).is_err());
            assert!(HeaderResolver::new(refused).is_err());
        }
    }
}

#[test]
fn bytes_that_are_no_text_name_nobody() {
    let by_header = HeaderResolver::new("x-tenant-id").expect("a name");
    for bytes in NO_TEXT {
        let field = Field(bytes);
        let tenant = resolved(&by_header, &RequestHead::new(None, "/", &field));
        assert_eq!(tenant, None, "{bytes:?}");
        let quoted = [b"\"", *bytes, b"\""].concat();
        assert!(serde_json::from_slice::<TenantId>(&quoted).is_err());
        assert!(resolver(hs256()).verify(&sign(&quoted)).is_err());
        let context = [b"{\"tenant\":\"a\",\"user\":", &*quoted, b"}"].concat();
        assert!(serde_json::from_slice::<TenantContext>(&context).is_err());
    }
    // A half of a pair that is escaped, and is no text either.
    for half in [r#""a\ud800""#, r#""a\udc00b""#, r#""\ud800\ud800""#] {
        assert!(serde_json::from_str::<TenantId>(half).is_err());
        assert!(resolver(hs256()).verify(&sign(half.as_bytes())).is_err());
    }
}

/// Whatever it looks like to somebody.
const ODD_IDS: &[&str] = &[
    "NULL",
    "true",
    "select",
    "drop",
    "1--",
    "0",
    "00",
    "0.0",
    "1e5",
    "0x10",
    "a.b",
    "a..b",
    "a.",
    "a-",
    "a_",
    "a--b",
    "a_b",
    "aXb",
    "public",
    "pg_catalog",
    "app.tenant_id",
    "con",
    "nul",
    "x.sqlite",
    "x.sqlite-wal",
    "xn--80ak6aa92e",
];

#[tokio::test]
async fn each_id_is_one_tenant_and_no_other() {
    let world = world(&["a", "b"]).await;
    let before = picture(&world, &[]).await;
    let registry = world.registry().await;
    let mut ids: BTreeSet<String> = corpus::texts().into_iter().filter(|id| is_id(id)).collect();
    ids.extend(ODD_IDS.iter().map(|id| (*id).to_owned()));
    ids.retain(|id| id != "a" && id != "b");
    assert!(ids.len() > 30, "{}", ids.len());
    for id in &ids {
        let tenant: TenantId = id.parse().expect(id);
        let scope = registry.scope(tenant).await.expect("a scope");
        sqlx::query("INSERT INTO notes (body) VALUES ($1)")
            .bind(id)
            .execute(&scope)
            .await
            .expect("kept");
        let mut tx = scope.begin().await.expect("begun");
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT tenant_id, body FROM notes")
            .fetch_all(&mut tx)
            .await
            .expect("rows");
        assert_eq!(rows, [(id.clone(), id.clone())]);
        tx.rollback().await.expect("rolled back");
    }
    let mut admin = world.admin().await;
    let others: Vec<(String, String)> = sqlx::query_as(
        "DELETE FROM notes WHERE tenant_id NOT IN ('a', 'b') RETURNING tenant_id, body",
    )
    .fetch_all(&mut admin)
    .await
    .expect("rows");
    admin.close().await.expect("closed");
    assert_eq!(others.len(), ids.len());
    assert!(others.iter().all(|(tenant, body)| tenant == body));
    assert_eq!(picture(&world, &[]).await, before);
}
