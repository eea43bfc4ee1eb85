//! What a registry has and has done.

use std::collections::BTreeMap;

use super::TenantRegistry;
use crate::lease::PoolCounts;
use crate::slots::{Done, EvictionCause, Pooled as _, Slots};
use crate::tenant::TenantId;

/// What a registry has at a moment, and what it has done since it was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryStatus {
    /// Open pools: one for each tenant with a database of its own, for each shared database, and for
    /// dangerous access.
    pub pools: usize,
    /// At most so many; `None` with eager pools.
    pub max_pools: Option<usize>,
    /// The connections of all pools.
    pub connections: ConnectionCounts,
    /// Statements and transactions that were given a connection.
    pub leases: u64,
    /// Those of them that found none that was ready: they waited, opened one, or tested one.
    pub misses: u64,
    /// Pools that were opened.
    pub pools_opened: u64,
    /// Connections that were opened.
    pub connections_opened: u64,
    /// Connections that could not be opened.
    pub failures: u64,
    /// Pools that were given up, by cause.
    pub evictions: BTreeMap<&'static str, u64>,
    /// Each server that a pool was opened on, by host (or socket) and port.
    pub servers: BTreeMap<String, ServerStatus>,
}

/// Connections by what they are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Carrying a statement or a transaction, or being brought in order after one.
    pub in_use: usize,
    /// Free.
    pub idle: usize,
    /// Being opened.
    pub opening: usize,
    /// Being closed: they count until the server has let go of them.
    pub closing: usize,
    /// Statements and transactions that wait for one.
    pub waiting: usize,
}

/// What a registry has on one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Connections of all pools, those included that are being opened or closed.
    pub connections: usize,
    /// At most so many; `None` without a [`ConnectionBudget`](crate::ConnectionBudget). The
    /// session of the registry's own that a budget needs is in neither number.
    pub max_connections: Option<usize>,
    /// Statements and transactions that wait.
    pub waiting: usize,
}

/// What a registry has for one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantStatus {
    /// Whether the tenant has a pool of its own that is open.
    pub has_pool: bool,
    /// The connections of that pool; for a tenant that shares a database only those it uses.
    pub connections: ConnectionCounts,
}

impl TenantRegistry {
    /// What the registry has now and has done so far. Looks at every pool: for a metrics page, not
    /// for each request.
    pub fn status(&self) -> RegistryStatus {
        let slots: &Slots = &self.slots;
        let totals = slots.pools().totals();
        let open = slots.pools().open();
        let mut connections = ConnectionCounts::default();
        let mut done: Done = totals.done;
        for open in &open {
            connections.add(&open.pool.counts());
            done += open.pool.done();
        }
        let evictions = EvictionCause::ALL.iter().map(|cause| cause.as_str());
        let cap = slots.servers().cap();
        let servers = slots.servers().counts().into_iter().map(|(key, counts)| {
            let status = ServerStatus {
                connections: counts.held,
                max_connections: cap,
                waiting: counts.waiting,
            };
            (key.to_string(), status)
        });
        RegistryStatus {
            pools: open.len(),
            max_pools: slots.pools().max(),
            connections,
            leases: done.leases,
            misses: slots.misses(),
            pools_opened: totals.opened,
            connections_opened: done.opened,
            failures: done.failures,
            evictions: evictions.zip(totals.evicted).collect(),
            servers: servers.collect(),
        }
    }

    /// What the registry has for this tenant; `None` if that is nothing.
    pub fn tenant_status(&self, tenant: &TenantId) -> Option<TenantStatus> {
        let mut status: Option<TenantStatus> = None;
        for open in self.slots.pools().open() {
            if open.key.tenant() == Some(tenant) {
                let found = status.get_or_insert_default();
                found.has_pool = true;
                found.connections.add(&open.pool.counts());
            } else if open.key.tenant().is_none() {
                let used = open.pool.in_use_by();
                if let Some((_, used)) = used.into_iter().find(|(user, _)| user == tenant) {
                    status.get_or_insert_default().connections.in_use += used;
                }
            }
        }
        status
    }
}

impl ConnectionCounts {
    /// All that count against a cap.
    pub fn total(&self) -> usize {
        self.in_use + self.idle + self.opening + self.closing
    }

    pub(super) fn add(&mut self, counts: &PoolCounts) {
        self.in_use += counts.in_use;
        self.idle += counts.idle;
        self.opening += counts.opening;
        self.closing += counts.closing;
        self.waiting += counts.waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_pools_are_added_up() {
        let mut counts = ConnectionCounts::default();
        for factor in [1, 10] {
            counts.add(&PoolCounts {
                in_use: factor,
                idle: 2 * factor,
                opening: 3 * factor,
                closing: 4 * factor,
                waiting: 5 * factor,
                leases: 6 * factor as u64,
                opened: 7 * factor as u64,
                failures: 8 * factor as u64,
            });
        }
        let expected = ConnectionCounts {
            in_use: 11,
            idle: 22,
            opening: 33,
            closing: 44,
            waiting: 55,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.total(), 110, "who waits has no connection");
    }
}
