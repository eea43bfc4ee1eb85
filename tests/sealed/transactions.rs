//! Transactions whose first argument says the context.

use futures_util::StreamExt as _;
use sqlx::Executor as _;
use tenantry::testing::{FaultProxy, cancelled_after};
use tenantry::{CommitError, ErrorKind, TenantTx, TxOptions};

use crate::stage::{builder, key, kind, registry, run, scope, sealed_world};
use crate::support::notes;

async fn raw(tx: &mut TenantTx, text: &'static str) -> Result<usize, sqlx::Error> {
    Ok(sqlx::raw_sql(text).fetch_all(tx).await?.len())
}

#[tokio::test]
async fn what_has_no_argument_comes_after_the_context() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    for text in [
        "SELECT body FROM notes",
        "DECLARE c CURSOR FOR SELECT body FROM notes",
        "CREATE TABLE copied AS SELECT * FROM notes",
        "DO $$ BEGIN PERFORM 1; END $$",
        "SET enable_sort = off",
        "LISTEN something",
        "SET LOCAL enable_sort = off; SELECT body FROM notes",
    ] {
        let mut tx = a.begin().await.expect("begun");
        let error = raw(&mut tx, text).await.expect_err(text);
        assert_eq!(kind(error), ErrorKind::StatementRefused, "{text}");
        // Nothing was sent: the transaction goes on.
        assert_eq!(notes(&mut tx).await.expect(text), ["a note of a"]);
        tx.commit().await.expect(text);
    }
    let mut tx = a.begin().await.expect("begun");
    raw(&mut tx, "-- nothing").await.expect("nothing is done");
    for text in [
        "SET LOCAL enable_sort = off",
        "LOCK TABLE notes IN SHARE MODE",
        "SET CONSTRAINTS ALL DEFERRED",
        "NOTIFY something",
    ] {
        raw(&mut tx, text).await.expect(text);
        (&mut tx).execute(text).await.expect(text);
        sqlx::query(text).execute(&mut tx).await.expect(text);
    }
    assert_eq!(notes(&mut tx).await.expect("served"), ["a note of a"]);
    assert_eq!(
        raw(&mut tx, "SELECT body FROM notes")
            .await
            .expect("served"),
        1
    );
    raw(&mut tx, "DECLARE c CURSOR FOR SELECT body FROM notes")
        .await
        .expect("a cursor");
    assert_eq!(raw(&mut tx, "FETCH ALL FROM c").await.expect("rows"), 1);
    tx.commit().await.expect("committed");
}

#[tokio::test]
async fn a_transaction_without_a_statement_is_committed() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    a.begin()
        .await
        .expect("begun")
        .commit()
        .await
        .expect("committed");
    a.begin()
        .await
        .expect("begun")
        .rollback()
        .await
        .expect("rolled back");
    drop(a.begin().await.expect("begun"));
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
}

#[tokio::test]
async fn every_kind_of_transaction() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    for options in [
        TxOptions::default(),
        TxOptions::default().read_only(),
        TxOptions::default().serializable(),
        TxOptions::default().serializable().read_only().deferrable(),
        TxOptions::default().repeatable_read(),
        TxOptions::default().statement_timeout(std::time::Duration::from_secs(9)),
    ] {
        let mut tx = a.begin_with(&options).await.expect("begun");
        for _ in 0..3 {
            assert_eq!(notes(&mut tx).await.expect("served"), ["a note of a"]);
            assert_eq!(
                raw(&mut tx, "SELECT body FROM notes")
                    .await
                    .expect("served"),
                1
            );
        }
        tx.commit().await.expect("committed");
    }
    let mut tx = a.begin_read_only().await.expect("begun");
    assert_eq!(notes(&mut tx).await.expect("served"), ["a note of a"]);
    tx.commit().await.expect("committed");
    let counted: i64 = a
        .transaction(TxOptions::default().serializable(), |tx| {
            Box::pin(async move {
                let count = sqlx::query_scalar("SELECT count(*) FROM notes")
                    .fetch_one(tx)
                    .await?;
                Ok::<_, tenantry::Error>(count)
            })
        })
        .await
        .expect("counted");
    assert_eq!(counted, 1);
}

/// The seal that was made inside is undone with all else, and what comes without an argument then
/// has none.
#[tokio::test]
async fn savepoints() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    const RAW: &str = "SELECT body FROM notes";

    let mut tx = a.begin().await.expect("begun");
    let mut savepoint = tx.savepoint().await.expect("set");
    notes(&mut *savepoint).await.expect("served");
    assert_eq!(raw(&mut savepoint, RAW).await.expect("served"), 1);
    savepoint.rollback().await.expect("rolled back");
    let error = raw(&mut tx, RAW).await.expect_err("no context");
    assert_eq!(kind(error), ErrorKind::StatementRefused);
    notes(&mut tx).await.expect("served");
    assert_eq!(raw(&mut tx, RAW).await.expect("served"), 1);
    // One that was said outside comes back.
    let mut savepoint = tx.savepoint().await.expect("set");
    raw(
        &mut savepoint,
        "DO $$ BEGIN PERFORM set_config('tenantry.context', 'x', true); END $$",
    )
    .await
    .expect("set");
    raw(&mut savepoint, RAW).await.expect_err("no seal");
    savepoint.rollback().await.expect("rolled back");
    assert_eq!(raw(&mut tx, RAW).await.expect("served"), 1);
    tx.commit().await.expect("committed");

    // Released, it is part of what is around it.
    let mut tx = a.begin().await.expect("begun");
    {
        let mut outer = tx.savepoint().await.expect("set");
        let mut inner = outer.savepoint().await.expect("set");
        notes(&mut *inner).await.expect("served");
        inner.release().await.expect("released");
        assert_eq!(raw(&mut outer, RAW).await.expect("served"), 1);
        // Dropped: rolled back with the next statement.
    }
    let error = raw(&mut tx, RAW).await.expect_err("no context");
    assert_eq!(kind(error), ErrorKind::StatementRefused);
    notes(&mut tx).await.expect("served");
    tx.commit().await.expect("committed");

    // A statement that failed has said nothing.
    let mut tx = a.begin().await.expect("begun");
    let mut savepoint = tx.savepoint().await.expect("set");
    sqlx::query("SELECT 1 / 0")
        .execute(&mut *savepoint)
        .await
        .expect_err("it fails");
    savepoint.rollback().await.expect("rolled back");
    raw(&mut tx, RAW).await.expect_err("no context");
    tx.rollback().await.expect("rolled back");
}

#[tokio::test]
async fn copy_says_the_context_itself() {
    let world = sealed_world().await;
    run(
        &world,
        "CREATE TABLE loaded (body text); GRANT ALL ON loaded TO app",
    )
    .await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    let mut lines = Vec::new();
    {
        let mut out = tx
            .copy_out_raw("COPY (SELECT body FROM notes) TO STDOUT")
            .await
            .expect("a stream");
        while let Some(chunk) = out.next().await {
            lines.extend_from_slice(&chunk.expect("data"));
        }
    }
    assert_eq!(lines, b"a note of a\n");
    assert_eq!(
        raw(&mut tx, "SELECT body FROM notes").await.expect("said"),
        1
    );
    tx.commit().await.expect("committed");

    let mut tx = a.begin().await.expect("begun");
    let mut copy = tx
        .copy_in_raw("COPY loaded FROM STDIN")
        .await
        .expect("a stream");
    copy.send(b"x\n").await.expect("sent");
    assert_eq!(copy.finish().await.expect("finished"), 1);
    tx.commit().await.expect("committed");
}

#[tokio::test]
async fn the_hatch_has_the_context() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    let mut savepoint = tx.savepoint().await.expect("set");
    savepoint
        .dangerous_connection()
        .await
        .expect("a connection");
    savepoint.rollback().await.expect("rolled back");
    let connection = tx.dangerous_connection().await.expect("a connection");
    let rows = sqlx::raw_sql("SELECT body FROM notes")
        .fetch_all(connection)
        .await;
    assert_eq!(rows.expect("served").len(), 1);
    tx.commit().await.expect("committed");
}

/// Deferred triggers run inside COMMIT, under the seal.
#[tokio::test]
async fn deferred_triggers() {
    let world = sealed_world().await;
    run(
        &world,
        "CREATE TABLE seen (tenant text, by_setting text); GRANT ALL ON seen TO app;
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO seen VALUES (tenantry.current_tenant(), current_setting('app.tenant_id')); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER later AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION look();
         GRANT USAGE ON SCHEMA tenantry TO app",
    )
    .await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("INSERT INTO notes (body) VALUES ($1)")
        .bind("new")
        .execute(&mut tx)
        .await
        .expect("inserted");
    tx.commit().await.expect("committed");
    let seen: (String, String) = sqlx::query_as("SELECT * FROM seen")
        .fetch_one(&a)
        .await
        .expect("a row");
    assert_eq!(seen, ("a".to_owned(), "a".to_owned()));
}

/// The first statement, dropped at each of its polls: afterwards the transaction serves its own tenant
/// or says that it cannot, and never shows nothing where there is something.
#[tokio::test]
async fn the_first_statement_is_dropped() {
    let world = sealed_world().await;
    let wire = FaultProxy::start(&world.app).await.expect("a proxy");
    wire.set_latency(std::time::Duration::from_millis(1));
    let registry = builder(wire.connect_options(&world.app))
        .signing_key(key("k1"))
        .build()
        .await
        .expect("built");
    let a = scope(&registry, "a").await;
    let mut done = false;
    for polls in 0..80 {
        let mut tx = a.begin().await.expect("begun");
        done = cancelled_after(polls, notes(&mut tx)).await.is_some();
        match raw(&mut tx, "SELECT body FROM notes").await {
            Ok(rows) => assert_eq!(rows, 1, "after {polls} polls"),
            Err(error) => assert_eq!(
                kind(error),
                ErrorKind::StatementRefused,
                "after {polls} polls"
            ),
        }
        assert_eq!(
            notes(&mut tx).await.expect("served"),
            ["a note of a"],
            "after {polls} polls"
        );
        tx.commit().await.expect("committed");
        let b = scope(&registry, "b").await;
        let dropped = cancelled_after(polls, notes(&b)).await;
        assert!(dropped.is_none_or(|b| b.expect("served") == ["a note of b"]));
        assert_eq!(
            notes(&a).await.expect("served"),
            ["a note of a"],
            "after {polls} polls"
        );
        if done {
            break;
        }
    }
    assert!(done, "it never completed");
}

#[tokio::test]
async fn a_refused_context_dooms_its_transaction() {
    let world = sealed_world().await;
    let unknown = builder(world.app.clone())
        .signing_key(key("unknown"))
        .build()
        .await
        .expect("built");
    let a = scope(&unknown, "a").await;
    let mut tx = a.begin().await.expect("begun");
    let error = notes(&mut tx).await.expect_err("no such key");
    assert_eq!(kind(error), ErrorKind::ContextRefused);
    let error = tx.commit().await.expect_err("nothing to commit");
    assert!(matches!(error, CommitError::RolledBack(_)));
}

/// Round trips are those of the plain level.
#[tokio::test]
async fn no_further_round_trip() {
    let world = sealed_world().await;
    let wire = FaultProxy::start(&world.app).await.expect("a proxy");
    let registry = builder(wire.connect_options(&world.app))
        .signing_key(key("k1"))
        .build()
        .await
        .expect("built");
    let a = scope(&registry, "a").await;
    notes(&a).await.expect("warm");
    let before = wire.counts().round_trips();
    notes(&a).await.expect("served");
    assert_eq!(
        wire.counts().round_trips() - before,
        1,
        "one for a statement"
    );
    let before = wire.counts().round_trips();
    let mut tx = a.begin().await.expect("begun");
    notes(&mut tx).await.expect("served");
    tx.commit().await.expect("committed");
    assert_eq!(
        wire.counts().round_trips() - before,
        3,
        "BEGIN, the statement, COMMIT"
    );
}
