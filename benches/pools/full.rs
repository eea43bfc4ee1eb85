//! A server whose connections others have: when does the caller hear of it?

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tenantry::Error;

use super::databases::{Databases, STATEMENT, scope, sqlx_pool};
use super::support::rounds::{Bench, quartiles};
use super::support::runtime;

/// Two of sqlx's, so that it shows on what the time depends.
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

pub fn measure(bench: &mut Bench) {
    let databases = Databases::start(20);
    let times = bench.effort(3, 10);
    let mut out = String::from(
        "a server that is full (53300): until the caller hears of it, median (quartiles)\n",
    );
    runtime(2).block_on(async {
        let app = databases.app(0);
        let (_registry, scope) = scope(app.clone(), |defaults| defaults.max_connections(2)).await;
        // What is opened from here on is one too many.
        let tx = scope.begin().await.expect("begun");
        let others = fill(app).await;

        let mut took = Vec::new();
        let mut said = String::new();
        for _ in 0..times * 10 {
            let started = Instant::now();
            let error = sqlx::query(STATEMENT)
                .execute(&scope)
                .await
                .expect_err("full");
            took.push(started.elapsed().as_secs_f64() * 1e3);
            let error = Error::from(error);
            said = format!("{:?}, SQLSTATE {:?}", error.kind(), error.code());
        }
        line(&mut out, &took, &format!("tenantry: {said}"));

        for timeout in TIMEOUTS {
            let pool = sqlx_pool(2, true)
                .acquire_timeout(timeout)
                .connect_lazy_with(app.clone());
            let mut took = Vec::new();
            for _ in 0..times {
                let started = Instant::now();
                let error = pool.acquire().await.expect_err("full");
                took.push(started.elapsed().as_secs_f64() * 1e3);
                said = format!("{error:?}");
            }
            line(
                &mut out,
                &took,
                &format!("sqlx, pool, acquire_timeout {timeout:?} (default 30s): {said}"),
            );
        }
        drop(others);
        tx.rollback().await.expect("rolled back");
    });
    bench.report(&out);
}

/// Everything that the server still gives to this role.
async fn fill(app: &PgConnectOptions) -> Vec<PgConnection> {
    let mut others = Vec::new();
    while let Ok(connection) = app.connect().await {
        others.push(connection);
    }
    others
}

fn line(out: &mut String, took: &[f64], name: &str) {
    let [low, median, high] = quartiles(took);
    let _ = writeln!(out, "  {median:7.1} ms ({low:7.1} to {high:7.1})  {name}");
}
