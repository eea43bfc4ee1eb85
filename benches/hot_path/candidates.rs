//! Maps from a tenant to its pool. All but one hash with foldhash, as `lru` and `quick_cache` do.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lru::{DefaultHasher, LruCache};
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use tenantry::TenantId;

use super::candidate::Candidate;
use super::ours;
use super::workload::{TENANTS, Workload};

/// Stands for a pool: what is leased keeps it alive.
#[derive(Default)]
struct Pool {
    used_at: AtomicU64,
}

type Map<S> = HashMap<TenantId, Arc<Pool>, S>;

/// Something that has no state.
pub fn control() -> Candidate {
    let hasher = DefaultHasher::default();
    Candidate::shared("hash of the id, no map", move |tenant| {
        hasher.hash_one(tenant)
    })
}

pub fn all(workload: &Workload) -> Vec<Candidate> {
    let tenants: Arc<[TenantId]> = workload.tenants().into();
    vec![
        counter(),
        share_nothing(Arc::clone(&tenants)),
        constant(&tenants),
        constant_and_held(&tenants),
        mutex(&tenants),
        read_write(
            "RwLock<HashMap>, clock",
            Map::<DefaultHasher>::default(),
            &tenants,
        ),
        read_write(
            "the same, std's hasher",
            Map::<RandomState>::default(),
            &tenants,
        ),
        sharded_mutex(&tenants),
        sharded(&tenants),
        quick(&tenants),
        ours::parts(&tenants),
        ours::registry(&tenants),
    ]
}

/// What it costs that the cores write to the same place in turn.
fn counter() -> Candidate {
    let counter = AtomicU64::new(0);
    Candidate::shared("one counter", move |_| {
        counter.fetch_add(1, Ordering::Relaxed)
    })
    .reference()
}

fn share_nothing(tenants: Arc<[TenantId]>) -> Candidate {
    Candidate::of_each_thread("HashMap of each thread's own", move || {
        let mut map = Map::<DefaultHasher>::default();
        for tenant in tenants.iter() {
            // Not a clone, which would share the text.
            map.insert(
                tenant.as_str().parse().expect("a tenant id"),
                Arc::default(),
            );
        }
        move |tenant: &TenantId| map.get(tenant).cloned()
    })
    .reference()
}

/// The least that a map can do: nothing is written.
fn constant(tenants: &[TenantId]) -> Candidate {
    let mut map = Map::<DefaultHasher>::default();
    fill(&mut map, tenants);
    Candidate::shared("HashMap that never changes, pool not held", move |tenant| {
        let pool = map.get(tenant);
        pool.map(|pool| pool.used_at.load(Ordering::Relaxed))
    })
    .reference()
}

/// And with the one write that a lease cannot do without: something of the pool's.
fn constant_and_held(tenants: &[TenantId]) -> Candidate {
    let mut map = Map::<DefaultHasher>::default();
    fill(&mut map, tenants);
    Candidate::shared("HashMap that never changes, pool held", move |tenant| {
        map.get(tenant).cloned()
    })
    .reference()
}

fn mutex(tenants: &[TenantId]) -> Candidate {
    let mut cache = LruCache::new(NonZeroUsize::new(TENANTS).expect("some"));
    for tenant in tenants {
        cache.put(tenant.clone(), Arc::<Pool>::default());
    }
    let cache = Mutex::new(cache);
    Candidate::shared("Mutex<LruCache>", move |tenant| {
        cache.lock().get(tenant).cloned()
    })
}

fn read_write<S: BuildHasher + Send + Sync + 'static>(
    name: &'static str,
    mut map: Map<S>,
    tenants: &[TenantId],
) -> Candidate {
    fill(&mut map, tenants);
    let map = RwLock::new(map);
    let clock = Clock::start();
    Candidate::shared(name, move |tenant| {
        let pool = map.read().get(tenant).cloned();
        clock.stamp(pool.as_deref());
        pool
    })
}

fn sharded(tenants: &[TenantId]) -> Candidate {
    let shard = shards();
    let mut maps: [Map<DefaultHasher>; SHARDS] = Default::default();
    for tenant in tenants {
        fill(&mut maps[shard(tenant)], std::slice::from_ref(tenant));
    }
    let maps = maps.map(RwLock::new);
    let clock = Clock::start();
    Candidate::shared("RwLock<HashMap> in 32 shards, clock", move |tenant| {
        let pool = maps[shard(tenant)].read().get(tenant).cloned();
        clock.stamp(pool.as_deref());
        pool
    })
}

fn sharded_mutex(tenants: &[TenantId]) -> Candidate {
    let shard = shards();
    let caches: [_; SHARDS] = std::array::from_fn(|_| Mutex::new(LruCache::unbounded()));
    for tenant in tenants {
        let pool = Arc::<Pool>::default();
        caches[shard(tenant)].lock().put(tenant.clone(), pool);
    }
    Candidate::shared("Mutex<LruCache> in 32 shards", move |tenant| {
        caches[shard(tenant)].lock().get(tenant).cloned()
    })
}

const SHARDS: usize = 32;

fn shards() -> impl Fn(&TenantId) -> usize {
    let hasher = DefaultHasher::default();
    // The map takes the upper and the lower bits of a hash.
    move |tenant| (hasher.hash_one(tenant) >> 32) as usize % SHARDS
}

fn quick(tenants: &[TenantId]) -> Candidate {
    // It may evict before it is full, because its shards fill differently.
    let cache = Cache::new(2 * TENANTS);
    for tenant in tenants {
        cache.insert(tenant.clone(), Arc::<Pool>::default());
    }
    assert_eq!(cache.len(), TENANTS, "all pools are open");
    Candidate::shared("quick_cache", move |tenant| cache.get(tenant))
}

fn fill<S: BuildHasher>(map: &mut Map<S>, tenants: &[TenantId]) {
    for tenant in tenants {
        map.insert(tenant.clone(), Arc::default());
    }
}

/// Counts milliseconds, for as long as the bench runs: who was used last is not known more
/// precisely.
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn start() -> Self {
        let now = Arc::new(AtomicU64::new(1));
        let hand = Arc::downgrade(&now);
        thread::spawn(move || {
            while let Some(now) = hand.upgrade() {
                now.fetch_add(1, Ordering::Relaxed);
                drop(now);
                thread::park_timeout(Duration::from_millis(1));
            }
        });
        Self(now)
    }

    /// Writes at most once in a tick, so that a pool everybody uses stays in everybody's cache.
    fn stamp(&self, pool: Option<&Pool>) {
        let Some(pool) = pool else { return };
        let now = self.0.load(Ordering::Relaxed);
        if pool.used_at.load(Ordering::Relaxed) != now {
            pool.used_at.store(now, Ordering::Relaxed);
        }
    }
}
