//! How many connections a server is asked for, and how tenants share them.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// A hard cap on the connections of a registry to each server, over all its pools.
///
/// A connection counts from before it is opened until the server itself says that its session is
/// gone. For that question the registry keeps one session of its own to each server, which counts
/// as well. Behind a pooler, whose sessions do not end with our connections, those are counted as we
/// see them, and no session is kept; see [`Pooler`](crate::Pooler).
///
/// When all are in use, tenants that wait are served in turn: one grant each per round, in the
/// order of their coming within a tenant. Idle connections are taken away first, the one that was
/// idle for the longest time before all others.
///
/// ```
/// use tenantry::ConnectionBudget;
///
/// // PostgreSQL's default of 100, less what is left for maintenance and other programs.
/// let budget = ConnectionBudget::per_server(90).max_per_tenant(10);
/// # let _ = budget;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a budget does nothing by itself, give it to the builder of a registry"]
pub struct ConnectionBudget {
    max: usize,
    max_per_tenant: Option<usize>,
    min_per_tenant: usize,
    turn: Duration,
    control_database: String,
}

impl ConnectionBudget {
    /// At most so many connections to each server, the registry's own session included: 2 or
    /// more.
    pub fn per_server(max: usize) -> Self {
        Self {
            max,
            max_per_tenant: None,
            min_per_tenant: 0,
            turn: Duration::from_millis(50),
            control_database: "postgres".to_owned(),
        }
    }

    /// At most so many for one tenant. Default: a quarter of the cap. Where tenants share a
    /// database, one of them gets at most the same part of its pool.
    pub fn max_per_tenant(mut self, max: usize) -> Self {
        self.max_per_tenant = Some(max);
        self
    }

    /// So many connections of a pool are not taken away for others, and it is given them before
    /// any pool gets more than its own. Default 0. For pools that are opened on demand the cap
    /// must hold this for [`LazyPools::max_pools`](crate::LazyPools::max_pools) pools.
    pub fn min_per_tenant(mut self, min: usize) -> Self {
        self.min_per_tenant = min;
        self
    }

    /// How long a tenant whose work does not end may go on with a connection while others have
    /// none. Default 50 ms.
    ///
    /// Then the connection is closed for one of theirs, which costs some milliseconds: the shorter
    /// the turn, the fairer, and the more of the server's work is opening connections.
    pub fn turn(mut self, turn: Duration) -> Self {
        self.turn = turn;
        self
    }

    /// The database in which the registry's own session asks the server. Default `postgres`. The
    /// role of the first pool on the server must be able to connect to it; nothing is stored
    /// there.
    pub fn control_database(mut self, name: impl Into<String>) -> Self {
        self.control_database = name.into();
        self
    }

    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`].
    pub(crate) fn check(&self, max_pools: Option<usize>) -> Result<(), Error> {
        let refuse = |rule| Err(Error::new(ErrorKind::InvalidOption, rule));
        if self.max < 2 {
            return refuse(
                "a connection budget is 2 or more: one session is the registry's own, for counting",
            );
        }
        if self.max_per_tenant == Some(0) {
            return refuse("a tenant gets 1 connection or more of the budget");
        }
        if self.min_per_tenant > self.share() {
            return refuse("no tenant is guaranteed more connections than one may have");
        }
        let guaranteed = self.min_per_tenant.saturating_mul(max_pools.unwrap_or(0));
        if guaranteed > self.for_tenants() {
            return refuse(
                "the connection budget is smaller than what it guarantees to max_pools tenants",
            );
        }
        Ok(())
    }

    /// What is left for tenants beside the session that counts.
    pub(crate) fn for_tenants(&self) -> usize {
        self.max.saturating_sub(1)
    }

    /// The most that a tenant with a database of its own gets.
    pub(crate) fn share(&self) -> usize {
        let quarter = self.max.div_ceil(4);
        self.max_per_tenant
            .unwrap_or(quarter)
            .clamp(1, self.for_tenants().max(1))
    }

    /// The most that one of the tenants of a pool of `max` gets: the same part of it, rounded up.
    pub(crate) fn share_of(&self, max: usize) -> usize {
        let part = (max * self.share()).div_ceil(self.for_tenants().max(1));
        part.clamp(1, self.share())
    }

    pub(crate) fn guaranteed(&self) -> usize {
        self.min_per_tenant
    }

    pub(crate) fn turn_of_a_tenant(&self) -> Duration {
        self.turn
    }

    pub(crate) fn database(&self) -> &str {
        &self.control_database
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let refused = |budget: ConnectionBudget, pools| {
            let checked = budget.check(pools);
            checked.is_err_and(|error| error.kind() == ErrorKind::InvalidOption)
        };
        let budget = ConnectionBudget::per_server;
        assert!(refused(budget(0), None) && refused(budget(1), None));
        assert!(!refused(budget(2), None));
        assert!(refused(budget(9).max_per_tenant(0), None));
        assert!(refused(budget(9).max_per_tenant(2).min_per_tenant(3), None));
        assert!(!refused(budget(9).min_per_tenant(1), Some(8)));
        assert!(refused(budget(9).min_per_tenant(1), Some(9)));
    }

    #[test]
    fn a_tenant_gets_a_quarter_and_at_least_one() {
        assert_eq!(ConnectionBudget::per_server(90).share(), 23);
        assert_eq!(ConnectionBudget::per_server(2).share(), 1);
        assert_eq!(
            ConnectionBudget::per_server(9).max_per_tenant(50).share(),
            8
        );
        assert_eq!(ConnectionBudget::per_server(90).share_of(10), 3);
        assert_eq!(ConnectionBudget::per_server(90).share_of(1), 1);
    }
}
