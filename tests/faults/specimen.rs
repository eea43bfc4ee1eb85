//! That the sweep can see: the same with sqlx alone.

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor as _};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tenantry::testing::{Direction, FaultProxy};

use crate::stage::{installed, wire};
use crate::support::session;

async fn frozen(wire: &FaultProxy) {
    let before = wire.counts().freezes();
    while wire.counts().freezes() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A `begin_with` on a network that goes silent, given up: the next borrower of the connection is
/// in its transaction, and in its tenant's name.
#[tokio::test]
async fn sqlx_begin_with_fails_the_sweep() {
    let (world, _) = installed().await;
    let wire = wire(&world.app).await;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(wire.connect_options(&world.app))
        .await
        .expect("a pool");
    let begin = "BEGIN; SET LOCAL app.tenant_id = 'a'";
    let mut leaks = 0;
    for direction in [Direction::ToServer, Direction::ToClient] {
        for messages in 0..4 {
            session(&pool).await.expect("a connection is open");
            // The test of the connection comes first.
            wire.freeze_after_messages(direction, messages);
            #[expect(clippy::disallowed_methods, reason = "the specimen")]
            let begun = pool.begin_with(AssertSqlSafe(begin));
            if let Either::Left((tx, _)) = select(pin!(begun), pin!(frozen(&wire))).await {
                drop(tx);
            }
            wire.disarm();
            wire.thaw();
            let first = session(&pool).await.expect("served");
            let second = session(&pool).await.expect("served");
            if first.tenant.as_deref() == Some("a") || first.xid == second.xid {
                leaks += 1;
            }
            pool.execute("ROLLBACK").await.expect("out of it");
        }
    }
    assert!(leaks > 0, "the sweep does not see what it is there for");
}
