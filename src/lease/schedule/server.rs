//! All connections to one server: how many there may be, and whose turn it is.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::effects::{Effects, Reply};
use super::pool::PoolState;
use super::round::Hope;
use super::{Pool, PoolLimits, Refusal, Types, Wait};
use crate::sync::{AtomicCounter, Mutex, now};

#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerLimits {
    /// At most so many connections, those included that are being opened or closed.
    pub(crate) max: usize,
    /// How long a tenant whose work goes on may keep a connection while others have none.
    pub(crate) turn: Duration,
}

pub(crate) struct Server<T: Types> {
    pub(super) limits: ServerLimits,
    driver: T::Driver,
    epoch: Instant,
    /// How many wait. Changed under the lock, and read without it.
    pub(super) waiting: AtomicCounter,
    /// Connections that are being closed: places that will be free.
    pub(super) closing: AtomicCounter,
    numbers: AtomicUsize,
    state: Mutex<State<T>>,
}

pub(super) struct State<T: Types> {
    /// Connections that the server may know of.
    pub(super) held: usize,
    /// Places that pools below their minimum have a claim to.
    pub(super) reserved: usize,
    pub(super) pools: Vec<Weak<Pool<T>>>,
    pub(super) flows: HashMap<Flow<T::Tenant>, VecDeque<Waiter<T>>>,
    /// The tenants that wait. One grant each, then to the back.
    pub(super) round: VecDeque<Flow<T::Tenant>>,
    next_waiter: u64,
    /// When the driver will have us look again.
    pub(super) wakes_at: Option<Instant>,
}

/// The requests of one tenant to one pool, served in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow<K> {
    pub(super) pool: u64,
    pub(super) tenant: K,
}

pub(super) struct Waiter<T: Types> {
    number: u64,
    pub(super) pool: Arc<Pool<T>>,
    pub(super) to: Reply<T>,
}

/// What a server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerCounts {
    pub(crate) held: usize,
    pub(crate) closing: usize,
    pub(crate) waiting: usize,
}

impl<T: Types> Server<T> {
    pub(crate) fn new(limits: ServerLimits, driver: T::Driver, epoch: Instant) -> Arc<Self> {
        Arc::new(Self {
            limits,
            driver,
            epoch,
            waiting: AtomicCounter::new(0),
            closing: AtomicCounter::new(0),
            numbers: AtomicUsize::new(0),
            state: Mutex::new(State {
                held: 0,
                reserved: 0,
                pools: Vec::new(),
                flows: HashMap::new(),
                round: VecDeque::new(),
                next_waiter: 0,
                wakes_at: None,
            }),
        })
    }

    pub(crate) fn pool(self: &Arc<Self>, limits: PoolLimits, home: T::Home) -> Arc<Pool<T>> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) as u64;
        let pool = Arc::new(Pool::new(number, self, limits, home));
        let mut state = self.state.lock();
        state.reserved += limits.min;
        state.pools.push(Arc::downgrade(&pool));
        drop(state);
        pool
    }

    pub(crate) fn limits(&self) -> ServerLimits {
        self.limits
    }

    pub(crate) fn driver(&self) -> &T::Driver {
        &self.driver
    }

    pub(crate) fn counts(&self) -> ServerCounts {
        let state = self.state.lock();
        ServerCounts {
            held: state.held,
            closing: self.closing.get(),
            waiting: self.waiting.get(),
        }
    }

    /// Whether a pool that waits has to do so because the server's connections are used up, and
    /// not its own.
    pub(crate) fn is_full_for(&self, pool: &Pool<T>) -> bool {
        let state = self.state.lock();
        let of_pool = pool.lock();
        of_pool.held() < pool.limits().max && !state.has_place(&of_pool, pool, self.limits.max)
    }

    /// Serves who can be served, as after a time that somebody waited for.
    pub(crate) fn look(self: &Arc<Self>, now: Instant) {
        let mut effects = Effects::new();
        {
            let mut state = self.state.lock();
            // Who has read the clock before this and comes behind it must not rely on it.
            state.wakes_at = state.wakes_at.filter(|at| now < *at);
            self.serve_round(&mut state, now, &mut effects);
        }
        effects.carry_out(self);
    }

    /// Never 0, which is for "never".
    pub(super) fn ticks(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64 + 1
    }

    /// Said with each close, when it is decided.
    pub(super) fn is_closing_one(&self) {
        self.closing.add(1);
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.waiting.get() > 0
    }

    pub(super) fn enqueue(
        self: &Arc<Self>,
        pool: &Arc<Pool<T>>,
        tenant: &T::Tenant,
        now: Instant,
    ) -> Wait<T> {
        let (to, answer) = oneshot::channel();
        let mut effects = Effects::new();
        let number = {
            let mut state = self.state.lock();
            let number = state.next_waiter;
            state.next_waiter += 1;
            let retired = {
                let mut of_pool = pool.lock();
                of_pool.waiting += usize::from(!of_pool.retired);
                of_pool.retired
            };
            if retired {
                effects.reply(to, Err(Refusal::Retired));
            } else {
                // Before the pool is looked into: who puts back behind that look sees us waiting.
                self.waiting.add(1);
                let flow = Flow {
                    pool: pool.number,
                    tenant: tenant.clone(),
                };
                let queue = state.flows.entry(flow.clone()).or_default();
                let is_new = queue.is_empty();
                queue.push_back(Waiter {
                    number,
                    pool: Arc::clone(pool),
                    to,
                });
                if is_new {
                    state.round.push_back(flow);
                }
                self.serve_round(&mut state, now, &mut effects);
            }
            number
        };
        effects.carry_out(self);
        Wait {
            pool: Arc::clone(pool),
            tenant: tenant.clone(),
            number,
            answer,
        }
    }

    /// Takes a waiter out of the queue who has given up, if it is still there.
    pub(super) fn forget(
        self: &Arc<Self>,
        pool: &Pool<T>,
        flow: &Flow<T::Tenant>,
        number: u64,
        now: Instant,
    ) {
        let mut effects = Effects::new();
        let mut state = self.state.lock();
        let Some(queue) = state.flows.get_mut(flow) else {
            return;
        };
        let Some(at) = queue.iter().position(|waiter| waiter.number == number) else {
            return;
        };
        let waiter = queue.remove(at);
        if queue.is_empty() {
            state.flows.remove(flow);
            state.round.retain(|other| other != flow);
        }
        let keeps_no_more = {
            let mut of_pool = pool.lock();
            of_pool.waiting -= 1;
            of_pool.waiting == 0 && !of_pool.idle.is_empty()
        };
        self.waiting.sub(1);
        if keeps_no_more {
            // What it kept as long as somebody waited for it may be taken back for others.
            self.serve_round(&mut state, now, &mut effects);
        }
        drop(state);
        // It holds the pool.
        drop(waiter);
        effects.carry_out(self);
    }

    pub(super) fn dispatch(&self, now: Instant, effects: &mut Effects<T>) {
        let mut state = self.state.lock();
        self.serve_round(&mut state, now, effects);
    }

    /// A connection that was being closed is gone from the server.
    pub(super) fn closed(&self, pool: &Pool<T>, now: Instant, effects: &mut Effects<T>) {
        let mut state = self.state.lock();
        {
            let mut of_pool = pool.lock();
            of_pool.closing -= 1;
            state.held -= 1;
            self.closing.sub(1);
            if !of_pool.retired && of_pool.held() < pool.limits().min {
                state.reserved += 1;
            }
            pool.tell_if_drained(&of_pool);
        }
        self.serve_round(&mut state, now, effects);
    }

    /// A connection is there. It is for the tenant whose turn it was when it was asked for, and
    /// only if that one does not want it any more for whoever is next.
    pub(super) fn opened(
        &self,
        pool: &Arc<Pool<T>>,
        connection: T::Connection,
        now: Instant,
        effects: &mut Effects<T>,
    ) {
        let mut state = self.state.lock();
        let mut of_pool = pool.lock();
        let asked_by = of_pool.open(connection, now);
        if of_pool.retired {
            for held in std::mem::take(&mut of_pool.idle) {
                of_pool.closing += 1;
                effects.close(pool, held.connection);
            }
        }
        let has_one = !of_pool.idle.is_empty();
        drop(of_pool);
        if let Some(tenant) = asked_by.filter(|_| has_one) {
            let flow = Flow {
                pool: pool.number,
                tenant,
            };
            let mut no_hope = Hope {
                coming: 0,
                for_none: false,
                for_some: false,
            };
            self.serve(&mut state, &flow, now, &mut no_hope, effects);
            if !state.flows.contains_key(&flow) {
                state.round.retain(|other| *other != flow);
            }
        }
        self.serve_round(&mut state, now, effects);
    }

    pub(super) fn not_opened(
        &self,
        pool: &Arc<Pool<T>>,
        failure: T::Failure,
        now: Instant,
        effects: &mut Effects<T>,
    ) {
        let mut state = self.state.lock();
        {
            let mut of_pool = pool.lock();
            let retry_after = of_pool.fail(failure.clone(), now);
            self.is_closing_one();
            // An idle one has come back a moment ago, and is found below.
            if of_pool.in_use + of_pool.opening.len() + of_pool.idle.len() == 0 {
                self.answer_pool(&mut state, pool, &mut of_pool, effects, || {
                    Refusal::Failed(failure.clone(), retry_after)
                });
            }
        }
        self.serve_round(&mut state, now, effects);
    }

    pub(super) fn retire(
        self: &Arc<Self>,
        pool: &Arc<Pool<T>>,
        may: impl FnOnce(&PoolState<T>) -> bool,
    ) -> bool {
        let mut effects = Effects::new();
        {
            let mut state = self.state.lock();
            let mut of_pool = pool.lock();
            if !may(&of_pool) {
                return false;
            }
            if !of_pool.retired {
                of_pool.retired = true;
                let claim = pool.limits().min.saturating_sub(of_pool.held());
                state.reserved -= claim;
                let number = pool.number;
                state
                    .pools
                    .retain(|known| known.upgrade().is_some_and(|known| known.number != number));
                for held in std::mem::take(&mut of_pool.idle) {
                    of_pool.closing += 1;
                    effects.close(pool, held.connection);
                }
                self.answer_pool(&mut state, pool, &mut of_pool, &mut effects, || {
                    Refusal::Retired
                });
                pool.tell_if_drained(&of_pool);
                drop(of_pool);
                if claim > 0 {
                    self.serve_round(&mut state, now(), &mut effects);
                }
            }
        }
        effects.carry_out(self);
        true
    }
}
