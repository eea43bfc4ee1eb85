//! The map from tenants to connections, and the only way to a scope.

mod builder;
mod config;
mod every_tenant;
#[cfg(feature = "metrics")]
mod metrics;
mod shutdown;
mod status;

use std::fmt;
use std::sync::Arc;

use crate::context::TenantContext;
use crate::dangerous::DangerousRegistry;
use crate::directory::TenantDirectory;
use crate::error::Error;
use crate::scope::TenantScope;
use crate::settings::ContextSettings;
use crate::signing::Signer;
use crate::slots::{EvictionCause, Purpose, Slots, Target};
use crate::tenant::TenantId;

pub use builder::TenantRegistryBuilder;
pub use config::{EagerPools, LazyPools};
pub use every_tenant::{ForEachError, ForEachReport, ForEachTenant, Stopped};
pub use shutdown::ShutdownReport;
pub use status::{ConnectionCounts, RegistryStatus, ServerStatus, TenantStatus};

/// Knows where each tenant lives and holds the connections there, all of them private: the only
/// way to the data leads through a [`TenantScope`].
///
/// Cheap to clone; the clones share the connections. A registry belongs to the tokio runtime that
/// it was built on.
#[derive(Clone)]
pub struct TenantRegistry {
    slots: Arc<Slots>,
    names: Arc<ContextSettings>,
    signer: Option<Arc<Signer>>,
    failed_at_start: Arc<[(TenantId, Error)]>,
}

impl TenantRegistry {
    /// A registry over the tenants of this directory.
    pub fn builder(directory: impl TenantDirectory) -> TenantRegistryBuilder {
        TenantRegistryBuilder::new(Arc::new(directory))
    }

    fn new(slots: Arc<Slots>, names: Arc<ContextSettings>, signer: Option<Arc<Signer>>) -> Self {
        Self {
            slots,
            names,
            signer,
            failed_at_start: Arc::new([]),
        }
    }

    /// Binds a context. Opens and holds no connection.
    ///
    /// # Errors
    ///
    /// [`TenantUnknown`], [`TenantSuspended`], [`TenantMoving`], [`TenantDeleted`],
    /// [`Directory`], [`InvalidContext`], [`Closed`].
    ///
    /// [`TenantUnknown`]: crate::ErrorKind::TenantUnknown
    /// [`TenantSuspended`]: crate::ErrorKind::TenantSuspended
    /// [`TenantMoving`]: crate::ErrorKind::TenantMoving
    /// [`TenantDeleted`]: crate::ErrorKind::TenantDeleted
    /// [`Directory`]: crate::ErrorKind::Directory
    /// [`InvalidContext`]: crate::ErrorKind::InvalidContext
    /// [`Closed`]: crate::ErrorKind::Closed
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn scope(&self, context: impl Into<TenantContext>) -> Result<TenantScope, Error> {
        let context = context.into();
        self.slots.check(context.tenant()).await?;
        self.bind(context, Purpose::Foreground)
    }

    fn bind(&self, context: TenantContext, purpose: Purpose) -> Result<TenantScope, Error> {
        let (slots, names) = (Arc::clone(&self.slots), Arc::clone(&self.names));
        TenantScope::new(slots, names, self.signer.as_ref(), context, purpose)
    }

    /// The tenants whose databases could not be opened when the registry was built, and why; see
    /// [`EagerPools::start_degraded`].
    pub fn failed_at_start(&self) -> &[(TenantId, Error)] {
        &self.failed_at_start
    }

    /// Access to the rows of all tenants, for support and maintenance: with a reason, on
    /// connections and as a role of its own, and on record.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`](crate::ErrorKind::InvalidOption) without
    /// [`TenantRegistryBuilder::dangerous`].
    pub fn dangerous(&self) -> Result<DangerousRegistry, Error> {
        DangerousRegistry::new(Arc::clone(&self.slots))
    }

    /// Gives up the pool of this tenant's own database: idle connections are closed at once, the
    /// others when what runs on them has ended. The tenant's next statement opens it anew. `false`
    /// if there was none.
    pub fn evict(&self, tenant: &TenantId) -> bool {
        let is_its = |target: &_| Target::tenant(target) == Some(tenant);
        let pools = self.slots.pools();
        pools.retire(EvictionCause::Explicit, |target, _| is_its(target)) > 0
    }

    /// The names of the settings that carry the context.
    #[cfg(feature = "testing")]
    pub(crate) fn settings(&self) -> &ContextSettings {
        &self.names
    }

    /// Takes a connection and gives it back, if one is free: all that a statement does but the
    /// statement.
    #[cfg(feature = "testing")]
    pub(crate) fn lease_and_give_back(&self, tenant: &TenantId) -> bool {
        let now = std::time::Instant::now();
        let place = self.slots.lease_now(tenant, Purpose::Foreground, now);
        place.is_some()
    }

    /// Takes no more work. Idle connections are closed at once, the others when what runs on them
    /// has ended; those who wait for one get [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub fn close(&self) {
        self.slots.close();
    }
}

impl fmt::Debug for TenantRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantRegistry")
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}
