//! How connections are opened, kept and given up.

use std::time::Duration;

use crate::tenant::TenantId;

/// How many connections a database gets, and how they are kept. Plain data; the names are sqlx's
/// where sqlx has the option.
///
/// ```
/// use std::time::Duration;
/// use tenantry::PoolOptions;
///
/// let options = PoolOptions::default()
///     .max_connections(8)
///     .acquire_timeout(Duration::from_secs(3));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct PoolOptions {
    pub(crate) max_connections: u32,
    pub(crate) acquire_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) test_after: Duration,
    pub(crate) abandoned_grace: Duration,
    pub(crate) slow_statement_threshold: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(30),
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            test_after: Duration::from_millis(500),
            abandoned_grace: Duration::from_millis(250),
            slow_statement_threshold: Duration::from_secs(1),
        }
    }
}

impl PoolOptions {
    /// At most so many connections at a time. Default 10, at least 1.
    ///
    /// A connection that is being closed or brought in order counts until that is done on our side.
    /// The server may see that it was closed a moment later: at once where the session was idle,
    /// within 500 ms where a statement had to be abandoned. Until then it counts one session more;
    /// under a [`ConnectionBudget`](crate::ConnectionBudget) we wait for the server's word.
    #[must_use]
    pub fn max_connections(mut self, max: u32) -> Self {
        self.max_connections = max.max(1);
        self
    }

    /// How long a statement or a `begin` waits for a connection, opening one included, before it
    /// fails with [`ErrorKind::AcquireTimeout`](crate::ErrorKind::AcquireTimeout). Default 30 s.
    #[must_use]
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// A connection that nobody used for longer than this is closed, within a second or so.
    /// Default 10 min; `None` keeps idle connections until `max_lifetime`.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// A connection older than this is closed instead of being used again. Default 30 min;
    /// `None` keeps connections for ever.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.max_lifetime = lifetime.into();
        self
    }

    /// A connection that nobody used for longer than this is tested, with one round trip, before
    /// a single statement is sent on it. Default 500 ms.
    ///
    /// `begin` never needs the test: its own message is one, and is repeated on another connection
    /// when it finds the connection dead.
    #[must_use]
    pub fn test_after(mut self, idle: Duration) -> Self {
        self.test_after = idle;
        self
    }

    /// How long an abandoned statement (its future was dropped) may go on before its connection is
    /// closed, which makes the server stop it. Default 250 ms.
    ///
    /// Nobody gets the connection meanwhile. The same time is the deadline for rolling back what
    /// an abandoned transaction left.
    #[must_use]
    pub fn abandoned_grace(mut self, grace: Duration) -> Self {
        self.abandoned_grace = grace;
        self
    }

    /// A statement that took longer than this is reported by a `tracing` event at WARN, with the
    /// tenant and the duration and without the SQL. Default 1 s.
    ///
    /// sqlx's own report of slow statements holds their SQL and is switched off.
    #[must_use]
    pub fn slow_statement_threshold(mut self, threshold: Duration) -> Self {
        self.slow_statement_threshold = threshold;
        self
    }

    pub(crate) fn report_if_slow(&self, elapsed: Duration, tenant: &TenantId) {
        if elapsed > self.slow_statement_threshold {
            tracing::warn!(%tenant, elapsed_ms = elapsed.as_millis() as u64, "slow statement");
        }
    }
}
