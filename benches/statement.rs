//! What the scope costs a single statement.
//!
//!     cargo bench --bench statement
//!     cargo bench --bench statement -- --quick

mod support;

use std::time::Duration;

use sqlx::postgres::PgExecutor;
use support::rounds::{Bench, Limit, Way};
use support::{EXPLICIT, SCOPED, Server, Ways, row};

const SCOPE: usize = 0;
const UNTESTED: usize = 1;
const DEFAULT: usize = 2;
const BARE: usize = 3;

async fn scoped(ways: &'static Ways, i: u64) {
    let amount: Option<i32> = sqlx::query_scalar(SCOPED)
        .bind(row(i))
        .fetch_optional(ways.scope(i))
        .await
        .expect("served");
    assert!(amount.is_some());
}

async fn explicit(ways: &'static Ways, executor: impl PgExecutor<'_>, i: u64) {
    let amount: Option<i32> = sqlx::query_scalar(EXPLICIT)
        .bind(row(i))
        .bind(ways.tenant(i))
        .fetch_optional(executor)
        .await
        .expect("served");
    assert!(amount.is_some());
}

const NAMES: [&str; 4] = [
    "tenantry",
    "sqlx, pool, test_before_acquire(false)",
    "sqlx, pool, defaults",
    "sqlx, connection without a pool",
];

fn in_turn(ways: &'static Ways) -> [Way; 4] {
    [
        Way::in_turn(ways, NAMES[SCOPE], scoped),
        Way::in_turn(ways, NAMES[UNTESTED], |ways, i| {
            explicit(ways, &ways.plain_untested, i)
        }),
        Way::in_turn(ways, NAMES[DEFAULT], |ways, i| {
            explicit(ways, &ways.plain, i)
        }),
        Way::in_turn(ways, NAMES[BARE], async |ways, i| {
            explicit(ways, &mut *ways.bare.lock().await, i).await;
        }),
    ]
}

fn at_once(ways: &'static Ways, tasks: u64) -> [Way; 3] {
    [
        Way::at_once(ways, tasks, NAMES[SCOPE], scoped),
        Way::at_once(ways, tasks, NAMES[UNTESTED], |ways, i| {
            explicit(ways, &ways.plain_untested, i)
        }),
        Way::at_once(ways, tasks, NAMES[DEFAULT], |ways, i| {
            explicit(ways, &ways.plain, i)
        }),
    ]
}

fn main() {
    let server = Server::start();
    let mut bench = Bench::new(&server.conditions());
    bench.compare(
        "statement, loopback, one task, one connection",
        20,
        &in_turn(Ways::new(&server, 1, 1, None)),
        &[
            Limit::time(UNTESTED, 1.20),
            Limit::time(DEFAULT, 1.00),
            Limit::time(BARE, 1.20),
        ],
    );
    let far = Ways::new(&server, 1, 1, Some(Duration::from_micros(500)));
    bench.compare(
        "statement, 0.5 ms added each way, one task, one connection",
        5,
        &in_turn(far),
        &[
            Limit::time(UNTESTED, 1.05),
            Limit::time(DEFAULT, 1.00),
            Limit::time(BARE, 1.05),
        ],
    );
    bench.compare(
        "statement, loopback, 32 tasks, 8 connections",
        400,
        &at_once(Ways::new(&server, 2, 8, None), 32),
        &[
            Limit::throughput(UNTESTED, 0.80),
            Limit::throughput(DEFAULT, 1.00),
        ],
    );
    bench.finish();
}
