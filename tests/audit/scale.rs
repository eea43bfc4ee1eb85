//! How long an audit of a large schema takes.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tenantry::audit::{Auditor, Severity};
use tenantry::testing::PostgresServer;

use super::large_schema;

/// How long it takes, and that nothing is said that matters.
async fn audit(tables: usize) -> Duration {
    let server = PostgresServer::builder().setting("fsync", "off").start();
    let server = server.await.expect("these tests need PostgreSQL");
    let pool = PgPool::connect_with(server.connect_options()).await;
    let pool = pool.expect("connected");
    large_schema::make(&pool, tables).await;
    let auditor = Auditor::new(large_schema::config());
    let start = Instant::now();
    let report = auditor.run(&pool).await.expect("audited");
    let spent = start.elapsed();
    println!("{tables} tables: {spent:.2?}");
    assert!(!report.has(Severity::Low), "{report}");
    let of_policies = |rule: &str| rule == "policy-not-proven";
    let count = report.findings().filter(|f| of_policies(f.rule().id()));
    println!("{} not proven", count.count());
    spent
}

/// Under two seconds on an idle machine; the limit is for one that is not.
#[tokio::test]
async fn a_thousand_tables_are_soon_audited() {
    let spent = audit(1_000).await;
    assert!(spent < Duration::from_secs(15), "{spent:?}");
}

/// With `TENANTRY_LONG=1`: it takes minutes to make them.
#[tokio::test]
async fn ten_thousand_tables_are_audited() {
    if std::env::var_os("TENANTRY_LONG").is_none() {
        return;
    }
    let spent = audit(10_000).await;
    assert!(spent < Duration::from_secs(300), "{spent:?}");
}
