//! When pools are opened, and how many of them.

use std::time::Duration;

/// Every pool is opened, and its database looked at, before the first request.
///
/// ```
/// use tenantry::EagerPools;
///
/// let eager = EagerPools::default().parallel(16).start_degraded(true);
/// # let _ = eager;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "this does nothing by itself, give it to the builder of a registry"]
pub struct EagerPools {
    pub(super) parallel: usize,
    pub(super) start_degraded: bool,
}

impl Default for EagerPools {
    fn default() -> Self {
        Self {
            parallel: 8,
            start_degraded: false,
        }
    }
}

impl EagerPools {
    /// How many databases are opened at a time. Default 8, at least 1.
    pub fn parallel(mut self, databases: usize) -> Self {
        self.parallel = databases.max(1);
        self
    }

    /// Whether to start although some databases could not be opened. Default `false`: all or
    /// nothing.
    ///
    /// [`TenantRegistry::failed_at_start`](crate::TenantRegistry::failed_at_start) says which, and
    /// why. Their tenants get the error until an attempt succeeds; each use is one, after a
    /// back-off.
    pub fn start_degraded(mut self, yes: bool) -> Self {
        self.start_degraded = yes;
        self
    }
}

/// A pool is opened when its tenant is met. Past `max_pools`, the one used least recently is
/// closed, of those that nobody uses; where all are in use, who comes waits in turn.
///
/// ```
/// use std::time::Duration;
/// use tenantry::LazyPools;
///
/// let lazy = LazyPools::default()
///     .max_pools(200)
///     .idle_timeout(Duration::from_secs(300));
/// # let _ = lazy;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "this does nothing by itself, give it to the builder of a registry"]
pub struct LazyPools {
    pub(super) max_pools: usize,
    pub(super) idle_timeout: Option<Duration>,
}

impl Default for LazyPools {
    fn default() -> Self {
        Self {
            max_pools: 100,
            idle_timeout: Some(Duration::from_secs(10 * 60)),
        }
    }
}

impl LazyPools {
    /// At most so many pools at a time, one for each tenant with a database of its own and for
    /// each database that tenants share. Default 100, at least 1.
    ///
    /// It caps pools. What a server sees is capped by a
    /// [`ConnectionBudget`](crate::ConnectionBudget), or else by this times `max_connections`.
    pub fn max_pools(mut self, max: usize) -> Self {
        self.max_pools = max.max(1);
        self
    }

    /// A pool that nobody used for longer than this is closed, within a second or so. Default
    /// 10 min; `None` keeps pools until their places are needed.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }
}
