//! A connection over which the server tells of changes.

use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};

/// Opens one that neither logs the text of statements nor, once it is lost, comes back by itself:
/// nothing may be missed without a word.
///
/// A listener of sqlx takes its connection from a pool, so it gets one with a single connection, for
/// each connection anew: the password may be another one.
///
/// # Cancel safety
///
/// Dropped, it closes the connection.
pub(crate) async fn connect(
    options: PgConnectOptions,
    patience: Duration,
) -> Result<PgListener, sqlx::Error> {
    // sqlx would log the text of statements, at DEBUG all and at WARN the slow ones.
    let options = options.disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
        .acquire_timeout(patience)
        .acquire_slow_threshold(patience)
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    Ok(listener)
}

/// The next notification that has arrived, without waiting for one; `Some(Ok(None))` if the
/// connection is lost.
pub(crate) fn arrived(
    listener: &mut PgListener,
) -> Option<Result<Option<PgNotification>, sqlx::Error>> {
    match listener.next_buffered() {
        Some(buffered) => Some(Ok(Some(buffered))),
        None => listener.try_recv().now_or_never(),
    }
}

/// How long to wait before the next attempt: each time twice as long, up to an end.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            next: FIRST_PAUSE,
            longest,
        }
    }

    /// Not all processes that lost a server at the same time come back at the same time.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
