//! Threads that lease, wait, give up, give back and retire, in any order that they may run in.
//!
//! Whoever is not woken is found by `shuttle` itself: at the end of a schedule everybody else is
//! done, and it calls that a deadlock.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::{DfsScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use crate::fake::{Fake, InHand, Job, Manner, NEVER_OLD, World};
use crate::schedule::{Checkout, Pool, PoolLimits, Refusal, Server, TryLease, Wait};
use crate::sync::{advance, hand_over_behind_locks, now};

const TURN: Duration = Duration::from_millis(50);

#[test]
fn a_crowd_with_all_there_is() {
    at_random(600, crowd);
}

#[test]
fn who_gives_back_sees_who_waits() {
    in_every_order(|| {
        let crowd = Crowd::by_hand(1, &[limits(1)]);
        let held = crowd.lease(0, 0);
        let giver = thread::spawn(move || drop(held));
        let wait = crowd.pool(0).wait(&1, now());
        giver.join().expect("it gives back");
        crowd.must_be_served(wait, 0, 1);
        crowd.end();
    });
}

#[test]
fn who_gives_back_sees_who_waits_for_another_pool() {
    in_every_order(|| {
        let crowd = Crowd::by_hand(1, &[limits(1), limits(1)]);
        let held = crowd.lease(0, 0);
        let giver = thread::spawn(move || drop(held));
        let wait = crowd.pool(1).wait(&1, now());
        giver.join().expect("it gives back");
        crowd.must_be_served(wait, 1, 1);
        crowd.end();
    });
}

#[test]
fn what_comes_for_who_has_given_up_goes_to_the_next() {
    in_every_order(|| {
        let crowd = Crowd::by_hand(1, &[limits(1)]);
        let held = crowd.lease(0, 0);
        let first = crowd.pool(0).wait(&1, now());
        let next = crowd.pool(0).wait(&2, now());
        let giver = thread::spawn(move || drop(held));
        drop(first);
        giver.join().expect("it gives back");
        crowd.must_be_served(next, 0, 2);
        crowd.end();
    });
}

#[test]
fn what_is_opened_for_who_has_given_up_goes_to_the_next() {
    in_every_order(|| {
        let crowd = Crowd::by_hand(1, &[limits(1)]);
        let first = crowd.pool(0).wait(&1, now());
        let next = crowd.pool(0).wait(&2, now());
        let opener = {
            let crowd = crowd.clone();
            thread::spawn(move || crowd.open(true))
        };
        drop(first);
        opener.join().expect("it opens");
        crowd.must_be_served(next, 0, 2);
        crowd.end();
    });
}

#[test]
fn a_failure_to_open_is_no_matter_where_another_connection_comes_back() {
    in_every_order(|| {
        let crowd = Crowd::by_hand(2, &[limits(2)]);
        let held = crowd.lease(0, 0);
        let wait = crowd.pool(0).wait(&1, now());
        let giver = thread::spawn(move || drop(held));
        crowd.open(false);
        giver.join().expect("it gives back");
        crowd.must_be_served(wait, 0, 1);
        crowd.end();
    });
}

#[test]
fn a_pool_is_retired_idle_or_leased_and_never_both() {
    in_every_order(|| {
        let crowd = Crowd::by_hand(1, &[limits(1)]);
        drop(crowd.lease(0, 0));
        let pool = crowd.pool(0);
        let janitor = {
            let (world, pool) = (Arc::clone(&crowd.world), Arc::clone(&pool));
            thread::spawn(move || {
                if pool.retire_if_idle() {
                    world.is_retired_now(*pool.home(), true);
                }
            })
        };
        let leased = match pool.try_lease(&1, false, now()) {
            TryLease::Leased(checkout) => Some(crowd.hand_over(checkout, 0, 1)),
            TryLease::Wait => panic!("there is one, and nobody waits"),
            TryLease::Retired => None,
        };
        janitor.join().expect("it retires or not");
        assert_ne!(leased.is_some(), pool.is_retired());
        drop(leased);
        crowd.end();
    });
}

#[test]
fn a_pool_is_retired_idle_or_waited_for_and_never_both() {
    in_every_order(|| {
        let crowd = Crowd::by_hand(1, &[limits(1)]);
        let pool = crowd.pool(0);
        let janitor = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.retire_if_idle())
        };
        let mut wait = pool.wait(&1, now());
        if janitor.join().expect("it retires or not") {
            let answer = block_on(wait.answer());
            assert!(matches!(answer, Err(Refusal::Retired)));
            drop(wait);
        } else {
            crowd.must_be_served(wait, 0, 1);
        }
        crowd.end();
    });
}

#[test]
fn what_is_opened_for_a_pool_that_is_retired_is_closed() {
    in_every_order(|| {
        let crowd = Crowd::by_hand(1, &[limits(1)]);
        let pool = crowd.pool(0);
        let mut wait = pool.wait(&1, now());
        let janitor = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.retire())
        };
        crowd.open(true);
        janitor.join().expect("it retires");
        let leased = block_on(wait.answer());
        drop(leased.map(|checkout| crowd.hand_over(checkout, 0, 1)));
        crowd.do_all();
        crowd.world.assert_empty(&crowd.server);
    });
}

#[test]
fn a_retired_pool_is_drained_when_the_last_comes_back() {
    in_every_order(|| {
        let crowd = Crowd::by_hand(1, &[limits(1)]);
        let held = crowd.lease(0, 0);
        let pool = crowd.pool(0);
        pool.retire();
        let giver = {
            let crowd = crowd.clone();
            thread::spawn(move || {
                drop(held);
                crowd.do_all();
            })
        };
        block_on(pool.drained());
        giver.join().expect("it gives back");
        crowd.world.assert_empty(&crowd.server);
    });
}

#[test]
fn who_waits_for_a_pool_to_be_drained_is_told() {
    in_every_order_and_behind_locks(|| {
        let crowd = Crowd::by_hand(1, &[limits(1)]);
        drop(crowd.lease(0, 0));
        let pool = crowd.pool(0);
        pool.retire();
        let closer = {
            let crowd = crowd.clone();
            thread::spawn(move || crowd.do_all())
        };
        block_on(pool.drained());
        closer.join().expect("it closes");
    });
}

/// Three who work, one who retires and reaps, and one who keeps a connection to the end.
fn crowd() {
    let mut random = thread_rng();
    let pools: Vec<PoolLimits> = (0..random.gen_range(2..=3))
        .map(|_| PoolLimits {
            max: random.gen_range(1..=2),
            max_per_tenant: random.gen_bool(0.5).then_some(1),
            min: random.gen_range(0..=1),
            idle_timeout: random.gen_bool(0.3).then_some(TURN / 2),
            max_lifetime: random.gen_bool(0.3).then_some(TURN * 2),
            ..NEVER_OLD
        })
        .collect();
    let claims: usize = pools.iter().map(|pool| pool.min).sum();
    let keeps_one = random.gen_bool(0.5) && pools[0].max > 1;
    let turn = if random.gen_bool(0.2) {
        Duration::ZERO
    } else {
        TURN
    };
    let one_fails_of = if random.gen_bool(0.3) { 4 } else { 0 };
    let cap = claims + 1 + usize::from(keeps_one) + random.gen_range(0..=1);
    let crowd = Crowd::new(cap, turn, one_fails_of, &pools);
    let kept = keeps_one.then(|| crowd.try_to_lease(0, 9)).flatten();

    let mut threads: Vec<_> = (0..3_u8)
        .map(|number| {
            let crowd = crowd.clone();
            thread::spawn(move || crowd.work(number))
        })
        .collect();
    threads.push({
        let (crowd, may_wait) = (crowd.clone(), kept.is_none());
        thread::spawn(move || crowd.tidy(may_wait))
    });
    for thread in threads {
        thread.join().expect("nobody panics");
    }
    drop(kept);
    crowd.end();
}

#[derive(Clone)]
struct Crowd {
    world: Arc<World>,
    server: Arc<Server<Fake>>,
    /// The pools of today, and all that there were.
    pools: Arc<Mutex<(Vec<Arc<Pool<Fake>>>, Vec<Arc<Pool<Fake>>>)>>,
}

impl Crowd {
    fn new(cap: usize, turn: Duration, one_fails_of: u32, pools: &[PoolLimits]) -> Self {
        Self::of(
            World::new(cap, turn, Manner::ByThreads { one_fails_of }),
            pools,
        )
    }

    fn by_hand(cap: usize, pools: &[PoolLimits]) -> Self {
        Self::of(World::new(cap, TURN, Manner::ByHand), pools)
    }

    fn of((world, server): (Arc<World>, Arc<Server<Fake>>), pools: &[PoolLimits]) -> Self {
        let pools: Vec<_> = pools
            .iter()
            .map(|limits| world.pool(&server, *limits))
            .collect();
        Self {
            world,
            server,
            pools: Arc::new(Mutex::new((pools.clone(), pools))),
        }
    }

    fn pool(&self, at: usize) -> Arc<Pool<Fake>> {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&pools.0[at])
    }

    /// Puts another in the place of a pool that is retired, as whoever looks it up anew does.
    fn renew(&self, at: usize, retired: &Arc<Pool<Fake>>) {
        let new = self.world.pool(&self.server, *retired.limits());
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.1.push(Arc::clone(&new));
        if Arc::ptr_eq(&pools.0[at], retired) {
            pools.0[at] = new;
        } else {
            drop(pools);
            new.retire(); // somebody else was faster
        }
    }

    fn lease(&self, at: usize, tenant: u8) -> InHand {
        self.try_to_lease(at, tenant).expect("nothing fails here")
    }

    /// `None` if none could be opened.
    fn try_to_lease(&self, at: usize, tenant: u8) -> Option<InHand> {
        loop {
            let pool = self.pool(at);
            let home = *pool.home();
            let was_retired = self.world.was_retired(home);
            let checkout = match pool.try_lease(&tenant, false, now()) {
                TryLease::Leased(checkout) => checkout,
                TryLease::Retired => {
                    self.renew(at, &pool);
                    continue;
                }
                TryLease::Wait => match self.answer(pool.wait(&tenant, now())) {
                    Ok(checkout) => checkout,
                    Err(Refusal::Failed(..)) => return None,
                    Err(Refusal::Retired) => {
                        self.renew(at, &pool);
                        continue;
                    }
                },
            };
            assert!(!was_retired, "a retired pool leases");
            return Some(self.hand_over(checkout, home, tenant));
        }
    }

    fn answer(&self, mut wait: Wait<Fake>) -> Result<Checkout<Fake>, Refusal<u32>> {
        self.do_all();
        block_on(wait.answer())
    }

    /// After all that was asked for is done.
    fn must_be_served(&self, mut wait: Wait<Fake>, home: usize, tenant: u8) {
        self.do_all();
        let mut context = Context::from_waker(Waker::noop());
        match pin!(wait.answer()).poll(&mut context) {
            Poll::Ready(Ok(checkout)) => drop(self.hand_over(checkout, home, tenant)),
            Poll::Ready(Err(refusal)) => panic!("{refusal:?}"),
            Poll::Pending => panic!("it waits in vain"),
        }
    }

    /// Does what is to be done by hand.
    fn do_all(&self) {
        while let Some(job) = self.world.take_job(|_| true) {
            self.world.perform(job, true);
        }
    }

    fn hand_over(&self, checkout: Checkout<Fake>, home: usize, tenant: u8) -> InHand {
        self.world.hand_over(checkout, home, tenant)
    }

    fn open(&self, succeeds: bool) {
        let job = self.world.take_job(|job| matches!(job, Job::Open(_)));
        self.world.perform(job.expect("one is asked for"), succeeds);
    }

    fn work(&self, number: u8) {
        let mut random = thread_rng();
        for _ in 0..3 {
            let at = random.gen_range(0..self.size());
            let tenant = random.gen_range(0..=number);
            let pool = self.pool(at);
            if random.gen_bool(0.25) {
                let mut wait = pool.wait(&tenant, now());
                let _ = is_pending(&mut wait);
                thread::yield_now();
                continue; // given up
            }
            let Some(held) = self.try_to_lease(at, tenant) else {
                continue;
            };
            pool.touch(now());
            for _ in 0..random.gen_range(0..3) {
                thread::yield_now();
            }
            match random.gen_range(0..4) {
                0 => held.discard(),
                _ => drop(held),
            }
        }
    }

    fn tidy(&self, may_wait: bool) {
        let mut random = thread_rng();
        for _ in 0..3 {
            let pool = self.pool(random.gen_range(0..self.size()));
            match random.gen_range(0..5) {
                0 => {
                    pool.retire();
                    self.world.is_retired_now(*pool.home(), false);
                    if may_wait {
                        block_on(pool.drained());
                    }
                }
                1 => {
                    if pool.retire_if_idle() {
                        self.world.is_retired_now(*pool.home(), true);
                    }
                }
                2 => pool.reap(now()),
                3 => advance(TURN),
                _ => self.world.look(),
            }
        }
    }

    fn size(&self) -> usize {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.0.len()
    }

    /// Everything comes to its end.
    fn end(&self) {
        let pools = {
            let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.1.clone()
        };
        for pool in &pools {
            pool.retire();
        }
        self.do_all();
        for pool in &pools {
            block_on(pool.drained());
        }
        self.world.settle();
        self.world.assert_empty(&self.server);
        for pool in pools {
            let counts = pool.counts();
            assert_eq!((counts.in_use, counts.waiting, counts.opening), (0, 0, 0));
            assert!(pool.in_use_by().is_empty());
        }
    }
}

fn limits(max: usize) -> PoolLimits {
    PoolLimits { max, ..NEVER_OLD }
}

fn is_pending(wait: &mut Wait<Fake>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(wait.answer()).poll(&mut context).is_pending()
}

/// So many schedules, chosen at random; thirty times as many in the long edition.
pub(crate) fn at_random(schedules: usize, test: impl Fn() + Send + Sync + 'static) {
    let many = if is_long() { 30 } else { 1 };
    hand_over_behind_locks(true);
    run(RandomScheduler::new(schedules * many), test);
}

/// All schedules there are.
pub(crate) fn in_every_order(test: impl Fn() + Send + Sync + 'static) {
    hand_over_behind_locks(false);
    run(DfsScheduler::new(None, false), test);
}

/// As well between a lock and what is not `shuttle`'s: these are many more, and the short edition
/// takes some at random.
fn in_every_order_and_behind_locks(test: impl Fn() + Send + Sync + 'static) {
    hand_over_behind_locks(true);
    match is_long() {
        true => run(DfsScheduler::new(None, false), test),
        false => run(RandomScheduler::new(500), test),
    }
}

fn is_long() -> bool {
    std::env::var_os("TENANTRY_LONG").is_some_and(|long| long == "1")
}

fn run(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 17;
    config
        .ungraceful_shutdown_config
        .immediately_return_on_panic = true;
    config.silence_warnings = true;
    let done = Runner::new(scheduler, config).run(test);
    println!("{done} schedules");
}
