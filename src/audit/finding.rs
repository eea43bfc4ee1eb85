//! One thing that was found.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::rule::Rule;
use super::severity::Severity;

/// A way around the isolation, or one that could come to be.
///
/// It holds names and SQL of the database and values that were made up or that the configuration
/// names, and no value of a row that it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    rule: Rule,
    severity: Severity,
    object: String,
    why: String,
    witness: Option<String>,
    fix: Vec<String>,
    advice: Option<String>,
}

impl Finding {
    pub(super) fn new(rule: Rule, object: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            rule,
            severity: rule.severity(),
            object: object.into(),
            why: why.into(),
            witness: None,
            fix: Vec::new(),
            advice: None,
        }
    }

    /// Less than the rule's own.
    pub(super) fn severity_of(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    pub(super) fn witnessed(mut self, witness: impl Into<String>) -> Self {
        self.witness = Some(witness.into());
        self
    }

    /// What shows it, beside what does already.
    pub(super) fn witness_also(&mut self, witness: String) {
        self.witness = Some(match self.witness.take() {
            Some(first) => format!("{first}; {witness}"),
            None => witness,
        });
    }

    /// A further statement that mends it.
    pub(super) fn mend(mut self, sql: impl Into<String>) -> Self {
        self.fix.push(sql.into());
        self
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// What was looked for.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// How much it matters here.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The role, relation, function, constraint or other object, with its schema, quoted as SQL has
    /// it.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// What is wrong with it, and what follows.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// A row that was made up, and the context in which the policies let it through: the proof, where
    /// there is one.
    pub fn witness(&self) -> Option<&str> {
        self.witness.as_deref()
    }

    /// Statements that mend it, to be read before they are run, by a role that may: the owner of the
    /// object, or who administers roles. Empty where SQL cannot, or where only you can know how.
    pub fn fix(&self) -> &[String] {
        &self.fix
    }

    /// What else to do, or instead.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}

/// With `rule`, `severity`, `object`, `why`, `witness`, `fix`, `advice` and `page`; what is not there
/// is null.
impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Finding", 8)?;
        out.serialize_field("rule", self.rule.id())?;
        out.serialize_field("severity", self.severity.as_str())?;
        out.serialize_field("object", &self.object)?;
        out.serialize_field("why", &self.why)?;
        out.serialize_field("witness", &self.witness)?;
        out.serialize_field("fix", &self.fix)?;
        out.serialize_field("advice", &self.advice)?;
        out.serialize_field("page", &self.rule.page())?;
        out.end()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}: {}", self.severity, self.rule, self.object)?;
        writeln!(f, "  {}", self.why)?;
        if let Some(witness) = &self.witness {
            writeln!(f, "  witness: {witness}")?;
        }
        for statement in &self.fix {
            writeln!(f, "  fix: {statement}")?;
        }
        if let Some(advice) = &self.advice {
            writeln!(f, "  advice: {advice}")?;
        }
        write!(f, "  see {}", self.rule.page())
    }
}
