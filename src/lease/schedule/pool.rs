//! The connections to one database with one role.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use tokio::sync::Notify;

use super::checkout::Held;
use super::effects::Effects;
use super::server::Flow;
use super::{BACK_OFF, Checkout, Driver as _, Server, Types, Wait};
use crate::sync::{Mutex, MutexGuard, now};

/// How many connections a pool gets, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    pub(crate) max: usize,
    /// How many of them one tenant may use at a time; `None` for a pool of one tenant, where
    /// nobody is told apart.
    pub(crate) max_per_tenant: Option<usize>,
    /// So many are not taken away for others.
    pub(crate) min: usize,
    pub(crate) test_after: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
}

pub(crate) struct Pool<T: Types> {
    pub(super) number: u64,
    server: Arc<Server<T>>,
    limits: PoolLimits,
    home: T::Home,
    /// Microseconds on the server's clock; 0 for a pool that only background work has used.
    last_used: AtomicU64,
    /// Told when a pool that leases no more holds no connection any more.
    drained: Notify,
    state: Mutex<PoolState<T>>,
}

pub(super) struct PoolState<T: Types> {
    /// The one used last is at the back and is used next, so that the others can grow old.
    pub(super) idle: VecDeque<Held<T::Connection>>,
    pub(super) in_use: usize,
    /// For whom connections are being opened, in the order of the asking: it was their turn.
    pub(super) opening: VecDeque<T::Tenant>,
    pub(super) closing: usize,
    /// How many each tenant uses, where that is limited; with those that used some a while ago.
    tenants: HashMap<T::Tenant, usize, RandomState>,
    pub(super) waiting: usize,
    /// Whether a connection was opened since the last failure: until then they are opened one at
    /// a time.
    pub(super) proven: bool,
    pub(super) failed: Option<Failed<T::Failure>>,
    pub(super) retired: bool,
    leases: u64,
    opened: u64,
    failures: u64,
}

pub(super) struct Failed<F> {
    pub(super) failure: F,
    pub(super) times: u32,
    pub(super) until: Instant,
}

/// What a pool has, and what was done on it since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolCounts {
    pub(crate) idle: usize,
    pub(crate) in_use: usize,
    pub(crate) opening: usize,
    pub(crate) closing: usize,
    pub(crate) waiting: usize,
    pub(crate) leases: u64,
    pub(crate) opened: u64,
    pub(crate) failures: u64,
}

/// An answer without waiting.
pub(crate) enum TryLease<T: Types> {
    Leased(Checkout<T>),
    /// Ask with [`Pool::wait`].
    Wait,
    /// The pool leases no more.
    Retired,
}

impl<T: Types> Pool<T> {
    pub(super) fn new(
        number: u64,
        server: &Arc<Server<T>>,
        limits: PoolLimits,
        home: T::Home,
    ) -> Self {
        Self {
            number,
            server: Arc::clone(server),
            limits,
            home,
            last_used: AtomicU64::new(0),
            drained: Notify::new(),
            state: Mutex::new(PoolState {
                idle: VecDeque::new(),
                in_use: 0,
                opening: VecDeque::new(),
                closing: 0,
                tenants: HashMap::default(),
                waiting: 0,
                proven: false,
                failed: None,
                retired: false,
                leases: 0,
                opened: 0,
                failures: 0,
            }),
        }
    }

    pub(crate) fn home(&self) -> &T::Home {
        &self.home
    }

    pub(crate) fn server(&self) -> &Arc<Server<T>> {
        &self.server
    }

    pub(crate) fn limits(&self) -> &PoolLimits {
        &self.limits
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PoolState<T>> {
        self.state.lock()
    }

    /// The way that most take: one short lock, and nobody else involved. Only while nobody waits
    /// for a connection of this pool, so that nobody is overtaken. One that has to be `fresh` was
    /// used a moment ago.
    pub(crate) fn try_lease(
        self: &Arc<Self>,
        tenant: &T::Tenant,
        fresh: bool,
        now: Instant,
    ) -> TryLease<T> {
        let mut state = self.lock();
        if state.retired {
            return TryLease::Retired;
        }
        if state.waiting > 0 {
            return TryLease::Wait;
        }
        if state.at_limit(tenant, &self.limits) {
            return TryLease::Wait;
        }
        let usable = |held: &mut Held<_>| {
            let idle_for = now.saturating_duration_since(held.used_at);
            !self.is_too_old(held, now) && (!fresh || idle_for <= self.limits.test_after)
        };
        let Some(held) = state.idle.pop_back_if(usable) else {
            return TryLease::Wait;
        };
        let tenant = state.begin_use(tenant, &self.limits);
        drop(state);
        TryLease::Leased(Checkout::new(self, held, tenant, now))
    }

    /// A place in the queue.
    pub(crate) fn wait(self: &Arc<Self>, tenant: &T::Tenant, now: Instant) -> Wait<T> {
        self.server.enqueue(self, tenant, now)
    }

    pub(super) fn forget(&self, tenant: &T::Tenant, number: u64) {
        let flow = Flow {
            pool: self.number,
            tenant: tenant.clone(),
        };
        self.server.forget(self, &flow, number, now());
        self.server.driver().idle();
    }

    /// Used now by somebody who counts: background work does not, lest a job over all tenants
    /// make the pools of the busy ones look old.
    pub(crate) fn touch(&self, now: Instant) {
        self.last_used
            .store(self.server.ticks(now), Ordering::Relaxed);
    }

    /// When [`touch`](Self::touch) was called last, in microseconds on the server's clock.
    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    pub(super) fn put_back(
        self: &Arc<Self>,
        held: Held<T::Connection>,
        tenant: Option<T::Tenant>,
        now: Instant,
    ) {
        let too_old = self.is_too_old(&held, now);
        let mut closes = None;
        let rests = {
            let mut state = self.lock();
            state.end_use(tenant);
            if state.retired || too_old {
                state.closing += 1;
                closes
                    .get_or_insert_with(Effects::new)
                    .close(self, held.connection);
            } else {
                state.idle.push_back(held);
            }
            !state.is_busy()
        };
        // Whoever begins to wait after this question has looked into the pool behind our lock.
        let is_waited_for = self.server.has_waiters();
        if closes.is_none() && !is_waited_for {
            if rests {
                self.server.driver().idle();
            }
            return;
        }
        let mut effects = closes.unwrap_or_else(Effects::new);
        if rests {
            effects.rests();
        }
        if is_waited_for {
            self.server.dispatch(crate::sync::now(), &mut effects);
        }
        effects.carry_out(&self.server);
    }

    pub(super) fn close_checked_out(
        self: &Arc<Self>,
        connection: T::Connection,
        tenant: Option<T::Tenant>,
        now: Instant,
    ) {
        let mut effects = Effects::new();
        {
            let mut state = self.lock();
            state.end_use(tenant);
            state.closing += 1;
            effects.close(self, connection);
        }
        // Its tenant may have another, if there is one.
        if self.server.has_waiters() {
            self.server.dispatch(now, &mut effects);
        }
        effects.rests();
        effects.carry_out(&self.server);
    }

    /// A connection that was asked for is there.
    pub(crate) fn opened(self: &Arc<Self>, connection: T::Connection, now: Instant) {
        let mut effects = Effects::new();
        self.server.opened(self, connection, now, &mut effects);
        // Nobody wanted it at once: from here on it may die unseen, as any that is free.
        for held in &mut self.lock().idle {
            held.is_new = false;
        }
        effects.rests();
        effects.carry_out(&self.server);
    }

    /// A connection that was asked for could not be had. Whoever waits and has no other connection
    /// to hope for is told; the next attempt comes after a while.
    pub(crate) fn not_opened(self: &Arc<Self>, failure: T::Failure, now: Instant) {
        let mut effects = Effects::new();
        self.server.not_opened(self, failure, now, &mut effects);
        effects.rests();
        effects.carry_out(&self.server);
    }

    /// The server has let go of a connection that was being closed, or was never opened.
    pub(crate) fn closed(self: &Arc<Self>, now: Instant) {
        let mut effects = Effects::new();
        self.server.closed(self, now, &mut effects);
        effects.rests();
        effects.carry_out(&self.server);
    }

    /// Leases no more: idle connections are closed now, the others when they come back, and who
    /// waits has to look elsewhere.
    pub(crate) fn retire(self: &Arc<Self>) {
        self.server.retire(self, |_| true);
    }

    /// As [`retire`](Self::retire), if nobody uses it, waits for it or opens it.
    pub(crate) fn retire_if_idle(self: &Arc<Self>) -> bool {
        self.server
            .retire(self, |state| !state.is_busy() && !state.retired)
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.lock().retired
    }

    /// Comes back when a retired pool holds no connection any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn drained(&self) {
        loop {
            let told = self.drained.notified();
            if self.is_drained() {
                return;
            }
            told.await;
        }
    }

    /// Whether it leases no more and holds no connection any more.
    pub(crate) fn is_drained(&self) -> bool {
        self.lock().is_drained()
    }

    pub(super) fn tell_if_drained(&self, state: &PoolState<T>) {
        if state.is_drained() {
            self.drained.notify_waiters();
        }
    }

    /// Closes what has been idle, or alive, for too long.
    pub(crate) fn reap(self: &Arc<Self>, now: Instant) {
        let mut effects = Effects::new();
        {
            let mut state = self.lock();
            state.tenants.retain(|_, used| *used > 0);
            for held in std::mem::take(&mut state.idle) {
                let idle_for = now.saturating_duration_since(held.used_at);
                let is_stale = self.limits.idle_timeout.is_some_and(|max| idle_for > max);
                if is_stale || self.is_too_old(&held, now) {
                    state.closing += 1;
                    effects.close(self, held.connection);
                } else {
                    state.idle.push_back(held);
                }
            }
        }
        effects.carry_out(&self.server);
    }

    pub(crate) fn counts(&self) -> PoolCounts {
        let state = self.lock();
        PoolCounts {
            idle: state.idle.len(),
            in_use: state.in_use,
            opening: state.opening.len(),
            closing: state.closing,
            waiting: state.waiting,
            leases: state.leases,
            opened: state.opened,
            failures: state.failures,
        }
    }

    /// Who uses how many, where tenants are told apart.
    pub(crate) fn in_use_by(&self) -> Vec<(T::Tenant, usize)> {
        let state = self.lock();
        let used = state.tenants.iter().filter(|(_, used)| **used > 0);
        used.map(|(tenant, used)| (tenant.clone(), *used)).collect()
    }

    pub(super) fn is_too_old(&self, held: &Held<T::Connection>, now: Instant) -> bool {
        let age = now.saturating_duration_since(held.opened_at);
        self.limits.max_lifetime.is_some_and(|max| age > max)
    }
}

impl<T: Types> PoolState<T> {
    /// Notes a failure to open, and says when the next attempt may be made.
    pub(super) fn fail(&mut self, failure: T::Failure, now: Instant) -> Duration {
        let times = self.failed.as_ref().map_or(0, |failed| failed.times) + 1;
        let back_off = BACK_OFF
            .start()
            .saturating_mul(1 << (times - 1).min(16))
            .min(*BACK_OFF.end());
        self.opening.pop_front();
        // What the server may still have of it counts until `closed` is said.
        self.closing += 1;
        self.failures += 1;
        self.proven = false;
        self.failed = Some(Failed {
            failure,
            times,
            until: now + back_off,
        });
        back_off
    }

    /// Takes in what was opened, and says for whom.
    pub(super) fn open(&mut self, connection: T::Connection, now: Instant) -> Option<T::Tenant> {
        self.opened += 1;
        self.proven = true;
        self.failed = None;
        self.idle.push_back(Held {
            connection,
            opened_at: now,
            turn_began: now,
            used_at: now,
            is_new: true,
        });
        self.opening.pop_front()
    }

    /// The connections that the server may know of.
    pub(super) fn held(&self) -> usize {
        self.idle.len() + self.in_use + self.opening.len() + self.closing
    }

    fn is_drained(&self) -> bool {
        self.retired && self.held() == 0
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_use + self.waiting + self.opening.len() > 0
    }

    /// Whether this tenant has as many as one tenant may have.
    pub(super) fn at_limit(&self, tenant: &T::Tenant, limits: &PoolLimits) -> bool {
        self.left_for(tenant, limits) == 0
    }

    /// How many more this tenant may have.
    pub(super) fn left_for(&self, tenant: &T::Tenant, limits: &PoolLimits) -> usize {
        limits.max_per_tenant.map_or(usize::MAX, |max| {
            max.saturating_sub(self.tenants.get(tenant).copied().unwrap_or(0))
        })
    }

    pub(super) fn opening_for(&self, tenant: &T::Tenant) -> usize {
        self.opening.iter().filter(|other| *other == tenant).count()
    }

    /// Counts a connection for a tenant, and says for whom it was counted.
    pub(super) fn begin_use(
        &mut self,
        tenant: &T::Tenant,
        limits: &PoolLimits,
    ) -> Option<T::Tenant> {
        self.in_use += 1;
        self.leases += 1;
        limits.max_per_tenant?;
        match self.tenants.get_mut(tenant) {
            Some(used) => *used += 1,
            None => {
                self.tenants.insert(tenant.clone(), 1);
            }
        }
        Some(tenant.clone())
    }

    fn end_use(&mut self, tenant: Option<T::Tenant>) {
        self.in_use -= 1;
        // It stays, to be met again without being copied, until the next `reap`.
        if let Some(used) = tenant.and_then(|tenant| self.tenants.get_mut(&tenant)) {
            *used -= 1;
        }
    }
}
