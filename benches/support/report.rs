//! What a bench found that does not measure ways against each other, and whether it keeps to what
//! was promised.

use std::fmt::Write as _;
use std::process::ExitCode;

/// Collects lines and verdicts, to be printed last of all.
pub struct Report {
    extent: Extent,
    text: String,
    missed: usize,
}

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Under `cargo test`: that it runs.
    Once,
    /// With `--quick`.
    Quick,
    Full,
}

impl Report {
    pub fn new(conditions: &str) -> Self {
        let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
        let extent = match (has("--bench"), has("--quick")) {
            (false, _) => Extent::Once,
            (true, true) => Extent::Quick,
            (true, false) => Extent::Full,
        };
        Self {
            extent,
            text: format!("{conditions}\n"),
            missed: 0,
        }
    }

    /// So many of a thing: `once` under `cargo test`.
    pub fn effort(&self, once: usize, quick: usize, full: usize) -> usize {
        match self.extent {
            Extent::Once => once,
            Extent::Quick => quick,
            Extent::Full => full,
        }
    }

    pub fn add(&mut self, lines: &str) {
        let _ = writeln!(self.text, "\n{}", lines.trim_end());
    }

    /// One more line of what was added last.
    pub fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{line}");
    }

    /// A line with a verdict. One that is over makes the process fail, where enough was measured.
    pub fn limit(&mut self, found: f64, at_most: f64, what: &str) {
        let verdict = self.verdict(found <= at_most);
        let decimals = if found.fract() == 0.0 && at_most.fract() == 0.0 {
            0
        } else {
            2
        };
        let _ = writeln!(
            self.text,
            "  {found:.decimals$}, at most {at_most:.decimals$}: {verdict}  {what}"
        );
    }

    /// As [`limit`](Self::limit), for what must not be less.
    pub fn floor(&mut self, found: f64, at_least: f64, what: &str) {
        let verdict = self.verdict(found >= at_least);
        let _ = writeln!(
            self.text,
            "  {found:.2}, at least {at_least:.2}: {verdict}  {what}"
        );
    }

    fn verdict(&mut self, holds: bool) -> &'static str {
        match (holds, self.extent) {
            (true, _) => "PASS",
            (false, Extent::Once) => "over the limit, but measured once only",
            (false, _) => {
                self.missed += 1;
                "OVER THE LIMIT"
            }
        }
    }

    /// What was found. The code of the process says whether all limits were kept.
    pub fn finish(self) -> ExitCode {
        println!("\n{}", self.text);
        match self.missed {
            0 => ExitCode::SUCCESS,
            missed => {
                println!("{missed} over the limit");
                ExitCode::FAILURE
            }
        }
    }
}

/// So many of a hundred values are at most this; 0 of none.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted
        .get(place.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}
