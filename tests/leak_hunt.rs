//! The leak hunt: over this crate, where it must find nothing, and over seven designs that are in
//! use elsewhere, each of which it must see through within ten seconds. A hunt that found nothing in
//! those would prove nothing about ours.
//!
//! The hunts over ours take 15 s each. For hours, with a seed of one's own:
//!
//! ```text
//! TENANTRY_LEAK_HUNT_OPERATIONS=1250000 cargo test --release --test leak_hunt ours -- --nocapture
//! TENANTRY_LEAK_HUNT_SECONDS=3600 TENANTRY_LEAK_HUNT_SEED=7 cargo test --test leak_hunt ours
//! ```

mod support;

#[path = "leak_hunt/before_acquire.rs"]
mod before_acquire;
#[path = "leak_hunt/cache.rs"]
mod cache;
#[path = "leak_hunt/cancelled_begin.rs"]
mod cancelled_begin;
#[path = "leak_hunt/global_connection.rs"]
mod global_connection;
#[path = "leak_hunt/last_job.rs"]
mod last_job;
#[path = "leak_hunt/ours.rs"]
mod ours;
#[path = "leak_hunt/read_without_transaction.rs"]
mod read_without_transaction;
#[path = "leak_hunt/session_setting.rs"]
mod session_setting;
#[path = "leak_hunt/stage.rs"]
mod stage;
#[path = "leak_hunt/the_hunt_itself.rs"]
mod the_hunt_itself;
