//! How this service holds its connections.

use std::time::Duration;

use tenantry::{Error, StaticDirectory, TenantRegistry};

/// A pool for each tenant, opened and tested at the start.
pub async fn build(directory: StaticDirectory) -> Result<TenantRegistry, Error> {
    TenantRegistry::builder(directory)
        .pool_options(|_, options| {
            options
                .max_connections(4)
                .acquire_timeout(Duration::from_secs(3))
        })
        .build()
        .await
}
