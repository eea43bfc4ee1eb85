//! One connection to a tenant's file: how it is opened, and what the engine itself refuses on it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use super::options::{SqlitePoolOptions, SqliteSynchronous};
use crate::error::{Error, ErrorKind};
use crate::tenant::TenantId;

pub(super) struct Connection {
    pub(super) raw: SqliteConnection,
    /// Whose file this is, in the file's own words.
    tenant: TenantId,
    watch: Arc<Watch>,
    /// How often the schema had been changed when it was opened, see [`Home::schema_changed`].
    ///
    /// [`Home::schema_changed`]: super::disk::Home::schema_changed
    pub(super) schema: u64,
}

/// What the engine tells us, and what we tell it, while a statement runs.
#[derive(Debug)]
struct Watch {
    /// Whether a commit is a commit. Otherwise the engine makes a rollback of it.
    may_commit: AtomicBool,
    /// Whether a transaction was rolled back since the last one was begun.
    rolled_back: AtomicBool,
    /// Whether what runs is to stop.
    abandoned: AtomicBool,
}

/// What a file carries that says whose it is. The triggers are for those who would change it by
/// mistake.
pub(super) const OWNER: &str = "\
    CREATE TABLE tenantry_file (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        tenant TEXT NOT NULL,
        layout INTEGER NOT NULL
    ) STRICT;
    CREATE TRIGGER tenantry_file_no_update BEFORE UPDATE ON tenantry_file
        BEGIN SELECT RAISE(ABORT, 'the file is its tenant''s for ever'); END;
    CREATE TRIGGER tenantry_file_no_delete BEFORE DELETE ON tenantry_file
        BEGIN SELECT RAISE(ABORT, 'the file is its tenant''s for ever'); END;";

/// Of what [`OWNER`] makes.
pub(super) const LAYOUT: i64 = 1;

/// After so many steps of its virtual machine SQLite asks whether to go on.
const STEPS: i32 = 1_000;

/// So many databases SQLite lets a connection attach unless it was compiled otherwise.
const PLACES: usize = 10;

/// More databases than any SQLite lets a connection attach.
const MOST_ATTACHED: usize = 126;

impl Connection {
    /// To the file of this tenant, which must be there and say whose it is.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the file.
    pub(super) async fn open(
        path: &Path,
        tenant: &TenantId,
        options: &SqlitePoolOptions,
    ) -> Result<Self, Error> {
        let mut raw = connect(path, options, Mode::Write).await?;
        let fit = async {
            belongs_to(&mut raw, tenant).await?;
            write_ahead(&mut raw).await?;
            guard(&mut raw).await
        };
        let fit = fit.await;
        Self::if_fit(raw, fit, tenant).await
    }

    /// Asks the file whose it is, without a right to write: who closes a file as the last one
    /// writes its journal into it, and this may be the journal of another.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub(super) async fn check(
        path: &Path,
        tenant: &TenantId,
        options: &SqlitePoolOptions,
    ) -> Result<(), Error> {
        let mut raw = connect(path, options, Mode::Read).await?;
        let checked = belongs_to(&mut raw, tenant).await;
        let _ = raw.close().await;
        checked
    }

    /// To a file that is made if it is not there, and does not say yet whose it is.
    pub(super) async fn create(
        path: &Path,
        tenant: &TenantId,
        options: &SqlitePoolOptions,
    ) -> Result<Self, Error> {
        let mut raw = connect(path, options, Mode::Create).await?;
        let fit = async {
            write_ahead(&mut raw).await?;
            guard(&mut raw).await
        };
        let fit = fit.await;
        Self::if_fit(raw, fit, tenant).await
    }

    async fn if_fit(
        raw: SqliteConnection,
        fit: Result<Arc<Watch>, Error>,
        tenant: &TenantId,
    ) -> Result<Self, Error> {
        match fit {
            Ok(watch) => Ok(Self {
                raw,
                tenant: tenant.clone(),
                watch,
                schema: 0,
            }),
            Err(error) => {
                // So that the file is closed when we say that it could not be opened.
                let _ = raw.close().await;
                Err(error)
            }
        }
    }

    /// The first of the fences against a map that answers with the wrong file; the second was the
    /// file's own word when it was opened.
    pub(super) fn belongs_to(&self, tenant: &TenantId) -> Result<(), Error> {
        match self.tenant == *tenant {
            true => Ok(()),
            false => Err(misrouted()),
        }
    }

    pub(super) async fn send(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        self.raw.execute(text).await.map(drop)
    }

    /// Before a transaction is begun. From here on the engine takes no commit for one.
    pub(super) fn begins_transaction(&self) {
        self.watch.rolled_back.store(false, Ordering::SeqCst);
        self.watch.may_commit.store(false, Ordering::SeqCst);
    }

    /// Before COMMIT is sent, and when there is no transaction any more.
    pub(super) fn may_commit(&self) {
        self.watch.may_commit.store(true, Ordering::SeqCst);
    }

    /// Whether the transaction has ended without us: an error may end more than its statement.
    pub(super) fn was_rolled_back(&self) -> bool {
        self.watch.rolled_back.load(Ordering::SeqCst)
    }

    /// Waits for the end of what is under way.
    pub(super) async fn settle(&mut self) -> Result<(), sqlx::Error> {
        self.raw.ping().await
    }

    /// Stops what is under way, and waits for its end.
    pub(super) async fn stop(&mut self) -> Result<(), sqlx::Error> {
        self.watch.abandoned.store(true, Ordering::Relaxed);
        let stopped = self.settle().await;
        self.watch.abandoned.store(false, Ordering::Relaxed);
        stopped
    }

    /// Outside any transaction, whatever was before: a savepoint is in one in any case.
    pub(super) async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.send("SAVEPOINT tenantry_end; ROLLBACK").await?;
        self.may_commit();
        Ok(())
    }

    /// After a change of the schema: forgets statements that were prepared before. `false` if
    /// there are temporary objects, which others must not find.
    pub(super) async fn forget_schema(&mut self) -> Result<bool, Error> {
        self.raw.clear_cached_statements().await?;
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_temp_schema")
            .fetch_one(&mut self.raw)
            .await?;
        Ok(left == 0)
    }

    /// Comes back when the file is closed.
    pub(super) async fn close(self) {
        // The thread of a connection that broke is gone already.
        let _ = self.raw.close().await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
    Create,
}

/// Puts everything in place that the engine can do for us.
async fn guard(raw: &mut SqliteConnection) -> Result<Arc<Watch>, Error> {
    leave_no_place_to_attach(raw).await?;
    let watch = Arc::new(Watch {
        may_commit: AtomicBool::new(true),
        rolled_back: AtomicBool::new(false),
        abandoned: AtomicBool::new(false),
    });
    let mut handle = raw.lock_handle().await.map_err(not_opened)?;
    let on_commit = Arc::clone(&watch);
    handle.set_commit_hook(move || on_commit.may_commit.load(Ordering::SeqCst));
    let on_rollback = Arc::clone(&watch);
    handle.set_rollback_hook(move || on_rollback.rolled_back.store(true, Ordering::SeqCst));
    let on_progress = Arc::clone(&watch);
    handle.set_progress_handler(STEPS, move || {
        !on_progress.abandoned.load(Ordering::Relaxed)
    });
    Ok(watch)
}

async fn connect(
    path: &Path,
    options: &SqlitePoolOptions,
    mode: Mode,
) -> Result<SqliteConnection, Error> {
    let synchronous = match options.synchronous {
        SqliteSynchronous::Full => sqlx::sqlite::SqliteSynchronous::Full,
        SqliteSynchronous::Normal => sqlx::sqlite::SqliteSynchronous::Normal,
    };
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(mode == Mode::Read)
        .create_if_missing(mode == Mode::Create)
        .foreign_keys(true)
        .busy_timeout(options.busy_timeout)
        .synchronous(synchronous)
        // Where the plain way to sync leaves data in the cache of the disk.
        .pragma("fullfsync", "ON")
        // What the schema of a file says is not trusted with functions that reach outside of it.
        .pragma("trusted_schema", "OFF")
        // sqlx would log the text of statements, at DEBUG all and at WARN the slow ones.
        .disable_statement_logging()
        .connect()
        .await
        .map_err(not_opened)
}

/// In this mode readers and a writer do not wait for each other. It stays with the file.
async fn write_ahead(raw: &mut SqliteConnection) -> Result<(), Error> {
    let now: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *raw)
        .await
        .map_err(not_opened)?;
    if now == "wal" {
        return Ok(());
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode = WAL")
        .fetch_one(raw)
        .await
        .map_err(not_opened)?;
    if mode != "wal" {
        return Err(Error::new(
            ErrorKind::Connect,
            "SQLite cannot write ahead (WAL) in this folder: its file system must be a local one",
        ));
    }
    Ok(())
}

/// Asks the file whose it is.
pub(super) async fn belongs_to(raw: &mut SqliteConnection, tenant: &TenantId) -> Result<(), Error> {
    let tables = "SELECT count(*), coalesce(sum(name = 'tenantry_file'), 0) FROM sqlite_schema";
    let (all, ours): (i64, i64) = sqlx::query_as(tables)
        .fetch_one(&mut *raw)
        .await
        .map_err(not_opened)?;
    if all == 0 {
        return Err(unknown());
    }
    let owner: Option<(String, i64)> = match ours {
        0 => None,
        _ => sqlx::query_as("SELECT tenant, layout FROM tenantry_file")
            .fetch_optional(raw)
            .await
            .map_err(not_opened)?,
    };
    match owner {
        Some((_, layout)) if layout > LAYOUT => Err(Error::new(
            ErrorKind::Installation,
            "the tenant's file was made by a later release of tenantry",
        )),
        Some((owner, _)) if owner == tenant.as_str() => Ok(()),
        Some(_) => Err(misrouted()),
        None => Err(Error::new(
            ErrorKind::Installation,
            "the tenant's file does not say whose it is: SqliteRegistry::create makes such files",
        )),
    }
}

/// ATTACH needs a free place, of which a connection has 10, or as many as SQLite was compiled for.
/// Databases in memory take them all. (A limit of 0 would do, and needs the raw handle.)
async fn leave_no_place_to_attach(raw: &mut SqliteConnection) -> Result<(), Error> {
    // With the smallest pages, or each would take 20 KiB. More statements than there are places:
    // the text ends with the first that fails.
    let attach = |place| {
        format!(
            "ATTACH ':memory:' AS tenantry_no_place_{place}; \
             PRAGMA tenantry_no_place_{place}.page_size = 512;"
        )
    };
    let mut text = (0..PLACES).map(attach).collect::<String>();
    for place in PLACES..MOST_ATTACHED {
        text.push_str(&attach(place));
        match raw.execute(AssertSqlSafe(text)).await {
            Ok(_) => text = String::new(),
            Err(sqlx::Error::Database(_)) => return Ok(()),
            Err(error) => return Err(not_opened(error)),
        }
    }
    Err(Error::new(
        ErrorKind::Connect,
        "SQLite lets a connection attach more databases than it should",
    ))
}

pub(super) fn unknown() -> Error {
    Error::new(
        ErrorKind::TenantUnknown,
        "the tenant has no file: SqliteRegistry::create makes one",
    )
}

fn misrouted() -> Error {
    Error::new(
        ErrorKind::Misrouted,
        "the file belongs to another tenant; nothing was read or written",
    )
}

fn not_opened(error: sqlx::Error) -> Error {
    Error::new(
        ErrorKind::Connect,
        "the tenant's file could not be opened as an SQLite database",
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    async fn connection(folder: &Folder) -> Connection {
        let options = SqlitePoolOptions::default();
        let path = folder.path().join("a");
        let tenant = TenantId::from(1_u64);
        let mut connection = Connection::create(&path, &tenant, &options)
            .await
            .expect("opened");
        connection
            .send("CREATE TABLE t (a)")
            .await
            .expect("a table");
        connection
    }

    async fn code(connection: &mut Connection, text: &'static str) -> Option<String> {
        let error = connection.send(text).await.expect_err(text);
        Error::from(error).code().map(|code| code.into_owned())
    }

    #[tokio::test]
    async fn the_engine_attaches_nothing() {
        let folder = Folder::new();
        let mut connection = connection(&folder).await;
        assert!(connection.send("ATTACH ':memory:' AS other").await.is_err());
        assert!(connection.send("VACUUM INTO ':memory:'").await.is_err());
        let load = "SELECT load_extension('nowhere')";
        assert!(connection.send(load).await.is_err());
        // It was the want of places, not of rights.
        let detach = "DETACH tenantry_no_place_0; ATTACH ':memory:' AS other";
        connection.send(detach).await.expect("one place");
    }

    #[tokio::test]
    async fn the_engine_commits_only_when_told() {
        let folder = Folder::new();
        let mut connection = connection(&folder).await;
        connection.begins_transaction();
        connection
            .send("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")
            .await
            .expect("written");
        assert!(!connection.was_rolled_back());
        // SQLITE_CONSTRAINT_COMMITHOOK
        assert_eq!(
            code(&mut connection, "COMMIT").await.as_deref(),
            Some("531")
        );
        assert!(connection.was_rolled_back());
        connection
            .roll_back()
            .await
            .expect("there is no transaction");
        connection
            .send("INSERT INTO t VALUES (2)")
            .await
            .expect("autocommit");
        let rows: Vec<i64> = sqlx::query_scalar("SELECT a FROM t")
            .fetch_all(&mut connection.raw)
            .await
            .expect("rows");
        assert_eq!(rows, [2]);
    }

    #[tokio::test]
    async fn an_error_that_ends_the_transaction_is_seen() {
        let folder = Folder::new();
        let mut connection = connection(&folder).await;
        connection
            .send("CREATE UNIQUE INDEX u ON t (a)")
            .await
            .expect("an index");
        connection.begins_transaction();
        connection
            .send("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")
            .await
            .expect("written");
        assert!(connection.send("INSERT INTO t VALUES (1)").await.is_err());
        assert!(
            !connection.was_rolled_back(),
            "it took its statement back and no more"
        );
        assert!(
            connection
                .send("INSERT OR ROLLBACK INTO t VALUES (1)")
                .await
                .is_err()
        );
        assert!(connection.was_rolled_back());
    }
}
