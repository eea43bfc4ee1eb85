//! From a tenant to its open pool and back: what every statement does first.
//!
//!     cargo bench --bench hot_path
//!     cargo bench --bench hot_path -- --quick
//!
//! 10,000 tenants, asked for as Zipf(1.0) has it, by 1 to 8 threads. A round counts only if
//! the control scales, whose threads share nothing: run it on a machine with nothing else to do.

#![allow(unreachable_pub, reason = "a bench has no outside")]

mod candidate;
mod candidates;
mod hits;
mod ours;
mod race;
#[allow(dead_code, unused_imports, reason = "a bench does not use all of it")]
#[path = "../../src/lease/schedule/mod.rs"]
mod schedule;
#[path = "../support/mod.rs"]
mod support;
#[allow(
    unused_imports,
    reason = "some of it is for parts that are not measured here"
)]
#[path = "../../src/sync.rs"]
mod sync;
mod workload;

use std::time::Duration;

use race::Race;
use support::rounds::Bench;
use workload::Workload;

fn main() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut bench = Bench::new(&format!(
        "{} tenants, Zipf(1.0), {cores} cores",
        workload::TENANTS
    ));
    let workload = Workload::new();
    let race = Race {
        workload: &workload,
        control: candidates::control(),
        rounds: bench.effort(10, 60),
        window: Duration::from_millis(bench.effort(50, 100) as u64),
    };
    bench.report(&race.run(&candidates::all(&workload)));
    bench.report(&hits::table(&workload, bench.effort(500_000, 5_000_000)));
    bench.finish();
}
