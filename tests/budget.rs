//! Guarantees 5 and 7: no more connections than the budget has, by the server's own count and not
//! for a moment; and tenants that wait are served in turn.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use support::fleet::Fleet;
use support::{notes, scope, tenant};
use tenantry::testing::FaultProxy;
use tenantry::{
    ConnectionBudget, Database, ErrorKind, ForEachTenant, LazyPools, PoolOptions, StaticDirectory,
    TenantRegistry, TenantScope,
};

async fn registry(fleet: &Fleet, budget: ConnectionBudget, options: PoolOptions) -> TenantRegistry {
    TenantRegistry::builder(fleet.directory())
        .lazy(LazyPools::default().max_pools(50))
        .pool_options(move |_, _| options.clone())
        .budget(budget)
        .build()
        .await
        .expect("a registry")
}

fn options() -> PoolOptions {
    PoolOptions::default().acquire_timeout(Duration::from_secs(60))
}

/// Asks the server how many sessions there are, over and over, and remembers the most.
struct Sampler {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(i64, u64)>,
}

impl Sampler {
    async fn start(fleet: &Fleet) -> Self {
        let mut admin = fleet.superuser().await;
        let role = fleet.role();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut most, mut samples) = (0, 0);
            while !stopped.load(Ordering::SeqCst) {
                let now: i64 =
                    sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = $1")
                        .bind(&role)
                        .fetch_one(&mut admin)
                        .await
                        .expect("a count");
                most = most.max(now);
                samples += 1;
            }
            (most, samples)
        });
        Self { stop, task }
    }

    /// The most sessions that were seen at a time, and how often was looked.
    async fn finish(self) -> (i64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the sampler ends")
    }
}

/// Twenty tenants and nine places: connections are taken from one tenant for another all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_never_counts_more_than_the_budget() {
    let fleet = Fleet::new(20).await;
    let budget = ConnectionBudget::per_server(10).turn(Duration::from_millis(5));
    let registry = registry(&fleet, budget, options()).await;
    let sampler = Sampler::start(&fleet).await;
    let rounds = if std::env::var_os("TENANTRY_LONG").is_some() {
        400
    } else {
        40
    };
    let tasks = (0..40_u64).map(|task| {
        let (registry, tenants) = (registry.clone(), fleet.tenants.clone());
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(task);
            for _ in 0..rounds {
                let id = &tenants[random.usize(..tenants.len())];
                let scope = scope(&registry, id.as_str()).await;
                assert_eq!(
                    notes(&scope).await.expect("rows"),
                    [format!("a note of {id}")]
                );
                if random.u8(..10) == 0 {
                    registry.evict(id);
                }
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("no task fails");
    }
    let (most, samples) = sampler.finish().await;
    println!(
        "{most} sessions at most in {samples} samples, {:?}",
        registry.status()
    );
    assert!(most <= 10, "{most} sessions of a budget of 10");
    assert!(most >= 9, "the budget is used: {most}");
    assert!(samples > 100, "{samples}");
}

/// Its sessions end a third of a second after they were closed. A count that trusts the farewell has
/// opened others by then.
#[tokio::test]
async fn a_connection_counts_until_the_server_has_let_go_of_it() {
    let fleet = Fleet::new(4).await;
    let app = fleet.admin.clone().username(&fleet.role());
    let proxy = FaultProxy::start(&app).await.expect("a proxy");
    proxy.slow_to_part(Duration::from_millis(300));
    let server = Database::new(proxy.connect_options(&app));
    let databases = fleet.tenants.iter().map(|id| (id.clone(), fleet.name(id)));
    let directory = StaticDirectory::new().databases(server, databases);
    let registry = TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .pool_options(|_, _| options())
        .budget(ConnectionBudget::per_server(3))
        .build()
        .await
        .expect("a registry");
    let sampler = Sampler::start(&fleet).await;
    for n in 0..12 {
        let id = &fleet.tenants[n % 4];
        let seen = notes(&scope(&registry, id.as_str()).await).await;
        assert_eq!(seen.expect("rows"), [format!("a note of {id}")]);
    }
    let (most, samples) = sampler.finish().await;
    assert_eq!(most, 3, "in {samples} samples, of a budget of 3");
}

#[tokio::test]
async fn a_budget_larger_than_the_server_is_refused() {
    let fleet = Fleet::new(1).await;
    let registry = registry(&fleet, ConnectionBudget::per_server(5_000), options()).await;
    let scope = scope(&registry, "t0").await;
    let error = tenantry::Error::from(notes(&scope).await.expect_err("too large"));
    assert_eq!(error.kind(), ErrorKind::Preflight);
    assert!(error.to_string().contains("max_connections"), "{error}");
}

#[tokio::test]
async fn idle_connections_of_the_pool_used_least_recently_are_given_up_first() {
    let fleet = Fleet::new(4).await;
    // Three places for tenants, and one session that counts.
    let budget = ConnectionBudget::per_server(4).max_per_tenant(2);
    let registry = registry(&fleet, budget, options()).await;
    let mut scopes = Vec::new();
    for id in &fleet.tenants {
        scopes.push(scope(&registry, id.as_str()).await);
    }
    for n in [0, 1, 2, 0, 3] {
        notes(&scopes[n]).await.expect("rows");
    }
    let connections = |n: usize| {
        let status = registry.tenant_status(&fleet.tenants[n]);
        status.map_or(0, |status| status.connections.total())
    };
    let have: Vec<_> = (0..4).map(connections).collect();
    assert_eq!(have, [1, 0, 1, 1]);
    assert_eq!(
        registry.status().pools,
        4,
        "pools stay open without a connection"
    );
}

#[tokio::test]
async fn a_tenant_gets_at_most_its_share_and_who_comes_then_is_told() {
    let fleet = Fleet::new(2).await;
    let short = options().acquire_timeout(Duration::from_millis(300));
    let budget = ConnectionBudget::per_server(3).max_per_tenant(1);
    let registry = registry(&fleet, budget, short).await;
    let (a, b) = (scope(&registry, "t0").await, scope(&registry, "t1").await);
    let first = a.begin().await.expect("begun");
    // Its own share is used up: that is its own affair.
    let error = a.begin().await.expect_err("one is its share");
    assert_eq!(error.kind(), ErrorKind::AcquireTimeout);
    // The other tenant does not notice.
    let second = b.begin().await.expect("begun");
    drop((first, second));

    // All places in use by others: that is everybody's.
    let fleet = Fleet::new(2).await;
    let registry = TenantRegistry::builder(fleet.directory())
        .lazy(LazyPools::default())
        .pool_options(|_, options| options.acquire_timeout(Duration::from_millis(300)))
        .budget(ConnectionBudget::per_server(2))
        .build()
        .await
        .expect("a registry");
    let (a, b) = (scope(&registry, "t0").await, scope(&registry, "t1").await);
    let held = a.begin().await.expect("begun");
    let error = b.begin().await.expect_err("the budget is used up");
    assert_eq!(error.kind(), ErrorKind::Saturated);
    assert!(error.is_retryable() && error.retry_after().is_some());
    held.rollback().await.expect("rolled back");
    b.begin()
        .await
        .expect("begun")
        .rollback()
        .await
        .expect("ended");
}

/// A tenant that floods the only place has many more requests in the queue than another has one:
/// that one is not behind all of them.
#[tokio::test]
async fn who_waits_is_served_in_turn_and_not_behind_a_flood() {
    let fleet = Fleet::new(2).await;
    let turn = Duration::from_millis(1);
    let budget = ConnectionBudget::per_server(2).turn(turn);
    let registry = registry(&fleet, budget, options()).await;
    let (flood, other) = (scope(&registry, "t0").await, scope(&registry, "t1").await);
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let work = |scope: TenantScope| {
        let order = Arc::clone(&order);
        async move {
            sqlx::query("SELECT pg_sleep(0.005)")
                .execute(&scope)
                .await
                .expect("slept");
            order.lock().push(scope.tenant().clone());
        }
    };
    let mut all: Vec<_> = (0..100)
        .map(|_| tokio::spawn(work(flood.clone())))
        .collect();
    tokio::task::yield_now().await;
    all.push(tokio::spawn(work(other)));
    join_all(all).await;
    let place = order.lock().iter().position(|id| *id == tenant("t1"));
    let place = place.expect("was served");
    assert!(place < 10, "served as number {place} of 101");
}

#[tokio::test]
async fn a_guaranteed_minimum_is_not_taken_away() {
    let fleet = Fleet::new(4).await;
    let budget = ConnectionBudget::per_server(4)
        .min_per_tenant(1)
        .max_per_tenant(3);
    let registry = TenantRegistry::builder(fleet.directory())
        .lazy(LazyPools::default().max_pools(3))
        .pool_options(|_, _| options())
        .budget(budget)
        .build()
        .await
        .expect("a registry");
    let mut scopes = Vec::new();
    for id in &fleet.tenants[..3] {
        scopes.push(scope(&registry, id.as_str()).await);
    }
    for scope in &scopes {
        notes(scope).await.expect("rows");
    }
    // All three places are somebody's minimum, so that a second one has to wait for its own.
    let (first, second) = tokio::join!(scopes[0].begin(), async {
        tokio::time::timeout(Duration::from_millis(300), scopes[0].begin()).await
    });
    assert!(second.is_err(), "nothing was taken from the others");
    for (n, id) in fleet.tenants[..3].iter().enumerate() {
        let status = registry.tenant_status(id).expect("a pool");
        assert_eq!(status.connections.total(), 1, "of t{n}");
    }
    drop(first);
}

/// Six tenants are busy, and a job goes over all twenty-four: the pools of the busy ones stay, and
/// the job has no more open at a time than its share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_over_all_tenants_does_not_flush_the_pools_of_the_busy_ones() {
    let fleet = Fleet::new(24).await;
    let registry = TenantRegistry::builder(fleet.directory())
        .lazy(LazyPools::default().max_pools(8))
        .pool_options(|_, _| options())
        .budget(ConnectionBudget::per_server(20))
        .build()
        .await
        .expect("a registry");
    let mut busy = Vec::new();
    for id in &fleet.tenants[..6] {
        busy.push(scope(&registry, id.as_str()).await);
    }
    for scope in &busy {
        notes(scope).await.expect("rows");
    }
    let opened = registry.status().pools_opened;
    assert_eq!(opened, 6);
    let at_a_time = Arc::new(parking_lot::Mutex::new((0, 0)));
    let report = registry
        .for_each_tenant(ForEachTenant::default().concurrency(50), |scope| {
            let (at_a_time, busy) = (Arc::clone(&at_a_time), busy.clone());
            async move {
                {
                    let mut counts = at_a_time.lock();
                    counts.0 += 1;
                    counts.1 = counts.1.max(counts.0);
                }
                let seen = notes(&scope).await?;
                for scope in &busy {
                    notes(scope).await?;
                }
                at_a_time.lock().0 -= 1;
                Ok::<_, sqlx::Error>(seen)
            }
        })
        .await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(report.done.len(), 24);
    for (id, seen) in &report.done {
        assert_eq!(*seen, [format!("a note of {id}")]);
    }
    assert_eq!(at_a_time.lock().1, 2, "a quarter of eight pools");
    let status = registry.status();
    assert_eq!(
        status.pools_opened - opened,
        18,
        "those of the others, once each: {status:?}"
    );
    for id in &fleet.tenants[..6] {
        assert!(
            registry
                .tenant_status(id)
                .is_some_and(|status| status.has_pool)
        );
    }
    assert_eq!(status.pools, 6, "the job has closed what it opened");
}
