//! 10,000 tenants on one server that takes 90 connections from us, with 200 pools at most.
//!
//!     cargo bench --bench scale
//!     cargo bench --bench scale -- --quick
//!
//! 10,000 databases would be 75 GB. So each tenant has a role of its own instead, in one database
//! that tells everybody who logs in that it is theirs: pools are kept by server, role and database,
//! so each tenant has a pool, with logins of its own, that is opened and checked as that of a
//! database of its own would be. That it takes as long is measured in the same run.

#![allow(unreachable_pub, reason = "a bench has no outside")]

#[allow(dead_code, reason = "a bench does not use all of it")]
#[path = "../pools/databases.rs"]
mod databases;
mod memory;
mod opening;
mod roles;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
#[allow(dead_code, reason = "a bench does not use all of it")]
#[path = "../hot_path/workload.rs"]
mod workload;

use std::process::ExitCode;

use databases::Databases;
use roles::Roles;
use support::report::Report;
use workload::Workload;

/// How many connections the server takes, those included that are not ours.
const PLACES: u32 = 120;

fn main() -> ExitCode {
    if memory::is_child() {
        memory::measure();
        return ExitCode::SUCCESS;
    }
    let databases = Databases::start(PLACES);
    let workload = Workload::new();
    let roles = Roles::create(&databases, &workload);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut report = Report::new(&format!(
        "PostgreSQL {} with authentication `trust`, {cores} cores for the server and its clients",
        databases.version(),
    ));
    let workload = traffic::measure(&mut report, &databases, &roles, workload);
    opening::measure(&mut report, &databases, &roles, &workload);
    memory::report(&mut report, &roles);
    report.finish()
}
