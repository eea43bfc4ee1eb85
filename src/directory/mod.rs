//! Where each tenant lives, and whether it may be served.

mod database;
mod postgres;
mod record;
mod static_directory;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast;

use crate::error::Error;
use crate::tenant::TenantId;

pub use database::Database;
pub(crate) use database::{DatabaseKey, ServerKey};
pub use postgres::{PostgresDirectory, PostgresDirectoryBuilder};
pub use record::{Placement, TenantRecord, TenantState};
pub use static_directory::StaticDirectory;

/// Answers where a tenant lives.
///
/// A registry asks when a tenant is met for the first time, again when
/// [`time_to_live`](Self::time_to_live) is over, and at once when [`changes`](Self::changes) says
/// that something is different. Between these it uses the last answer, so that a directory need
/// not be fast, and its outage is not every tenant's.
///
/// [`StaticDirectory`] is one that lives in memory, [`PostgresDirectory`] one that is a table.
#[async_trait]
pub trait TenantDirectory: Send + Sync + 'static {
    /// Where this tenant lives; `None` if there is no such tenant.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Directory`](crate::ErrorKind::Directory), for a directory of your own made by
    /// [`Error::directory`], if it cannot tell.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: a caller who waits for a tenant may give up.
    async fn find(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Error>;

    /// The tenants that are [`Active`](TenantState::Active), in ascending order of their ids,
    /// those that come behind `after`, at most `limit` of them. An empty answer is the end.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe.
    async fn list(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, Error>;

    /// What has changed since this was called, as soon as it is known. A registry calls it once,
    /// before its first [`find`](Self::find).
    ///
    /// The default never has anything to say.
    fn changes(&self) -> BoxStream<'static, DirectoryChange> {
        stream::pending().boxed()
    }

    /// Where every tenant lives that [`list`](Self::list) does not name, if there is such a place:
    /// a registry with eager pools opens it first. The default is `None`.
    fn shared_by_others(&self) -> Option<Database> {
        None
    }

    /// How long an answer may be used without asking again. The default, `None`, is for a
    /// directory whose [`changes`](Self::changes) can be relied on.
    fn time_to_live(&self) -> Option<Duration> {
        None
    }
}

/// So that a directory can be kept to be changed, or asked, beside the registry.
#[async_trait]
impl<D: TenantDirectory + ?Sized> TenantDirectory for Arc<D> {
    async fn find(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Error> {
        (**self).find(tenant).await
    }

    async fn list(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, Error> {
        (**self).list(after, limit).await
    }

    fn changes(&self) -> BoxStream<'static, DirectoryChange> {
        (**self).changes()
    }

    fn shared_by_others(&self) -> Option<Database> {
        (**self).shared_by_others()
    }

    fn time_to_live(&self) -> Option<Duration> {
        (**self).time_to_live()
    }
}

/// What a directory has to say of its own accord.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryChange {
    /// This tenant came, went, moved, or changed its state.
    Tenant(TenantId),
    /// Anything may have changed: changes may have been missed.
    All,
}

/// What is sent on a channel; who has fallen behind is told that anything may be different.
fn changes_of(
    receiver: broadcast::Receiver<DirectoryChange>,
) -> BoxStream<'static, DirectoryChange> {
    let changes = stream::unfold(receiver, |mut receiver| async {
        use broadcast::error::RecvError;
        match receiver.recv().await {
            Ok(change) => Some((change, receiver)),
            Err(RecvError::Lagged(_)) => Some((DirectoryChange::All, receiver)),
            Err(RecvError::Closed) => None,
        }
    });
    changes.boxed()
}
