//! A server with its pools on a table: one thread, and each step done by hand.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shuttle::scheduler::RoundRobinScheduler;
use shuttle::{Config, FailurePersistence, Runner};

use crate::fake::{Fake, InHand, Job, Manner, World};
use crate::schedule::{Pool, PoolLimits, Refusal, Server, TryLease, Wait};
use crate::sync::now;

pub(crate) struct Table {
    pub(crate) world: Arc<World>,
    pub(crate) server: Arc<Server<Fake>>,
    /// By their home.
    pub(crate) pools: Vec<Arc<Pool<Fake>>>,
    pub(crate) held: Vec<InHand>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) answers: Vec<Answer>,
    waits: u32,
}

pub(crate) struct Waiting {
    pub(crate) number: u32,
    pub(crate) home: usize,
    pub(crate) tenant: u8,
    wait: Wait<Fake>,
}

/// What somebody who waited was told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    Leased { waiter: u32, connection: u32 },
    Retired { waiter: u32 },
    Failed { waiter: u32 },
}

/// Runs what uses the schedule's locks, in one thread.
pub(crate) fn alone(test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.failure_persistence = FailurePersistence::None;
    Runner::new(RoundRobinScheduler::new(1), config).run(test);
}

impl Table {
    pub(crate) fn new(cap: usize, turn: Duration, pools: &[PoolLimits]) -> Self {
        let (world, server) = World::new(cap, turn, Manner::ByHand);
        let pools = pools.iter().map(|limits| world.pool(&server, *limits));
        Self {
            pools: pools.collect(),
            world,
            server,
            held: Vec::new(),
            waiting: Vec::new(),
            answers: Vec::new(),
            waits: 0,
        }
    }

    pub(crate) fn pool(&mut self, limits: PoolLimits) {
        self.pools.push(self.world.pool(&self.server, limits));
    }

    /// A connection that is free, if nobody waits.
    pub(crate) fn try_lease(&mut self, home: usize, tenant: u8) -> Option<u32> {
        let pool = &self.pools[home];
        let TryLease::Leased(checkout) = pool.try_lease(&tenant, false, now()) else {
            return None;
        };
        let held = self.world.hand_over(checkout, home, tenant);
        let number = held.number;
        self.held.push(held);
        Some(number)
    }

    pub(crate) fn wait(&mut self, home: usize, tenant: u8) -> u32 {
        self.wait_at(home, tenant, now())
    }

    pub(crate) fn wait_at(&mut self, home: usize, tenant: u8, now: Instant) -> u32 {
        let wait = self.pools[home].wait(&tenant, now);
        let number = self.waits;
        self.waits += 1;
        self.waiting.push(Waiting {
            number,
            home,
            tenant,
            wait,
        });
        self.hear();
        number
    }

    /// Opens and waits until this tenant has a connection more.
    pub(crate) fn lease(&mut self, home: usize, tenant: u8) {
        let had = self.held_by(home, tenant);
        if self.try_lease(home, tenant).is_none() {
            self.wait(home, tenant);
            while self.held_by(home, tenant) == had {
                assert!(self.open(true) || self.close(), "nothing comes");
            }
        }
    }

    /// Who has what somebody was told that he has.
    pub(crate) fn tenant_of(&self, answer: &Answer) -> u8 {
        let Answer::Leased { connection, .. } = answer else {
            panic!("{answer:?}");
        };
        let its = |held: &&InHand| held.number == *connection;
        self.held.iter().find(its).expect("it is in hand").tenant
    }

    pub(crate) fn held_by(&self, home: usize, tenant: u8) -> usize {
        let its = |held: &&InHand| held.home == home && held.tenant == tenant;
        self.held.iter().filter(its).count()
    }

    pub(crate) fn waits(&self, home: usize, tenant: u8) -> bool {
        let its = |waiting: &Waiting| waiting.home == home && waiting.tenant == tenant;
        self.waiting.iter().any(its)
    }

    pub(crate) fn cancel(&mut self, at: usize) {
        drop(self.waiting.remove(at));
        self.hear();
    }

    pub(crate) fn give_back(&mut self, home: usize, tenant: u8) {
        drop(self.take_from_hand(home, tenant));
        self.hear();
    }

    pub(crate) fn discard(&mut self, home: usize, tenant: u8) {
        self.take_from_hand(home, tenant).discard();
        self.hear();
    }

    fn take_from_hand(&mut self, home: usize, tenant: u8) -> InHand {
        let its = |held: &InHand| held.home == home && held.tenant == tenant;
        let at = self.held.iter().position(its);
        self.held.remove(at.expect("this tenant has a connection"))
    }

    /// The next opening comes to its end.
    pub(crate) fn open(&mut self, succeeds: bool) -> bool {
        self.perform(succeeds, |job| matches!(job, Job::Open(_)))
    }

    /// The server lets go of the next connection.
    pub(crate) fn close(&mut self) -> bool {
        self.perform(true, |job| matches!(job, Job::Close(..) | Job::LetGo(_)))
    }

    /// Time goes on to the next wake-up.
    pub(crate) fn wake(&mut self) -> bool {
        self.perform(true, |job| matches!(job, Job::Wake(_)))
    }

    pub(crate) fn perform(&mut self, succeeds: bool, which: impl FnMut(&Job) -> bool) -> bool {
        let Some(job) = self.world.take_job(which) else {
            return false;
        };
        self.world.perform(job, succeeds);
        self.hear();
        true
    }

    /// All that was asked for is done.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            self.hear();
            if !(self.close() || self.open(true) || self.wake()) {
                return;
            }
        }
        panic!("the schedule does not come to rest");
    }

    /// Takes what those who wait were told.
    pub(crate) fn hear(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut at = 0;
        while let Some(waiting) = self.waiting.get_mut(at) {
            let answer = std::pin::pin!(waiting.wait.answer()).poll(&mut context);
            let Poll::Ready(answer) = answer else {
                at += 1;
                continue;
            };
            let waiting = self.waiting.remove(at);
            let waiter = waiting.number;
            self.answers.push(match answer {
                Ok(checkout) => {
                    let held = self.world.hand_over(checkout, waiting.home, waiting.tenant);
                    let connection = held.number;
                    self.held.push(held);
                    Answer::Leased { waiter, connection }
                }
                Err(Refusal::Retired) => Answer::Retired { waiter },
                Err(Refusal::Failed(..)) => Answer::Failed { waiter },
            });
        }
    }

    /// Nobody waits for what he could have. To be asked when all that was asked for is done.
    pub(crate) fn assert_nobody_waits_in_vain(&self) {
        let counts: Vec<_> = self.pools.iter().map(|pool| pool.counts()).collect();
        let cap = self.server.limits().max;
        let held: usize = counts.iter().map(|of| of.idle + of.in_use).sum();
        let quiet = |home: usize| counts[home].opening + counts[home].closing == 0;
        assert!((0..counts.len()).all(quiet), "not at rest: {counts:?}");
        let below_min = |home: usize| {
            let min = self.pools[home].limits().min;
            match self.pools[home].is_retired() {
                true => 0,
                false => min.saturating_sub(counts[home].idle + counts[home].in_use),
            }
        };
        let claimed: usize = (0..counts.len()).map(below_min).sum();
        for waiting in &self.waiting {
            let (home, limits) = (waiting.home, self.pools[waiting.home].limits());
            let has = self.held_by(home, waiting.tenant);
            if limits.max_per_tenant.is_some_and(|max| has >= max) {
                continue;
            }
            let who = format!("tenant {} of pool {home}", waiting.tenant);
            assert_eq!(counts[home].idle, 0, "{who} waits beside an idle one");
            if counts[home].in_use >= limits.max {
                continue;
            }
            let claimed = if below_min(home) > 0 { 0 } else { claimed };
            let has_place = cap.saturating_sub(held) > claimed;
            assert!(!has_place, "{who} waits and a place is free");
            for (other, of) in counts.iter().enumerate() {
                let spare = of.idle + of.in_use > self.pools[other].limits().min;
                let is_free = of.idle > 0 && spare;
                assert!(!is_free, "{who} waits and pool {other} has an idle one");
            }
        }
    }
}
