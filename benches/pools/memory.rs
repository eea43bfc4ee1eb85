//! What a pool costs that has no connection.
//!
//! Each kind is measured in a process of its own: what an earlier one has given back to the
//! allocator would hide what the next one takes.

use std::fmt::Write as _;
use std::process::Command;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tenantry::TenantRegistry;
use tokio::runtime::Handle;

use super::databases::{Databases, TENANTS, registry};
use super::support::rounds::Bench;
use super::support::runtime;

/// So that the allocator and the driver have what they keep.
const WARM_UP: usize = 400;

/// The first argument of a child.
const CHILD: &str = "--memory-of";

/// Which, by name, and how many of them.
const KINDS: [(&str, &str, usize); 3] = [
    ("tenantry", "tenantry", 2_000),
    ("untimed", "sqlx, pool, without its own time-outs", 10_000),
    ("default", "sqlx, pool, defaults", 10_000),
];

pub fn report(bench: &mut Bench, databases: &Databases) {
    let mut out = String::from("a pool without a connection: resident memory, tasks\n");
    for (kind, name, pools) in KINDS {
        let pools = bench.effort(pools, 10_000).max(100);
        let child = Command::new(std::env::current_exe().expect("a path"))
            .args([
                CHILD,
                kind,
                &pools.to_string(),
                &databases.port().to_string(),
            ])
            .output()
            .expect("a child");
        assert!(child.status.success(), "{child:?}");
        let found = String::from_utf8_lossy(&child.stdout);
        let _ = writeln!(out, "  {}  {name}", found.trim_end());
    }
    bench.report(&out);
}

/// Whether this process is there to measure one kind.
pub fn is_child() -> bool {
    std::env::args().nth(1).is_some_and(|first| first == CHILD)
}

/// The child's whole work.
pub fn measure() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, _, kind, pools, port] = &arguments[..] else {
        panic!("a kind, a number and a port");
    };
    let pools: usize = pools.parse().expect("a number");
    let port: u16 = port.parse().expect("a port");
    runtime(1).block_on(async {
        let _warm = Pools::open(kind, WARM_UP, port).await;
        let (memory, tasks) = (resident(), tasks());
        let _pools = Pools::open(kind, pools, port).await;
        let each = |before: usize, after: usize| after.saturating_sub(before) as f64 / pools as f64;
        println!(
            "{:7.0} bytes, {:.2} tasks each, {pools} of them",
            each(memory, resident()),
            each(tasks, self::tasks()),
        );
    });
}

/// Kept only so that they are not dropped.
#[expect(dead_code, reason = "they are there, and that is all")]
enum Pools {
    Ours(Vec<TenantRegistry>),
    Sqlx(Vec<PgPool>),
}

impl Pools {
    async fn open(kind: &str, number: usize, port: u16) -> Self {
        let app = |i: usize| {
            PgConnectOptions::new_without_pgpass()
                .host("127.0.0.1")
                .port(port)
                .username("bench_app")
                .database(&format!("bench_{}", i % TENANTS))
        };
        if kind == "tenantry" {
            let mut registries = Vec::new();
            for _ in 0..number.div_ceil(TENANTS) {
                registries.push(without_connections((0..TENANTS).map(app)).await);
            }
            return Self::Ours(registries);
        }
        let options = || match kind {
            "default" => PgPoolOptions::new(),
            _ => PgPoolOptions::new().idle_timeout(None).max_lifetime(None),
        };
        let pools = (0..number).map(|i| options().connect_lazy_with(app(i)));
        Self::Sqlx(pools.collect())
    }
}

/// Every pool has had its connection, for the start-up check, and has closed it.
async fn without_connections(apps: impl Iterator<Item = PgConnectOptions>) -> TenantRegistry {
    registry(apps, |defaults| {
        defaults.max_lifetime(std::time::Duration::ZERO)
    })
    .await
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
