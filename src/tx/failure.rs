//! What the server said of a statement that failed, as far as another attempt depends on it.

use sqlx::error::DatabaseError;

use crate::error::is_stale_plan;

/// The server's verdict on a statement.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) constraint: Option<String>,
    pub(crate) stale_plan: bool,
}

impl Failure {
    pub(crate) fn new(error: &dyn DatabaseError) -> Self {
        Self {
            code: error.code().unwrap_or_default().into_owned(),
            constraint: error.constraint().map(str::to_owned),
            stale_plan: is_stale_plan(error),
        }
    }

    /// Of a COPY that the client gave up.
    pub(crate) fn given_up() -> Self {
        Self {
            code: "57014".to_owned(),
            constraint: None,
            stale_plan: false,
        }
    }
}
