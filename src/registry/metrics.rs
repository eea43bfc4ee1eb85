//! The status of a registry as metrics.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

use super::{RegistryStatus, TenantRegistry};

impl TenantRegistry {
    /// Hands [`status`](Self::status) to the recorder that the service has installed for the
    /// [`metrics`](https://docs.rs/metrics) crate. Call it before the metrics are read, or every
    /// few seconds.
    ///
    /// | metric | kind | labels |
    /// |---|---|---|
    /// | `tenantry_pools`, `tenantry_pools_max` | gauge | |
    /// | `tenantry_connections` | gauge | `state`: `in_use`, `idle`, `opening`, `closing` |
    /// | `tenantry_waiting` | gauge | |
    /// | `tenantry_leases_total`, `tenantry_misses_total` | counter | |
    /// | `tenantry_pools_opened_total`, `tenantry_connections_opened_total`, `tenantry_connection_failures_total` | counter | |
    /// | `tenantry_evictions_total` | counter | `cause`, see [`EvictionCause`](crate::EvictionCause) |
    /// | `tenantry_server_connections`, `tenantry_server_connections_max`, `tenantry_server_waiting` | gauge | `server` |
    /// | `tenantry_acquire_wait_seconds`, recorded where a connection was not at hand | histogram | `outcome`: `leased` or the [`ErrorKind`](crate::ErrorKind) |
    ///
    /// No metric has a tenant for a label: their number has no bound.
    /// [`tenant_status`](Self::tenant_status) answers for one.
    pub fn publish_metrics(&self) {
        describe();
        let status = self.status();
        publish_pools(&status);
        publish_servers(&status);
    }
}

fn publish_pools(status: &RegistryStatus) {
    gauge!("tenantry_pools").set(status.pools as f64);
    if let Some(max) = status.max_pools {
        gauge!("tenantry_pools_max").set(max as f64);
    }
    let connections = &status.connections;
    for (state, count) in [
        ("in_use", connections.in_use),
        ("idle", connections.idle),
        ("opening", connections.opening),
        ("closing", connections.closing),
    ] {
        gauge!("tenantry_connections", "state" => state).set(count as f64);
    }
    gauge!("tenantry_waiting").set(connections.waiting as f64);
    counter!("tenantry_leases_total").absolute(status.leases);
    counter!("tenantry_misses_total").absolute(status.misses);
    counter!("tenantry_pools_opened_total").absolute(status.pools_opened);
    counter!("tenantry_connections_opened_total").absolute(status.connections_opened);
    counter!("tenantry_connection_failures_total").absolute(status.failures);
    for (cause, count) in &status.evictions {
        counter!("tenantry_evictions_total", "cause" => *cause).absolute(*count);
    }
}

fn publish_servers(status: &RegistryStatus) {
    for (server, status) in &status.servers {
        let gauge = |name, value: usize| {
            gauge!(name, "server" => server.clone()).set(value as f64);
        };
        gauge("tenantry_server_connections", status.connections);
        gauge("tenantry_server_waiting", status.waiting);
        if let Some(max) = status.max_connections {
            gauge("tenantry_server_connections_max", max);
        }
    }
}

fn describe() {
    for (name, what) in [
        ("tenantry_pools", "Open pools"),
        ("tenantry_pools_max", "The most pools there may be"),
        ("tenantry_connections", "Connections by what they are doing"),
        (
            "tenantry_waiting",
            "Statements and transactions that wait for a connection",
        ),
        ("tenantry_server_connections", "Connections to a server"),
        (
            "tenantry_server_connections_max",
            "The most connections to a server there may be",
        ),
        (
            "tenantry_server_waiting",
            "Statements and transactions that wait on a server",
        ),
    ] {
        describe_gauge!(name, what);
    }
    for (name, what) in [
        (
            "tenantry_leases_total",
            "Statements and transactions that were given a connection",
        ),
        (
            "tenantry_misses_total",
            "Those that found no connection that was ready",
        ),
        ("tenantry_pools_opened_total", "Pools that were opened"),
        (
            "tenantry_connections_opened_total",
            "Connections that were opened",
        ),
        (
            "tenantry_connection_failures_total",
            "Connections that could not be opened",
        ),
        (
            "tenantry_evictions_total",
            "Pools that were given up, by cause",
        ),
    ] {
        describe_counter!(name, what);
    }
    describe_histogram!(
        "tenantry_acquire_wait_seconds",
        Unit::Seconds,
        "How long it took where a connection was not at hand"
    );
}
