//! Measurements that take turns.
//!
//! A machine is faster in one minute than in the next. So the ways that are compared run in
//! rounds, every way once in each and only a few operations long; criterion, which measures one
//! way after the other, adds the distribution of each and the comparison with the last run.
//!
//! Each operation is timed by itself and the medians are compared: where a core is shared, a mean
//! tells mostly how often somebody else had it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::Criterion;

use super::Ways;

/// One way to do a thing, which can be run any number of times.
pub struct Way {
    name: &'static str,
    run: Box<dyn Fn(u64) -> Taken>,
}

/// How long that took.
struct Taken {
    whole: Duration,
    /// Each operation; or, where they overlap, what one took of the whole.
    each: Vec<Duration>,
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
        let run = move |times: u64| {
            ways.runtime.block_on(async {
                let mut each = Vec::with_capacity(times as usize);
                for i in 0..times {
                    let started = Instant::now();
                    operation(ways, i).await;
                    each.push(started.elapsed());
                }
                Taken {
                    whole: each.iter().sum(),
                    each,
                }
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
        let run = move |times: u64| {
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
                let whole = started.elapsed();
                Taken {
                    whole,
                    each: vec![whole.div_f64(times as f64)],
                }
            })
        };
        Self {
            name,
            run: Box::new(run),
        }
    }
}

/// What the ratio of the first way to another must keep to.
pub struct Limit {
    what: What,
    to: usize,
    bound: f64,
}

enum What {
    Time,
    /// Operations a second.
    Throughput,
}

impl Limit {
    /// The first way takes at most so many times what that one takes.
    pub const fn time(to: usize, at_most: f64) -> Self {
        Self {
            what: What::Time,
            to,
            bound: at_most,
        }
    }

    /// The first way does at least so many times what that one does.
    pub const fn throughput(to: usize, at_least: f64) -> Self {
        Self {
            what: What::Throughput,
            to,
            bound: at_least,
        }
    }
}

/// How much is measured: by default, with `--quick`, or, under `cargo test`, once.
pub struct Bench {
    criterion: Criterion,
    /// A ratio is formed in each of so many parts of the run, so that a machine which was slower
    /// for a while does not decide it.
    parts: usize,
    rounds_of_a_part: usize,
    summary: String,
}

impl Bench {
    pub fn new(conditions: &str) -> Self {
        let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
        let rounds_of_a_part = match (has("--bench"), has("--quick")) {
            (false, _) => 1,
            (true, true) => 10,
            (true, false) => 60,
        };
        Self {
            criterion: Criterion::default()
                .warm_up_time(Duration::from_millis(500))
                .measurement_time(Duration::from_secs(2))
                .configure_from_args(),
            parts: 16,
            rounds_of_a_part,
            summary: format!("{conditions}\n"),
        }
    }

    /// `operations` is how many of each way make a round.
    pub fn compare(&mut self, title: &str, operations: u64, ways: &[Way], limits: &[Limit]) {
        let mut group = self.criterion.benchmark_group(title);
        for way in ways {
            group.bench_function(way.name, |bencher| {
                bencher.iter_custom(|times| (way.run)(times).whole);
            });
        }
        group.finish();

        let parts: Vec<Part> = (0..self.parts)
            .map(|_| measure(self.rounds_of_a_part, operations, ways))
            .collect();
        self.summarize(title, operations, ways, limits, &parts);
    }

    fn summarize(
        &mut self,
        title: &str,
        operations: u64,
        ways: &[Way],
        limits: &[Limit],
        parts: &[Part],
    ) {
        let rounds = self.parts * self.rounds_of_a_part;
        let out = &mut self.summary;
        let _ = writeln!(
            out,
            "\n{title}: {rounds} rounds of {operations} operations, median (quartiles)"
        );
        let whole: Part = (0..ways.len())
            .map(|way| parts.iter().flat_map(|part| part[way].clone()).collect())
            .collect();
        for (way, took) in ways.iter().zip(&whole) {
            let [low, median, high] = quartiles(took);
            let name = way.name;
            let _ = writeln!(out, "  {median:7.1} us ({low:7.1} to {high:7.1})  {name}");
        }
        let first = ways[0].name;
        let _ = writeln!(
            out,
            "  ratio of the medians in each of {} parts of the run, median (quartiles):",
            self.parts
        );
        for limit in limits {
            let ratio = |part: &Part| {
                let [ours, theirs] = [0, limit.to].map(|way| quartiles(&part[way])[1]);
                match limit.what {
                    What::Time => ours / theirs,
                    // Twice the time is half the throughput.
                    What::Throughput => theirs / ours,
                }
            };
            let [low, median, high] = quartiles(&parts.iter().map(ratio).collect::<Vec<_>>());
            let (what, bound, holds) = match limit.what {
                What::Time => ("time", "at most", median <= limit.bound),
                What::Throughput => ("throughput", "at least", median >= limit.bound),
            };
            let _ = writeln!(
                out,
                "  {median:.2}x ({low:.2} to {high:.2}) {what} of {first} to {}, {bound} {:.2}: {}",
                ways[limit.to].name,
                limit.bound,
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

/// Microseconds for each operation, by way.
type Part = Vec<Vec<f64>>;

fn measure(rounds: usize, operations: u64, ways: &[Way]) -> Part {
    let mut took = vec![Vec::new(); ways.len()];
    for round in 0..rounds {
        for turn in 0..ways.len() {
            // Whoever comes first in a round is not always the same.
            let way = (round + turn) % ways.len();
            // What was idle while the others had their turn is awake again.
            (ways[way].run)(operations / 10 + 1);
            let taken = (ways[way].run)(operations);
            took[way].extend(taken.each.iter().map(|each| each.as_secs_f64() * 1e6));
        }
    }
    took
}

fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[(sorted.len() - 1) * quarter / 4])
}
