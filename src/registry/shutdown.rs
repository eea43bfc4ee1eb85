//! The end of a registry.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::TenantRegistry;
use super::status::ConnectionCounts;
use crate::slots::{OpenPool, Target};
use crate::tenant::TenantId;

/// How a registry ended, see [`TenantRegistry::shutdown`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The tenants whose work was not done at the deadline, and how many connections each of them
    /// still uses. They are closed when that work ends.
    pub still_busy: Vec<(TenantId, usize)>,
    /// Connections that were still open at the deadline, those included that wait for the server
    /// to let go of them.
    pub still_open: usize,
}

impl ShutdownReport {
    /// Whether everything had come to its end.
    pub fn is_clean(&self) -> bool {
        self.still_open == 0
    }
}

impl TenantRegistry {
    /// Takes no more work, lets what is under way come to its end for as long as `deadline`, and
    /// says who was still busy then. Call it when the server of your framework has stopped taking
    /// requests.
    ///
    /// Who waits for a connection, or comes later, gets
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// # Cancel safety
    ///
    /// Dropped, no report is made, and the registry is closed all the same.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let pools = self.slots.close();
        let drained = join_all(pools.iter().map(|open| open.pool.drained()));
        let in_time = timeout(deadline, async {
            drained.await;
            self.slots.servers().close().await;
        });
        if in_time.await.is_ok() {
            return ShutdownReport::default();
        }
        let mut report = ShutdownReport::default();
        let mut connections = ConnectionCounts::default();
        for OpenPool { key, pool } in &pools {
            let counts = pool.counts();
            connections.add(&counts);
            match Target::tenant(key) {
                Some(tenant) if counts.in_use > 0 => {
                    report.still_busy.push((tenant.clone(), counts.in_use));
                }
                Some(_) => {}
                None => report.still_busy.extend(pool.in_use_by()),
            }
        }
        report.still_open = connections.total();
        report.still_busy.sort();
        for (tenant, connections) in &report.still_busy {
            tracing::warn!(%tenant, connections, "the registry was shut down while the tenant was busy");
        }
        report
    }
}
