//! A report as SARIF 2.1.0, which viewers of findings read:
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use std::collections::BTreeMap;

use serde::ser::{Serialize, Serializer};
use serde_json::{Value, json};

use super::allowance::Allowance;
use super::finding::Finding;
use super::report::AuditReport;
use super::rule::Rule;
use super::severity::Severity;

/// An [`AuditReport`] as a SARIF 2.1.0 log.
///
/// ```no_run
/// # fn example(report: tenantry::audit::AuditReport) -> Result<(), serde_json::Error> {
/// let log = serde_json::to_string_pretty(&report.sarif().artifact("migrations/schema.sql"))?;
/// # let _ = log;
/// # Ok(())
/// # }
/// ```
///
/// An object of a database is in no file, so a result has its name as a logical location. What is
/// allowed is there as suppressed, with its reason; what could not be seen is a notification of the
/// tool. A result has a fingerprint of rule and object, by which viewers know it again.
#[derive(Clone, Copy, Debug)]
#[must_use = "it is only a form of the report: serialize it"]
pub struct Sarif<'a> {
    report: &'a AuditReport,
    artifact: Option<&'a str>,
}

impl<'a> Sarif<'a> {
    pub(super) fn new(report: &'a AuditReport) -> Self {
        Self {
            report,
            artifact: None,
        }
    }

    /// A file, relative to the root of the repository, that results are shown at: for viewers that
    /// show nothing that is in no file.
    pub fn artifact(mut self, path: &'a str) -> Self {
        self.artifact = Some(path);
        self
    }

    fn result(&self, finding: &Finding, allowance: Option<&Allowance>) -> Value {
        let mut text = format!("{}: {}", finding.object(), finding.why());
        if let Some(witness) = finding.witness() {
            text += &format!(". Witness: {witness}");
        }
        for statement in finding.fix() {
            text += &format!("\nFix: {statement}");
        }
        if let Some(advice) = finding.advice() {
            text += &format!("\nAdvice: {advice}");
        }
        let mut location = json!({
            "logicalLocations": [{ "fullyQualifiedName": finding.object() }],
        });
        if let Some(path) = self.artifact {
            location["physicalLocation"] = json!({
                "artifactLocation": { "uri": path, "uriBaseId": "%SRCROOT%" },
                "region": { "startLine": 1 },
            });
        }
        let mut result = json!({
            "ruleId": finding.rule().id(),
            "level": level(finding.severity()),
            "message": { "text": text },
            "locations": [location],
            "partialFingerprints": {
                "ruleAndObject/v1": format!("{}:{}", finding.rule().id(), finding.object()),
            },
            "properties": { "severity": finding.severity().as_str(), "fix": finding.fix() },
        });
        let number = Rule::all().position(|rule| rule == finding.rule());
        if let Some(number) = number {
            result["ruleIndex"] = json!(number);
        }
        if let Some(allowance) = allowance {
            result["suppressions"] = json!([{
                "kind": "external",
                "justification": allowance.reason(),
            }]);
        }
        result
    }
}

/// The log as a whole.
impl Serialize for Sarif<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let found = self.report.findings().map(|finding| (finding, None));
        let allowed = self.report.allowed();
        let allowed = allowed.map(|(finding, allowance)| (finding, Some(allowance)));
        let results: Vec<_> = found
            .chain(allowed)
            .map(|(finding, allowance)| self.result(finding, allowance))
            .collect();
        let notifications: Vec<_> = self
            .report
            .unseen()
            .map(|unseen| json!({ "level": "warning", "message": { "text": unseen.to_string() } }))
            .collect();
        let log: BTreeMap<_, _> = [
            ("$schema", json!(SCHEMA)),
            ("version", json!("2.1.0")),
            (
                "runs",
                json!([{
                    "tool": { "driver": {
                        "name": env!("CARGO_PKG_NAME"),
                        "semanticVersion": env!("CARGO_PKG_VERSION"),
                        "rules": Rule::all().map(descriptor).collect::<Vec<_>>(),
                    } },
                    "invocations": [{
                        "executionSuccessful": true,
                        "toolExecutionNotifications": notifications,
                    }],
                    "results": results,
                }]),
            ),
        ]
        .into();
        log.serialize(serializer)
    }
}

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

fn descriptor(rule: Rule) -> Value {
    json!({
        "id": rule.id(),
        "shortDescription": { "text": rule.title() },
        "help": { "text": format!("{}: see {}", rule.title(), rule.page()) },
        "defaultConfiguration": { "level": level(rule.severity()) },
        "properties": {
            "tags": ["security"],
            // By which some viewers sort, as the scores of the CVSS are divided.
            "security-severity": match rule.severity() {
                Severity::Critical => "9.0",
                Severity::High => "7.0",
                Severity::Medium => "4.0",
                Severity::Low => "2.0",
                Severity::Info => "0.0",
            },
        },
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium | Severity::Low => "warning",
        Severity::Info => "note",
    }
}
