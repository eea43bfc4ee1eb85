//! The map of open pools, over pools of the schedule, and the routes to them.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use shuttle::future::block_on;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread;

use crate::eviction::EvictionCause;
use crate::fake::{Fake, InHand, Job, Manner, NEVER_OLD, World};
use crate::pools::{Done, PoolMap, Pooled};
use crate::properties::for_all;
use crate::routes::{Route, Routes};
use crate::schedule::{Pool, Server, TryLease};
use crate::sync::{advance, now};
use crate::table::alone;
use crate::threads::{at_random, in_every_order};

#[derive(Clone)]
pub(crate) struct Slot(Arc<Pool<Fake>>);

impl Slot {
    pub(crate) fn is_retired(&self) -> bool {
        self.0.is_retired()
    }
}

impl Pooled for Slot {
    fn last_used(&self) -> u64 {
        self.0.last_used()
    }

    fn retire(&self) {
        self.0.retire();
    }

    fn retire_if_idle(&self) -> bool {
        let retired = self.0.retire_if_idle();
        if retired {
            // Of which there must be no connection in anybody's hands, now or later.
            self.0.server().driver().is_retired_idle(*self.0.home());
        }
        retired
    }

    fn is_drained(&self) -> bool {
        self.0.is_drained()
    }

    fn done(&self) -> Done {
        let counts = self.0.counts();
        Done {
            leases: counts.leases,
            opened: counts.opened,
            failures: counts.failures,
        }
    }
}

type Map = PoolMap<u8, Slot>;

#[derive(Clone)]
struct Slots {
    world: Arc<World>,
    server: Arc<Server<Fake>>,
    map: Arc<Map>,
}

impl Slots {
    fn new(max: usize, manner: Manner) -> Self {
        Self::with_cap(100, max, manner)
    }

    fn with_cap(cap: usize, max: usize, manner: Manner) -> Self {
        let (world, server) = World::new(cap, Duration::ZERO, manner);
        let map = PoolMap::new(Some(max), Arc::clone(&world.at_rest));
        Self {
            world,
            server,
            map: Arc::new(map),
        }
    }

    async fn get_or_make(self, key: u8) -> Slot {
        let make = || {
            let pool = self.world.pool(&self.server, NEVER_OLD);
            advance(Duration::from_millis(1)); // no two are used at the same time
            pool.touch(now());
            Slot(pool)
        };
        self.map.get_or_make(&key, make).await
    }

    /// A connection of this pool, opened by hand where there is none.
    fn use_one(&self, slot: &Slot, key: u8) -> InHand {
        let mut wait = slot.0.wait(&key, now());
        if let Some(job) = self.world.take_job(|job| matches!(job, Job::Open(_))) {
            self.world.perform(job, true);
        }
        let checkout = poll(pin!(wait.answer())).and_then(Result::ok);
        let checkout = checkout.expect("there is one now");
        self.world.hand_over(checkout, *slot.0.home(), key)
    }

    /// As a statement does it.
    fn lease(&self, key: u8) -> InHand {
        loop {
            let Slot(pool) = block_on(self.clone().get_or_make(key));
            let checkout = match pool.try_lease(&key, false, now()) {
                TryLease::Leased(checkout) => checkout,
                TryLease::Retired => continue,
                TryLease::Wait => match block_on(pool.wait(&key, now()).answer()) {
                    Ok(checkout) => checkout,
                    Err(_) => continue,
                },
            };
            return self.world.hand_over(checkout, *pool.home(), key);
        }
    }
}

/// Who came when a pool had just come to rest took it from those who had been waiting for one.
#[test]
fn newcomers_are_served_in_the_order_of_their_coming() {
    alone(|| {
        let mut table = MapTable::new(1);
        table.want(0);
        table.run();
        table.begin_use(0);
        table.want(1);
        table.run();
        table.end_use(0);
        table.want(2);
        table.run();
        assert_eq!(table.served, [0, 1, 2]);
    });
}

#[test]
fn a_pool_that_comes_to_rest_is_seen_by_who_needs_its_place() {
    in_every_order(|| {
        let slots = Slots::new(1, Manner::ByHand);
        let first = block_on(slots.clone().get_or_make(0));
        let held = slots.use_one(&first, 0);
        let leaver = thread::spawn(move || drop(held));
        block_on(slots.clone().get_or_make(1));
        leaver.join().expect("it leaves");
        assert!(first.is_retired());
    });
}

#[test]
fn who_gives_up_waiting_for_a_pool_leaves_its_place() {
    alone(|| {
        let slots = Slots::with_cap(1, 2, Manner::ByHand);
        let [first, second] = [0, 1].map(|key| block_on(slots.clone().get_or_make(key)));
        let held = slots.use_one(&first, 0);
        let waiter = second.0.wait(&1, now());
        let mut newcomer = Box::pin(slots.clone().get_or_make(2));
        assert!(poll(newcomer.as_mut()).is_none());
        drop(waiter);
        assert!(poll(newcomer.as_mut()).is_some());
        assert!(second.is_retired());
        drop(held);
    });
}

#[test]
fn a_crowd_with_more_tenants_than_pools() {
    at_random(250, || {
        let max = thread_rng().gen_range(1..=2);
        let slots = Slots::new(max, Manner::ByThreads { one_fails_of: 0 });
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let slots = slots.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let held = slots.lease(thread_rng().gen_range(0..4));
                        assert!(slots.map.open().len() <= max);
                        thread::yield_now();
                        drop(held);
                    }
                })
            })
            .collect();
        let evicter = {
            let slots = slots.clone();
            thread::spawn(move || {
                let key = thread_rng().gen_range(0..4);
                match thread_rng().gen_range(0..3) {
                    0 => slots
                        .map
                        .retire(EvictionCause::Explicit, |its, _| *its == key),
                    1 => slots.map.retire_idle(EvictionCause::Idle, |_, _| true),
                    _ => {
                        let lost = slots.clone().get_or_make(key);
                        let mut lost = Box::pin(lost);
                        let _ = poll(lost.as_mut());
                        0 // given up, wherever it was
                    }
                };
            })
        };
        for thread in threads {
            thread.join().expect("everybody gets a pool in the end");
        }
        evicter.join().expect("it does not wait");
        slots.map.retire(EvictionCause::Shutdown, |_, _| true);
        for open in slots.map.draining() {
            assert!(block_on(async {
                open.pool.0.drained().await;
                open.pool.is_retired()
            }));
        }
        slots.world.settle();
        slots.world.assert_empty(&slots.server);
        assert_eq!(slots.map.totals().done.leases, 6);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Want(u8),
    GiveUp(Index),
    Begin(Index),
    End(Index),
    Touch(Index),
    Evict(u8),
    EvictIdle(u8),
    Run,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8).prop_map(Step::Want),
        1 => any::<Index>().prop_map(Step::GiveUp),
        3 => any::<Index>().prop_map(Step::Begin),
        3 => any::<Index>().prop_map(Step::End),
        2 => any::<Index>().prop_map(Step::Touch),
        1 => (0..6_u8).prop_map(Step::Evict),
        1 => (0..6_u8).prop_map(Step::EvictIdle),
        4 => Just(Step::Run),
    ]
}

#[test]
fn the_map_does_as_its_model() {
    for_all(200, (1..4_usize, vec(step(), 1..80)), |(max, steps)| {
        let mut table = MapTable::new(max);
        for step in steps {
            table.take(step);
        }
    });
}

/// The key of no pool.
const GONE: u8 = 255;

/// A map of pools, one thread, and the model beside it.
struct MapTable {
    slots: Slots,
    max: usize,
    /// Who waits for a pool, in the order of coming.
    wanting: Vec<(u8, Pin<Box<dyn Future<Output = Slot>>>)>,
    served: Vec<u8>,
    uses: Vec<(u8, InHand)>,
    // The model: key, and which of all uses was its last.
    open: Vec<(u8, u64)>,
    uses_so_far: u64,
    queue: Vec<u8>,
    expected: Vec<u8>,
}

impl MapTable {
    fn new(max: usize) -> Self {
        Self {
            slots: Slots::new(max, Manner::ByHand),
            max,
            wanting: Vec::new(),
            served: Vec::new(),
            uses: Vec::new(),
            open: Vec::new(),
            uses_so_far: 0,
            queue: Vec::new(),
            expected: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        let of = |index: Index, size: usize| (size > 0).then(|| index.index(size));
        match step {
            Step::Want(key) => self.want(key),
            Step::GiveUp(index) => {
                if let Some(at) = of(index, self.wanting.len()) {
                    drop(self.wanting.remove(at));
                    self.queue.remove(at);
                }
            }
            Step::Begin(index) => {
                if let Some(at) = of(index, self.open.len()) {
                    self.begin_use(self.open[at].0);
                }
            }
            Step::End(index) => {
                if let Some(at) = of(index, self.uses.len()) {
                    drop(self.uses.remove(at));
                }
            }
            Step::Touch(index) => {
                if let Some(at) = of(index, self.open.len()) {
                    let key = self.open[at].0;
                    advance(Duration::from_millis(1));
                    self.pool_of(key).0.touch(now());
                    self.uses_so_far += 1;
                    self.open[at].1 = self.uses_so_far;
                }
            }
            Step::Evict(key) => {
                let its = |other: &u8, _: &Slot| *other == key;
                self.slots.map.retire(EvictionCause::Explicit, its);
                self.open.retain(|(other, _)| *other != key);
                // What is in use goes on to its end, and is no use of the next of this key.
                for used in &mut self.uses {
                    if used.0 == key {
                        used.0 = GONE;
                    }
                }
            }
            Step::EvictIdle(key) => {
                let its = |other: &u8, _: &Slot| *other == key;
                self.slots.map.retire_idle(EvictionCause::Idle, its);
                let uses = &self.uses;
                let in_use = |key: u8| uses.iter().any(|(other, _)| *other == key);
                self.open.retain(|(other, _)| *other != key || in_use(key));
            }
            Step::Run => self.run(),
        }
        self.compare();
    }

    fn want(&mut self, key: u8) {
        let mut wanted = Box::pin(self.slots.clone().get_or_make(key));
        let ready = poll(wanted.as_mut()).is_some();
        // The model: who has a pool goes to it; who needs one comes behind those who wait.
        let is_open = self.open.iter().any(|(other, _)| *other == key);
        if is_open || (self.queue.is_empty() && self.make(key)) {
            assert!(ready, "{key} is there or can be made");
            self.expected.push(key);
        } else {
            self.queue.push(key);
        }
        match ready {
            true => self.served.push(key),
            false => self.wanting.push((key, wanted)),
        }
    }

    /// Everybody who was told to go on does.
    fn run(&mut self) {
        loop {
            let before = self.wanting.len();
            let mut at = 0;
            while let Some((key, wanted)) = self.wanting.get_mut(at) {
                match poll(wanted.as_mut()) {
                    Some(_) => {
                        self.served.push(*key);
                        drop(self.wanting.remove(at));
                    }
                    None => at += 1,
                }
            }
            if self.wanting.len() == before {
                break;
            }
        }
        while let Some(key) = self.queue.first().copied() {
            let is_open = self.open.iter().any(|(other, _)| *other == key);
            if !is_open && !self.make(key) {
                break;
            }
            self.expected.push(self.queue.remove(0));
        }
    }

    /// In the model: in the place of the one used least recently, of those that nobody uses.
    fn make(&mut self, key: u8) -> bool {
        if self.open.len() >= self.max {
            let in_use = |key: u8| self.uses.iter().any(|(other, _)| *other == key);
            let victim = (0..self.open.len())
                .filter(|at| !in_use(self.open[*at].0))
                .min_by_key(|at| self.open[*at].1);
            let Some(victim) = victim else { return false };
            self.open.remove(victim);
        }
        self.uses_so_far += 1;
        self.open.push((key, self.uses_so_far));
        true
    }

    fn begin_use(&mut self, key: u8) {
        let its = self.uses.iter().filter(|(other, _)| *other == key).count();
        if its < NEVER_OLD.max {
            let pool = self.pool_of(key);
            self.uses.push((key, self.slots.use_one(&pool, key)));
        }
    }

    fn end_use(&mut self, key: u8) {
        self.uses.retain(|(other, _)| *other != key);
    }

    fn pool_of(&self, key: u8) -> Slot {
        let mut open = self.slots.map.open().into_iter();
        open.find(|open| open.key == key).expect("it is open").pool
    }

    fn compare(&self) {
        assert_eq!(self.served, self.expected);
        let mut open: Vec<u8> = self.slots.map.open().iter().map(|of| of.key).collect();
        let mut expected: Vec<u8> = self.open.iter().map(|(key, _)| *key).collect();
        open.sort_unstable();
        expected.sort_unstable();
        assert_eq!(open, expected);
        assert!(self.slots.map.open().iter().all(|of| !of.pool.is_retired()));
    }
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn a_route_from_before_a_change_is_not_kept() {
    alone(|| {
        let (world, server) = World::new(1, Duration::ZERO, Manner::ByHand);
        let route = || Route {
            connections: Slot(world.pool(&server, NEVER_OLD)),
            schema: None,
            until: None,
        };
        let routes = Routes::default();
        let asked = routes.generation();
        assert!(routes.keep(&1, route(), asked));
        assert!(routes.find(&1, now()).is_some());

        for change in [|routes: &Routes| routes.changed(&1), Routes::clear] {
            let asked = routes.generation();
            change(&routes);
            assert!(routes.find(&1, now()).is_none());
            assert!(!routes.keep(&1, route(), asked));
            assert!(routes.find(&1, now()).is_none());
            assert!(routes.keep(&1, route(), routes.generation()));
        }
        // One that is only forgotten is as true as before.
        let asked = routes.generation();
        routes.forget(&1);
        assert!(routes.find(&1, now()).is_none());
        assert!(routes.keep(&1, route(), asked));
    });
}

#[test]
fn a_route_is_believed_for_its_time_and_purged_when_it_leads_nowhere() {
    alone(|| {
        let (world, server) = World::new(1, Duration::ZERO, Manner::ByHand);
        let ttl = Duration::from_secs(1);
        let route = || Route {
            connections: Slot(world.pool(&server, NEVER_OLD)),
            schema: None,
            until: Some(now() + ttl),
        };
        let routes = Routes::default();
        let (first, second) = (route(), route());
        first.connections.retire();
        assert!(routes.keep(&1, first, routes.generation()));
        assert!(routes.keep(&2, second, routes.generation()));
        routes.purge(now());
        assert!(routes.find(&1, now()).is_none(), "it leads nowhere");
        assert!(routes.find(&2, now()).is_some());
        advance(ttl);
        assert!(routes.find(&2, now()).is_none(), "its time is over");
    });
}
