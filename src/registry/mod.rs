//! The map from tenants to connections, and the only way to a scope.

mod builder;

use std::fmt;
use std::sync::Arc;

use crate::context::TenantContext;
use crate::directory::StaticDirectory;
use crate::error::Error;
use crate::scope::TenantScope;
use crate::settings::ContextSettings;
use crate::slots::Slots;

pub use builder::TenantRegistryBuilder;

/// Knows where each tenant lives and holds the connections there, all of them private: the only
/// way to the data leads through a [`TenantScope`].
///
/// Cheap to clone; the clones share the connections. A registry belongs to the tokio runtime that
/// it was built on.
#[derive(Clone)]
pub struct TenantRegistry {
    slots: Arc<Slots>,
    names: Arc<ContextSettings>,
}

impl TenantRegistry {
    /// A registry over the tenants of this directory.
    pub fn builder(directory: StaticDirectory) -> TenantRegistryBuilder {
        TenantRegistryBuilder::new(directory)
    }

    /// Binds a context. Opens and holds no connection.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TenantUnknown`](crate::ErrorKind::TenantUnknown),
    /// [`ErrorKind::InvalidContext`](crate::ErrorKind::InvalidContext).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    // Async although it does not wait yet: a directory that is not in memory will.
    pub async fn scope(&self, context: impl Into<TenantContext>) -> Result<TenantScope, Error> {
        TenantScope::new(
            Arc::clone(&self.slots),
            Arc::clone(&self.names),
            context.into(),
        )
    }

    /// Takes no more work. Idle connections are closed at once, the others when what runs on them
    /// has ended; those who wait for one get [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub fn close(&self) {
        self.slots.all().for_each(crate::lease::Connections::close);
    }
}

impl fmt::Debug for TenantRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantRegistry")
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}
