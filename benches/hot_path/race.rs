//! Candidates in turn, with more and more threads.

use std::fmt::Write as _;
use std::time::Duration;

use super::candidate::{Candidate, Taken};
use super::support::rounds::quartiles;
use super::workload::Workload;

/// How many threads at a time.
const THREADS: [usize; 4] = [1, 2, 4, 8];

/// What the hot path has to keep to.
const MOST_NANOSECONDS: f64 = 60.0;
const LEAST_THROUGHPUT: f64 = 0.8;

/// What the control reaches with 8 threads, to one, on 2 cores that nobody else uses.
const CONTROL_SCALES: f64 = 1.6;

/// How often a measurement is tried that others have disturbed.
const ATTEMPTS: usize = 5;

/// How much is measured.
pub struct Race<'a> {
    pub workload: &'a Workload,
    /// Something whose threads share nothing: where it does not scale, the machine is in the way.
    pub control: Candidate,
    pub rounds: usize,
    pub window: Duration,
}

/// A candidate with every number of threads.
type Row = [Taken; THREADS.len()];

impl Race<'_> {
    /// Every candidate once in each round.
    pub fn run(&self, candidates: &[Candidate]) -> String {
        let mut rows = vec![Vec::new(); candidates.len()];
        for round in 0..self.rounds {
            for turn in 0..candidates.len() {
                // Whoever comes first in a round is not always the same.
                let which = (round + turn) % candidates.len();
                let row = (0..ATTEMPTS).find_map(|_| self.undisturbed(&candidates[which]));
                rows[which].extend(row);
            }
        }
        self.table(candidates, &rows)
    }

    /// Counts only if the control scaled right before and right after.
    fn undisturbed(&self, candidate: &Candidate) -> Option<Row> {
        let measure =
            |candidate: &Candidate, threads| candidate.run(self.workload, threads, self.window);
        let least = CONTROL_SCALES * measure(&self.control, 1).rate;
        let scales = || measure(&self.control, THREADS[3]).rate >= least;
        if !scales() {
            return None;
        }
        let row = THREADS.map(|threads| measure(candidate, threads));
        scales().then_some(row)
    }

    fn table(&self, candidates: &[Candidate], rows: &[Vec<Row>]) -> String {
        let mut out = format!(
            "all pools open, up to {} rounds of {:?}: nanoseconds of the processor for an operation \
             with {THREADS:?} threads; throughput of 8 threads to that of 1\n\
             median (quartiles); at most {MOST_NANOSECONDS} ns with one thread, at least \
             {LEAST_THROUGHPUT} times the throughput; a round counts if the control ({}) had \
             {CONTROL_SCALES} times before and after\n",
            self.rounds, self.window, self.control.name,
        );
        for (candidate, rows) in candidates.iter().zip(rows) {
            let Candidate {
                name, is_reference, ..
            } = candidate;
            if rows.is_empty() {
                let _ = writeln!(out, "  DISTURBED, no round counts  {name}");
                continue;
            }
            let nanoseconds = |place: usize| {
                let each: Vec<f64> = rows.iter().map(|row| row[place].nanoseconds).collect();
                quartiles(&each)
            };
            let [low, one, high] = nanoseconds(0);
            let _ = write!(out, "  {one:5.1} ({low:5.1} to {high:5.1})");
            for place in 1..THREADS.len() {
                let _ = write!(out, " {:6.1}", nanoseconds(place)[1]);
            }
            let ratios: Vec<f64> = rows.iter().map(|row| row[3].rate / row[0].rate).collect();
            let [low, ratio, high] = quartiles(&ratios);
            let verdict = match () {
                () if *is_reference => "for reference",
                () if one > MOST_NANOSECONDS => "SLOW",
                () if ratio < LEAST_THROUGHPUT => "DOES NOT SCALE",
                () => "PASS",
            };
            let _ = writeln!(
                out,
                "  {ratio:4.2}x ({low:4.2} to {high:4.2})  {name}: {verdict}, {} rounds",
                rows.len(),
            );
        }
        out
    }
}
