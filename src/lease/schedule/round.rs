//! One grant for each who waits, and again, until nobody can be served.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::effects::{Effects, Reply};
use super::pool::PoolState;
use super::server::{Flow, State};
use super::{Checkout, Pool, Refusal, Server, Types};

/// What became of a tenant whose turn it was.
pub(super) enum Turn {
    Served,
    /// It could not be served now, and keeps its place.
    Kept,
}

/// What there is for those who find no place.
pub(super) struct Hope {
    /// Places that will be free, and that nobody before them waits for.
    pub(super) coming: usize,
    /// Whether another pool may have a connection to take back for one that has none, and for one
    /// that has some. Within one round there is none any more once there was none: looking again,
    /// for each who waits, is what a full server has no time for.
    pub(super) for_none: bool,
    pub(super) for_some: bool,
}

impl<T: Types> Server<T> {
    /// Goes through the tenants that wait, one grant each, until nobody can be served any more.
    pub(super) fn serve_round(&self, state: &mut State<T>, now: Instant, effects: &mut Effects<T>) {
        loop {
            let mut hope = Hope {
                coming: self.closing.get(),
                for_none: true,
                for_some: true,
            };
            let (mut kept, mut served) = (VecDeque::new(), VecDeque::new());
            let mut progress = false;
            while let Some(flow) = state.round.pop_front() {
                let turn = self.serve(state, &flow, now, &mut hope, effects);
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

    pub(super) fn serve(
        &self,
        state: &mut State<T>,
        flow: &Flow<T::Tenant>,
        now: Instant,
        hope: &mut Hope,
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
                hope.coming += 1;
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
        let has_some =
            of_pool.in_use + of_pool.opening.len() > 0 && of_pool.held() >= pool.limits().min;
        drop(of_pool);
        let hopes = match has_some {
            true => hope.for_some,
            false => hope.for_none,
        };
        if let Some(left) = hope.coming.checked_sub(1) {
            hope.coming = left;
        } else if hopes {
            let found = self.take_back(state, &pool, has_some, now, effects);
            // Who has some may take less than who has none.
            hope.for_some &= found;
            hope.for_none &= found || has_some;
        }
        Turn::Kept
    }

    /// Has the connection closed that was idle for the longest time: its place will be free for
    /// whoever has none. Those of pools that only background work has used go before all others.
    /// Where it is not over yet with the turn of those who have one, looks again when it is. Says
    /// whether there was one.
    ///
    /// Opening takes longer than most statements: who has a connection, and wants another, waits for
    /// its own rather than have one closed that was idle for less than a turn.
    fn take_back(
        &self,
        state: &mut State<T>,
        for_pool: &Arc<Pool<T>>,
        has_some: bool,
        now: Instant,
        effects: &mut Effects<T>,
    ) -> bool {
        let turn = self.limits().turn;
        let mut next_turn: Option<Instant> = None;
        let mut over_at = |at: Option<Instant>| {
            if let Some(at) = at {
                next_turn = Some(next_turn.map_or(at, |known| known.min(at)));
            }
        };
        // Since when it has been idle, for one that may be taken.
        let mut may_lose = |pool: &Arc<Pool<T>>| {
            if Arc::ptr_eq(pool, for_pool) {
                return None;
            }
            let of_pool = pool.lock();
            let oldest = of_pool.idle.front()?;
            // Those that are being closed will not be its own any more.
            let left = of_pool.held() - of_pool.closing;
            if left <= pool.limits().min {
                return None;
            }
            let had = now.saturating_duration_since(oldest.turn_began);
            if of_pool.waiting > 0 && had < turn {
                over_at(oldest.turn_began.checked_add(turn));
                return None;
            }
            let idle_for = now.saturating_duration_since(oldest.used_at);
            if has_some && idle_for < turn {
                over_at(oldest.used_at.checked_add(turn));
                return None;
            }
            Some((pool.last_used() > 0, oldest.used_at))
        };
        let victim = state
            .pools
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|pool| Some((may_lose(&pool)?, pool)))
            .min_by_key(|(since, _)| *since);
        let Some((_, victim)) = victim else {
            if let Some(at) = next_turn {
                state.wake(at, now, effects);
            }
            return false;
        };
        let mut of_victim = victim.lock();
        if let Some(held) = of_victim.idle.pop_front() {
            of_victim.closing += 1;
            effects.close(&victim, held.connection);
        }
        true
    }

    /// Everybody who waits for this pool gets the same refusal.
    pub(super) fn answer_pool(
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
    pub(super) fn has_place(&self, of_pool: &PoolState<T>, pool: &Pool<T>, max: usize) -> bool {
        let free = max.saturating_sub(self.held);
        let claimed = match of_pool.held() < pool.limits().min {
            true => 0,
            false => self.reserved,
        };
        free > claimed
    }
}

/// Who comes so short a time before the next attempt to open waits for it. Who comes earlier hears
/// of the last failure at once.
const PATIENCE: Duration = Duration::from_millis(250);
