//! What an audit could not look at.

use std::fmt;

use serde::Serialize;

/// Something that an audit would have judged and could not see: that nothing was found there means
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unseen {
    object: String,
    reason: String,
}

impl Unseen {
    pub(super) fn new(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            object: object.into(),
            reason: reason.into(),
        }
    }

    /// The role, relation, function or other object, with its schema, quoted as SQL has it.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Why it was not seen, and what to do about it.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not seen {}: {}", self.object, self.reason)
    }
}
