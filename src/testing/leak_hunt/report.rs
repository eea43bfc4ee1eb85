//! What a hunt found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::finding::{Finding, FindingKind};
use super::ledger::Ledger;
use super::tally::{Ends, Tally};

/// What a hunt did and found. `Display` shows all of it.
#[derive(Clone, Debug)]
#[must_use = "a report that nobody looks at has found nothing"]
pub struct Report {
    pub(super) seed: u64,
    pub(super) tasks: u32,
    pub(super) elapsed: Duration,
    pub(super) tally: Tally,
    pub(super) disturbances: BTreeMap<String, u64>,
    pub(super) rows: u64,
    pub(super) writes: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) found: u64,
}

impl Report {
    pub(super) fn new(
        ledger: &Ledger,
        tasks: u32,
        tally: Tally,
        disturbances: BTreeMap<String, u64>,
    ) -> Self {
        let (rows, writes) = ledger.counts();
        let (findings, found) = ledger.findings();
        Self {
            seed: ledger.seed(),
            tasks,
            elapsed: ledger.begun().elapsed(),
            tally,
            disturbances,
            rows,
            writes,
            findings,
            found,
        }
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.found == 0
    }

    /// For a test.
    ///
    /// # Panics
    ///
    /// If anything was found, with all of it.
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "tenants are not kept apart:\n{self}");
    }

    /// What was found, the first fifty of each kind; the same row in the same turn is one of them.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether something of this kind is among [`findings`](Self::findings).
    pub fn has(&self, kind: FindingKind) -> bool {
        self.findings.iter().any(|finding| finding.kind() == kind)
    }

    /// How many things were found, each row each time.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// To run it again with [`LeakHunt::seed`](super::LeakHunt::seed).
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How long it took.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How many turns were carried out, to the end or not; those that were refused are left out.
    pub fn operations(&self) -> u64 {
        self.tally.total().carried_out()
    }

    /// How the turns ended, over all operations.
    pub fn ends(&self) -> Ends {
        self.tally.total()
    }

    /// How the turns of each operation ended.
    pub fn ends_by_operation(&self) -> &BTreeMap<&'static str, Ends> {
        self.tally.by_operation()
    }

    /// How often each [`Disturbance`](super::Disturbance) took place.
    pub fn disturbances(&self) -> &BTreeMap<String, u64> {
        &self.disturbances
    }

    /// How many rows were looked at, and how many writes were confirmed.
    pub fn rows(&self) -> (u64, u64) {
        (self.rows, self.writes)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, total) = (self.elapsed.as_secs_f64(), self.ends());
        let operations = total.carried_out();
        writeln!(
            f,
            "seed {}, {} tasks, {seconds:.1} s: {operations} operations ({:.0}/s), {} rows seen, \
             {} writes confirmed, {} findings",
            self.seed,
            self.tasks,
            operations as f64 / seconds.max(0.001),
            self.rows,
            self.writes,
            self.found,
        )?;
        writeln!(f, "all: {total}")?;
        for (operation, ends) in self.tally.by_operation() {
            writeln!(f, "  {operation}: {ends}")?;
        }
        for (name, count) in &self.disturbances {
            writeln!(f, "disturbed by {name}: {count}")?;
        }
        for finding in &self.findings {
            writeln!(f, "FOUND after {finding}")?;
        }
        let shown: u64 = self.findings.iter().map(Finding::times).sum();
        let more = self.found - shown;
        if more > 0 {
            writeln!(f, "FOUND {more} more")?;
        }
        Ok(())
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} done, {} cancelled, {} timed out, {} panicked, {} refused",
            self.done,
            self.cancelled,
            self.timed_out,
            self.panicked,
            self.refusals()
        )?;
        let mut separator = " (";
        for (kind, count) in &self.refused {
            write!(f, "{separator}{count} {kind}")?;
            separator = ", ";
        }
        if !self.refused.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}
