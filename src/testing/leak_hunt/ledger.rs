//! What is known while a hunt goes on: what was written, and what was found.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::canary::{Canary, Kind, Place};
use super::finding::{Finding, FindingKind};
use super::turn::Turn;

pub(super) struct Ledger {
    seed: u64,
    begun: Instant,
    /// Whether somebody looks after the tables: each tenant has a row from the beginning, and what
    /// was written is looked for.
    has_tables: bool,
    stops_at_first: bool,
    stopped: AtomicBool,
    rows: AtomicU64,
    findings: Mutex<Findings>,
    rows_written: Mutex<Written>,
}

#[derive(Default)]
struct Findings {
    /// The first of each turn and row.
    kept: Vec<Finding>,
    count: u64,
}

/// What was said to be committed and was not found yet, and the other way round.
#[derive(Default)]
struct Written {
    confirmed: HashSet<Place>,
    found: HashSet<Place>,
    count: u64,
}

/// How many findings of a kind are kept; the others are counted. Of each kind: what is frequent must
/// not hide what is rare.
const KEPT: usize = 50;

impl Ledger {
    pub(super) fn new(seed: u64, has_tables: bool, stops_at_first: bool) -> Self {
        Self {
            seed,
            begun: Instant::now(),
            has_tables,
            stops_at_first,
            stopped: AtomicBool::new(false),
            rows: AtomicU64::new(0),
            findings: Mutex::default(),
            rows_written: Mutex::default(),
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether enough was found.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether the row is the tenant's own.
    pub(super) fn saw(&self, turn: &Turn, row: &str) -> bool {
        self.rows.fetch_add(1, Ordering::Relaxed);
        let canary = Canary::parse(row);
        let whose = canary.as_ref().map(|canary| canary.tenant);
        if whose != Some(turn.tenant().as_str()) {
            let finding = Finding::of(turn, FindingKind::ForeignRow);
            let finding = finding.whose(whose.unwrap_or("nobody knows whom"));
            self.add(match canary.map(|canary| canary.kind) {
                Some(Kind::Of(place) | Kind::Doomed(place)) => finding.written_by(place),
                _ => finding,
            });
            return false;
        }
        if let Some(Kind::Doomed(place)) = canary.map(|canary| canary.kind)
            && place != turn.place()
        {
            self.add(Finding::of(turn, FindingKind::NeverCommitted).written_by(place));
        }
        true
    }

    pub(super) fn saw_nothing(&self, turn: &Turn) {
        if self.has_tables {
            self.add(Finding::of(turn, FindingKind::OwnRowsMissing));
        }
    }

    pub(super) fn crossed(&self, turn: &Turn) {
        self.add(Finding::of(turn, FindingKind::CrossedAnswer));
    }

    pub(super) fn found_on_session(&self, turn: &Turn, value: &str) {
        let Some(canary) = Canary::parse(value) else {
            return;
        };
        match canary.kind {
            Kind::Of(place) | Kind::Doomed(place) if place != turn.place() => {
                let finding = Finding::of(turn, FindingKind::TraceOnSession);
                self.add(finding.whose(canary.tenant).written_by(place));
            }
            _ => {}
        }
    }

    pub(super) fn was_not_refused(&self, turn: &Turn) {
        self.add(Finding::of(turn, FindingKind::NotRefused));
    }

    pub(super) fn wrote(&self, place: Place) {
        let mut written = self.rows_written.lock();
        written.count += 1;
        if self.has_tables && !written.found.remove(&place) {
            written.confirmed.insert(place);
        }
    }

    /// A row that is in the table of `tenant`.
    pub(super) fn is_stored(
        &self,
        tenant: &str,
        row: &str,
        operation_of: impl Fn(Place) -> &'static str,
    ) {
        let canary = Canary::parse(row);
        let whose = canary.as_ref().map(|canary| canary.tenant);
        let place = match canary.as_ref().map(|canary| canary.kind) {
            Some(Kind::Of(place) | Kind::Doomed(place)) => Some(place),
            _ => None,
        };
        let finding = |kind| {
            let finding = Finding::new(kind, tenant);
            let finding = finding.whose(whose.unwrap_or("nobody knows whom"));
            match place {
                Some(place) => finding.written_by(place).operation(operation_of(place)),
                None => finding,
            }
        };
        if whose != Some(tenant) {
            self.add(finding(FindingKind::StoredForAnother));
        }
        match canary.map(|canary| canary.kind) {
            Some(Kind::Doomed(_)) => self.add(finding(FindingKind::NeverCommitted)),
            Some(Kind::Of(place)) => {
                let mut written = self.rows_written.lock();
                if !written.confirmed.remove(&place) {
                    written.found.insert(place);
                }
            }
            _ => {}
        }
    }

    /// When all has been looked at: what was said to be committed and is not there.
    pub(super) fn look_for_lost(&self, finding_of: impl Fn(Place) -> Finding) {
        let lost: Vec<Place> = {
            let mut lost: Vec<Place> = self.rows_written.lock().confirmed.iter().copied().collect();
            lost.sort();
            lost
        };
        for place in lost {
            self.add(finding_of(place));
        }
    }

    pub(super) fn add(&self, finding: Finding) {
        let finding = finding.at(self.begun.elapsed());
        {
            let mut findings = self.findings.lock();
            findings.count += 1;
            let is_known = findings.kept.iter_mut().any(|kept| kept.is_again(&finding));
            let is_alike = |kept: &&Finding| kept.kind() == finding.kind();
            if !is_known && findings.kept.iter().filter(is_alike).count() < KEPT {
                findings.kept.push(finding);
            }
        }
        if self.stops_at_first {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// How many rows were looked at, and how many writes were confirmed.
    pub(super) fn counts(&self) -> (u64, u64) {
        let rows = self.rows.load(Ordering::Relaxed);
        (rows, self.rows_written.lock().count)
    }

    /// Those that were kept, and how many there were.
    pub(super) fn findings(&self) -> (Vec<Finding>, u64) {
        let findings = self.findings.lock();
        (findings.kept.clone(), findings.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::leak_hunt::FindingKind;

    #[test]
    fn what_is_frequent_does_not_hide_what_is_rare() {
        let ledger = Ledger::new(1, false, false);
        for number in 0..1_000 {
            ledger.add(Finding::new(FindingKind::ForeignRow, format!("t{number}")));
        }
        ledger.add(Finding::new(FindingKind::Stuck, "t0"));
        let (kept, count) = ledger.findings();
        assert_eq!(count, 1_001);
        assert_eq!(kept.len(), KEPT + 1);
        assert_eq!(kept[KEPT].kind(), FindingKind::Stuck);
    }
}
