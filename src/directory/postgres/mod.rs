//! A directory that is a table.

mod builder;
mod follower;
mod known;
mod row;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use tokio::sync::oneshot;

use super::{Database, DirectoryChange, TenantDirectory, TenantRecord};
use crate::error::Error;
use crate::tenant::TenantId;

pub use builder::PostgresDirectoryBuilder;
use known::Known;

/// Which tenants there are and where each of them lives, read from the table `tenantry.tenants` of
/// a control database that [`ControlTables`](crate::sql::ControlTables) has made.
///
/// The whole table is kept in memory, at some 200 bytes a tenant, and questions are answered from
/// there: the control database is not on the path of any statement. A task holds one connection
/// to it, over which the server tells of each change as it is committed; in ordinary operation
/// every process knows within milliseconds. What could be missed is read again:
///
/// - everything, whenever the connection had to be opened anew. A connection that ends is noticed
///   at once, and one that falls silent within eight seconds: the task says something every three,
///   and waits five for an answer;
/// - everything, each [`time_to_live`](PostgresDirectoryBuilder::time_to_live), in case somebody
///   switched the table's triggers off.
///
/// While the control database is out of reach, what was known last holds, until
/// [`stale_after`](PostgresDirectoryBuilder::stale_after) is over; then every question is answered
/// with [`ErrorKind::Directory`](crate::ErrorKind::Directory).
///
/// A row that cannot be understood, because it names a server that this process was not told of
/// for example, makes that one tenant unavailable: an event at WARN names it and the rule, and to
/// ask for it is an error. A tenant that was added a moment ago may not be known yet: who adds one
/// and goes on with it at once waits for it on [`changes`](TenantDirectory::changes).
///
/// Notifications need a session, so the connection must not lead through a pooler that lends
/// sessions by transaction, which is refused (see [`Pooler`](crate::Pooler)), nor to a standby.
///
/// Clones share what they know, and the task.
///
/// # Drop
///
/// The task ends when the last clone is dropped, and its connection with it; streams of changes
/// end too. It runs on the runtime that [`connect`](PostgresDirectoryBuilder::connect) was called
/// on: when that ends, nothing is heard any more, and the answers run out after `stale_after`.
///
/// # Examples
///
/// ```no_run
/// use sqlx::postgres::PgConnectOptions;
/// use tenantry::{Database, PostgresDirectory, Secret};
///
/// # async fn example() -> Result<(), tenantry::Error> {
/// let host = |host| PgConnectOptions::new_without_pgpass().host(host).username("app");
/// let main = Database::new(host("db-1.internal")).password(Secret::environment("MAIN_PASSWORD"));
/// let large = Database::new(host("db-2.internal")).password(Secret::file("/run/secrets/large"));
///
/// // Rows say `main` or `large`; what that means is said here.
/// let directory = PostgresDirectory::builder(main.named("control"))
///     .server("main", main)
///     .server("large", large)
///     .connect()
///     .await?;
/// # let _ = directory;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresDirectory(Arc<Handle>);

struct Handle {
    known: Arc<Known>,
    time_to_live: Duration,
    /// The task ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

impl PostgresDirectory {
    /// A directory over the table in this database.
    pub fn builder(control: impl Into<Database>) -> PostgresDirectoryBuilder {
        PostgresDirectoryBuilder::new(control.into())
    }
}

#[async_trait]
impl TenantDirectory for PostgresDirectory {
    async fn find(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Error> {
        self.0.known.find(tenant)
    }

    async fn list(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, Error> {
        self.0.known.list(after, limit)
    }

    fn changes(&self) -> BoxStream<'static, DirectoryChange> {
        super::changes_of(self.0.known.subscribe())
    }

    /// Asking again costs next to nothing, and is how it is noticed that the answers have run out.
    fn time_to_live(&self) -> Option<Duration> {
        Some(self.0.time_to_live)
    }
}

/// Shows how many tenants are known, and nothing of how they or the control database are reached.
impl fmt::Debug for PostgresDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDirectory")
            .field("tenants", &self.0.known.len())
            .field("time_to_live", &self.0.time_to_live)
            .finish_non_exhaustive()
    }
}
