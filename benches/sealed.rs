//! What the seal costs: statements and transactions on a sealed database, beside the same on one that
//! is not.
//!
//!     cargo bench --bench sealed
//!     cargo bench --bench sealed -- --quick

mod support;

use std::time::Duration;

use support::rounds::{Bench, Limit, Way};
use support::{SCOPED, Server, Ways, row};

async fn statement(ways: &'static Ways, i: u64) {
    let amount: Option<i32> = sqlx::query_scalar(SCOPED)
        .bind(row(i))
        .fetch_optional(ways.scope(i))
        .await
        .expect("served");
    assert!(amount.is_some());
}

async fn transaction(ways: &'static Ways, i: u64, reads: u64) {
    let mut tx = ways.scope(i).begin().await.expect("begun");
    for read in 0..reads {
        let amount: Option<i32> = sqlx::query_scalar(SCOPED)
            .bind(row(i + read))
            .fetch_optional(&mut tx)
            .await
            .expect("served");
        assert!(amount.is_some());
    }
    tx.commit().await.expect("committed");
}

async fn one_read(ways: &'static Ways, i: u64) {
    transaction(ways, i, 1).await;
}

async fn ten_reads(ways: &'static Ways, i: u64) {
    transaction(ways, i, 10).await;
}

const NAMES: [&str; 2] = ["sealed", "plain"];

/// Over a socket, and with latency.
const LIMITS: [Limit; 1] = [Limit::time(1, 1.35)];
const FAR: [Limit; 1] = [Limit::time(1, 1.05)];

fn main() {
    let (sealed, plain) = (Server::start_sealed(), Server::start());
    let mut bench = Bench::new(&plain.conditions());
    for (place, latency, rounds, limits) in [
        ("loopback", None, 10, &LIMITS),
        (
            "0.5 ms added each way",
            Some(Duration::from_micros(500)),
            3,
            &FAR,
        ),
    ] {
        let grounds = [&sealed, &plain].map(|server| Ways::new(server, 1, 1, latency));
        let ways = |operation: fn(&'static Ways, u64) -> Operation| {
            std::array::from_fn::<_, 2, _>(|n| Way::in_turn(grounds[n], NAMES[n], operation))
        };
        type Compared = fn(&'static Ways, u64) -> Operation;
        let compared: [(&str, Compared); 3] = [
            ("statement", |ways, i| Box::pin(statement(ways, i))),
            ("transaction with one read", |ways, i| {
                Box::pin(one_read(ways, i))
            }),
            ("transaction with ten reads", |ways, i| {
                Box::pin(ten_reads(ways, i))
            }),
        ];
        for (what, operation) in compared {
            bench.compare(
                &format!("{what}, {place}, one task, one connection"),
                rounds,
                &ways(operation),
                limits,
            );
        }
    }
    bench.finish();
}

type Operation = std::pin::Pin<Box<dyn Future<Output = ()>>>;
