//! What people send, through every entry to a live server: it is refused before anything is sent,
//! or it arrives and is kept as it is. It is never read as anything else.
//!
//! The specimens show what the corpus does where values are put into texts by hand.
#![allow(unreachable_pub, reason = "the modules of a test are for the test")]

mod support;

#[path = "hostile_input/context.rs"]
mod context;
#[path = "hostile_input/corpus.rs"]
mod corpus;
#[path = "hostile_input/files.rs"]
mod files;
#[path = "hostile_input/ids.rs"]
mod ids;
#[path = "jwt/issuer.rs"]
mod issuer;
#[path = "hostile_input/names.rs"]
mod names;
#[path = "hostile_input/places.rs"]
mod places;
#[path = "hostile_input/records.rs"]
mod records;
#[path = "hostile_input/specimens.rs"]
mod specimens;
#[path = "hostile_input/untouched.rs"]
mod untouched;
