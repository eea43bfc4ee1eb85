//! The first field report, as a regression test: a database per tenant, driven over real HTTP by
//! many tenants at once, with a worker for each in the background.
//!
//! The same load drives the design of the report, a global connection that a middleware replaces,
//! and `examples/warehouse`. It has to find rows of others in the first, and none in the second.
//!
//! With `TENANTRY_LONG=1` it makes 240,000 requests instead of 5,000. `--nocapture` shows the
//! counts.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "modules of the example, which the example uses otherwise"
)]

// The example itself, not a copy of it.
#[path = "../examples/warehouse/api.rs"]
mod api;
#[path = "../examples/warehouse/app.rs"]
mod app;
#[path = "../examples/warehouse/problem.rs"]
mod problem;
#[path = "../examples/warehouse/registry.rs"]
mod registry;
#[path = "../examples/warehouse/repository.rs"]
mod repository;
#[path = "../examples/warehouse/server.rs"]
mod server;
#[path = "../examples/warehouse/service.rs"]
mod service;
#[path = "../examples/warehouse/stock.rs"]
mod stock;
#[path = "../examples/warehouse/tenants.rs"]
mod tenants;
#[path = "../examples/warehouse/worker.rs"]
mod worker;

#[path = "warehouse/answers.rs"]
mod answers;
#[path = "warehouse/checker.rs"]
mod checker;
#[path = "warehouse/client.rs"]
mod client;
#[path = "warehouse/disturbance.rs"]
mod disturbance;
#[path = "warehouse/double.rs"]
mod double;
#[path = "warehouse/ledger.rs"]
mod ledger;
#[path = "warehouse/load.rs"]
mod load;
#[path = "warehouse/operation.rs"]
mod operation;
#[path = "warehouse/specimen.rs"]
mod specimen;
#[path = "warehouse/tally.rs"]
mod tally;
#[path = "warehouse/world.rs"]
mod world;

use std::time::Duration;

use checker::Rows;
use disturbance::Disturbances;
use ledger::Ledger;
use load::Load;
use specimen::Specimen;
use tally::Tally;
use tenantry::TenantRegistry;
use tokio::sync::watch;
use world::World;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How often a worker looks, so that there is always one at it.
const EVERY: Duration = Duration::from_millis(40);

/// With one request at a time it works, and nobody sees anything.
/// What the example installs for each tenant.
#[cfg(feature = "audit")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_databases_pass_the_audit() {
    use tenantry::audit::{AuditConfig, Auditor, Severity};

    let world = World::start(2).await;
    for tenant in world.databases.tenants() {
        let pool = sqlx::PgPool::connect_with(world.databases.as_admin(tenant)).await;
        let role = world.databases.as_app(tenant);
        let auditor = Auditor::new(AuditConfig::new(role.get_username()));
        let report = auditor.run(&pool.expect("connected")).await;
        let report = report.expect("audited");
        println!("{report}");
        assert!(!report.has(Severity::Low), "{tenant}:\n{report}");
        assert_eq!(report.unseen().count(), 0, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_design_mixes_tenants_up() {
    let world = World::start(8).await;
    let ledger = Ledger::default();
    for alone in [true, false] {
        let specimen = Specimen::start(&world.databases, (!alone).then_some(EVERY)).await;
        let load = Load {
            address: specimen.address(),
            tenants: world.databases.tenants().into(),
            requests: if alone { 150 } else { 1_000 },
            clients: if alone { 1 } else { 16 },
            seed: u64::from(alone),
            hangs_up: !alone,
            progress: watch::Sender::new(0),
        };
        let tally = world::in_time(load.drive(&ledger)).await;
        specimen.stop().await;

        let found = checker::check(&world.databases, &ledger).await;
        if alone {
            report("the original design, one request at a time", &tally, &found);
            assert_eq!((tally.foreign, found.foreign, found.missing), (0, 0, 0));
        } else {
            report("the original design", &tally, &found);
            assert!(tally.foreign > 0, "no answer held a row of another");
            assert!(found.foreign > 0, "no database holds a row of another");
            assert!(found.missing > 0, "all is where it belongs");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_warehouse_keeps_tenants_apart() {
    let long = std::env::var_os("TENANTRY_LONG").is_some();
    let tenants = if long { 12 } else { 8 };
    // Fewer pools than tenants that are busy: places change hands while requests are made. Opening
    // one takes as long as fifty requests, so the long edition is content with being evicted.
    let max_pools = if long { tenants } else { tenants - 1 };
    let mut world = World::start(tenants).await;
    let (address, app) = world.serve(EVERY, max_pools).await;
    let ledger = Ledger::default();
    let load = Load {
        address,
        tenants: world.databases.tenants().into(),
        requests: if long { 240_000 } else { 5_000 },
        clients: 16,
        seed: 2,
        hangs_up: true,
        progress: watch::Sender::new(0),
    };
    let disturbances = Disturbances::of(&world, address);
    let (tally, disturbed) =
        world::in_time(async { tokio::join!(load.drive(&ledger), disturbances.go_with(&load)) })
            .await;
    let status = world.registry.as_ref().map(TenantRegistry::status);
    let workers = app.stop().await.expect("every request came to an end");

    let found = checker::check(&world.databases, &ledger).await;
    report("the warehouse", &tally, &found);
    println!("disturbed by {}: {disturbed:?}", disturbed.len());
    let status = status.expect("it was served");
    println!(
        "{} leases, evictions: {:?}",
        status.leases, status.evictions
    );
    assert!(status.evictions["capacity"] > 0 || long);
    assert!(status.evictions["explicit"] > 0);
    assert!(
        tally.refused.contains_key("suspended"),
        "nobody met the suspension"
    );
    assert_eq!(tally.foreign, 0, "rows of other tenants in answers");
    assert_eq!(found.foreign, 0, "rows of other tenants in databases");
    assert_eq!(tally.unexpected, Vec::<String>::new());
    assert_eq!(found.wrong, Vec::<String>::new());
    assert_eq!(tally.unanswered, 0, "the service hung up");
    assert_eq!(tally.requests, load.requests);
    // The check is worth as much as what it looked at.
    assert!(tally.ok > tally.requests / 2, "most requests were refused");
    for (tenant, rounds) in &workers {
        assert!(rounds.orders > 0, "the worker of {tenant} ordered nothing");
    }
    assert_eq!(workers.len(), world.databases.tenants().len());

    a_planted_row_is_found(&world, &ledger, found.rows).await;
    world.stop().await;
}

/// On the very databases in which nothing was found.
async fn a_planted_row_is_found(world: &World, ledger: &Ledger, rows: u64) {
    for (number, table) in Rows::TABLES.into_iter().enumerate() {
        world.plant(table).await;
        let found = checker::check(&world.databases, ledger).await;
        assert_eq!(found.foreign, number as u64 + 1, "not seen in {table}");
        assert_eq!(found.rows, rows + number as u64 + 1);
    }
}

fn report(name: &str, tally: &Tally, found: &checker::Found) {
    println!("\n{name}: {tally}\n{found}");
}
