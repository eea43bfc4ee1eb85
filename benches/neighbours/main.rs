//! What do seven tenants notice of an eighth that asks for fifty times its share?
//!
//!     cargo bench --bench neighbours
//!     cargo bench --bench neighbours -- --quick
//!
//! The seven ask at a steady pace. Rounds with the flood and without it take turns, and so do the
//! ways to the server. The statement sleeps, so that what is shared are connections and not the
//! machine's cores; a control, in which every tenant has connections that nobody can take, says how
//! much of the difference is the machine's all the same.

#![allow(unreachable_pub, reason = "a bench has no outside")]

#[allow(dead_code, reason = "a bench does not use all of it")]
#[path = "../pools/databases.rs"]
mod databases;
mod load;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod ways;

use std::process::ExitCode;
use std::time::Duration;

use databases::Databases;
use load::Load;
use support::report::Report;
use support::runtime;
use table::{Bound, compare};
use ways::Way;

/// What a flood may do to the 99th percentile of the others.
const MOST: f64 = 1.5;

/// Each of the seven needs a connection a third of the time, and the eighth 200 all the time.
const WAITING: Load = Load {
    statement: "SELECT pg_sleep(0.003)",
    period: Duration::from_millis(10),
    flood: 200,
};

/// About a millisecond of a core.
const COMPUTING: Load = Load {
    statement: "SELECT count(*) FROM generate_series(1, 10000)",
    period: Duration::from_millis(20),
    flood: 200,
};

fn main() -> ExitCode {
    let databases = Databases::start(300);
    let mut report = Report::new(&databases.conditions());
    let runtime = runtime(2);
    runtime.block_on(async {
        let own = ways::own_databases(&databases).await;
        let shared = ways::shared_database(&databases).await;
        let control = ways::pool_of_each(&databases).await;
        let one = ways::one_pool(&databases).await;
        let queue = ways::one_queue(&databases).await;

        let bounded = |way: &Way| (way.clone(), Bound::Limit(MOST));
        let informative = |way: &Way| (way.clone(), Bound::None);
        compare(
            &mut report,
            "a database each; statements that wait",
            WAITING,
            &[
                bounded(&own),
                informative(&control),
                informative(&one),
                informative(&queue),
            ],
        )
        .await;
        compare(
            &mut report,
            "one shared database; statements that wait",
            WAITING,
            &[bounded(&shared), informative(&one)],
        )
        .await;
        compare(
            &mut report,
            "a database each; statements that compute, for which all compete for the cores",
            COMPUTING,
            &[informative(&own), informative(&control), informative(&one)],
        )
        .await;
    });
    report.finish()
}
