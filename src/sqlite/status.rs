//! What a registry of files has open, and what it did.

use crate::lease::schedule::PoolCounts;
use crate::slots::{EvictionCause, Totals};

/// What a registry has open now, and what it did since it was built.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SqliteStatus {
    /// Files that are open.
    pub open: usize,
    /// Connections to them, those included that are being opened or closed. Each is a thread.
    pub connections: usize,
    /// Connections in somebody's hands.
    pub in_use: usize,
    /// Requests that wait for their turn on a file that is open.
    pub waiting: usize,
    /// How often a file was opened.
    pub opened: u64,
    /// How often a connection was handed out.
    pub leases: u64,
    evicted: [u64; EvictionCause::ALL.len()],
}

/// What one tenant's file has now.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SqliteTenantStatus {
    /// Connections, those included that are being opened or closed.
    pub connections: usize,
    /// Connections in somebody's hands.
    pub in_use: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// How often a connection was handed out since the file was opened.
    pub leases: u64,
    /// How often opening a connection failed since then.
    pub failures: u64,
}

impl SqliteStatus {
    pub(super) fn new(totals: Totals, files: impl Iterator<Item = PoolCounts>) -> Self {
        let mut status = Self {
            opened: totals.opened,
            leases: totals.done.leases,
            evicted: totals.evicted,
            ..Self::default()
        };
        for file in files {
            status.open += 1;
            status.connections += connections(&file);
            status.in_use += file.in_use;
            status.waiting += file.waiting;
            status.leases += file.leases;
        }
        status
    }

    /// How many files were given up for this cause.
    pub fn evicted(&self, cause: EvictionCause) -> u64 {
        let causes = EvictionCause::ALL.iter().zip(&self.evicted);
        let of_cause = causes.filter(|(known, _)| **known == cause);
        of_cause.map(|(_, times)| *times).sum()
    }
}

impl SqliteTenantStatus {
    pub(super) fn new(file: &PoolCounts) -> Self {
        Self {
            connections: connections(file),
            in_use: file.in_use,
            waiting: file.waiting,
            leases: file.leases,
            failures: file.failures,
        }
    }
}

fn connections(file: &PoolCounts) -> usize {
    file.idle + file.in_use + file.opening + file.closing
}
