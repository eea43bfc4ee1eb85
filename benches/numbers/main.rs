//! What does a number without gaps cost, where many save invoices of one tenant at once?
//!
//!     cargo bench --bench numbers -- --quick    # about a minute
//!     cargo bench --bench numbers               # about eight minutes, with 200 at once
//!
//! The table has 10,000 invoices of the tenant. The ways take turns, each from the same start:
//! a round in which as many as can be are saved in a fixed time. All of them run on this crate's
//! scopes and transactions and insert the same row, so that what differs is how they come by the
//! number.

#![allow(unreachable_pub, reason = "a bench has no outside")]

#[path = "../support/mod.rs"]
mod support;
mod table;
mod ways;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use support::report::Report;
use support::runtime;
use table::{Bound, compare};
use ways::Way;
use world::World;

fn main() -> ExitCode {
    let runtime = runtime(2);
    runtime.block_on(async {
        let world = World::start().await;
        let mut report = Report::new(&world.conditions());
        let near = world.scope(None).await;
        compare(
            &mut report,
            &world,
            &near,
            "loopback",
            &[
                Bound(Way::ForUpdate, Some(5.0)),
                Bound(Way::RetryLoop, None),
                Bound(Way::CounterRow, None),
            ],
        )
        .await;
        let far = world.scope(Some(Duration::from_micros(500))).await;
        compare(
            &mut report,
            &world,
            &far,
            "1 ms added to each round trip",
            &[
                Bound(Way::ForUpdate, None),
                Bound(Way::RetryLoop, None),
                Bound(Way::CounterRow, Some(3.0)),
            ],
        )
        .await;
        report.finish()
    })
}
