//! What the checks found.

use std::fmt;

use crate::error::{Error, ErrorKind};

pub(super) type Verdict = Result<(), Complaint>;

/// What was found. It holds no values of rows.
#[derive(Debug, Default)]
#[must_use = "a report that nobody looks at has checked nothing"]
pub struct Report {
    complaints: Vec<(&'static str, Complaint)>,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_ok(&self) -> bool {
        self.complaints.is_empty()
    }

    /// What was found, each with the name of the check that found it.
    pub fn complaints(&self) -> impl Iterator<Item = (&str, &Complaint)> {
        self.complaints
            .iter()
            .map(|(name, complaint)| (*name, complaint))
    }

    /// For a test.
    ///
    /// # Panics
    ///
    /// If anything was found, with all of it.
    pub fn assert(&self) {
        assert!(self.is_ok(), "the repository does not conform:\n{self}");
    }

    pub(super) fn add(&mut self, name: &'static str, complaint: Complaint) {
        self.complaints.push((name, complaint));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, complaint) in &self.complaints {
            writeln!(f, "{name}: {complaint}")?;
        }
        Ok(())
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    rule: &'static str,
    kind: Option<ErrorKind>,
}

impl Complaint {
    pub(super) fn new(rule: &'static str) -> Self {
        Self { rule, kind: None }
    }

    /// With the kind of the error that came instead.
    pub(super) fn of(mut self, kind: ErrorKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The kind of the error that came, where one did.
    pub fn kind(&self) -> Option<ErrorKind> {
        self.kind
    }
}

impl From<Error> for Complaint {
    fn from(error: Error) -> Self {
        Self::new("an error came where none was expected").of(error.kind())
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule)?;
        match self.kind {
            Some(kind) => write!(f, " ({kind:?})"),
            None => Ok(()),
        }
    }
}
