//! How long it took where a connection was not at hand.

use std::time::Duration;

use crate::error::Error;

/// By outcome, which is a kind of error and no text.
pub(super) fn record(waited: Duration, error: Option<&Error>) {
    let outcome = error.map_or("leased".to_owned(), |error| format!("{:?}", error.kind()));
    metrics::histogram!("tenantry_acquire_wait_seconds", "outcome" => outcome)
        .record(waited.as_secs_f64());
}
