//! How this service holds its connections.

use std::time::Duration;

use tenantry::{ConnectionBudget, Error, LazyPools, StaticDirectory, TenantRegistry};

/// At most so many of the server's connections, whoever comes. PostgreSQL has 100 by default.
const BUDGET: usize = 40;

/// A pool for a tenant is opened when the tenant is met, and at most `max_pools` stay open.
pub async fn build(directory: StaticDirectory, max_pools: usize) -> Result<TenantRegistry, Error> {
    TenantRegistry::builder(directory)
        .lazy(LazyPools::default().max_pools(max_pools))
        .budget(ConnectionBudget::per_server(BUDGET))
        .pool_options(|_, options| {
            options
                .max_connections(4)
                .acquire_timeout(Duration::from_secs(3))
        })
        .build()
        .await
}
