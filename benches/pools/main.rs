//! What should lease connections: a pool of sqlx for each tenant, or a checkout of our own?
//!
//!     cargo bench --bench pools
//!     cargo bench --bench pools -- --quick
//!
//! Every tenant has a database of its own. The statement is trivial, so that what is compared is
//! the way to a connection and back.

#![allow(unreachable_pub, reason = "a bench has no outside")]

mod checkout;
mod databases;
mod full;
mod growth;
mod memory;
mod opening;
#[path = "../support/mod.rs"]
mod support;

use databases::Databases;
use support::rounds::Bench;

fn main() {
    if memory::is_child() {
        return memory::measure();
    }
    let databases: &Databases = Box::leak(Box::new(Databases::start(300)));
    let mut bench = Bench::new(&databases.conditions());
    checkout::compare(&mut bench, databases);
    opening::compare(&mut bench, databases);
    growth::measure(&mut bench, databases);
    memory::report(&mut bench, databases);
    full::measure(&mut bench);
    bench.finish();
}
