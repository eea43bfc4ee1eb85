//! What a tenant costs that nobody asks for, and what an open pool costs that has no connection.
//!
//! Each is measured in a process of its own, as in `benches/pools/memory.rs`.

use std::process::Command;
use std::time::Duration;

use tenantry::{Database, LazyPools, StaticDirectory, TenantId, TenantRegistry};
use tokio::runtime::Handle;

use super::roles::Roles;
use super::support::report::Report;
use super::support::runtime;
use super::workload::Workload;

const COLD_TENANTS: usize = 100_000;

/// So that the allocator and the driver have what they keep.
const WARM_UP: usize = 400;

/// Bytes.
const MOST_OF_A_COLD_TENANT: f64 = 300.0;
const MOST_OF_A_POOL: f64 = 2_048.0;

/// The first argument of a child.
const CHILD: &str = "--memory-of";

pub fn report(report: &mut Report, roles: &Roles) {
    let pools = report.effort(50, 1_000, 4_000);
    let (bytes, _) = child("cold", COLD_TENANTS, roles);
    report.add("resident memory, bytes each");
    let what = format!("a cold tenant, StaticDirectory::databases, {COLD_TENANTS} of them");
    report.limit(bytes.round(), MOST_OF_A_COLD_TENANT, &what);
    let (bytes, tasks) = child("pools", pools, roles);
    let what = format!("an open pool without a connection, {pools} of them");
    report.limit(bytes.round(), MOST_OF_A_POOL, &what);
    report.limit(tasks, 0.0, "and its tasks");
}

/// Whether this process is there to measure one kind.
pub fn is_child() -> bool {
    std::env::args().nth(1).is_some_and(|first| first == CHILD)
}

/// The child's whole work.
pub fn measure() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, _, kind, number, port] = &arguments[..] else {
        panic!("a kind, a number and a port");
    };
    let number: usize = number.parse().expect("a number");
    let roles = Roles::on(port.parse().expect("a port"));
    runtime(1).block_on(async {
        let (bytes, tasks) = match &**kind {
            "cold" => cold_tenants(&roles, number),
            _ => pools(&roles, number).await,
        };
        println!("{bytes} {tasks}");
    });
}

/// Bytes and tasks of each.
fn child(kind: &str, number: usize, roles: &Roles) -> (f64, f64) {
    let child = Command::new(std::env::current_exe().expect("a path"))
        .args([CHILD, kind, &number.to_string(), &roles.port().to_string()])
        .output()
        .expect("a child");
    assert!(child.status.success(), "{child:?}");
    let found = String::from_utf8_lossy(&child.stdout);
    let numbers: Vec<f64> = found
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [bytes, tasks] = numbers[..] else {
        panic!("{found}");
    };
    (bytes, tasks)
}

/// Names as long as UUIDs are, and a name of a database for each.
fn cold_tenants(roles: &Roles, number: usize) -> (f64, f64) {
    let server = Database::new(roles.own(&TenantId::from(0_u64)));
    let directory = |numbers: std::ops::Range<usize>| {
        let tenants = numbers.map(|number| {
            let tenant = format!("00000000-0000-4000-8000-{number:012}");
            let tenant: TenantId = tenant.parse().expect("a tenant id");
            (tenant, format!("tenant_{number:012}"))
        });
        StaticDirectory::new().databases(server.clone(), tenants)
    };
    let _warm = directory(0..WARM_UP);
    let before = resident();
    let directory = directory(0..number);
    let bytes = resident().saturating_sub(before);
    drop(directory);
    (bytes as f64 / number as f64, 0.0)
}

/// Each has had its connection, which was too old as soon as it came back.
async fn pools(roles: &Roles, number: usize) -> (f64, f64) {
    let workload = Workload::new();
    let tenants = &workload.tenants()[..WARM_UP + number];
    let registry = TenantRegistry::builder(roles.directory(tenants))
        .lazy(LazyPools::default().max_pools(tenants.len()))
        .pool_options(|_, options| options.max_lifetime(Duration::ZERO))
        .build()
        .await
        .expect("a registry");
    open(&registry, &tenants[..WARM_UP]).await;
    let (memory, tasks) = (resident(), tasks());
    open(&registry, &tenants[WARM_UP..]).await;
    let status = registry.status();
    assert_eq!(status.pools, tenants.len());
    assert_eq!(status.connections.total(), 0);
    let each = |before: usize, after: usize| after.saturating_sub(before) as f64 / number as f64;
    (each(memory, resident()), each(tasks, self::tasks()))
}

async fn open(registry: &TenantRegistry, tenants: &[TenantId]) {
    for tenant in tenants {
        let scope = registry.scope(tenant.clone()).await.expect("a scope");
        sqlx::query("SELECT 1")
            .execute(&scope)
            .await
            .expect("served");
    }
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: usize = kib.and_then(|kib| kib.trim().parse().ok()).expect("a size");
    kib * 1024
}
