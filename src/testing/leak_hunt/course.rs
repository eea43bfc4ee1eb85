//! How a hunt goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::LeakHunt;
use super::canaries::{Canaries, Look};
use super::canary::Place;
use super::disturbance::Disturbance;
use super::fate::{End, Fate};
use super::finding::{Finding, FindingKind};
use super::ledger::Ledger;
use super::limits::Limits;
use super::report::Report;
use super::subject::Subject;
use super::tally::{Tally, name_of};
use super::turn::Turn;
use crate::error::Error;
use crate::tenant::TenantId;

/// What all tasks of a hunt have in common.
struct Course {
    ledger: Arc<Ledger>,
    subject: Arc<dyn Subject>,
    operations: Vec<&'static str>,
    tenants: Vec<TenantId>,
    tasks: u32,
    is_calm: bool,
    patience: Duration,
    limits: Limits,
    carried_out: AtomicU64,
    is_over: AtomicBool,
}

/// How often it is looked at what was written.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn run(hunt: LeakHunt, limits: Limits, subject: Arc<dyn Subject>) -> Report {
    let has_tables = hunt.canaries.is_some();
    let ledger = Ledger::new(limits.seed, has_tables, hunt.stops_at_first);
    let course = Arc::new(Course {
        ledger: Arc::new(ledger),
        operations: subject.operations().to_vec(),
        subject,
        tenants: hunt.tenants,
        tasks: hunt.tasks,
        is_calm: hunt.is_calm,
        patience: hunt.patience,
        limits,
        carried_out: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    });
    let mut look = hunt.canaries.map(|canaries| canaries.look());
    if let Some(look) = &mut look
        && let Err(error) = look.begin(&course.tenants).await
    {
        course.not_looked_at(&error);
        return course.report(Tally::default(), BTreeMap::new());
    }
    // Dropped, they end all that is in them.
    let mut tasks = JoinSet::new();
    for task in 0..course.tasks {
        tasks.spawn(Arc::clone(&course).task(task));
    }
    let mut disturbances = JoinSet::new();
    for (number, disturbance) in hunt.disturbances.into_iter().enumerate() {
        disturbances.spawn(Arc::clone(&course).disturb(number as u64, disturbance));
    }
    let mut looks = JoinSet::new();
    if let Some(look) = look {
        looks.spawn(Arc::clone(&course).look_on(look));
    }
    let mut tally = Tally::default();
    for of_task in tasks.join_all().await {
        tally.add(&of_task);
    }
    course.is_over.store(true, Ordering::Relaxed);
    let disturbances = disturbances.join_all().await.into_iter().collect();
    let look = looks.join_all().await.pop();
    if !course.ledger.is_stopped() {
        course.last_round(&mut tally).await;
        if let Err(what) = course.subject.at_rest(course.patience).await {
            let finding = Finding::new(FindingKind::Stuck, "somebody");
            course.ledger.add(finding.note(what));
        }
        if let Some(look) = look {
            course.last_look(look).await;
        }
    }
    course.report(tally, disturbances)
}

/// What a turn is, and what happens to it: the same for the same seed and place.
struct Draw {
    tenant: usize,
    another: usize,
    operation: &'static str,
    fate: Fate,
    random: u64,
}

impl Course {
    fn draw(&self, place: Place) -> Draw {
        let mut rng = Rng::with_seed(mix(self.limits.seed
            ^ mix(u64::from(place.task))
            ^ mix(!place.number)));
        let count = self.tenants.len();
        let tenant = rng.usize(..count);
        let another = (tenant + rng.usize(1..count)) % count;
        let operation = self.operations[rng.usize(..self.operations.len())];
        let fate = match self.is_calm {
            true => Fate::Whole,
            false => Fate::draw(&mut rng),
        };
        Draw {
            tenant,
            another,
            operation,
            fate,
            random: rng.u64(..),
        }
    }

    /// Those of the last round are not drawn.
    fn operation_at(&self, place: Place) -> &'static str {
        match place.task == self.tasks {
            true => "in the last round",
            false => self.draw(place).operation,
        }
    }

    fn is_over(&self) -> bool {
        let carried_out = || self.carried_out.load(Ordering::Relaxed);
        self.is_over.load(Ordering::Relaxed)
            || self.ledger.is_stopped()
            || self
                .limits
                .duration
                .is_some_and(|most| self.ledger.begun().elapsed() >= most)
            || self
                .limits
                .operations
                .is_some_and(|most| carried_out() >= most)
    }

    async fn task(self: Arc<Self>, task: u32) -> Tally {
        let mut tally = Tally::default();
        let mut number = 0;
        while !self.is_over() {
            let place = Place { task, number };
            number += 1;
            let draw = self.draw(place);
            let tenants = (&self.tenants[draw.tenant], &self.tenants[draw.another]);
            let turn = Turn::new(&self.ledger, tenants, draw.operation, place, draw.random);
            let end = self.carry_out(turn, draw.fate).await;
            tally.count(draw.operation, &end);
            if matches!(end, End::Done(Err(_))) {
                // A tenant that is suspended refuses faster than anything else is done.
                sleep(Duration::from_millis(1 + draw.random % 4)).await;
            } else {
                self.carried_out.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        }
        tally
    }

    async fn carry_out(&self, turn: Turn, fate: Fate) -> End<Result<(), Error>> {
        let work = turn.clone();
        let work = async { self.subject.work(work).await };
        let end = fate.befalls(work, self.patience).await;
        match end {
            End::PanickedItself => self.ledger.add(Finding::of(&turn, FindingKind::Panic)),
            End::Stuck => self.ledger.add(Finding::of(&turn, FindingKind::Stuck)),
            _ => {}
        }
        end
    }

    async fn disturb(self: Arc<Self>, number: u64, mut disturbance: Disturbance) -> (String, u64) {
        let mut rng = Rng::with_seed(mix(self.limits.seed ^ mix(number)));
        let mut count = 0;
        loop {
            let pause = disturbance.next_pause(&mut rng);
            if !self.pause(pause).await {
                return (disturbance.name().to_owned(), count);
            }
            count += u64::from(disturbance.take_place(&mut rng).await);
        }
    }

    /// Whether the hunt goes on after a pause.
    async fn pause(&self, pause: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(20);
        let end = Instant::now() + pause;
        while !self.is_over() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            sleep(left.min(STEP)).await;
        }
        false
    }

    /// Looks while the tasks are at work, so that tables stay small and findings are early.
    async fn look_on(self: Arc<Self>, mut look: Look) -> Look {
        while self.pause(LOOK_EVERY).await {
            // A server that is down is asked again; it counts what is seen in the end.
            let _ = look.sweep(|tenant, row| self.is_stored(tenant, row)).await;
        }
        look
    }

    fn is_stored(&self, tenant: &str, row: &str) {
        self.ledger
            .is_stored(tenant, row, |place| self.operation_at(place));
    }

    /// Nobody disturbs any more: each tenant is served, with each operation.
    async fn last_round(&self, tally: &mut Tally) {
        let deadline = Instant::now() + self.patience;
        let mut number = 0;
        for (at, tenant) in self.tenants.iter().enumerate() {
            let another = &self.tenants[(at + 1) % self.tenants.len()];
            for operation in &self.operations {
                loop {
                    let place = Place {
                        task: self.tasks,
                        number,
                    };
                    number += 1;
                    let random = mix(self.limits.seed ^ number);
                    let turn = Turn::new(&self.ledger, (tenant, another), operation, place, random);
                    let end = self.carry_out(turn.clone(), Fate::Whole).await;
                    tally.count(operation, &end);
                    let End::Done(Err(error)) = end else {
                        break;
                    };
                    if Instant::now() >= deadline {
                        let finding = Finding::of(&turn, FindingKind::Stuck);
                        self.ledger.add(finding.note(name_of(&error)));
                        break;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// What is in the tables, what is not, and who sits in a transaction.
    async fn last_look(&self, mut look: Look) {
        let deadline = Instant::now() + self.patience;
        let swept = loop {
            let swept = look.sweep(|tenant, row| self.is_stored(tenant, row)).await;
            if swept.is_ok() || Instant::now() >= deadline {
                break swept;
            }
            sleep(Duration::from_millis(100)).await;
        };
        if let Err(error) = swept {
            self.not_looked_at(&error);
            return;
        }
        self.ledger.look_for_lost(|place| {
            let whose = match place.task == self.tasks {
                true => "somebody",
                false => self.tenants[self.draw(place).tenant].as_str(),
            };
            let finding = Finding::new(FindingKind::Lost, whose).written_by(place);
            finding.operation(self.operation_at(place))
        });
        loop {
            match look.idle_in_transaction().await {
                Ok(0) => return,
                Ok(count) if Instant::now() >= deadline => {
                    let finding = Finding::new(FindingKind::Stuck, "somebody");
                    let note = format!("{count} sessions are idle in a transaction");
                    self.ledger.add(finding.note(note));
                    return;
                }
                Err(error) if Instant::now() >= deadline => {
                    self.not_looked_at(&error);
                    return;
                }
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn not_looked_at(&self, error: &Error) {
        let finding = Finding::new(FindingKind::NotLookedAt, Canaries::TABLE);
        self.ledger.add(finding.note(format!(
            "{}; the role that looks is one that policies do not hold, and `Canaries::install` has \
             made the tables",
            name_of(error)
        )));
    }

    fn report(&self, tally: Tally, disturbances: BTreeMap<String, u64>) -> Report {
        Report::new(&self.ledger, self.tasks, tally, disturbances)
    }
}

/// The finisher of SplitMix64: numbers that are close to each other become seeds that are not.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
