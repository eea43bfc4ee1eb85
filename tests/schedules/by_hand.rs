//! Single cases, step by step.

use std::time::Duration;

use crate::fake::NEVER_OLD;
use crate::schedule::PoolLimits;
use crate::sync::{advance, now};
use crate::table::{Answer, Table, alone};

const TURN: Duration = Duration::from_millis(50);

const ONE: PoolLimits = PoolLimits {
    max: 1,
    ..NEVER_OLD
};

/// A pool that tenants share, with one connection for each at most.
const SHARED: PoolLimits = PoolLimits {
    max: 4,
    max_per_tenant: Some(1),
    ..NEVER_OLD
};
