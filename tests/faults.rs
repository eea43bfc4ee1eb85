//! The connection is cut at every message of the protocol, in either direction, while something is
//! under way on it. Then: no row that is another's or another question's, no outcome that is not
//! true, and the pool serves the next one at once.
//!
//! An operation arms the proxy where the part begins that is swept, and is done again for each
//! message of it, first for what the server is told and then for what it answers, until one time
//! nothing was left to be cut. What the server has kept is looked up behind the proxy, once it has
//! ended the session.
//!
//! `TENANTRY_LONG=1` cuts at every byte as well.

#![allow(unreachable_pub, reason = "the modules of a test are for the test")]

mod support;

#[path = "faults/copies.rs"]
mod copies;
#[path = "faults/dangerous.rs"]
mod dangerous;
#[path = "faults/numbers.rs"]
mod numbers;
#[path = "faults/openings.rs"]
mod openings;
#[path = "faults/placements.rs"]
mod placements;
#[path = "faults/savepoints.rs"]
mod savepoints;
#[path = "faults/specimen.rs"]
mod specimen;
#[path = "faults/stage.rs"]
mod stage;
#[path = "faults/statements.rs"]
mod statements;
#[path = "faults/sweep.rs"]
mod sweep;
#[path = "faults/transactions.rs"]
mod transactions;
