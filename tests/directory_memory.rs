//! What a tenant costs that nobody asks for. A binary of its own: it reads the memory of the
//! process.
#![cfg(target_os = "linux")]

mod support;

use sqlx::Executor as _;
use sqlx::postgres::PgConnectOptions;
use tenantry::sql::ControlTables;
use tenantry::{PostgresDirectory, TenantDirectory as _};

const TENANTS: usize = 50_000;

#[tokio::test]
async fn a_cold_tenant_costs_less_than_300_bytes() {
    let world = support::empty_world().await;
    let mut admin = world.admin().await;
    ControlTables::new("app")
        .install(&mut admin)
        .await
        .expect("installed");
    let builder = || {
        PostgresDirectory::builder(world.app.clone()).server(
            "main",
            PgConnectOptions::new_without_pgpass().host("db.invalid"),
        )
    };
    // Whatever a first connection sets up is there before it is measured.
    drop(builder().connect().await.expect("a directory"));
    // UUIDs, each with a database of its own: the largest of the usual ids and placements.
    admin
        .execute(
            "INSERT INTO tenantry.tenants (id, placement, server, database) \
             SELECT id, 'database', 'main', 'tenant_' || replace(id, '-', '_') \
             FROM (SELECT gen_random_uuid()::text AS id FROM generate_series(1, 50000)) AS ids",
        )
        .await
        .expect("tenants");

    let before = resident();
    let directory = builder().connect().await.expect("a directory");
    let each = resident().saturating_sub(before) / TENANTS;
    let known = directory.list(None, usize::MAX).await.expect("a list");
    assert_eq!(known.len(), TENANTS);
    println!("{each} bytes for each of {TENANTS} tenants");
    assert!(each > 50, "{each}: it measures nothing");
    assert!(each < 300, "{each}");
}

/// In bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = text.split(' ').nth(1).expect("its second number");
    pages.parse::<usize>().expect("a number") * 4096
}
