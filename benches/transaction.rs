//! What the scope costs a transaction of one statement.
//!
//!     cargo bench --bench transaction
//!     cargo bench --bench transaction -- --quick

mod support;

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgTransaction;
use support::rounds::{Bench, Limit, Way};
use support::{EXPLICIT, SCOPED, Server, Ways, row};

async fn tenant_tx(ways: &'static Ways, i: u64) {
    let mut tx = ways.scope(i).begin().await.expect("begun");
    let amount: Option<i32> = sqlx::query_scalar(SCOPED)
        .bind(row(i))
        .fetch_optional(&mut tx)
        .await
        .expect("served");
    assert!(amount.is_some());
    tx.commit().await.expect("committed");
}

/// `tx`: sqlx's own, just begun.
#[expect(clippy::disallowed_methods, reason = "what is compared with")]
async fn plain(ways: &'static Ways, tx: Result<PgTransaction<'_>, sqlx::Error>, i: u64) {
    let mut tx = tx.expect("begun");
    let amount: Option<i32> = sqlx::query_scalar(EXPLICIT)
        .bind(row(i))
        .bind(ways.tenant(i))
        .fetch_optional(&mut *tx)
        .await
        .expect("served");
    assert!(amount.is_some());
    tx.commit().await.expect("committed");
}

#[expect(clippy::disallowed_methods, reason = "what is compared with")]
async fn set_config(ways: &'static Ways, i: u64) {
    let mut tx = ways.app.begin().await.expect("begun");
    sqlx::query("SELECT set_config('app.tenant_id', $1, true)")
        .bind(ways.tenant(i))
        .execute(&mut *tx)
        .await
        .expect("set");
    let amount: Option<i32> = sqlx::query_scalar(SCOPED)
        .bind(row(i))
        .fetch_optional(&mut *tx)
        .await
        .expect("served");
    assert!(amount.is_some());
    tx.commit().await.expect("committed");
}

#[expect(clippy::disallowed_methods, reason = "what is compared with")]
fn ways(ways: &'static Ways) -> [Way; 5] {
    [
        Way::in_turn(ways, "tenantry", tenant_tx),
        Way::in_turn(
            ways,
            "sqlx, pool, test_before_acquire(false), no tenant",
            async |ways, i| plain(ways, ways.plain_untested.begin().await, i).await,
        ),
        Way::in_turn(ways, "sqlx, pool, defaults, no tenant", async |ways, i| {
            plain(ways, ways.plain.begin().await, i).await;
        }),
        Way::in_turn(ways, "sqlx, pool, defaults, SELECT set_config", set_config),
        Way::in_turn(
            ways,
            "sqlx, connection without a pool, no tenant",
            async |ways, i| plain(ways, ways.bare.lock().await.begin().await, i).await,
        ),
    ]
}

const LIMITS: [Limit; 4] = [
    Limit::time(1, 1.10),
    Limit::time(2, 1.00),
    Limit::time(3, 0.80),
    Limit::time(4, 1.10),
];

fn main() {
    let server = Server::start();
    let mut bench = Bench::new(&server.conditions());
    bench.compare(
        "transaction, loopback, one task, one connection",
        10,
        &ways(Ways::new(&server, 1, 1, None)),
        &LIMITS,
    );
    let far = Ways::new(&server, 1, 1, Some(Duration::from_micros(500)));
    bench.compare(
        "transaction, 0.5 ms added each way, one task, one connection",
        3,
        &ways(far),
        &LIMITS,
    );
    bench.finish();
}
