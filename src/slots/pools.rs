//! The pools that are open: how many there may be, and which of them goes when another needs its
//! place.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::Mutex as TurnMutex;

use super::eviction::EvictionCause;
use crate::lease::AtRest;
use crate::sync::Mutex;

/// What a pool can be asked by the map that holds it.
pub(crate) trait Pooled: Clone + Send + Sync {
    /// When it was used last; 0 for never.
    fn last_used(&self) -> u64;

    /// Leases no more; what is in use goes on to its end.
    fn retire(&self);

    /// The same, if nobody uses it or waits for it.
    fn retire_if_idle(&self) -> bool;

    /// Whether it leases no more and has nothing left.
    fn is_drained(&self) -> bool;

    /// What it has done so far.
    fn done(&self) -> Done;
}

/// What pools have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) leases: u64,
    pub(crate) opened: u64,
    pub(crate) failures: u64,
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, more: Self) {
        self.leases += more.leases;
        self.opened += more.opened;
        self.failures += more.failures;
    }
}

/// The open pools.
pub(crate) struct PoolMap<K, P> {
    max: Option<usize>,
    state: Mutex<State<K, P>>,
    /// Those who need a place that is not there, in the order of their coming.
    newcomers: TurnMutex<()>,
    at_rest: Arc<AtRest>,
}

struct State<K, P> {
    open: HashMap<K, P>,
    /// Those that lease no more, and on which something may still be under way.
    draining: Vec<OpenPool<K, P>>,
    totals: Totals,
}

/// What happened since the registry was built.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Pools that were opened.
    pub(crate) opened: u64,
    /// By cause, in the order of [`EvictionCause::ALL`].
    pub(crate) evicted: [u64; EvictionCause::ALL.len()],
    /// By pools that are gone.
    pub(crate) done: Done,
}

/// A pool that is, or was, open.
#[derive(Clone)]
pub(crate) struct OpenPool<K, P> {
    pub(crate) key: K,
    pub(crate) pool: P,
}

impl<K: Clone + Eq + Hash, P: Pooled> PoolMap<K, P> {
    pub(crate) fn new(max: Option<usize>, at_rest: Arc<AtRest>) -> Self {
        Self {
            max,
            state: Mutex::new(State {
                open: HashMap::new(),
                draining: Vec::new(),
                totals: Totals::default(),
            }),
            newcomers: TurnMutex::default(),
            at_rest,
        }
    }

    /// The pool of this key, made if there is none. Where there may be no more pools, the one that
    /// was used least recently goes, of those that nobody uses; where all are in use, waits in
    /// turn for one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn get_or_make(&self, key: &K, make: impl Fn() -> P) -> P {
        if let Some(pool) = self.state.lock().open.get(key) {
            return pool.clone();
        }
        // Even if there is a place: it may be for somebody who has waited for one.
        let _turn = self.newcomers.lock().await;
        let attempt = || self.state.lock().get_or_make(key, self.max, &make);
        self.at_rest.until(attempt).await
    }

    /// The pool of this key, if it is open.
    #[cfg(feature = "sqlite")]
    pub(crate) fn get(&self, key: &K) -> Option<P> {
        self.state.lock().open.get(key).cloned()
    }

    pub(crate) fn max(&self) -> Option<usize> {
        self.max
    }

    /// Gives up the pools that `which` says; what is in use on them goes on to its end.
    pub(crate) fn retire(&self, cause: EvictionCause, which: impl Fn(&K, &P) -> bool) -> usize {
        self.take(cause, |key, pool| {
            let wanted = which(key, pool);
            if wanted {
                pool.retire();
            }
            wanted
        })
    }

    /// Gives up those of the pools that `which` says that nobody uses.
    pub(crate) fn retire_idle(
        &self,
        cause: EvictionCause,
        which: impl Fn(&K, &P) -> bool,
    ) -> usize {
        self.take(cause, |key, pool| which(key, pool) && pool.retire_if_idle())
    }

    /// The pools that were given up and on which something may still be under way.
    pub(crate) fn draining(&self) -> Vec<OpenPool<K, P>> {
        let mut state = self.state.lock();
        state.draining.retain(|gone| !gone.pool.is_drained());
        state.draining.clone()
    }

    fn take(&self, cause: EvictionCause, mut which: impl FnMut(&K, &P) -> bool) -> usize {
        let mut state = self.state.lock();
        let taken = state.open.extract_if(|key, pool| which(key, pool));
        let taken: Vec<_> = taken.map(|(key, pool)| OpenPool { key, pool }).collect();
        let count = taken.len();
        for gone in taken {
            state.give_up(cause, gone);
        }
        drop(state);
        if count > 0 {
            self.at_rest.ring();
        }
        count
    }

    pub(crate) fn open(&self) -> Vec<OpenPool<K, P>> {
        let state = self.state.lock();
        let open = state.open.iter().map(|(key, pool)| OpenPool {
            key: key.clone(),
            pool: pool.clone(),
        });
        open.collect()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.state.lock().totals
    }
}

impl<K: Clone + Eq + Hash, P: Pooled> State<K, P> {
    fn get_or_make(&mut self, key: &K, max: Option<usize>, make: &impl Fn() -> P) -> Option<P> {
        if let Some(pool) = self.open.get(key) {
            return Some(pool.clone());
        }
        if max.is_some_and(|max| self.open.len() >= max) && !self.evict_one() {
            return None;
        }
        let pool = make();
        self.open.insert(key.clone(), pool.clone());
        self.totals.opened += 1;
        Some(pool)
    }

    /// Gives up the pool that was used least recently, of those that nobody uses.
    fn evict_one(&mut self) -> bool {
        let mut by_age: Vec<(u64, &K, &P)> = self
            .open
            .iter()
            .map(|(key, pool)| (pool.last_used(), key, pool))
            .collect();
        by_age.sort_unstable_by_key(|(last_used, ..)| *last_used);
        let victim = by_age
            .into_iter()
            .find(|(_, _, pool)| pool.retire_if_idle())
            .map(|(_, key, _)| key.clone());
        let Some((key, pool)) = victim.and_then(|key| self.open.remove_entry(&key)) else {
            return false;
        };
        self.give_up(EvictionCause::Capacity, OpenPool { key, pool });
        true
    }

    fn give_up(&mut self, cause: EvictionCause, gone: OpenPool<K, P>) {
        self.totals.evicted[cause.place()] += 1;
        self.totals.done += gone.pool.done();
        self.draining.retain(|gone| !gone.pool.is_drained());
        if !gone.pool.is_drained() {
            self.draining.push(gone);
        }
    }
}

impl<K, P> fmt::Debug for PoolMap<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolMap")
            .field("max", &self.max)
            .field("open", &self.state.lock().open.len())
            .finish_non_exhaustive()
    }
}
