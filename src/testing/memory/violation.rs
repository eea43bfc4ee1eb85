//! What the server would say of a unique value that is taken.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use sqlx::error::{DatabaseError, ErrorKind};

use crate::error::Error;

/// The unique constraint of this name would be violated.
pub(super) fn taken(constraint: &'static str) -> Error {
    sqlx::Error::Database(Box::new(Violation { constraint })).into()
}

#[derive(Debug)]
struct Violation {
    constraint: &'static str,
}

impl DatabaseError for Violation {
    fn message(&self) -> &str {
        "duplicate value in a double"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some("23505".into())
    }

    fn constraint(&self) -> Option<&str> {
        Some(self.constraint)
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::UniqueViolation
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl StdError for Violation {}
