//! What is set for all connections of a proxy.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fault::Fault;

/// Connections are known by the order of their coming, from 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Dials {
    pub(super) latency: Duration,
    /// How long a client's farewell is kept back.
    pub(super) farewell: Duration,
    pub(super) frozen: Frozen,
    /// Those that came before this one are cut.
    pub(super) cut_below: u64,
    /// What happens to each that comes from now on.
    pub(super) each: Option<Fault>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Frozen {
    pub(super) all: bool,
    /// Those that came before this one.
    pub(super) below: u64,
    pub(super) ones: BTreeSet<u64>,
}

impl Frozen {
    pub(super) fn holds(&self, connection: u64) -> bool {
        self.all || connection < self.below || self.ones.contains(&connection)
    }
}
