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
use tokio::runtime::Runtime;

/// What the ways of a comparison share. Never dropped, so that measurements may refer to it.
pub trait Ground: Sync + 'static {
    fn runtime(&self) -> &Runtime;
}

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
    pub fn in_turn<G, F>(
        ground: &'static G,
        name: &'static str,
        operation: impl Fn(&'static G, u64) -> F + 'static,
    ) -> Self
    where
        G: Ground,
        F: Future<Output = ()>,
    {
        let run = move |times: u64| {
            ground.runtime().block_on(async {
                let mut each = Vec::with_capacity(times as usize);
                for i in 0..times {
                    let started = Instant::now();
                    operation(ground, i).await;
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
    pub fn at_once<G, F>(
        ground: &'static G,
        tasks: u64,
        name: &'static str,
        operation: impl Fn(&'static G, u64) -> F + Copy + Send + Sync + 'static,
    ) -> Self
    where
        G: Ground,
        F: Future<Output = ()> + Send + 'static,
    {
        let run = move |times: u64| {
            ground.runtime().block_on(async {
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
                                operation(ground, i).await;
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
    /// `None`: the ratio is printed, and that is all.
    bound: Option<f64>,
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
            bound: Some(at_most),
        }
    }

    /// How many times what that one takes, whatever comes out.
    pub const fn none(to: usize) -> Self {
        Self {
            what: What::Time,
            to,
            bound: None,
        }
    }

    /// The first way does at least so many times what that one does.
    pub const fn throughput(to: usize, at_least: f64) -> Self {
        Self {
            what: What::Throughput,
            to,
            bound: Some(at_least),
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
        self.take_turns(title, operations, self.rounds_of_a_part, ways, limits);
    }

    /// For what takes long: a tenth of the rounds, and without criterion.
    pub fn compare_slow(&mut self, title: &str, ways: &[Way], limits: &[Limit]) {
        self.take_turns(title, 1, self.rounds_of_a_part.div_ceil(10), ways, limits);
    }

    fn take_turns(
        &mut self,
        title: &str,
        operations: u64,
        rounds_of_a_part: usize,
        ways: &[Way],
        limits: &[Limit],
    ) {
        let parts: Vec<Part> = (0..self.parts)
            .map(|_| measure(rounds_of_a_part, operations, ways))
            .collect();
        let rounds = self.parts * rounds_of_a_part;
        self.summarize(title, operations, rounds, ways, limits, &parts);
    }

    /// What was found without rounds.
    pub fn report(&mut self, lines: &str) {
        let _ = writeln!(self.summary, "\n{}", lines.trim_end());
    }

    /// So many of a thing: 1 under `cargo test`.
    pub fn effort(&self, quick: usize, full: usize) -> usize {
        match self.rounds_of_a_part {
            1 => 1,
            10 => quick,
            _ => full,
        }
    }

    fn summarize(
        &mut self,
        title: &str,
        operations: u64,
        rounds: usize,
        ways: &[Way],
        limits: &[Limit],
        parts: &[Part],
    ) {
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
            let (what, keeps_to) = match limit.what {
                What::Time => ("time", "at most"),
                What::Throughput => ("throughput", "at least"),
            };
            let verdict = limit.bound.map_or_else(String::new, |bound| {
                let holds = match limit.what {
                    What::Time => median <= bound,
                    What::Throughput => median >= bound,
                };
                let verdict = if holds { "PASS" } else { "OVER THE LIMIT" };
                format!(", {keeps_to} {bound:.2}: {verdict}")
            });
            let _ = writeln!(
                out,
                "  {median:.2}x ({low:.2} to {high:.2}) {what} of {first} to {}{verdict}",
                ways[limit.to].name,
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

pub fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[(sorted.len() - 1) * quarter / 4])
}
