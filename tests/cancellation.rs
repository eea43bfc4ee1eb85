//! Guarantee 2: every operation is dropped at each of its polls, with one connection, and the next
//! borrower must be outside any transaction, see no context but its own, and be served.

mod support;

use std::time::Duration;

use futures_util::StreamExt as _;
use sqlx::{AssertSqlSafe, Executor as _};
use support::{World, notes, scope, session, world};
use tenantry::testing::{FaultProxy, cancelled_after};
use tenantry::{ContextSettings, Error, PoolOptions, TenantRegistry, TenantScope};

/// More polls than any operation here takes.
const MOST: usize = 60;

async fn registry(world: &World, wire: &FaultProxy) -> TenantRegistry {
    let one = |options: PoolOptions| options.max_connections(1);
    world
        .registry_of(
            wire.connect_options(&world.app),
            ContextSettings::default(),
            one,
        )
        .await
}

/// What must be true after whatever A did.
async fn next_borrower_is_unharmed(registry: &TenantRegistry, polls: usize) {
    let b = scope(registry, "b").await;
    let first = session(&b).await.expect("the pool serves");
    let second = session(&b).await.expect("the pool serves");
    assert_eq!(first.tenant.as_deref(), Some("b"), "after {polls} polls");
    assert_eq!(
        first.user.as_deref(),
        Some("user of b"),
        "after {polls} polls"
    );
    assert_ne!(
        first.xid, second.xid,
        "inside a leftover transaction after {polls} polls"
    );
    assert_eq!(
        notes(&b).await.expect("served"),
        ["a note of b"],
        "after {polls} polls"
    );
    let mut tx = b.begin().await.expect("the pool serves");
    assert_eq!(notes(&mut tx).await.expect("served"), ["a note of b"]);
    tx.rollback().await.expect("rolled back");
}

/// Drops `operation` at each of its polls, until it completes.
async fn sweep<F>(registry: &TenantRegistry, operation: impl Fn(TenantScope) -> F) -> usize
where
    F: Future<Output = ()>,
{
    for polls in 0..MOST {
        let a = scope(registry, "a").await;
        let completed = cancelled_after(polls, operation(a)).await.is_some();
        next_borrower_is_unharmed(registry, polls).await;
        if completed {
            assert!(polls > 1, "an operation that never waits proves nothing");
            return polls;
        }
    }
    panic!("did not complete in {MOST} polls");
}

#[tokio::test]
async fn begin() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let registry = registry(&world, &wire).await;
    sweep(&registry, |a| async move {
        let tx = a.begin().await.expect("begun");
        drop(tx);
    })
    .await;
}

#[tokio::test]
async fn single_statement() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let registry = registry(&world, &wire).await;
    for text in [
        "SELECT body FROM notes",
        "UPDATE notes SET body = body",
        "SELECT txid_current()::text",
    ] {
        // A new text is prepared first; a known one is not. Both ways are swept.
        sweep(&registry, |a| async move {
            sqlx::query(text)
                .persistent(false)
                .fetch_all(&a)
                .await
                .expect("rows");
        })
        .await;
        sweep(&registry, |a| async move {
            sqlx::query(text).fetch_optional(&a).await.expect("rows");
        })
        .await;
    }
}

#[tokio::test]
async fn statement_in_a_transaction() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let registry = registry(&world, &wire).await;
    sweep(&registry, |a| async move {
        let mut tx = a.begin().await.expect("begun");
        sqlx::query("UPDATE notes SET body = 'changed'")
            .execute(&mut tx)
            .await
            .expect("updated");
    })
    .await;
    sweep(&registry, |a| async move {
        let mut tx = a.begin().await.expect("begun");
        sqlx::raw_sql("SELECT 1; SELECT 2")
            .execute(&mut tx)
            .await
            .expect("run");
    })
    .await;
}

#[tokio::test]
async fn savepoint() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let registry = registry(&world, &wire).await;
    sweep(&registry, |a| async move {
        let mut tx = a.begin().await.expect("begun");
        let mut savepoint = tx.savepoint().await.expect("set");
        notes(&mut *savepoint).await.expect("rows");
        savepoint.release().await.expect("released");
        let savepoint = tx.savepoint().await.expect("set");
        savepoint.rollback().await.expect("rolled back to");
    })
    .await;
}

#[tokio::test]
async fn commit() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let registry = registry(&world, &wire).await;
    sweep(&registry, |a| async move {
        let mut tx = a.begin().await.expect("begun");
        sqlx::query("UPDATE notes SET body = body")
            .execute(&mut tx)
            .await
            .expect("updated");
        tx.commit().await.expect("committed");
    })
    .await;
}

#[tokio::test]
async fn rollback() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let registry = registry(&world, &wire).await;
    sweep(&registry, |a| async move {
        let mut tx = a.begin().await.expect("begun");
        sqlx::query("UPDATE notes SET body = 'changed'")
            .execute(&mut tx)
            .await
            .expect("updated");
        tx.rollback().await.expect("rolled back");
    })
    .await;
}

/// The data of a COPY goes past what the driver counts: one answer that is left unread would be
/// taken for that of the next borrower's statement, and so on for ever.
#[tokio::test]
async fn copy() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let registry = registry(&world, &wire).await;
    sweep(&registry, |a| async move {
        let mut tx = a.begin().await.expect("begun");
        let mut copy = tx
            .copy_in_raw("COPY plain FROM STDIN")
            .await
            .expect("begun");
        copy.send(b"x\n").await.expect("sent");
        copy.finish().await.expect("finished");
    })
    .await;
    sweep(&registry, |a| async move {
        let mut tx = a.begin().await.expect("begun");
        let copy = tx
            .copy_in_raw("COPY plain FROM STDIN")
            .await
            .expect("begun");
        copy.abort().await.expect("aborted");
    })
    .await;
    sweep(&registry, |a| async move {
        let mut tx = a.begin().await.expect("begun");
        let mut data = tx
            .copy_out_raw("COPY (SELECT body FROM notes) TO STDOUT")
            .await
            .expect("begun");
        while let Some(chunk) = data.next().await {
            assert_eq!(chunk.expect("data"), "a note of a\n");
        }
    })
    .await;
}

#[tokio::test]
async fn transaction_with_retries() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let registry = registry(&world, &wire).await;
    sweep(&registry, |a| async move {
        a.transaction(Default::default(), |tx| {
            Box::pin(async move {
                sqlx::query("UPDATE notes SET body = body")
                    .execute(tx)
                    .await?;
                Ok::<_, Error>(())
            })
        })
        .await
        .expect("committed");
    })
    .await;
}

/// The specimen: the sweep can see. The same steps with sqlx's own `begin_with` hand B a
/// connection inside A's transaction, with A's context.
#[tokio::test]
async fn sqlx_begin_with_fails_the_sweep() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(wire.connect_options(&world.app))
        .await
        .expect("a pool");
    let begin = "BEGIN; SET LOCAL app.tenant_id = 'a'";
    let mut leaks = 0;
    for polls in 0..MOST {
        #[expect(clippy::disallowed_methods, reason = "the specimen")]
        let begun = cancelled_after(polls, pool.begin_with(AssertSqlSafe(begin))).await;
        let completed = begun.is_some();
        drop(begun);
        let first = session(&pool).await.expect("the pool serves");
        let second = session(&pool).await.expect("the pool serves");
        if first.tenant.as_deref() == Some("a") || first.xid == second.xid {
            leaks += 1;
        }
        pool.execute("ROLLBACK").await.expect("out of it");
        if completed {
            break;
        }
    }
    assert!(
        leaks > 0,
        "the sweep does not see the hole that it is there for"
    );
}
