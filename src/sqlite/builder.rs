//! How a registry of files comes to be.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use tokio::runtime::Handle;

use super::SqliteRegistry;
use super::files::Files;
use super::migration::Migration;
use super::options::SqlitePoolOptions;
use super::tx::SqliteTx;
use crate::error::{Error, ErrorKind};

/// What a [`SqliteRegistry`] is made from.
#[must_use = "a builder does nothing by itself, use `.build()`"]
pub struct SqliteRegistryBuilder {
    folder: PathBuf,
    max_pools: usize,
    pool_options: SqlitePoolOptions,
    migration: Option<Migration>,
}

impl SqliteRegistryBuilder {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            max_pools: 100,
            pool_options: SqlitePoolOptions::default(),
            migration: None,
        }
    }

    /// At most so many files open at a time. Default 100, at least 1.
    ///
    /// Past it, the one used least recently is closed, of those that nobody uses; where all are in
    /// use, who comes waits in turn. An open file is up to
    /// [`max_connections`](SqlitePoolOptions::max_connections) threads, and three file handles for
    /// each.
    pub fn max_pools(mut self, max: usize) -> Self {
        self.max_pools = max.max(1);
        self
    }

    /// The options of each file.
    pub fn pool_options(mut self, options: SqlitePoolOptions) -> Self {
        self.pool_options = options;
        self
    }

    /// Brings each file up to date: when it is made, and whenever it is opened, before anybody uses
    /// it. It runs in a transaction of its own, alone, and must leave alone what it has done before:
    /// `PRAGMA user_version` is for a number that says how far a file is.
    ///
    /// Where it fails, the file is not opened, and who waits for it gets the error; it is tried
    /// again after a back-off.
    ///
    /// ```no_run
    /// # use tenantry::{Error, sqlite::SqliteRegistry};
    /// # async fn example() -> Result<(), Error> {
    /// let registry = SqliteRegistry::open("tenants")
    ///     .migrate(|tx| {
    ///         Box::pin(async move {
    ///             let version: i64 = sqlx::query_scalar("PRAGMA user_version")
    ///                 .fetch_one(&mut *tx)
    ///                 .await?;
    ///             if version < 1 {
    ///                 sqlx::raw_sql("CREATE TABLE notes (body TEXT NOT NULL); PRAGMA user_version = 1")
    ///                     .execute(&mut *tx)
    ///                     .await?;
    ///             }
    ///             Ok(())
    ///         })
    ///     })
    ///     .build()
    ///     .await?;
    /// # let _ = registry;
    /// # Ok(())
    /// # }
    /// ```
    pub fn migrate<F>(mut self, migration: F) -> Self
    where
        F: for<'t> Fn(&'t mut SqliteTx) -> BoxFuture<'t, Result<(), Error>> + Send + Sync + 'static,
    {
        self.migration = Some(Arc::new(migration));
        self
    }

    /// Builds it. Opens no file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`]: there is no such folder, its name is not Unicode, or there is
    /// no tokio runtime. A folder that is missing is not made: it may be one that was not mounted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn build(self) -> Result<SqliteRegistry, Error> {
        let refuse = |rule| Error::new(ErrorKind::InvalidOption, rule);
        let runtime = Handle::try_current().map_err(|error| {
            refuse("a registry is built inside a tokio runtime").with_source(error)
        })?;
        let no_folder = "a registry of files needs a folder that is there";
        let folder = self.folder;
        // Absolute, so that it stays where it is; and SQLite takes a name for a URI that begins
        // with `file:`.
        let found = runtime.spawn_blocking(move || {
            let folder = std::path::absolute(folder)?;
            std::fs::read_dir(&folder)?;
            Ok::<_, std::io::Error>(folder)
        });
        let folder = found
            .await
            .map_err(|error| refuse(no_folder).with_source(error))?
            .map_err(|error| refuse(no_folder).with_source(error))?;
        if folder.to_str().is_none() {
            return Err(refuse("SQLite takes no folder whose name is not Unicode"));
        }
        Ok(SqliteRegistry::new(Files::new(
            folder,
            self.max_pools,
            self.pool_options,
            self.migration,
            runtime,
        )))
    }
}

impl fmt::Debug for SqliteRegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteRegistryBuilder")
            .field("max_pools", &self.max_pools)
            .field("pool_options", &self.pool_options)
            .field("migrates", &self.migration.is_some())
            .finish_non_exhaustive()
    }
}
