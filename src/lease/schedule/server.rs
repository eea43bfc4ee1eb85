//! All connections to one server: how many there may be, and whose turn it is.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::effects::{Effects, Reply};
use super::pool::PoolState;
use super::{Checkout, Pool, PoolLimits, Refusal, Types, Wait};
use crate::sync::{AtomicCounter, Mutex, now};

#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerLimits {
    /// At most so many connections, those included that are being opened or closed.
    pub(crate) max: usize,
    /// How long a tenant whose work goes on may keep a connection while others have none.
    pub(crate) turn: Duration,
}

pub(crate) struct Server<T: Types> {
    limits: ServerLimits,
    driver: T::Driver,
    epoch: Instant,
    /// How many wait. Changed under the lock, and read without it.
    waiting: AtomicCounter,
    /// Connections that are being closed: places that will be free.
    closing: AtomicCounter,
    numbers: AtomicUsize,
    state: Mutex<State<T>>,
}

struct State<T: Types> {
    /// Connections that the server may know of.
    held: usize,
    /// Places that pools below their minimum have a claim to.
    reserved: usize,
    pools: Vec<Weak<Pool<T>>>,
    flows: HashMap<Flow<T::Tenant>, VecDeque<Waiter<T>>>,
    /// The tenants that wait. One grant each, then to the back.
    round: VecDeque<Flow<T::Tenant>>,
    next_waiter: u64,
    /// When the driver will have us look again.
    wakes_at: Option<Instant>,
}

/// The requests of one tenant to one pool, served in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow<K> {
    pub(super) pool: u64,
    pub(super) tenant: K,
}

struct Waiter<T: Types> {
    number: u64,
    pool: Arc<Pool<T>>,
    to: Reply<T>,
}

/// What a server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerCounts {
    pub(crate) held: usize,
    pub(crate) closing: usize,
    pub(crate) waiting: usize,
}

/// Who comes so short a time before the next attempt to open waits for it. Who comes earlier hears
/// of the last failure at once.
const PATIENCE: Duration = Duration::from_millis(250);

/// What became of a tenant whose turn it was.
enum Turn {
    Served,
    /// It could not be served now, and keeps its place.
    Kept,
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
            self.serve(&mut state, &flow, now, &mut 0, effects);
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

    /// Goes through the tenants that wait, one grant each, until nobody can be served any more.
    fn serve_round(&self, state: &mut State<T>, now: Instant, effects: &mut Effects<T>) {
        loop {
            let mut coming = self.closing.get();
            let (mut kept, mut served) = (VecDeque::new(), VecDeque::new());
            let mut progress = false;
            while let Some(flow) = state.round.pop_front() {
                let turn = self.serve(state, &flow, now, &mut coming, effects);
                let waits_on = state.flows.contains_key(&flow);
                match turn {
                    Turn::Served => {
                        progress = true;
                        if waits_on {
                            served.push_back(flow);
                        }
                    }
                    Turn::Kept if waits_on => kept.push_back(flow),
                    Turn::Kept => {}
                }
            }
            kept.append(&mut served);
            state.round = kept;
            if !progress {
                return;
            }
        }
    }

    fn serve(
        &self,
        state: &mut State<T>,
        flow: &Flow<T::Tenant>,
        now: Instant,
        coming: &mut usize,
        effects: &mut Effects<T>,
    ) -> Turn {
        let Some(queue) = state.flows.get(flow) else {
            return Turn::Kept;
        };
        let Some(first) = queue.front() else {
            return Turn::Kept;
        };
        let pool = Arc::clone(&first.pool);
        let waiting = queue.len();
        let mut of_pool = pool.lock();
        if of_pool.at_limit(&flow.tenant, pool.limits()) {
            return Turn::Kept;
        }
        while let Some(held) = of_pool.idle.pop_back() {
            if pool.is_too_old(&held, now) {
                of_pool.closing += 1;
                *coming += 1;
                effects.close(&pool, held.connection);
                continue;
            }
            let tenant = of_pool.begin_use(&flow.tenant, pool.limits());
            of_pool.waiting -= 1;
            self.waiting.sub(1);
            if let Some(to) = state.next_of(flow) {
                effects.reply(to, Ok(Checkout::new(&pool, held, tenant, now)));
            }
            return Turn::Served;
        }
        if let Some(failed) = of_pool.failed.as_ref().filter(|failed| now < failed.until) {
            let wait = failed.until - now;
            if of_pool.in_use + of_pool.opening.len() > 0 || wait <= PATIENCE {
                state.wake(failed.until, now, effects);
                return Turn::Kept;
            }
            let failure = failed.failure.clone();
            self.answer_all(state, &mut of_pool, flow, effects, || {
                Refusal::Failed(failure.clone(), wait)
            });
            return Turn::Served;
        }
        let one_at_a_time = !of_pool.proven && !of_pool.opening.is_empty();
        let wanted = waiting.min(of_pool.left_for(&flow.tenant, pool.limits()));
        if of_pool.opening_for(&flow.tenant) >= wanted
            || of_pool.opening.len() >= of_pool.waiting
            || one_at_a_time
            || of_pool.held() >= pool.limits().max
        {
            return Turn::Kept;
        }
        if state.has_place(&of_pool, &pool, self.limits.max) {
            if of_pool.held() < pool.limits().min {
                state.reserved -= 1;
            }
            state.held += 1;
            of_pool.opening.push_back(flow.tenant.clone());
            effects.open(&pool);
            return Turn::Served;
        }
        drop(of_pool);
        match coming.checked_sub(1) {
            Some(left) => *coming = left,
            None => self.take_back(state, &pool, now, effects),
        }
        Turn::Kept
    }

    /// Has an idle connection closed, of the pool that was used least recently: its place will be
    /// free for whoever has none. Where it is not over yet with the turn of those who have one, looks
    /// again when it is.
    fn take_back(
        &self,
        state: &mut State<T>,
        for_pool: &Arc<Pool<T>>,
        now: Instant,
        effects: &mut Effects<T>,
    ) {
        let mut next_turn: Option<Instant> = None;
        let may_lose = |pool: &Arc<Pool<T>>| {
            if Arc::ptr_eq(pool, for_pool) {
                return false;
            }
            let of_pool = pool.lock();
            let Some(oldest) = of_pool.idle.front() else {
                return false;
            };
            // Those that are being closed will not be its own any more.
            let left = of_pool.held() - of_pool.closing;
            if left <= pool.limits().min {
                return false;
            }
            let turn = now.saturating_duration_since(oldest.turn_began);
            if of_pool.waiting == 0 || turn >= self.limits.turn {
                return true;
            }
            if let Some(over) = oldest.turn_began.checked_add(self.limits.turn) {
                next_turn = Some(next_turn.map_or(over, |at| at.min(over)));
            }
            false
        };
        let victim = state
            .pools
            .iter()
            .filter_map(Weak::upgrade)
            .filter(may_lose)
            .min_by_key(|pool| pool.last_used());
        let Some(victim) = victim else {
            if let Some(at) = next_turn {
                state.wake(at, now, effects);
            }
            return;
        };
        let mut of_victim = victim.lock();
        if let Some(held) = of_victim.idle.pop_front() {
            of_victim.closing += 1;
            effects.close(&victim, held.connection);
        }
    }

    /// Everybody who waits for this pool gets the same refusal.
    fn answer_pool(
        &self,
        state: &mut State<T>,
        pool: &Pool<T>,
        of_pool: &mut PoolState<T>,
        effects: &mut Effects<T>,
        refusal: impl Fn() -> Refusal<T::Failure>,
    ) {
        let (its, others) = std::mem::take(&mut state.round)
            .into_iter()
            .partition::<VecDeque<_>, _>(|flow| flow.pool == pool.number);
        state.round = others;
        for flow in its {
            self.answer_all(state, of_pool, &flow, effects, &refusal);
        }
    }

    /// Everybody of this flow gets the same refusal.
    fn answer_all(
        &self,
        state: &mut State<T>,
        of_pool: &mut PoolState<T>,
        flow: &Flow<T::Tenant>,
        effects: &mut Effects<T>,
        refusal: impl Fn() -> Refusal<T::Failure>,
    ) {
        let waiters = state.flows.remove(flow).unwrap_or_default();
        of_pool.waiting -= waiters.len();
        self.waiting.sub(waiters.len());
        for waiter in waiters {
            effects.reply(waiter.to, Err(refusal()));
        }
    }
}

impl<T: Types> State<T> {
    /// Takes the first of this flow out of the queue.
    fn next_of(&mut self, flow: &Flow<T::Tenant>) -> Option<Reply<T>> {
        let queue = self.flows.get_mut(flow)?;
        let first = queue.pop_front();
        if queue.is_empty() {
            self.flows.remove(flow);
        }
        first.map(|waiter| waiter.to)
    }

    /// Has the driver say [`Server::look`] at this time, or before it.
    fn wake(&mut self, at: Instant, now: Instant, effects: &mut Effects<T>) {
        if self.wakes_at.is_none_or(|known| known <= now || at < known) {
            self.wakes_at = Some(at);
            effects.wake(at);
        }
    }

    /// Whether the server has a place for one more connection of this pool: below its minimum,
    /// any; above it, one that no other pool has a claim to.
    fn has_place(&self, of_pool: &PoolState<T>, pool: &Pool<T>, max: usize) -> bool {
        let free = max.saturating_sub(self.held);
        let claimed = match of_pool.held() < pool.limits().min {
            true => 0,
            false => self.reserved,
        };
        free > claimed
    }
}
