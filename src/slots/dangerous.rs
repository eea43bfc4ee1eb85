//! The connections of dangerous access, to which no route leads.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::time::{Instant as Deadline, timeout_at};

use super::{Slots, Target, closed, no_place};
use crate::directory::Database;
use crate::error::{Error, ErrorKind};
use crate::lease::{Lease, NoLease, Owner};
use crate::tenant::TenantId;

impl Slots {
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if there is no database for dangerous access.
    pub(crate) fn dangerous_database(&self) -> Result<&Database, Error> {
        self.servers.dangerous().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOption,
                "the registry has no dangerous access: name a database with a role of its own for \
                 it in TenantRegistryBuilder::dangerous, and run \
                 tenantry::sql::DangerousAccess::install there",
            )
        })
    }

    /// A connection for one use, untested.
    ///
    /// # Errors
    ///
    /// Those of [`lease`](Self::lease) that are of no tenant, and
    /// [`ErrorKind::InvalidOption`] if there is no database for dangerous access.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn lease_dangerous(&self) -> Result<Lease, Error> {
        let database = self.dangerous_database()?;
        self.misses.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let lease = self.lease_dangerous_in_time(database, started).await;
        #[cfg(feature = "metrics")]
        super::waits::record(started.elapsed(), lease.as_ref().err());
        lease
    }

    async fn lease_dangerous_in_time(
        &self,
        database: &Database,
        started: Instant,
    ) -> Result<Lease, Error> {
        let target = Target::dangerous(database);
        let options = self.options_of(&target);
        let deadline = Deadline::from(started + options.acquire_timeout);
        let make = || {
            let (database, options) = (database.clone(), options.clone());
            self.servers
                .connections(database, Owner::Dangerous, options)
        };
        // In the queue of the server it is one among the tenants.
        let nobody = TenantId::from(0_u64);
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return Err(closed());
            }
            let connections = timeout_at(deadline, self.pools.get_or_make(&target, make))
                .await
                .map_err(|_| no_place())?;
            match timeout_at(deadline, connections.lease_untested(&nobody)).await {
                Ok(Ok(lease)) => {
                    connections.touch(Instant::now());
                    return Ok(lease);
                }
                Ok(Err(NoLease::Retired)) => {}
                Ok(Err(NoLease::Failed(error))) => return Err(error),
                Err(_) => return Err(connections.timed_out()),
            }
        }
    }
}
