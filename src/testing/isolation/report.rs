//! What became of a proof.

use std::fmt;

use crate::audit::{AuditReport, Examined, Finding, Severity, Unseen};

/// What [`prove_isolation`](super::prove_isolation) found, and what it looked at.
#[derive(Clone, Debug)]
#[must_use = "a report that nobody looks at has proven nothing"]
pub struct IsolationReport {
    report: AuditReport,
    /// `server_version_num`.
    version: u32,
    tables: Vec<String>,
    planted: usize,
}

/// What leaks nothing by itself, and turns a proof red all the same: protection that was there once,
/// or of which nobody can tell.
const COUNTED: [&str; 6] = [
    "function-search-path",
    "policy-not-proven",
    "privilege-public",
    "privilege-temporary",
    "table-no-policy",
    "table-rls-not-forced",
];

impl IsolationReport {
    pub(super) fn new(examined: Examined) -> Self {
        Self {
            report: examined.report,
            version: examined.version,
            tables: examined.tables,
            planted: examined.planted,
        }
    }

    /// Whether nothing was found.
    pub fn is_isolated(&self) -> bool {
        self.findings().next().is_none()
    }

    /// What was found and is not allowed, the worst first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let findings = self.report.findings();
        findings.filter(|finding| self.counts(finding))
    }

    fn counts(&self, finding: &Finding) -> bool {
        let rule = finding.rule().id();
        // Before PostgreSQL 15 every database begins like that: it says nothing of its migrations.
        if self.version < 150_000
            && (rule, finding.object()) == ("privilege-schema-create", "public")
        {
            return false;
        }
        // What the server tells of its own is no way across.
        if rule.starts_with("statistics-") {
            return false;
        }
        finding.severity() > Severity::Info || COUNTED.contains(&rule)
    }

    /// All that the auditor said: what matters less, what is allowed, and which allowances are not
    /// needed.
    pub fn audited(&self) -> &AuditReport {
        &self.report
    }

    /// What could not be tried, and why: that it is not among the findings says less.
    pub fn unseen(&self) -> impl Iterator<Item = &Unseen> {
        self.report.unseen()
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
}

impl fmt::Display for IsolationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.findings() {
            writeln!(f, "{finding}\n")?;
        }
        for unseen in self.unseen() {
            writeln!(f, "unseen {unseen}")?;
        }
        write!(
            f,
            "({} findings; {} tables of tenants, {} tried with rows)",
            self.findings().count(),
            self.tables.len(),
            self.planted,
        )
    }
}
