//! 32 tasks ask for tenants as Zipf(1.0) has it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use lru::LruCache;
use parking_lot::Mutex;
use tenantry::testing::lease_and_give_back;
use tenantry::{ConnectionBudget, LazyPools, RegistryStatus, TenantId, TenantRegistry};

use super::databases::Databases;
use super::roles::Roles;
use super::sessions::Sampler;
use super::support::report::{Report, percentile};
use super::support::runtime;
use super::workload::{TENANTS, Workload};

pub const MAX_POOLS: usize = 200;
pub const BUDGET: usize = 90;
const TASKS: u64 = 32;

/// What 32 tasks get out of the machine is all that it can do, and they wait for it and for each
/// other. How long a miss takes shows where it has time: at such a part of that.
const CALM: f64 = 0.3;

/// Whose context is it, and on which session?
const STATEMENT: &str = "SELECT current_setting('app.tenant_id'), pg_backend_pid()";

struct Traffic {
    registry: TenantRegistry,
    workload: Workload,
    /// Who has been served on which session.
    sessions: Mutex<HashSet<(TenantId, i32)>>,
}

struct Operation {
    milliseconds: f64,
    way: Way,
    /// Whether it had it without a place in the queue: nobody waited for the server.
    at_once: bool,
}

/// What a statement found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A connection of its tenant's that was free, if perhaps to be tested.
    Free,
    /// One that was in use.
    Awaited,
    /// One that was new to its tenant: it was opened for it.
    Opened,
}

pub fn measure(
    report: &mut Report,
    databases: &Databases,
    roles: &Roles,
    workload: Workload,
) -> Workload {
    let warm_up = report.effort(100, 2_000, 10_000);
    let operations = report.effort(100, 5_000, 100_000);
    let paced = report.effort(20, 1_000, 10_000);
    let yardsticks =
        [MAX_POOLS, BUDGET - 1].map(|capacity| least_recently_used(&workload, capacity));
    let runtime = runtime(2);
    let (found, took, before, after, calm, sampled, traffic) = runtime.block_on(async {
        let directory = roles.directory(workload.tenants());
        let registry = TenantRegistry::builder(directory)
            .lazy(LazyPools::default().max_pools(MAX_POOLS))
            .budget(ConnectionBudget::per_server(BUDGET))
            .build()
            .await
            .expect("a registry");
        let traffic = Arc::new(Traffic {
            registry,
            workload,
            sessions: Mutex::default(),
        });
        let sampler = Sampler::start(databases);
        go(&traffic, 0, warm_up).await;
        let before = traffic.registry.status();
        let started = Instant::now();
        let found = go(&traffic, TASKS, operations).await;
        let took = started.elapsed();
        let after = traffic.registry.status();
        let pause = took.mul_f64(1.0 / (CALM * operations as f64));
        let calm = pace(&traffic, paced, pause).await;
        let sampled = sampler.stop();
        traffic.registry.shutdown(Duration::from_secs(5)).await;
        (found, took, before, after, calm, sampled, traffic)
    });
    report.add(&table(&found, took, &before, &after, yardsticks));
    let mut out = format!(
        "the same, but {paced} requests come at a steady pace, {:.0}% as many in a second as were \
         served above\n",
        100.0 * CALM
    );
    ways(&mut out, &calm);
    report.add(&out);
    report.add(&format!(
        "most sessions that the server had, by {} looks",
        sampled.looks
    ));
    report.limit(
        sampled.most as f64,
        BUDGET as f64,
        "sessions, the registry's own included",
    );
    let traffic = Arc::into_inner(traffic).expect("all tasks have ended");
    traffic.workload
}

/// So many operations, shared out among the tasks.
async fn go(traffic: &Arc<Traffic>, seed: u64, operations: usize) -> Vec<Operation> {
    let next = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (seed..seed + TASKS)
        .map(|seed| {
            let (traffic, next) = (Arc::clone(traffic), Arc::clone(&next));
            tokio::spawn(async move {
                let mut random = Rng::with_seed(seed);
                let mut found = Vec::new();
                while next.fetch_add(1, Ordering::Relaxed) < operations {
                    found.push(traffic.ask(traffic.workload.draw(&mut random)).await);
                }
                found
            })
        })
        .collect();
    let mut found = Vec::with_capacity(operations);
    for task in tasks {
        found.extend(task.await.expect("no task panics"));
    }
    found
}

/// So many operations, begun one after the other whether or not those before are done.
async fn pace(traffic: &Arc<Traffic>, operations: usize, pause: Duration) -> Vec<Operation> {
    let mut random = Rng::with_seed(2 * TASKS);
    let mut ticks = tokio::time::interval(pause);
    let mut tasks = Vec::new();
    for _ in 0..operations {
        ticks.tick().await;
        let tenant = traffic.workload.draw(&mut random).clone();
        let traffic = Arc::clone(traffic);
        tasks.push(tokio::spawn(async move { traffic.ask(&tenant).await }));
    }
    let mut found = Vec::new();
    for task in tasks {
        found.push(task.await.expect("no task panics"));
    }
    found
}

impl Traffic {
    async fn ask(&self, tenant: &TenantId) -> Operation {
        let status = self.registry.tenant_status(tenant);
        let is_free = status.is_some_and(|status| status.connections.idle > 0);
        let at_once = lease_and_give_back(&self.registry, tenant);
        let started = Instant::now();
        let scope = self.registry.scope(tenant.clone()).await.expect("a scope");
        let (whose, session): (String, i32) = sqlx::query_as(STATEMENT)
            .fetch_one(&scope)
            .await
            .expect("served");
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        assert_eq!(whose, tenant.as_str(), "somebody else's context");
        let is_new = self.sessions.lock().insert((tenant.clone(), session));
        let way = match (is_free, is_new) {
            (_, true) => Way::Opened,
            (true, false) => Way::Free,
            (false, false) => Way::Awaited,
        };
        Operation {
            milliseconds,
            way,
            at_once,
        }
    }
}

fn table(
    found: &[Operation],
    took: Duration,
    before: &RegistryStatus,
    after: &RegistryStatus,
    yardsticks: [f64; 2],
) -> String {
    let operations = found.len() as f64;
    let mut out = format!(
        "{TENANTS} tenants with a role each, Zipf(1.0), {TASKS} tasks, at most {MAX_POOLS} pools, \
         budget {BUDGET}\n  {operations} statements in {:.1} s, {:.0} in a second\n",
        took.as_secs_f64(),
        operations / took.as_secs_f64(),
    );
    ways(&mut out, found);
    let [pools, connections] = yardsticks.map(|ratio| 100.0 * ratio);
    let opened = after.pools_opened - before.pools_opened;
    let _ = writeln!(
        out,
        "  {:5.1}%  the pool was open (an LRU of {MAX_POOLS} would have {pools:.1}%, one of {}, as \
         many as connections, {connections:.1}%)",
        100.0 - 100.0 * opened as f64 / operations,
        BUDGET - 1,
    );
    let _ = writeln!(
        out,
        "  {opened} pools opened, {} connections opened, {} failures",
        after.connections_opened - before.connections_opened,
        after.failures - before.failures,
    );
    let evictions = after.evictions.iter().map(|(cause, &count)| {
        let earlier = before.evictions.get(cause).copied().unwrap_or_default();
        format!("{cause} {}", count - earlier)
    });
    let evictions: Vec<String> = evictions.collect();
    let _ = writeln!(out, "  pools given up: {}", evictions.join(", "));
    let _ = writeln!(
        out,
        "  at the end {} pools, connections: {} in use, {} idle, {} opening, {} closing",
        after.pools,
        after.connections.in_use,
        after.connections.idle,
        after.connections.opening,
        after.connections.closing,
    );
    out
}

/// How often, and for how long.
fn ways(out: &mut String, found: &[Operation]) {
    let operations = found.len() as f64;
    let mut line = |name: &str, which: &dyn Fn(Way) -> bool| {
        let its = found.iter().filter(|operation| which(operation.way));
        let its: Vec<f64> = its.map(|operation| operation.milliseconds).collect();
        let _ = writeln!(
            out,
            "  {:5.1}%  p50 {:7.2} ms  p99 {:7.2} ms  {name}",
            100.0 * its.len() as f64 / operations,
            percentile(&its, 50.0),
            percentile(&its, 99.0),
        );
    };
    line("hit: a connection was free", &|way| way == Way::Free);
    line("miss", &|way| way != Way::Free);
    line("  one was in use, and waited for", &|way| {
        way == Way::Awaited
    });
    line("  one was opened", &|way| way == Way::Opened);
    let at_once = found.iter().filter(|operation| operation.at_once).count();
    let _ = writeln!(
        out,
        "  {:5.1}%  without the queue: nobody waited for the server",
        100.0 * at_once as f64 / operations,
    );
}

/// How often a list of the last so many tenants would have held the next: what an order by last
/// use can reach.
fn least_recently_used(workload: &Workload, capacity: usize) -> f64 {
    const REQUESTS: usize = 500_000;
    let mut random = Rng::with_seed(1);
    let mut cache = LruCache::new(NonZeroUsize::new(capacity).expect("some"));
    let warm_up = 20 * capacity;
    let mut hits = 0;
    for request in 0..warm_up + REQUESTS {
        let is_hit = cache.put(workload.draw(&mut random), ()).is_some();
        hits += usize::from(is_hit && request >= warm_up);
    }
    hits as f64 / REQUESTS as f64
}
