//! How much a finding matters.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// How much a [`Finding`](super::Finding) matters, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Nothing leaks by itself: what is good to know, or what could not be proven either way.
    Info,
    /// A tenant learns how much there is of others, or can be in their way.
    Low,
    /// A tenant learns something about others, or will reach them after the next change that
    /// nobody thinks about.
    Medium,
    /// Rows of other tenants can be read, written or damaged under some circumstances.
    High,
    /// Rows of other tenants can be read or written.
    Critical,
}

impl Severity {
    pub(super) const ALL: [Self; 5] = [
        Self::Info,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::Critical,
    ];

    /// In lower case, as reports and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = Error;

    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], which names all that there are.
    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOption,
                "a severity is info, low, medium, high or critical",
            )
        })
    }
}
