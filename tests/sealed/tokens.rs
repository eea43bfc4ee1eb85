//! Tokens that are not what they say.

use tenantry::sql::Installation;
use tenantry::{Error, ErrorKind};

use crate::stage::{Context, intruder, key, key_of, kind, sealed_world, seen, signed};

fn message(error: sqlx::Error) -> (ErrorKind, String) {
    let error = Error::from(error);
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn what_was_altered_is_refused() {
    let world = sealed_world().await;
    let mut app = intruder(&world).await;
    let right = signed(&world, "a", "k1", 60).await;
    assert_eq!(
        seen(&mut app, right.clone()).await.expect("served"),
        ["a note of a"]
    );
    let token = right.0.last().expect("a token").clone();
    let other = signed(&world, "b", "k1", 60).await;
    let cases = [
        ("the tenant", right.clone().with(1, "b")),
        ("the user", right.clone().with(2, "root")),
        ("a setting", right.clone().with(3, "owner")),
        ("the end", right.clone().with(5, "99999999999")),
        ("no end", right.clone().with(5, "infinity")),
        (
            "the token",
            right.clone().with(6, &token.replace(|c| c != '0', "0")),
        ),
        ("no token", right.clone().with(6, "")),
        ("half a token", right.clone().with(6, &token[..32])),
        (
            "in upper case",
            right.clone().with(6, &token.to_uppercase()),
        ),
        ("of another context", other.clone().with(1, "a")),
        (
            "two elements made one",
            Context(vec![
                "sealed-1".into(),
                "a".into(),
                "user of a,clerk".into(),
                right.0[4].clone(),
                right.0[5].clone(),
                token.clone(),
            ]),
        ),
        ("one element less", {
            let mut less = right.clone();
            less.0.remove(3);
            less
        }),
    ];
    for (what, context) in cases {
        let (kind, text) = message(seen(&mut app, context).await.expect_err(what));
        assert_eq!(kind, ErrorKind::ContextRefused, "{what}");
        assert!(text.contains("secret"), "{what}: {text}");
    }
}

#[tokio::test]
async fn what_is_too_old_is_refused() {
    let world = sealed_world().await;
    let mut app = intruder(&world).await;
    for seconds in [-1, -3_600, -4_000_000_000] {
        let old = signed(&world, "a", "k1", seconds).await;
        let (kind, text) = message(seen(&mut app, old).await.expect_err("too old"));
        assert_eq!(kind, ErrorKind::ContextRefused);
        assert!(text.contains("clock"), "{text}");
    }
    // One that was right when the transaction began is good for all of it.
    let last = signed(&world, "a", "k1", 1).await;
    sqlx::raw_sql("BEGIN")
        .execute(&mut app)
        .await
        .expect("begun");
    seen(&mut app, last.clone()).await.expect("served");
    sqlx::raw_sql("SELECT pg_sleep(1.2)")
        .execute(&mut app)
        .await
        .expect("slept");
    assert_eq!(
        seen(&mut app, last.clone()).await.expect("served"),
        ["a note of a"]
    );
    sqlx::raw_sql("COMMIT")
        .execute(&mut app)
        .await
        .expect("committed");
    assert!(
        seen(&mut app, last).await.is_err(),
        "in the next one it is not"
    );
}

#[tokio::test]
async fn a_key_that_the_database_does_not_know() {
    let world = sealed_world().await;
    let unknown = crate::stage::builder(world.app.clone())
        .signing_key(key("k2"))
        .build()
        .await
        .expect("built");
    let scope = crate::stage::scope(&unknown, "a").await;
    let (kind, text) = message(
        crate::support::notes(&scope)
            .await
            .expect_err("no such key"),
    );
    assert_eq!(kind, ErrorKind::ContextRefused);
    assert!(text.contains("add_signing_key"), "{text}");

    let other = crate::stage::builder(world.app.clone())
        .signing_key(key_of("k1", "another"))
        .build()
        .await
        .expect("built");
    let scope = crate::stage::scope(&other, "a").await;
    let (kind, text) = message(
        crate::support::notes(&scope)
            .await
            .expect_err("another secret"),
    );
    assert_eq!(kind, ErrorKind::ContextRefused);
    assert!(text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_key_that_was_retired() {
    let world = sealed_world().await;
    let registry = crate::stage::registry(&world).await;
    let a = crate::stage::scope(&registry, "a").await;
    crate::support::notes(&a).await.expect("served");
    let mut admin = world.admin().await;
    assert!(
        Installation::retire_signing_key(&mut admin, "k1")
            .await
            .expect("retired")
    );
    assert!(
        !Installation::retire_signing_key(&mut admin, "k1")
            .await
            .expect("asked")
    );
    let error = crate::support::notes(&a).await.expect_err("retired");
    assert_eq!(kind(error), ErrorKind::ContextRefused);
}

/// What is not defended: who has got hold of a context that has not expired can send it again. It
/// is in no text and no setting; a process, a wire without TLS or a log of bound arguments has it.
#[tokio::test]
async fn a_captured_context_can_be_replayed_until_it_expires() {
    let world = sealed_world().await;
    let captured = signed(&world, "b", "k1", 2).await;
    let mut app = intruder(&world).await;
    assert_eq!(
        seen(&mut app, captured.clone()).await.expect("served"),
        ["a note of b"]
    );
    tokio::time::sleep(std::time::Duration::from_millis(3_200)).await;
    let error = seen(&mut app, captured).await.expect_err("expired");
    assert_eq!(kind(error), ErrorKind::ContextRefused);
}
