//! What became of a proof.

use std::collections::BTreeSet;
use std::fmt;

use super::finding::{IsolationFinding, IsolationRule};

/// What [`prove_isolation`](super::prove_isolation) found, and what it looked at.
#[derive(Clone, Debug, Default)]
#[must_use = "a report that nobody looks at has proven nothing"]
pub struct IsolationReport {
    findings: BTreeSet<IsolationFinding>,
    tables: BTreeSet<String>,
    pub(super) evaluated: usize,
    pub(super) planted: usize,
    pub(super) looked: usize,
}

impl IsolationReport {
    /// Whether nothing was found.
    pub fn is_isolated(&self) -> bool {
        self.findings.is_empty()
    }

    /// What was found, by rule and object.
    pub fn findings(&self) -> impl Iterator<Item = &IsolationFinding> {
        self.findings.iter()
    }

    /// The tables of tenants that were judged, with their schemas, in alphabetical order. A test may
    /// want to compare them with those that it knows.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(String::as_str)
    }

    /// For a test.
    ///
    /// # Panics
    ///
    /// If anything was found, with all of it.
    #[track_caller]
    pub fn assert(&self) {
        assert!(
            self.is_isolated(),
            "tenants are not kept apart, or nobody can tell:\n{self}"
        );
    }

    pub(super) fn add(&mut self, finding: IsolationFinding) {
        self.findings.insert(finding);
    }

    pub(super) fn extend(&mut self, findings: impl IntoIterator<Item = IsolationFinding>) {
        self.findings.extend(findings);
    }

    pub(super) fn judged(&mut self, table: &str) {
        self.tables.insert(table.to_owned());
    }

    pub(super) fn has(&self, rule: IsolationRule, object: &str) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.rule() == rule && finding.object() == object)
    }
}

impl fmt::Display for IsolationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "- {finding}")?;
        }
        write!(
            f,
            "({} findings; {} tables of tenants, {} predicates evaluated, {} tables tried with rows, \
             {} relations looked into)",
            self.findings.len(),
            self.tables.len(),
            self.evaluated,
            self.planted,
            self.looked,
        )
    }
}
