//! The map from tenants to files, and the only way to a scope.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::builder::SqliteRegistryBuilder;
use super::files::Files;
use super::scope::SqliteScope;
use super::status::{SqliteStatus, SqliteTenantStatus};
use crate::context::TenantContext;
use crate::error::Error;
use crate::tenant::TenantId;

/// Has a file for each tenant, in one folder, and opens it when the tenant is met. The connections
/// are private: the only way to the data leads through a [`SqliteScope`].
///
/// Each file says whose it is, and is asked at each opening: one that was copied or renamed to
/// another tenant's name is refused.
///
/// Cheap to clone; the clones share the files. A registry belongs to the tokio runtime that it was
/// built on. Several processes may use one folder.
#[derive(Clone)]
pub struct SqliteRegistry {
    files: Arc<Files>,
}

impl SqliteRegistry {
    /// A registry over the files in this folder, which must be on a local file system.
    pub fn open(folder: impl Into<PathBuf>) -> SqliteRegistryBuilder {
        SqliteRegistryBuilder::new(folder.into())
    }

    pub(super) fn new(files: Arc<Files>) -> Self {
        Self { files }
    }

    /// Makes the file of a tenant who has none, in one transaction with what
    /// [`migrate`](SqliteRegistryBuilder::migrate) does. `false` if it was there.
    ///
    /// Nothing else makes files: a tenant id with a mistake in it is an error and not an empty
    /// tenant.
    ///
    /// # Errors
    ///
    /// What the migration returned; [`Misrouted`] or [`Installation`] where a file of this name is
    /// another tenant's, or nobody's; [`Connect`], [`Closed`].
    ///
    /// [`Misrouted`]: crate::ErrorKind::Misrouted
    /// [`Installation`]: crate::ErrorKind::Installation
    /// [`Connect`]: crate::ErrorKind::Connect
    /// [`Closed`]: crate::ErrorKind::Closed
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it goes on to its end, and may be asked for again.
    pub async fn create(&self, tenant: &TenantId) -> Result<bool, Error> {
        self.files.create(tenant).await
    }

    /// Binds a context. Opens nothing and keeps nothing open.
    ///
    /// # Errors
    ///
    /// [`TenantUnknown`](crate::ErrorKind::TenantUnknown) for a tenant without a file,
    /// [`Directory`](crate::ErrorKind::Directory) where the folder cannot be looked into,
    /// [`Closed`](crate::ErrorKind::Closed).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn scope(&self, context: impl Into<TenantContext>) -> Result<SqliteScope, Error> {
        let context = context.into();
        self.files.check(context.tenant()).await?;
        Ok(SqliteScope::new(Arc::clone(&self.files), context))
    }

    /// Whose files are in the folder, in order of id. Opens none of them.
    ///
    /// # Errors
    ///
    /// [`Directory`](crate::ErrorKind::Directory) where the folder cannot be looked into.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, Error> {
        self.files.tenants().await
    }

    /// Gives up the tenant's file: idle connections are closed at once, the others when what runs
    /// on them has ended. The tenant's next statement opens it anew. `false` if it was not open.
    pub fn evict(&self, tenant: &TenantId) -> bool {
        self.files.evict(tenant)
    }

    /// What is open now, and what was done since the registry was built.
    pub fn status(&self) -> SqliteStatus {
        SqliteStatus::new(self.files.totals(), self.files.counts().into_values())
    }

    /// What this tenant's file has now; `None` if it is not open.
    pub fn tenant_status(&self, tenant: &TenantId) -> Option<SqliteTenantStatus> {
        self.files.counts().get(tenant).map(SqliteTenantStatus::new)
    }

    /// Takes no more work. Idle connections are closed at once, the others when what runs on them
    /// has ended; those who wait for one get [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub fn close(&self) {
        self.files.close();
    }

    /// As [`close`](Self::close), and waits until all files are closed, at most for this time.
    /// Returns the tenants whose files were still in use then; what runs on them goes on.
    ///
    /// # Cancel safety
    ///
    /// The registry is closed at the first poll.
    pub async fn shutdown(&self, grace: Duration) -> Vec<TenantId> {
        self.files.shutdown(grace).await
    }
}

impl fmt::Debug for SqliteRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteRegistry")
            .field("files", &self.files)
            .finish()
    }
}
