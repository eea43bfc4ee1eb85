//! The schedule against its model, and what must be true whatever the model says.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::fake::{Job, NEVER_OLD};
use crate::model::{Did, Model};
use crate::schedule::PoolLimits;
use crate::sync::advance;
use crate::table::{Answer, Table, alone};

const TURN: Duration = Duration::from_millis(50);

/// `Index` chooses among what there is at the time.
#[derive(Clone, Debug)]
enum Step {
    Lease(Index, u8),
    Wait(Index, u8),
    Cancel(Index),
    GiveBack(Index),
    Discard(Index),
    Open(Index, bool),
    LetGo(Index),
    Retire(Index),
    RetireIfIdle(Index),
    Reap(Index),
    Touch(Index),
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let one = any::<Index>;
    prop_oneof![
        3 => (one(), 0..3_u8).prop_map(|(pool, tenant)| Step::Lease(pool, tenant)),
        6 => (one(), 0..3_u8).prop_map(|(pool, tenant)| Step::Wait(pool, tenant)),
        1 => one().prop_map(Step::Cancel),
        4 => one().prop_map(Step::GiveBack),
        1 => one().prop_map(Step::Discard),
        5 => (one(), prop::bool::weighted(0.9)).prop_map(|(job, ends)| Step::Open(job, ends)),
        5 => one().prop_map(Step::LetGo),
        1 => one().prop_map(Step::Retire),
        1 => one().prop_map(Step::RetireIfIdle),
        1 => one().prop_map(Step::Reap),
        2 => one().prop_map(Step::Touch),
        2 => (1..120_u16).prop_map(Step::Pass),
    ]
}

#[derive(Clone, Debug)]
struct Shape {
    cap: usize,
    turn: Duration,
    pools: Vec<PoolLimits>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let pool = (
        1..4_usize,
        prop::option::of(1..3_usize),
        0..2_usize,
        0..8_u8,
    )
        .prop_map(|(max, max_per_tenant, min, ages)| PoolLimits {
            max,
            max_per_tenant,
            min,
            idle_timeout: (ages == 0).then_some(TURN),
            max_lifetime: (ages == 1).then_some(TURN * 4),
            ..NEVER_OLD
        });
    let turn = prop_oneof![1 => Just(Duration::ZERO), 4 => Just(TURN)];
    (vec(pool, 1..4), turn, 1..4_usize).prop_map(|(pools, turn, spare)| Shape {
        cap: pools.iter().map(|pool| pool.min).sum::<usize>() + spare,
        turn,
        pools,
    })
}

#[test]
fn the_schedule_does_as_its_model() {
    for_all(300, (shape(), vec(step(), 1..120)), |(shape, steps)| {
        let mut pair = Pair::new(shape);
        for step in steps {
            pair.take(step);
        }
        pair.end();
    });
}

/// Tenants of one pool who all wait always: whatever comes back, and whatever breaks.
#[test]
fn tenants_of_a_pool_get_the_same() {
    let steps = vec((any::<Index>(), 0..4_u8), 1..150);
    for_all(60, (2..5_u8, 1..4_usize, steps), |(tenants, max, steps)| {
        let limits = PoolLimits { max, ..NEVER_OLD };
        let mut table = Table::new(max, TURN, &[limits]);
        let mut grants = vec![0_usize; tenants.into()];
        for tenant in 0..tenants {
            // More than can be opened: nobody is done with what is being opened for him.
            for _ in 0..=max {
                table.wait(0, tenant);
            }
        }
        for (index, step) in steps {
            let had = table.held.len();
            match step {
                0 if had > 0 => table.held.remove(index.index(had)).discard(),
                1 if had > 0 => drop(table.held.remove(index.index(had))),
                2 => drop(table.close()),
                _ => drop(table.open(true)),
            }
            table.hear();
            for answer in std::mem::take(&mut table.answers) {
                let tenant = table.tenant_of(&answer);
                grants[usize::from(tenant)] += 1;
                table.wait(0, tenant);
            }
            let (most, least) = (grants.iter().max(), grants.iter().min());
            let ahead = most.expect("tenants") - least.expect("tenants");
            // A turn is over when the opening is asked for, the grant comes when it is done. And
            // the first had its turn before the others came.
            let opening = table.pools[0].counts().opening;
            assert!(ahead <= 2 + opening, "{grants:?}, {opening} being opened");
        }
    });
}

/// Tenants with a pool each, where a turn is one use.
#[test]
fn tenants_with_pools_of_their_own_get_the_same() {
    for_all(
        60,
        (2..5_u8, 1..4_usize, vec(any::<Index>(), 1..60)),
        |(tenants, cap, steps)| {
            let limits = vec![NEVER_OLD; tenants.into()];
            let mut table = Table::new(cap, Duration::ZERO, &limits);
            let mut grants = vec![0_usize; tenants.into()];
            for tenant in 0..tenants {
                for _ in 0..=cap {
                    table.wait(tenant.into(), tenant);
                }
            }
            table.settle();
            for index in steps {
                advance(Duration::from_micros(1));
                let held = table.held.remove(index.index(table.held.len()));
                table.wait(held.home, held.tenant);
                table.answers.clear();
                drop(held);
                table.settle();
                assert!(!table.answers.is_empty(), "its place is for somebody");
                for answer in std::mem::take(&mut table.answers) {
                    grants[usize::from(table.tenant_of(&answer))] += 1;
                }
                let (most, least) = (grants.iter().max(), grants.iter().min());
                let ahead = most.expect("tenants") - least.expect("tenants");
                assert!(ahead <= 1, "{grants:?}");
            }
        },
    );
}

struct Pair {
    table: Table,
    model: Model,
    limits: Vec<PoolLimits>,
    /// The pools that are not retired.
    today: Vec<usize>,
    did: Did,
}

impl Pair {
    fn new(shape: Shape) -> Self {
        Self {
            table: Table::new(shape.cap, shape.turn, &shape.pools),
            model: Model::new(shape.cap, shape.turn, &shape.pools),
            today: (0..shape.pools.len()).collect(),
            limits: shape.pools,
            did: Did::default(),
        }
    }

    fn take(&mut self, step: Step) {
        let (table, model) = (&mut self.table, &mut self.model);
        let today = self.today.clone();
        let place = |index: Index| index.index(today.len());
        let pool = |index: Index| today[index.index(today.len())];
        match step {
            Step::Lease(index, tenant) => {
                let leased = table.try_lease(pool(index), tenant);
                assert_eq!(leased, model.try_lease(pool(index), tenant));
            }
            Step::Wait(index, tenant) => {
                let number = table.wait(pool(index), tenant);
                model.wait(number, pool(index), tenant);
            }
            Step::Cancel(index) if !table.waiting.is_empty() => {
                let at = index.index(table.waiting.len());
                model.cancel(table.waiting[at].number);
                table.cancel(at);
            }
            Step::GiveBack(index) if !table.held.is_empty() => {
                let held = table.held.remove(index.index(table.held.len()));
                model.give_back(held.number);
                drop(held);
            }
            Step::Discard(index) if !table.held.is_empty() => {
                let held = table.held.remove(index.index(table.held.len()));
                model.discard(held.number);
                held.discard();
            }
            Step::Open(index, succeeds) => {
                let job = table.world.job_at(index, |job| matches!(job, Job::Open(_)));
                let Some(job) = job else { return };
                let pool = job.home().expect("an opening is of a pool");
                match table.world.perform(job, succeeds) {
                    Some(number) => model.opened(pool, number),
                    None => model.not_opened(pool),
                }
            }
            Step::LetGo(index) => {
                let ends = |job: &Job| matches!(job, Job::Close(..) | Job::LetGo(_));
                let Some(job) = table.world.job_at(index, ends) else {
                    return;
                };
                model.closed(job.home().expect("of a pool"));
                table.world.perform(job, true);
            }
            Step::Retire(index) => {
                table.pools[pool(index)].retire();
                model.retire(pool(index));
                self.renew(place(index));
            }
            Step::RetireIfIdle(index) => {
                let retired = table.pools[pool(index)].retire_if_idle();
                assert_eq!(retired, model.retire_if_idle(pool(index)));
                if retired {
                    self.renew(place(index));
                }
            }
            Step::Reap(index) => {
                table.pools[pool(index)].reap(crate::sync::now());
                model.reap(pool(index));
            }
            Step::Touch(index) => {
                table.pools[pool(index)].touch(crate::sync::now());
                model.touch(pool(index));
            }
            Step::Pass(milliseconds) => {
                let time = Duration::from_millis(milliseconds.into());
                advance(time);
                model.now += time;
                model.look();
                let is_due = |job: &Job| matches!(job, Job::Wake(at) if *at <= crate::sync::now());
                let mut woken = false;
                while let Some(wake) = table.world.take_job(is_due) {
                    woken = true;
                    table.world.perform(wake, true);
                }
                // What can be done now can be done because of the time: somebody had to ask for
                // being woken.
                assert!(woken || model.did == Did::default(), "nobody looks");
            }
            Step::Cancel(_) | Step::GiveBack(_) | Step::Discard(_) => {}
        }
        self.compare();
    }

    fn renew(&mut self, place: usize) {
        let limits = *self.table.pools[self.today[place]].limits();
        self.table.pool(limits);
        self.model.pool(limits);
        self.today[place] = self.table.pools.len() - 1;
    }

    fn compare(&mut self) {
        self.table.hear();
        let mut expected = std::mem::take(&mut self.model.did);
        let mut did = self.table.world.take_decisions();
        for answer in std::mem::take(&mut self.table.answers) {
            match answer {
                Answer::Leased { waiter, connection } => did.leased.push((waiter, connection)),
                Answer::Retired { waiter } | Answer::Failed { waiter } => did.refused.push(waiter),
            }
        }
        for all in [&mut expected, &mut did] {
            all.leased.sort_unstable();
            all.refused.sort_unstable();
        }
        assert_eq!(did, expected);
        for (pool, of) in self.model.pools.iter().enumerate() {
            let counts = self.table.pools[pool].counts();
            assert_eq!(
                [
                    counts.idle,
                    counts.in_use,
                    counts.opening,
                    counts.closing,
                    counts.waiting
                ],
                [
                    of.idle.len(),
                    of.in_use.len(),
                    of.opening.len(),
                    of.closing,
                    self.model.waiting(pool)
                ],
                "idle, in use, opening, closing, waiting of pool {pool}"
            );
        }
    }

    fn end(mut self) {
        self.table.settle();
        self.table.assert_nobody_waits_in_vain();
        self.table.held.clear();
        self.table.waiting.clear();
        for pool in &self.table.pools {
            pool.retire();
        }
        self.table.settle();
        self.table.world.assert_empty(&self.table.server);
    }
}

/// Thirty times as many cases in the long edition.
pub(crate) fn for_all<S>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) + Clone + Send + Sync + 'static,
) where
    S: Strategy,
    S::Value: Clone + Send + Sync + 'static,
{
    let is_long = std::env::var_os("TENANTRY_LONG").is_some_and(|long| long == "1");
    let config = Config {
        cases: if is_long { cases * 30 } else { cases },
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&strategy, |value| {
        let test = test.clone();
        alone(move || test(value.clone()));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
