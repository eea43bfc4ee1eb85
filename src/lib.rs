//! tenantry

mod error;
mod preflight;
mod quote;
mod settings;
pub mod sql;

pub use error::{Error, ErrorKind};
pub use settings::ContextSettings;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
