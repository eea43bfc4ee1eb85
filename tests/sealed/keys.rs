//! Keys come and go while statements go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tenantry::ErrorKind;
use tenantry::sql::Installation;

use crate::stage::{builder, key, key_of, kind, plain, registry, scope, sealed_world};
use crate::support::{notes, world_with};

#[tokio::test]
async fn two_live_keys() {
    let world = sealed_world().await;
    let first = registry(&world).await;
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let a = scope(&first, "a").await;
    let task = {
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
                served.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut admin = world.admin().await;
    Installation::add_signing_key(&mut admin, &key("k2"))
        .await
        .expect("added");
    let second = builder(world.app.clone())
        .signing_key(key("k2"))
        .build()
        .await
        .expect("built");
    let b = scope(&second, "b").await;
    let before = served.load(Ordering::Relaxed);
    while served.load(Ordering::Relaxed) < before + 20 {
        assert_eq!(notes(&b).await.expect("served"), ["a note of b"]);
    }
    stop.store(true, Ordering::Relaxed);
    task.await.expect("no statement failed");
    Installation::retire_signing_key(&mut admin, "k1")
        .await
        .expect("retired");
    assert_eq!(notes(&b).await.expect("served"), ["a note of b"]);
    let a = scope(&first, "a").await;
    assert_eq!(
        kind(notes(&a).await.expect_err("retired")),
        ErrorKind::ContextRefused
    );
}

#[tokio::test]
async fn adding_again_changes_nothing_and_another_secret_is_refused() {
    let world = sealed_world().await;
    let mut admin = world.admin().await;
    Installation::add_signing_key(&mut admin, &key("k1"))
        .await
        .expect("the same");
    let error = Installation::add_signing_key(&mut admin, &key_of("k1", "another")).await;
    assert_eq!(error.expect_err("another").kind(), ErrorKind::Installation);
    assert_eq!(
        notes(&scope(&registry(&world).await, "a").await)
            .await
            .expect("served"),
        ["a note of a"]
    );
}

#[tokio::test]
async fn without_a_seal_there_are_no_keys() {
    let world = world_with(plain(), &["a"]).await;
    let mut admin = world.admin().await;
    let errors = [
        Installation::add_signing_key(&mut admin, &key("k1"))
            .await
            .expect_err("no table"),
        Installation::retire_signing_key(&mut admin, "k1")
            .await
            .expect_err("no table"),
        Installation::rotate_server_key(&mut admin)
            .await
            .expect_err("no table"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Installation, "{error}");
        assert!(error.to_string().contains("sealed"), "{error}");
    }
}

#[tokio::test]
async fn the_key_of_the_server() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    let mut admin = world.admin().await;
    let mut tx = a.begin().await.expect("begun");
    notes(&mut tx).await.expect("served");
    // A transaction that is under way goes on after one rotation.
    Installation::rotate_server_key(&mut admin)
        .await
        .expect("rotated");
    let raw = sqlx::raw_sql("SELECT body FROM notes")
        .fetch_all(&mut tx)
        .await;
    assert_eq!(raw.expect("served").len(), 1);
    // And not after two, because somebody may have the key.
    Installation::rotate_server_key(&mut admin)
        .await
        .expect("rotated");
    let error = notes(&mut tx)
        .await
        .expect_err("sealed with a key that is gone");
    assert_eq!(kind(error), ErrorKind::ContextRefused);
    drop(tx);
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
}

#[tokio::test]
async fn keys_are_those_of_one_database_and_stay() {
    let world = sealed_world().await;
    let other = sealed_world().await;
    let pads = "SELECT string_agg(md5(inner_pad || outer_pad), ' ') FROM (SELECT inner_pad, outer_pad \
                FROM tenantry.server_key UNION ALL SELECT inner_pad, outer_pad FROM tenantry.signing_keys) AS k";
    let mut admin = world.admin().await;
    let before: String = sqlx::query_scalar(pads)
        .fetch_one(&mut admin)
        .await
        .expect("keys");
    for installation in [
        plain().sealed(),
        plain().unseal(),
        plain().prepare_seal(),
        plain().sealed(),
    ] {
        installation.install(&mut admin).await.expect("installed");
        let after: String = sqlx::query_scalar(pads)
            .fetch_one(&mut admin)
            .await
            .expect("keys");
        assert_eq!(after, before);
    }
    let server = "SELECT inner_pad FROM tenantry.server_key";
    let one: Vec<u8> = sqlx::query_scalar(server)
        .fetch_one(&mut admin)
        .await
        .expect("a key");
    let two: Vec<u8> = sqlx::query_scalar(server)
        .fetch_one(&mut other.admin().await)
        .await
        .expect("a key");
    assert_ne!(one, two);
    let bytes: std::collections::BTreeSet<u8> = one[..32].iter().copied().collect();
    assert!(bytes.len() > 16, "random bytes: {one:?}");
    assert_eq!(one[32..], [0x36; 32]);
}
