//! Guarantee 4 and half of 5: pools that are opened when their tenant is met, once, and given up
//! when another needs the place, never under somebody who uses them.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use support::fleet::Fleet;
use support::silent::Silent;
use support::{notes, scope, tenant};
use tenantry::testing::cancelled_after;
use tenantry::{ErrorKind, LazyPools, PoolOptions, StaticDirectory, TenantRegistry};
use tokio::sync::Barrier;

async fn lazy(fleet: &Fleet, max_pools: usize, options: PoolOptions) -> TenantRegistry {
    TenantRegistry::builder(fleet.directory())
        .lazy(LazyPools::default().max_pools(max_pools))
        .pool_options(move |_, _| options.clone())
        .build()
        .await
        .expect("a registry")
}

fn options() -> PoolOptions {
    PoolOptions::default().acquire_timeout(Duration::from_secs(20))
}

#[tokio::test]
async fn a_pool_is_opened_when_its_tenant_is_met() {
    let fleet = Fleet::new(2).await;
    let mut admin = fleet.superuser().await;
    let registry = lazy(&fleet, 10, options()).await;
    assert_eq!(registry.status().pools, 0);
    let scopes = [scope(&registry, "t0").await, scope(&registry, "t1").await];
    assert_eq!(fleet.sessions(&mut admin).await, 0, "a scope opens nothing");
    for (n, scope) in scopes.iter().enumerate() {
        let seen = notes(scope).await.expect("rows");
        assert_eq!(seen, [format!("a note of t{n}")]);
        assert_eq!(registry.status().pools, n + 1);
    }
    assert_eq!(fleet.sessions(&mut admin).await, 2);
}

#[tokio::test]
async fn many_who_ask_at_once_make_one_opening() {
    let fleet = Fleet::new(1).await;
    let one = options().max_connections(1);
    let registry = lazy(&fleet, 10, one).await;
    let scope = scope(&registry, "t0").await;
    let answers = join_all((0..64).map(|_| notes(&scope))).await;
    for answer in answers {
        assert_eq!(answer.expect("rows"), ["a note of t0"]);
    }
    let status = registry.status();
    assert_eq!((status.pools_opened, status.connections_opened), (1, 1));
}

/// While the first connection is on its way, a second one would meet the same fate.
#[tokio::test]
async fn a_failure_to_open_reaches_all_who_wait_and_was_one_attempt() {
    let silent = Silent::start(Duration::from_millis(300)).await;
    let directory = StaticDirectory::new().database(tenant("a"), silent.database());
    let registry = TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .build()
        .await
        .expect("a registry");
    let scope = scope(&registry, "a").await;
    let answers = join_all((0..64).map(|_| notes(&scope))).await;
    for answer in answers {
        let error = tenantry::Error::from(answer.expect_err("nobody there"));
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.is_retryable() && error.retry_after().is_some());
    }
    assert_eq!(silent.accepted(), 1);
}

#[tokio::test]
async fn a_failure_is_not_kept_for_ever_and_harms_no_other_tenant() {
    let fleet = Fleet::new(1).await;
    let late = tenant("late");
    let directory = fleet
        .directory()
        .database(late.clone(), fleet.server.named(fleet.name(&late)));
    let registry = TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .build()
        .await
        .expect("a registry");
    let (other, late_scope) = (scope(&registry, "t0").await, scope(&registry, "late").await);
    for _ in 0..4 {
        let error = tenantry::Error::from(notes(&late_scope).await.expect_err("no database"));
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(notes(&other).await.expect("rows"), ["a note of t0"]);
    }
    fleet.create(&late).await;
    let served = async {
        loop {
            match notes(&late_scope).await {
                Ok(rows) => return rows,
                Err(error) => {
                    let after = tenantry::Error::from(error).retry_after();
                    tokio::time::sleep(after.expect("says when")).await;
                }
            }
        }
    };
    let rows = tokio::time::timeout(Duration::from_secs(20), served).await;
    assert_eq!(rows.expect("in time"), ["a note of late"]);
}

/// Who asked first may give up at any poll: what was begun for it is there for the next.
#[tokio::test]
async fn an_opening_goes_on_when_its_first_caller_gives_up() {
    let silent = Silent::start(Duration::from_millis(200)).await;
    let fleet = Fleet::new(1).await;
    let registry = lazy(&fleet, 10, options().max_connections(1)).await;
    let scope_of_t0 = scope(&registry, "t0").await;
    assert!(cancelled_after(1, notes(&scope_of_t0)).await.is_none());
    assert_eq!(notes(&scope_of_t0).await.expect("rows"), ["a note of t0"]);
    assert_eq!(registry.status().connections_opened, 1);

    // The same where it fails: the second caller hears of the attempt of the first.
    let directory = StaticDirectory::new().database(tenant("a"), silent.database());
    let registry = TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .build()
        .await
        .expect("a registry");
    let scope_of_a = scope(&registry, "a").await;
    assert!(cancelled_after(1, notes(&scope_of_a)).await.is_none());
    notes(&scope_of_a).await.expect_err("nobody there");
    assert_eq!(silent.accepted(), 1);
}

#[tokio::test]
async fn the_pool_used_least_recently_goes_and_none_that_is_in_use() {
    let fleet = Fleet::new(4).await;
    let registry = lazy(&fleet, 2, options().max_connections(2)).await;
    let mut scopes = Vec::new();
    for id in &fleet.tenants {
        scopes.push(scope(&registry, id.as_str()).await);
    }
    let is_open = |n: usize| {
        let status = registry.tenant_status(&fleet.tenants[n]);
        status.is_some_and(|status| status.has_pool)
    };
    notes(&scopes[0]).await.expect("rows");
    notes(&scopes[1]).await.expect("rows");
    notes(&scopes[0]).await.expect("rows");
    notes(&scopes[2]).await.expect("rows");
    assert_eq!([is_open(0), is_open(1), is_open(2)], [true, false, true]);

    // In use although it was used least recently: another one goes.
    let mut tx = scopes[0].begin().await.expect("begun");
    notes(&scopes[2]).await.expect("rows");
    notes(&scopes[3]).await.expect("rows");
    assert_eq!([is_open(0), is_open(2), is_open(3)], [true, false, true]);
    assert_eq!(notes(&mut tx).await.expect("rows"), ["a note of t0"]);
    tx.commit().await.expect("committed");
    let evictions = registry.status().evictions;
    assert_eq!(evictions["capacity"], 2);
}

#[tokio::test]
async fn where_all_pools_are_in_use_who_comes_waits_in_turn() {
    let fleet = Fleet::new(3).await;
    let short = options().acquire_timeout(Duration::from_millis(200));
    let registry = lazy(&fleet, 1, short).await;
    let (a, b) = (scope(&registry, "t0").await, scope(&registry, "t1").await);
    let tx = a.begin().await.expect("begun");
    let error = b.begin().await.expect_err("all are in use");
    assert_eq!(error.kind(), ErrorKind::Saturated);
    assert!(error.is_retryable() && error.retry_after().is_some());

    let registry = lazy(&fleet, 1, options()).await;
    let (a, b, c) = (
        scope(&registry, "t0").await,
        scope(&registry, "t1").await,
        scope(&registry, "t2").await,
    );
    let held = a.begin().await.expect("begun");
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let wait = |scope: tenantry::TenantScope| {
        let order = Arc::clone(&order);
        async move {
            let tx = scope.begin().await.expect("its turn comes");
            order.lock().push(scope.tenant().to_string());
            tx.rollback().await.expect("rolled back");
        }
    };
    let (mut first, mut second) = (wait(b).boxed(), wait(c).boxed());
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none());
    held.rollback().await.expect("rolled back");
    tokio::join!(first, second);
    assert_eq!(*order.lock(), ["t1", "t2"]);
    drop(tx);
}

/// Eight pools for forty tenants that all work at once: places change hands all the time, and
/// nobody's connection is closed in his hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eviction_under_load_breaks_nobodys_work() {
    let fleet = Fleet::new(12).await;
    let registry = lazy(&fleet, 3, options().max_connections(2)).await;
    let barrier = Arc::new(Barrier::new(24));
    let tasks = (0..24).map(|task| {
        let (registry, barrier) = (registry.clone(), Arc::clone(&barrier));
        let tenants = fleet.tenants.clone();
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(task);
            barrier.wait().await;
            for round in 0..20 {
                let id = &tenants[random.usize(..tenants.len())];
                let scope = scope(&registry, id.as_str()).await;
                let expected = [format!("a note of {id}")];
                if round % 2 == 0 {
                    assert_eq!(notes(&scope).await.expect("rows"), expected);
                } else {
                    let mut tx = scope.begin().await.expect("begun");
                    tokio::task::yield_now().await;
                    assert_eq!(notes(&mut tx).await.expect("rows"), expected);
                    tx.commit().await.expect("committed");
                }
                assert!(registry.status().pools <= 3);
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("no task fails");
    }
    assert!(registry.status().evictions["capacity"] > 0);
}

#[tokio::test]
async fn a_pool_that_is_given_up_is_opened_anew_for_scopes_that_live_on() {
    let fleet = Fleet::new(1).await;
    let registry = lazy(&fleet, 10, options()).await;
    let scope = scope(&registry, "t0").await;
    let mut tx = scope.begin().await.expect("begun");
    notes(&scope).await.expect("rows");
    assert!(registry.evict(&fleet.tenants[0]));
    assert!(!registry.evict(&fleet.tenants[0]));
    notes(&mut tx).await.expect("what is in use goes on");
    assert_eq!(notes(&scope).await.expect("rows"), ["a note of t0"]);
    tx.commit().await.expect("committed");
    assert_eq!(registry.status().pools_opened, 2);
}

#[tokio::test]
async fn what_nobody_uses_is_closed() {
    let fleet = Fleet::new(1).await;
    let mut admin = fleet.superuser().await;
    let idle = Duration::from_millis(100);
    let registry = TenantRegistry::builder(fleet.directory())
        .lazy(LazyPools::default().idle_timeout(idle))
        .build()
        .await
        .expect("a registry");
    notes(&scope(&registry, "t0").await).await.expect("rows");
    let gone = async {
        while registry.status().pools > 0 || fleet.sessions(&mut admin).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("closed in time");
    assert_eq!(registry.status().evictions["idle"], 1);

    let registry = TenantRegistry::builder(fleet.directory())
        .lazy(LazyPools::default())
        .pool_options(move |_, options| options.idle_timeout(idle))
        .build()
        .await
        .expect("a registry");
    notes(&scope(&registry, "t0").await).await.expect("rows");
    let gone = async {
        while registry.status().connections.total() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("closed in time");
    assert_eq!(registry.status().pools, 1);
}

#[tokio::test]
async fn an_idle_stream_of_a_tenant_holds_its_pool() {
    let fleet = Fleet::new(2).await;
    let short = options().acquire_timeout(Duration::from_millis(100));
    let registry = lazy(&fleet, 1, short).await;
    let (a, b) = (scope(&registry, "t0").await, scope(&registry, "t1").await);
    let mut rows = sqlx::query("SELECT generate_series(1, 3)").fetch(&a);
    rows.next().await.expect("a row").expect("a row");
    let error = tenantry::Error::from(notes(&b).await.expect_err("in use"));
    assert_eq!(error.kind(), ErrorKind::Saturated);
    while let Some(row) = rows.next().await {
        row.expect("a row");
    }
    drop(rows);
    assert_eq!(notes(&b).await.expect("rows"), ["a note of t1"]);
}

#[tokio::test]
async fn shutting_down_waits_for_what_is_under_way_and_says_who_was_still_busy() {
    let fleet = Fleet::new(3).await;
    let mut admin = fleet.superuser().await;
    let registry = lazy(&fleet, 10, options()).await;
    let (a, b) = (scope(&registry, "t0").await, scope(&registry, "t1").await);
    notes(&a).await.expect("rows");
    let tx = b.begin().await.expect("begun");
    let report = registry.shutdown(Duration::from_millis(100)).await;
    assert!(!report.is_clean());
    assert_eq!(report.still_busy, [(tenant("t1"), 1)]);
    assert_eq!(report.still_open, 1);
    for refused in [
        registry.scope(tenant("t2")).await.map(drop),
        a.begin().await.map(drop),
        notes(&b).await.map(drop).map_err(Into::into),
    ] {
        assert_eq!(refused.expect_err("closed").kind(), ErrorKind::Closed);
    }
    tx.commit()
        .await
        .expect("what is under way comes to its end");
    let report = registry.shutdown(Duration::from_secs(20)).await;
    assert!(report.is_clean(), "{report:?}");
    let gone = async {
        while fleet.sessions(&mut admin).await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("all closed");

    // In time where the work ends in time.
    let registry = lazy(&fleet, 10, options()).await;
    let scope = scope(&registry, "t0").await;
    let work =
        tokio::spawn(async move { sqlx::query("SELECT pg_sleep(0.2)").execute(&scope).await });
    while registry.status().connections.in_use == 0 {
        tokio::task::yield_now().await;
    }
    let report = registry.shutdown(Duration::from_secs(20)).await;
    assert!(report.is_clean(), "{report:?}");
    work.await.expect("no panic").expect("carried out");
}

/// Two tenants and one place: each statement opens a pool and evicts the other. 100,000 times with
/// `TENANTRY_LONG=1`.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn opening_and_evicting_leaves_nothing_behind() {
    let cycles = match std::env::var_os("TENANTRY_LONG") {
        Some(_) => 100_000,
        None => 400,
    };
    let fleet = Fleet::new(2).await;
    let registry = lazy(&fleet, 1, options()).await;
    let scopes = [scope(&registry, "t0").await, scope(&registry, "t1").await];
    let mut begun = None;
    for cycle in 0..cycles {
        notes(&scopes[cycle % 2]).await.expect("rows");
        if cycle == cycles / 4 {
            begun = Some((descriptors(), resident()));
        }
    }
    let status = registry.status();
    assert_eq!(status.pools_opened, cycles as u64);
    assert_eq!(status.evictions["capacity"], cycles as u64 - 1);
    let (descriptors_then, resident_then) = begun.expect("a quarter of the way");
    let (descriptors, resident) = (descriptors(), resident());
    println!(
        "{cycles} openings: {descriptors_then} descriptors and {resident_then} KiB after a quarter, \
         {descriptors} and {resident} at the end"
    );
    // Other tests of this binary run beside it: they have some of their own.
    assert!(descriptors < descriptors_then + 200);
    assert!(resident < resident_then + 64 * 1024);
}

#[cfg(target_os = "linux")]
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// KiB of memory.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}
