//! Who gets a connection next, and what is known of users, without a server: the very files of `src`
//! that decide it, with `shuttle`'s locks in the place of real ones and connections that are numbers.
//!
//! A failing schedule of threads is printed with its seed; `SHUTTLE_RANDOM_SEED=.. cargo test --test
//! schedules NAME` runs it again. `TENANTRY_LONG=1` tries many more of them.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    missing_docs,
    missing_debug_implementations,
    clippy::missing_panics_doc,
    clippy::clone_on_copy,
    clippy::type_complexity
)]

#[path = "../src/lease/at_rest.rs"]
mod at_rest;
#[path = "../src/authz/cache.rs"]
mod authz_cache;
#[path = "../src/slots/eviction.rs"]
mod eviction;
#[path = "../src/slots/pools.rs"]
mod pools;
#[path = "../src/slots/routes.rs"]
mod routes;
#[path = "../src/lease/schedule/mod.rs"]
mod schedule;
#[path = "schedules/sync.rs"]
mod sync;

#[path = "schedules/authz.rs"]
mod authz;
#[path = "schedules/by_hand.rs"]
mod by_hand;
#[path = "schedules/fake.rs"]
mod fake;
#[path = "schedules/model.rs"]
mod model;
#[path = "schedules/properties.rs"]
mod properties;
#[path = "schedules/slots.rs"]
mod slots;
#[path = "schedules/table.rs"]
mod table;
#[path = "schedules/threads.rs"]
mod threads;

/// What the included files take from elsewhere in the crate.
mod lease {
    pub(crate) use crate::at_rest::AtRest;
    pub(crate) use crate::slots::Slot as Connections;
}
mod tenant {
    pub(crate) type TenantId = u8;
}
