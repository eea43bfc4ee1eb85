//! What an audit came to.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use time::{Date, OffsetDateTime};

use super::allowance::Allowance;
use super::finding::Finding;
use super::sarif::Sarif;
use super::severity::Severity;
use super::unseen::Unseen;

/// What an [`Auditor`](super::Auditor) found.
#[derive(Clone, Debug)]
#[must_use = "a report that nobody reads has audited nothing"]
pub struct AuditReport {
    findings: Vec<Finding>,
    allowed: Vec<(Finding, Allowance)>,
    unused: Vec<Allowance>,
    expired: Vec<Allowance>,
    unseen: Vec<Unseen>,
    allowed_unseen: Vec<(Unseen, Allowance)>,
}

impl AuditReport {
    pub(super) fn new(
        findings: Vec<Finding>,
        unseen: Vec<Unseen>,
        allowances: &[Allowance],
    ) -> Self {
        let today = OffsetDateTime::now_utc().date();
        Self::on(findings, unseen, allowances, today)
    }

    fn on(
        mut all: Vec<Finding>,
        mut unseen: Vec<Unseen>,
        allowances: &[Allowance],
        today: Date,
    ) -> Self {
        all.sort_by(|one, other| {
            let key =
                |finding: &Finding| (std::cmp::Reverse(finding.severity()), finding.rule().id());
            (key(one), one.object()).cmp(&(key(other), other.object()))
        });
        all.dedup();
        unseen.sort();
        unseen.dedup();
        let (expired, valid): (Vec<_>, Vec<_>) = allowances
            .iter()
            .cloned()
            .partition(|allowance| allowance.has_expired(today));
        let mut used = vec![false; valid.len()];
        let (findings, allowed) = split(all, &valid, &mut used, Allowance::covers);
        let (unseen, allowed_unseen) = split(unseen, &valid, &mut used, Allowance::covers_unseen);
        let unused = valid.into_iter().zip(used);
        let unused = unused.filter_map(|(allowance, used)| (!used).then_some(allowance));
        Self {
            findings,
            allowed,
            unused: unused.collect(),
            expired,
            unseen,
            allowed_unseen,
        }
    }

    /// What was found and is not allowed, the worst first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter()
    }

    /// What was found and is allowed, with what allows it.
    pub fn allowed(&self) -> impl Iterator<Item = (&Finding, &Allowance)> {
        self.allowed
            .iter()
            .map(|(finding, allowance)| (finding, allowance))
    }

    /// Allowances that allow nothing: take them off the list.
    pub fn unused_allowances(&self) -> impl Iterator<Item = &Allowance> {
        self.unused.iter()
    }

    /// Allowances whose last day is over: what they allowed is among the findings again.
    pub fn expired_allowances(&self) -> impl Iterator<Item = &Allowance> {
        self.expired.iter()
    }

    /// What could not be looked at and is not allowed, by object: without it nobody can say that the
    /// database is sound.
    pub fn unseen(&self) -> impl Iterator<Item = &Unseen> {
        self.unseen.iter()
    }

    /// What could not be looked at and need not be, with what allows it.
    pub fn allowed_unseen(&self) -> impl Iterator<Item = (&Unseen, &Allowance)> {
        self.allowed_unseen
            .iter()
            .map(|(unseen, allowance)| (unseen, allowance))
    }

    /// The same for tools that read SARIF, such as those that show findings beside a change.
    pub fn sarif(&self) -> Sarif<'_> {
        Sarif::new(self)
    }

    /// What mends all findings that matter at least so much: their statements, each once. Read them
    /// before they are run.
    pub fn fixes(&self, severity: Severity) -> Vec<&str> {
        let mut fixes = Vec::new();
        let findings = self.findings.iter();
        for finding in findings.filter(|finding| finding.severity() >= severity) {
            for statement in finding.fix() {
                if !fixes.contains(&statement.as_str()) {
                    fixes.push(statement.as_str());
                }
            }
        }
        fixes
    }

    /// Whether there is a finding that matters at least so much.
    pub fn has(&self, severity: Severity) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity() >= severity)
    }

    /// How many findings there are of each severity.
    pub fn counts(&self) -> BTreeMap<Severity, usize> {
        let mut counts: BTreeMap<_, _> = Severity::ALL.map(|severity| (severity, 0)).into();
        for finding in &self.findings {
            *counts.entry(finding.severity()).or_default() += 1;
        }
        counts
    }
}

/// What the allowances leave, and what they take, each with the first that does.
fn split<T>(
    all: Vec<T>,
    allowances: &[Allowance],
    used: &mut [bool],
    covers: fn(&Allowance, &T) -> bool,
) -> (Vec<T>, Vec<(T, Allowance)>) {
    let mut left = Vec::new();
    let mut allowed = Vec::new();
    for one in all {
        match allowances
            .iter()
            .position(|allowance| covers(allowance, &one))
        {
            Some(number) => {
                used[number] = true;
                allowed.push((one, allowances[number].clone()));
            }
            None => left.push(one),
        }
    }
    (left, allowed)
}

/// With `tool`, `version`, `counts` by severity, `findings`, `allowed` (each a `finding` and its
/// `allowance`), `expired_allowances`, `unused_allowances`, `unseen` and `allowed_unseen` (each an
/// `unseen` and its `allowance`). Fields may be added.
impl Serialize for AuditReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Allowed<'a> {
            finding: &'a Finding,
            allowance: &'a Allowance,
        }

        #[derive(serde::Serialize)]
        struct AllowedUnseen<'a> {
            unseen: &'a Unseen,
            allowance: &'a Allowance,
        }

        let counts = self.counts().into_iter();
        let counts: BTreeMap<_, _> = counts
            .map(|(severity, count)| (severity.as_str(), count))
            .collect();
        let allowed: Vec<_> = self
            .allowed()
            .map(|(finding, allowance)| Allowed { finding, allowance })
            .collect();
        let allowed_unseen: Vec<_> = self
            .allowed_unseen()
            .map(|(unseen, allowance)| AllowedUnseen { unseen, allowance })
            .collect();
        let mut out = serializer.serialize_struct("AuditReport", 9)?;
        out.serialize_field("tool", env!("CARGO_PKG_NAME"))?;
        out.serialize_field("version", env!("CARGO_PKG_VERSION"))?;
        out.serialize_field("counts", &counts)?;
        out.serialize_field("findings", &self.findings)?;
        out.serialize_field("allowed", &allowed)?;
        out.serialize_field("expired_allowances", &self.expired)?;
        out.serialize_field("unused_allowances", &self.unused)?;
        out.serialize_field("unseen", &self.unseen)?;
        out.serialize_field("allowed_unseen", &allowed_unseen)?;
        out.end()
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}\n")?;
        }
        for (finding, allowance) in &self.allowed {
            writeln!(
                f,
                "allowed {}: {} ({})",
                finding.rule(),
                finding.object(),
                allowance.reason()
            )?;
        }
        for (unseen, allowance) in &self.allowed_unseen {
            let (object, reason) = (unseen.object(), allowance.reason());
            writeln!(f, "allowed unseen: {object} ({reason})")?;
        }
        for (what, allowances) in [("expired", &self.expired), ("not needed", &self.unused)] {
            for allowance in allowances {
                let (rule, object) = (allowance.rule(), allowance.object());
                writeln!(f, "allowance {what}: {rule} of {object}")?;
            }
        }
        for unseen in &self.unseen {
            writeln!(f, "{unseen}")?;
        }
        let counts: Vec<_> = self
            .counts()
            .into_iter()
            .rev()
            .map(|(severity, count)| format!("{count} {severity}"))
            .collect();
        write!(f, "{}", counts.join(", "))
    }
}
