//! A proof of isolation is green where tenants are kept apart, and red for each way out that it
//! promises to see: on policies of one's own, and on every table of the examples.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "modules of the examples, which the examples use otherwise"
)]

// The examples themselves, not copies of them.
#[path = "../examples/quickstart/carriers.rs"]
mod carriers;
#[path = "../examples/legal_practice/database.rs"]
mod legal_practice;
#[path = "../examples/quickstart/server.rs"]
mod quickstart;
#[path = "../examples/warehouse/server.rs"]
mod warehouse;

#[path = "isolation_proof/mutants.rs"]
mod mutants;
#[path = "isolation_proof/proof.rs"]
mod proof;
#[path = "isolation_proof/specimens.rs"]
mod specimens;
#[path = "isolation_proof/world.rs"]
mod world;

type Failure = Box<dyn std::error::Error + Send + Sync>;
