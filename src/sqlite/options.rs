//! How many connections a tenant's file gets, and how they are kept.

use std::time::{Duration, Instant};

use crate::tenant::TenantId;

/// How many connections a tenant's file gets, and how they are kept. Plain data; the names are
/// sqlx's where sqlx has the option.
///
/// Each connection is a thread and some file handles. At most one of a file's connections writes at
/// a time, the others read beside it.
///
/// ```
/// use std::time::Duration;
/// use tenantry::sqlite::SqlitePoolOptions;
///
/// let options = SqlitePoolOptions::default()
///     .max_connections(2)
///     .busy_timeout(Duration::from_secs(1));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing by themselves, give them to the builder of a registry"]
pub struct SqlitePoolOptions {
    pub(super) max_connections: u32,
    pub(super) acquire_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) busy_timeout: Duration,
    pub(super) synchronous: SqliteSynchronous,
    pub(super) abandoned_grace: Duration,
    pub(super) slow_statement_threshold: Duration,
}

/// When a commit has reached the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SqliteSynchronous {
    /// Before `commit` returns. What was committed is there after a power failure.
    #[default]
    Full,
    /// Some time later. A power failure may take the last commits back, each of them whole; the
    /// file stays sound. A commit costs no wait for the disk.
    Normal,
}

impl Default for SqlitePoolOptions {
    fn default() -> Self {
        Self {
            max_connections: 4,
            acquire_timeout: Duration::from_secs(30),
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            busy_timeout: Duration::from_secs(5),
            synchronous: SqliteSynchronous::Full,
            abandoned_grace: Duration::from_millis(250),
            slow_statement_threshold: Duration::from_secs(1),
        }
    }
}

impl SqlitePoolOptions {
    /// At most so many connections to one file at a time. Default 4, at least 1.
    ///
    /// With 1, a transaction keeps everybody else from the file, readers included.
    pub fn max_connections(mut self, max: u32) -> Self {
        self.max_connections = max.max(1);
        self
    }

    /// How long a statement or a `begin` waits for its turn, opening the file included. Default
    /// 30 s.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// A connection that nobody used for longer than this is closed, within a second or so, and a
    /// file likewise. Default 10 min; `None` keeps files open until their places are needed.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// How long SQLite waits for another process that writes to the same file. Default 5 s, at
    /// most 24 days. Who writes in this process waits for `acquire_timeout` instead, in turn.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout.min(Duration::from_millis(i32::MAX as u64));
        self
    }

    /// When a commit has reached the disk. Default [`SqliteSynchronous::Full`].
    pub fn synchronous(mut self, synchronous: SqliteSynchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long the end of what was abandoned (a future that was dropped) may take before its
    /// connection is closed. Default 250 ms. SQLite is told to stop at once.
    pub fn abandoned_grace(mut self, grace: Duration) -> Self {
        self.abandoned_grace = grace;
        self
    }

    /// A statement that took longer than this is reported by a `tracing` event at WARN, with the
    /// tenant and the duration and without the SQL. Default 1 s.
    pub fn slow_statement_threshold(mut self, threshold: Duration) -> Self {
        self.slow_statement_threshold = threshold;
        self
    }

    pub(super) fn report_if_slow(&self, started: Instant, tenant: &TenantId) {
        let elapsed = started.elapsed();
        if elapsed > self.slow_statement_threshold {
            tracing::warn!(%tenant, elapsed_ms = elapsed.as_millis() as u64, "slow statement");
        }
    }
}
