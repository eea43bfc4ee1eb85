//! tenantry

mod error;
mod statement;

pub use error::{Error, ErrorKind};
