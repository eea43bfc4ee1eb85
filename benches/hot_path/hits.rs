//! How often the pool is open, where not all can be.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::num::NonZeroUsize;

use fastrand::Rng;
use lru::LruCache;
use quick_cache::unsync::Cache;
use tenantry::TenantId;

use super::workload::{TENANTS, Workload};

const CAPACITY: usize = 1_000;

/// While a job goes over all tenants, every so many requests it comes to the next.
const REQUESTS_OF_A_STEP: usize = 4;

/// Remembers tenants and forgets some: whether this one was still known.
type Memory = Box<dyn FnMut(&TenantId) -> bool>;

type Make = fn() -> Memory;

const KINDS: [(&str, Make); 4] = [
    ("LRU", least_recently_used),
    ("quick_cache", quick),
    ("the oldest of 8 taken at random", || sampled(8)),
    ("the oldest of 16 taken at random", || sampled(16)),
];

pub fn table(workload: &Workload, requests: usize) -> String {
    let mut out = format!(
        "hit ratio at capacity {CAPACITY} of {TENANTS}, {requests} requests; and of the requests \
         while a job over all tenants opens their pools like everybody\n"
    );
    for (name, make) in KINDS {
        let alone = 100.0 * ratio(workload, requests, make(), false);
        let beside = 100.0 * ratio(workload, requests, make(), true);
        let _ = writeln!(out, "  {alone:4.1}%  {beside:4.1}%  {name}");
    }
    out
}

fn ratio(workload: &Workload, requests: usize, mut memory: Memory, has_job: bool) -> f64 {
    let mut random = Rng::with_seed(1);
    let mut job = workload.tenants().iter().cycle();
    let mut hits = 0;
    let warm_up = 20 * CAPACITY;
    for i in 0..warm_up + requests {
        let is_hit = memory(workload.draw(&mut random));
        hits += usize::from(is_hit && i >= warm_up);
        if has_job && i % REQUESTS_OF_A_STEP == 0 {
            job.next().map(&mut memory);
        }
    }
    hits as f64 / requests as f64
}

fn least_recently_used() -> Memory {
    let mut cache = LruCache::new(NonZeroUsize::new(CAPACITY).expect("some"));
    Box::new(move |tenant| {
        let is_hit = cache.get(tenant).is_some();
        if !is_hit {
            cache.put(tenant.clone(), ());
        }
        is_hit
    })
}

fn quick() -> Memory {
    let mut cache = Cache::new(CAPACITY);
    Box::new(move |tenant: &TenantId| {
        let is_hit = cache.get(tenant).is_some();
        if !is_hit {
            cache.insert(tenant.clone(), ());
        }
        is_hit
    })
}

/// No order is kept, only when each was used last.
fn sampled(sample: usize) -> Memory {
    let mut random = Rng::with_seed(2);
    let mut now = 0_u64;
    let mut places = HashMap::new();
    let mut known: Vec<(TenantId, u64)> = Vec::new();
    Box::new(move |tenant| {
        now += 1;
        if let Some(&place) = places.get(tenant) {
            let (_, used_at): &mut (TenantId, u64) = &mut known[place];
            *used_at = now;
            return true;
        }
        let place = if known.len() < CAPACITY {
            known.push((tenant.clone(), now));
            known.len() - 1
        } else {
            let places_taken = (0..sample).map(|_| random.usize(..CAPACITY));
            let place = places_taken
                .min_by_key(|&place| known[place].1)
                .expect("one or more");
            places.remove(&known[place].0);
            known[place] = (tenant.clone(), now);
            place
        };
        places.insert(tenant.clone(), place);
        false
    })
}
