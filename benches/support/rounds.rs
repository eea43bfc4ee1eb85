//! Measurements that take turns.
//!
//! A machine is faster in one minute than in the next. So the ways that are compared run in
//! rounds, every way once in each, and a ratio is formed within a round; criterion, which measures
//! one way after the other, adds the distribution of each and the comparison with the last run.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::Criterion;

use super::Ways;

/// One way to do a thing: runs it so often, and says how long that took.
pub struct Way {
    name: &'static str,
    run: Box<dyn Fn(u64) -> Duration>,
}

impl Way {
    /// One operation after the other, in one task.
    pub fn in_turn<F>(
        ways: &'static Ways,
        name: &'static str,
        operation: impl Fn(&'static Ways, u64) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = ()>,
    {
        let run = move |times| {
            ways.runtime.block_on(async {
                let started = Instant::now();
                for i in 0..times {
                    operation(ways, i).await;
                }
                started.elapsed()
            })
        };
        Self {
            name,
            run: Box::new(run),
        }
    }

    /// The operations are shared out among so many tasks at a time.
    pub fn at_once<F>(
        ways: &'static Ways,
        tasks: u64,
        name: &'static str,
        operation: impl Fn(&'static Ways, u64) -> F + Copy + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let run = move |times| {
            ways.runtime.block_on(async {
                let next = Arc::new(AtomicU64::new(0));
                let started = Instant::now();
                let tasks: Vec<_> = (0..tasks)
                    .map(|_| {
                        let next = Arc::clone(&next);
                        tokio::spawn(async move {
                            loop {
                                let i = next.fetch_add(1, Ordering::Relaxed);
                                if i >= times {
                                    return;
                                }
                                operation(ways, i).await;
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("no task panics");
                }
                started.elapsed()
            })
        };
        Self {
            name,
            run: Box::new(run),
        }
    }
}

/// What the ratio of two ways must not exceed, or not fall below.
pub enum Limit {
    /// Time: this way takes at most so many times what the other takes.
    Time { of: usize, to: usize, most: f64 },
    /// Operations a second: this way does at least so many times what the other does.
    Throughput { of: usize, to: usize, least: f64 },
}

/// How much is measured: by default, with `--quick`, or, under `cargo test`, once.
///
/// Rounds are many and short: whatever else the machine does then falls on all ways alike.
pub struct Bench {
    criterion: Criterion,
    rounds: usize,
    summary: String,
}

impl Bench {
    pub fn new(conditions: &str) -> Self {
        let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
        let rounds = match (has("--bench"), has("--quick")) {
            (false, _) => 1,
            (true, true) => 60,
            (true, false) => 400,
        };
        Self {
            criterion: Criterion::default()
                .warm_up_time(Duration::from_millis(500))
                .measurement_time(Duration::from_secs(2))
                .configure_from_args(),
            rounds,
            summary: format!("{conditions}\n"),
        }
    }

    /// `operations` is how many of each way make a round.
    pub fn compare(&mut self, title: &str, operations: u64, ways: &[Way], limits: &[Limit]) {
        let mut group = self.criterion.benchmark_group(title);
        for way in ways {
            group.bench_function(way.name, |bencher| bencher.iter_custom(&way.run));
        }
        group.finish();

        // Microseconds for each operation: a row for each way, a column for each round.
        let mut took = vec![Vec::with_capacity(self.rounds); ways.len()];
        for round in 0..self.rounds {
            for turn in 0..ways.len() {
                // Whoever comes first in a round is not always the same.
                let way = (round + turn) % ways.len();
                // Connections that were idle while others had their turn are awake again.
                (ways[way].run)(operations / 20 + 1);
                let elapsed = (ways[way].run)(operations);
                took[way].push(elapsed.as_secs_f64() * 1e6 / operations as f64);
            }
        }
        self.summarize(title, operations, ways, limits, &took);
    }

    fn summarize(
        &mut self,
        title: &str,
        operations: u64,
        ways: &[Way],
        limits: &[Limit],
        took: &[Vec<f64>],
    ) {
        let out = &mut self.summary;
        let _ = writeln!(
            out,
            "\n{title}: median of {} rounds of {operations} operations (quartiles)",
            self.rounds
        );
        for (way, took) in ways.iter().zip(took) {
            let [low, median, high] = quartiles(took);
            let _ = writeln!(
                out,
                "  {median:7.1} us ({low:7.1} to {high:7.1})  {}",
                way.name
            );
        }
        for limit in limits {
            let (of, to) = match *limit {
                Limit::Time { of, to, .. } => (of, to),
                // Twice the time is half the throughput.
                Limit::Throughput { of, to, .. } => (to, of),
            };
            let ratios: Vec<f64> = took[of].iter().zip(&took[to]).map(|(a, b)| a / b).collect();
            let [low, median, high] = quartiles(&ratios);
            let (what, bound, holds) = match *limit {
                Limit::Time { most, .. } => ("time", format!("at most {most:.2}"), median <= most),
                Limit::Throughput { least, .. } => (
                    "throughput",
                    format!("at least {least:.2}"),
                    median >= least,
                ),
            };
            let (Limit::Time { of, to, .. } | Limit::Throughput { of, to, .. }) = limit;
            let _ = writeln!(
                out,
                "  {median:.2}x ({low:.2} to {high:.2}) {what} of '{}' to '{}', {bound}: {}",
                ways[*of].name,
                ways[*to].name,
                if holds { "PASS" } else { "OVER THE LIMIT" },
            );
        }
    }

    /// What was found, last of all.
    pub fn finish(self) {
        self.criterion.final_summary();
        println!("\n{}", self.summary);
    }
}

fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[(sorted.len() - 1) * quarter / 4])
}
