//! A connection over which the server tells of changes.

use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

use crate::error::{Error, ErrorKind};
use crate::pooler::{Mark, Pooler, could_not_connect, is_refusal};

/// Opens one that neither logs the text of statements nor, once it is lost, comes back by itself:
/// nothing may be missed without a word.
///
/// A listener of sqlx takes its connection from a pool, so it gets one with a single connection, for
/// each connection anew: the password may be another one.
///
/// # Errors
///
/// [`ErrorKind::Connect`] in the words of `failure`, or where a pooler is in between that may lend
/// the session to somebody else.
///
/// # Cancel safety
///
/// Dropped, it closes the connection.
pub(crate) async fn connect(
    options: PgConnectOptions,
    pooler: Pooler,
    patience: Duration,
    failure: &'static str,
) -> Result<PgListener, Error> {
    // sqlx would log the text of statements, at DEBUG all and at WARN the slow ones.
    let options = options.disable_statement_logging();
    let refused = |error| could_not_connect(error, failure);
    match pooler {
        Pooler::Session => open(options, patience).await.map_err(refused),
        Pooler::Detect => {
            let mark = Mark::new();
            let marked = open(mark.on(options.clone()), patience).await;
            let mut listener = match marked {
                Err(error) if is_refusal(&error) => {
                    open(options, patience).await.map_err(refused)?;
                    return Err(needs_a_session());
                }
                marked => marked.map_err(refused)?,
            };
            let query = sqlx::raw_sql(AssertSqlSafe(mark.question()));
            let row = query.fetch_one(&mut listener).await.map_err(refused)?;
            match row.try_get(0).map_err(refused)? {
                true => Ok(listener),
                false => Err(needs_a_session()),
            }
        }
        Pooler::Transaction | Pooler::TransactionWithPreparedStatements => Err(needs_a_session()),
    }
}

fn needs_a_session() -> Error {
    Error::new(
        ErrorKind::Connect,
        "a connection that listens needs a session of its own, and there is a pooler in between: \
         connect it to the server, or, if the pooler lends sessions for as long as a connection \
         lasts, say so with Database::pooler(Pooler::Session)",
    )
}

async fn open(options: PgConnectOptions, patience: Duration) -> Result<PgListener, sqlx::Error> {
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
