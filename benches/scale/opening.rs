//! A tenant's first statement: does a role of its own take as long as a database of its own?

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgExecutor};
use sqlx::{ConnectOptions as _, Connection as _};
use tenantry::{ConnectionBudget, LazyPools, StaticDirectory, TenantId, TenantRegistry};

use super::databases::{self, Databases};
use super::roles::Roles;
use super::support::report::{Report, percentile};
use super::support::runtime;
use super::traffic::{BUDGET, MAX_POOLS};
use super::workload::Workload;

const STATEMENT: &str = "SELECT 1";

const NAMES: [&str; 4] = [
    "a role of its own, in a database that says it is its own",
    "a database of its own",
    "a role of its own, in a shared database: the role is checked, in a catalog of 10,000",
    "sqlx, a connection of that role and nothing else",
];

/// One after the other, with nobody else there.
pub fn measure(report: &mut Report, databases: &Databases, roles: &Roles, workload: &Workload) {
    let times = report.effort(1, 100, 500);
    let mut took = [const { Vec::new() }; NAMES.len()];
    runtime(2).block_on(async {
        // The first of each finds no session that counts, and is not looked at.
        let tenants = &workload.tenants()[..=times];
        let by_role = registry(roles.directory(tenants)).await;
        let shared = tenants
            .iter()
            .fold(StaticDirectory::new(), |directory, tenant| {
                directory.shared(roles.shared(tenant), [tenant.clone()])
            });
        let shared = registry(shared).await;
        let own = (0..databases::TENANTS).fold(StaticDirectory::new(), |directory, number| {
            directory.database(databases::tenant(number), databases.app(number).clone())
        });
        let own = registry(own).await;
        for (time, tenant) in tenants.iter().enumerate() {
            let other = databases::tenant(time % databases::TENANTS);
            own.evict(&other);
            for turn in 0..NAMES.len() {
                // What was used or given up before is closed by then.
                tokio::time::sleep(Duration::from_millis(20)).await;
                // Whoever comes first is not always the same.
                let which = (time + turn) % NAMES.len();
                let milliseconds = match which {
                    0 => first(&by_role, tenant).await,
                    1 => first(&own, &other).await,
                    2 => first(&shared, tenant).await,
                    _ => bare(roles.own(tenant)).await,
                };
                if time > 0 {
                    took[which].push(milliseconds);
                }
            }
        }
        for registry in [by_role, own, shared] {
            registry.shutdown(Duration::from_secs(5)).await;
        }
    });
    let mut out = format!("a tenant's first statement, one after the other, {times} times\n");
    for (name, took) in NAMES.iter().zip(&took) {
        let (median, most) = (percentile(took, 50.0), percentile(took, 99.0));
        let _ = writeln!(out, "  p50 {median:7.2} ms  p99 {most:7.2} ms  {name}");
    }
    report.add(&out);
}

async fn registry(directory: StaticDirectory) -> TenantRegistry {
    TenantRegistry::builder(directory)
        .lazy(LazyPools::default().max_pools(MAX_POOLS))
        .budget(ConnectionBudget::per_server(BUDGET / 3))
        .build()
        .await
        .expect("a registry")
}

async fn first(registry: &TenantRegistry, tenant: &TenantId) -> f64 {
    let started = Instant::now();
    let scope = registry.scope(tenant.clone()).await.expect("a scope");
    ask(&scope).await;
    started.elapsed().as_secs_f64() * 1e3
}

async fn bare(options: PgConnectOptions) -> f64 {
    let started = Instant::now();
    let mut connection = options.connect().await.expect("a connection");
    ask(&mut connection).await;
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    connection.close().await.expect("closed");
    milliseconds
}

async fn ask(executor: impl PgExecutor<'_>) {
    sqlx::query(STATEMENT)
        .execute(executor)
        .await
        .expect("served");
}
