//! The background work of one tenant: it orders what runs low.

use std::time::Duration;

use tenantry::TenantScope;
use tokio::sync::watch;

use crate::repository::{PgStock, Stock};
use crate::service::Warehouse;

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounds {
    pub done: u64,
    /// The database could not be reached, or the tenant is suspended: the next round tries again.
    pub failed: u64,
    pub orders: u64,
}

/// Bound to its tenant for as long as it runs, and to no connection.
pub async fn run(scope: TenantScope, every: Duration, stop: watch::Receiver<bool>) -> Rounds {
    rounds(Warehouse::over(PgStock::new(scope)), every, stop).await
}

/// A round that has begun is brought to its end.
pub async fn rounds<S: Stock>(
    warehouse: Warehouse<S>,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) -> Rounds {
    let mut rounds = Rounds::default();
    while !*stop.borrow_and_update() {
        match warehouse.replenish().await {
            Ok(orders) => {
                rounds.done += 1;
                rounds.orders += orders;
            }
            Err(_) => rounds.failed += 1,
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            changed = stop.changed() => if changed.is_err() { break },
        }
    }
    rounds
}
