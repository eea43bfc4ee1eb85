//! Ways in turn, and how they compare.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tenantry::TenantScope;

use super::support::report::{Report, percentile};
use super::support::rounds::quartiles;
use super::ways::Way;
use super::world::World;

/// The way that the first of ours is compared with, and how many times its throughput ours must
/// have at least.
pub struct Bound(pub Way, pub Option<f64>);

/// What came of a way in one round.
#[derive(Default)]
struct Round {
    /// Invoices in a second.
    throughput: f64,
    /// Milliseconds of each.
    took: Vec<f64>,
    /// Gave up: the client would get a 409 or a 503.
    conflicts: usize,
    /// Attempts beyond the first ones.
    repeated: usize,
}

pub async fn compare(
    report: &mut Report,
    world: &World,
    scope: &TenantScope,
    title: &str,
    bounds: &[Bound],
) {
    let rounds = report.effort(1, 5, 9);
    let length = Duration::from_millis(report.effort(50, 1_000, 3_000) as u64);
    let crowd = report.effort(4, 40, 200);
    let mut found: Vec<Vec<Round>> = Way::ALL.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..Way::ALL.len() {
            // Whoever comes first in a round is not always the same.
            let which = (round + turn) % Way::ALL.len();
            found[which].push(measure(world, scope, Way::ALL[which], crowd, length).await);
        }
    }
    report.add(&format!(
        "{title}: {crowd} at once, {rounds} rounds of {length:?}, medians\n  \
         invoices/s   p50 ms   p99 ms  conflicts  repeated"
    ));
    for (way, rounds) in Way::ALL.iter().zip(&found) {
        let median =
            |value: fn(&Round) -> f64| quartiles(&rounds.iter().map(value).collect::<Vec<_>>())[1];
        let all: Vec<f64> = rounds.iter().flat_map(|round| round.took.clone()).collect();
        let share = |count: fn(&Round) -> usize| {
            let count: usize = rounds.iter().map(count).sum();
            count as f64 * 100.0 / all.len().max(1) as f64
        };
        report.line(&format!(
            "  {:10.0} {:8.1} {:8.1}    {:6.1}%   {:6.1}%  {}",
            median(|round| round.throughput),
            percentile(&all, 50.0),
            percentile(&all, 99.0),
            share(|round| round.conflicts),
            share(|round| round.repeated),
            way.name(),
        ));
    }
    for Bound(way, at_least) in bounds {
        let theirs = Way::ALL.iter().position(|other| other == way);
        let theirs = &found[theirs.expect("it was measured")];
        for (ours, name) in [(0, "statement"), (1, "transaction")] {
            let ratios: Vec<f64> = found[ours]
                .iter()
                .zip(theirs)
                .map(|(ours, theirs)| ours.throughput / theirs.throughput)
                .collect();
            let [low, median, high] = quartiles(&ratios);
            let what = format!(
                "times the throughput ({low:.2} to {high:.2}): {name} to {}",
                way.name()
            );
            match at_least.filter(|_| ours == 0) {
                Some(at_least) => report.floor(median, at_least, &what),
                None => report.line(&format!("  {median:.2} {what}")),
            }
        }
    }
}

async fn measure(
    world: &World,
    scope: &TenantScope,
    way: Way,
    crowd: usize,
    length: Duration,
) -> Round {
    world.reset().await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let tasks: Vec<_> = (0..crowd)
        .map(|_| {
            let (scope, attempts) = (scope.clone(), Arc::clone(&attempts));
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut conflicts = 0;
                while started.elapsed() < length {
                    let began = Instant::now();
                    match way.save(&scope, &attempts).await {
                        Ok(()) => {}
                        Err(error) if error.code().is_some() => conflicts += 1,
                        Err(error) => panic!("{error:?}"),
                    }
                    took.push(began.elapsed().as_secs_f64() * 1e3);
                }
                (took, conflicts)
            })
        })
        .collect();
    let mut round = Round::default();
    for task in tasks {
        let (took, conflicts) = task.await.expect("no task panics");
        round.took.extend(took);
        round.conflicts += conflicts;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let saved = round.took.len() - round.conflicts;
    assert_eq!(world.saved().await, saved as i64, "{}", way.name());
    round.throughput = saved as f64 / elapsed;
    round.repeated = attempts.load(Ordering::Relaxed) - round.took.len();
    round
}
