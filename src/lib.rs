//! tenantry

mod error;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Error, ErrorKind};
