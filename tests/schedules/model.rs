//! The schedule once more, in the plainest way: lists, and a look through all of them each time.

use std::time::Duration;

use crate::schedule::PoolLimits;

pub(crate) struct Model {
    cap: usize,
    turn: Duration,
    pub(crate) now: Duration,
    pub(crate) pools: Vec<PoolModel>,
    /// In the order of their coming.
    queue: Vec<Waiter>,
    /// The tenants of pools that wait, in the order in which it is their turn.
    round: Vec<(usize, u8)>,
    pub(crate) did: Did,
}

/// What was decided since somebody looked here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Did {
    /// Waiter and connection.
    pub(crate) leased: Vec<(u32, u32)>,
    pub(crate) refused: Vec<u32>,
    /// Pools for which a connection is to be opened.
    pub(crate) open: Vec<usize>,
    /// Connections to be closed.
    pub(crate) close: Vec<u32>,
}

pub(crate) struct PoolModel {
    limits: PoolLimits,
    /// The one used last comes last.
    pub(crate) idle: Vec<Connection>,
    pub(crate) in_use: Vec<(Connection, u8)>,
    pub(crate) opening: Vec<u8>,
    pub(crate) closing: usize,
    proven: bool,
    /// How often in a row, and until when nothing is tried.
    failed: Option<(u32, Duration)>,
    pub(crate) retired: bool,
    touched: Option<Duration>,
}

#[derive(Clone, Copy)]
pub(crate) struct Connection {
    number: u32,
    opened: Duration,
    used: Duration,
}

struct Waiter {
    number: u32,
    flow: (usize, u8),
}

impl Model {
    pub(crate) fn new(cap: usize, turn: Duration, pools: &[PoolLimits]) -> Self {
        Self {
            cap,
            turn,
            now: Duration::ZERO,
            pools: pools.iter().copied().map(PoolModel::new).collect(),
            queue: Vec::new(),
            round: Vec::new(),
            did: Did::default(),
        }
    }

    pub(crate) fn pool(&mut self, limits: PoolLimits) {
        self.pools.push(PoolModel::new(limits));
    }

    pub(crate) fn waiting(&self, pool: usize) -> usize {
        let its = |waiter: &&Waiter| waiter.flow.0 == pool;
        self.queue.iter().filter(its).count()
    }

    pub(crate) fn try_lease(&mut self, pool: usize, tenant: u8) -> Option<u32> {
        let of = &mut self.pools[pool];
        let last = *of.idle.last()?;
        let has_all = of.left_for(tenant) == 0;
        let waited_for = self.queue.iter().any(|waiter| waiter.flow.0 == pool);
        if waited_for || of.retired || has_all || of.is_too_old(last, self.now) {
            return None;
        }
        of.idle.pop();
        of.in_use.push((last, tenant));
        Some(last.number)
    }

    pub(crate) fn wait(&mut self, number: u32, pool: usize, tenant: u8) {
        if self.pools[pool].retired {
            self.did.refused.push(number);
            return;
        }
        let flow = (pool, tenant);
        if !self.round.contains(&flow) {
            self.round.push(flow);
        }
        self.queue.push(Waiter { number, flow });
        self.look();
    }

    pub(crate) fn cancel(&mut self, number: u32) {
        self.queue.retain(|waiter| waiter.number != number);
        self.tidy_round();
        self.look();
    }

    pub(crate) fn give_back(&mut self, number: u32) {
        let now = self.now;
        let (pool, mut connection) = self.take_from_hand(number);
        connection.used = now;
        let of = &mut self.pools[pool];
        if of.retired || of.is_too_old(connection, now) {
            self.close(pool, connection);
        } else {
            of.idle.push(connection);
        }
        self.look();
    }

    pub(crate) fn discard(&mut self, number: u32) {
        let (pool, connection) = self.take_from_hand(number);
        self.close(pool, connection);
        self.look();
    }

    fn take_from_hand(&mut self, number: u32) -> (usize, Connection) {
        for (pool, of) in self.pools.iter_mut().enumerate() {
            let at = of.in_use.iter().position(|(has, _)| has.number == number);
            if let Some(at) = at {
                return (pool, of.in_use.remove(at).0);
            }
        }
        panic!("nobody has {number}");
    }

    pub(crate) fn opened(&mut self, pool: usize, number: u32) {
        let of = &mut self.pools[pool];
        let tenant = of.opening.remove(0);
        of.proven = true;
        of.failed = None;
        let connection = Connection {
            number,
            opened: self.now,
            used: self.now,
        };
        if of.retired {
            self.close(pool, connection);
        } else {
            of.idle.push(connection);
            self.serve((pool, tenant), &mut 0);
            self.tidy_round();
        }
        self.look();
    }

    pub(crate) fn not_opened(&mut self, pool: usize) {
        let of = &mut self.pools[pool];
        of.opening.remove(0);
        of.closing += 1;
        of.proven = false;
        let times = of.failed.map_or(0, |(times, _)| times) + 1;
        let milliseconds = (100 * 2_u64.pow(times - 1)).min(10_000);
        of.failed = Some((times, self.now + Duration::from_millis(milliseconds)));
        if of.idle.is_empty() && of.in_use.is_empty() && of.opening.is_empty() {
            self.refuse(|(its, _)| its == pool);
        }
        self.look();
    }

    pub(crate) fn closed(&mut self, pool: usize) {
        self.pools[pool].closing -= 1;
        self.look();
    }

    pub(crate) fn retire(&mut self, pool: usize) {
        if std::mem::replace(&mut self.pools[pool].retired, true) {
            return;
        }
        for connection in std::mem::take(&mut self.pools[pool].idle) {
            self.close(pool, connection);
        }
        self.refuse(|(its, _)| its == pool);
        self.look();
    }

    pub(crate) fn retire_if_idle(&mut self, pool: usize) -> bool {
        let of = &self.pools[pool];
        let rests = of.in_use.is_empty() && of.opening.is_empty() && self.waiting(pool) == 0;
        let retires = rests && !of.retired;
        if retires {
            self.retire(pool);
        }
        retires
    }

    pub(crate) fn reap(&mut self, pool: usize) {
        let now = self.now;
        for connection in std::mem::take(&mut self.pools[pool].idle) {
            let of = &mut self.pools[pool];
            let idle_for = now - connection.used;
            let is_stale = of.limits.idle_timeout.is_some_and(|max| idle_for > max);
            if is_stale || of.is_too_old(connection, now) {
                self.close(pool, connection);
            } else {
                of.idle.push(connection);
            }
        }
    }

    pub(crate) fn touch(&mut self, pool: usize) {
        self.pools[pool].touched = Some(self.now);
    }

    /// One grant for each who waits, and again, until nobody can be served.
    pub(crate) fn look(&mut self) {
        loop {
            let mut coming: usize = self.pools.iter().map(|of| of.closing).sum();
            let (mut kept, mut served) = (Vec::new(), Vec::new());
            for flow in self.round.clone() {
                match self.serve(flow, &mut coming) {
                    true => served.push(flow),
                    false => kept.push(flow),
                }
            }
            let somebody = !served.is_empty();
            self.round = [kept, served].concat();
            self.tidy_round();
            if !somebody {
                return;
            }
        }
    }

    fn serve(&mut self, flow: (usize, u8), coming: &mut usize) -> bool {
        let (pool, tenant) = flow;
        let of_flow = |waiter: &Waiter| waiter.flow == flow;
        let Some(first) = self.queue.iter().position(of_flow) else {
            return false;
        };
        if self.pools[pool].left_for(tenant) == 0 {
            return false;
        }
        while let Some(connection) = self.pools[pool].idle.pop() {
            if self.pools[pool].is_too_old(connection, self.now) {
                self.close(pool, connection);
                *coming += 1;
                continue;
            }
            let waiter = self.queue.remove(first).number;
            self.pools[pool].in_use.push((connection, tenant));
            self.did.leased.push((waiter, connection.number));
            return true;
        }
        let of = &self.pools[pool];
        if let Some((_, until)) = of.failed.filter(|(_, until)| self.now < *until) {
            let has_hope = !of.in_use.is_empty() || !of.opening.is_empty();
            if has_hope || until - self.now <= Duration::from_millis(250) {
                return false;
            }
            self.refuse(|its| its == flow);
            return true;
        }
        let of_tenant = self.queue.iter().filter(|waiter| of_flow(waiter)).count();
        let wanted = of_tenant.min(of.left_for(tenant));
        let is_tried = !of.proven && !of.opening.is_empty();
        let asked = of.opening.iter().filter(|its| **its == tenant).count();
        let enough = asked >= wanted || of.opening.len() >= self.waiting(pool);
        if is_tried || enough || of.held() >= of.limits.max {
            return false;
        }
        if self.has_place(pool) {
            self.pools[pool].opening.push(tenant);
            self.did.open.push(pool);
            return true;
        }
        match *coming {
            0 => self.take_back(pool),
            _ => *coming -= 1,
        }
        false
    }

    fn has_place(&self, pool: usize) -> bool {
        let held: usize = self.pools.iter().map(PoolModel::held).sum();
        let below = |of: &PoolModel| match of.retired {
            true => 0,
            false => of.limits.min.saturating_sub(of.held()),
        };
        let claimed: usize = self.pools.iter().map(below).sum();
        match below(&self.pools[pool]) {
            0 => held + claimed < self.cap,
            _ => held < self.cap,
        }
    }

    /// The connection that was idle for the longest time; of pools that were never touched first.
    fn take_back(&mut self, for_pool: usize) {
        let asks = &self.pools[for_pool];
        let has_some =
            !(asks.in_use.is_empty() && asks.opening.is_empty()) && asks.held() >= asks.limits.min;
        let may_lose = |pool: &usize| {
            let of = &self.pools[*pool];
            let Some(oldest) = of.idle.first() else {
                return false;
            };
            let has_had_its_turn = self.now - oldest.opened >= self.turn;
            let is_spare = self.now - oldest.used >= self.turn;
            of.held() - of.closing > of.limits.min
                && (self.waiting(*pool) == 0 || has_had_its_turn)
                && (!has_some || is_spare)
        };
        let victim = (0..self.pools.len()).filter(may_lose).min_by_key(|pool| {
            let of = &self.pools[*pool];
            (of.touched.is_some(), of.idle[0].used, *pool)
        });
        if let Some(victim) = victim {
            let connection = self.pools[victim].idle.remove(0);
            self.close(victim, connection);
        }
    }

    fn close(&mut self, pool: usize, connection: Connection) {
        self.pools[pool].closing += 1;
        self.did.close.push(connection.number);
    }

    fn refuse(&mut self, which: impl Fn((usize, u8)) -> bool) {
        let (its, others) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|waiter| which(waiter.flow));
        self.queue = others;
        let its: Vec<Waiter> = its;
        self.did.refused.extend(its.iter().map(|its| its.number));
        self.tidy_round();
    }

    fn tidy_round(&mut self) {
        let queue = &self.queue;
        self.round
            .retain(|flow| queue.iter().any(|waiter| waiter.flow == *flow));
    }
}

impl PoolModel {
    fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            idle: Vec::new(),
            in_use: Vec::new(),
            opening: Vec::new(),
            closing: 0,
            proven: false,
            failed: None,
            retired: false,
            touched: None,
        }
    }

    fn held(&self) -> usize {
        self.idle.len() + self.in_use.len() + self.opening.len() + self.closing
    }

    fn left_for(&self, tenant: u8) -> usize {
        let used = self.in_use.iter().filter(|(_, its)| *its == tenant).count();
        let max = self.limits.max_per_tenant.unwrap_or(usize::MAX);
        max.saturating_sub(used)
    }

    fn is_too_old(&self, connection: Connection, now: Duration) -> bool {
        let age = now - connection.opened;
        self.limits.max_lifetime.is_some_and(|max| age > max)
    }
}
