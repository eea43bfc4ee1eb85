//! What a check costs whose answer this process knows.
//!
//!     cargo bench --bench permissions
//!     cargo bench --bench permissions -- --quick
//!
//! In time of the processor, so that whoever else uses the machine is not in it: a lock that threads
//! share shows all the same, in cache lines that go to and fro between them.

#![allow(unreachable_pub, reason = "a bench has no outside")]

#[allow(dead_code, reason = "a bench does not use all of it")]
#[path = "../support/report.rs"]
mod report;
mod stage;

use std::collections::HashMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Barrier, RwLock};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use nix::time::{ClockId, clock_gettime};
use report::{Report, percentile};
use stage::Stage;
use tenantry::{Decision, Permission};

const READ: Permission = Permission::new("resource7", "read");

const MOST_NANOSECONDS: f64 = 1_000.0;

/// What two threads on tenants of their own may take, to one.
const MOST_BESIDE: f64 = 1.25;

/// What the map behind one lock takes at least, where two threads do run at the same time.
const LEAST_OF_SPECIMEN: f64 = 1.5;

fn main() -> ExitCode {
    let stage = Stage::start();
    let mut report = Report::new(&format!(
        "{} tenants with a user each, whose roles come to {} patterns",
        stage::TENANTS,
        stage::PATTERNS,
    ));
    let rounds = report.effort(1, 20, 100);
    let checks = report.effort(1_000, 50_000, 200_000);

    let check = |tenant: usize| {
        let scope = &stage.scopes[tenant];
        stage.authorizer.check(scope, &READ).now_or_never() == Some(Decision::Granted)
    };
    // One lock for all, and no policy about what is current: what it would cost at the least.
    let locked: RwLock<HashMap<usize, bool>> =
        RwLock::new((0..stage::TENANTS).map(|n| (n, true)).collect());
    let specimen = |tenant: usize| locked.read().is_ok_and(|known| known.contains_key(&tenant));

    let mut all = Vec::new();
    let mut one = Vec::new();
    let mut beside = Vec::new();
    let mut same = Vec::new();
    let mut specimen_beside = Vec::new();
    let mut missed = 0;
    for _ in 0..rounds {
        let mut run = |of: &[(usize, usize)], check: &(dyn Fn(usize) -> bool + Sync)| {
            let (nanoseconds, unknown) = measure(of, checks, check);
            missed += unknown;
            nanoseconds
        };
        all.push(run(&[(0, stage::TENANTS)], &check));
        let alone = run(&[(0, 1)], &check);
        one.push(alone);
        beside.push(run(&[(0, 1), (1, 1)], &check) / alone);
        same.push(run(&[(0, 1), (0, 1)], &check) / alone);
        let alone = run(&[(0, 1)], &specimen);
        specimen_beside.push(run(&[(0, 1), (1, 1)], &specimen) / alone);
    }
    report.add(&format!(
        "medians of {rounds} rounds of {checks} checks a thread, processor time"
    ));
    report.limit(
        percentile(&one, 50.0),
        MOST_NANOSECONDS,
        "ns a check, of one tenant",
    );
    report.limit(
        percentile(&all, 50.0),
        MOST_NANOSECONDS,
        "ns a check, of all tenants in turn",
    );
    let (beside, of_specimen) = (
        percentile(&beside, 50.0),
        percentile(&specimen_beside, 50.0),
    );
    // Threads that hardly ever ran at the same time could not get in each other's way.
    if of_specimen >= LEAST_OF_SPECIMEN {
        report.limit(
            beside,
            MOST_BESIDE,
            "times as much with two threads on two tenants",
        );
    } else {
        report.line(&format!(
            "  {beside:.2} times as much with two threads on two tenants: DISTURBED"
        ));
    }
    report.line(&format!(
        "  {:.2} times as much with two threads on one tenant",
        percentile(&same, 50.0)
    ));
    report.line(&format!(
        "  {of_specimen:.2} times as much with two threads on two tenants, for a map behind one lock",
    ));
    report.line(&format!("  {missed} checks found nothing that counted"));
    report.finish()
}

/// A thread for each of these ranges of tenants: nanoseconds of the processor a check, and how often
/// the answer was not known.
fn measure(
    of: &[(usize, usize)],
    checks: usize,
    check: &(dyn Fn(usize) -> bool + Sync),
) -> (f64, usize) {
    let start = Barrier::new(of.len());
    let taken: Vec<(Duration, usize)> = thread::scope(|scope| {
        let threads: Vec<_> = of
            .iter()
            .map(|&(first, count)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let before = processor_time();
                    let mut unknown = 0;
                    for n in 0..checks {
                        unknown += usize::from(!black_box(check(first + n % count)));
                    }
                    (processor_time() - before, unknown)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no check panics"))
            .collect()
    });
    let spent: Duration = taken.iter().map(|(time, _)| *time).sum();
    let unknown = taken.iter().map(|(_, unknown)| unknown).sum();
    (
        spent.as_secs_f64() * 1e9 / (checks * of.len()) as f64,
        unknown,
    )
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("a clock of every thread")
        .into()
}
