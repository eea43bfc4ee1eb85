//! What the schedule of connections decides, done on the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::time::sleep_until;

use super::connection::Connection;
use super::migration::{self, Migration};
use super::options::SqlitePoolOptions;
use crate::error::{Error, ErrorKind};
use crate::lease::AtRest;
use crate::lease::schedule::{Driver, Pool, Server, Types};
use crate::tenant::TenantId;

/// Connections to files.
pub(super) enum Disk {}

impl Types for Disk {
    type Connection = Connection;
    type Tenant = Turn;
    type Failure = Error;
    type Home = Home;
    type Driver = Threads;
}

/// In whose turn a connection is asked for. The schedule gives one connection at a time to each
/// turn: so there is one writer, and each reader has a turn of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Turn {
    Write,
    Read(u64),
}

/// One tenant's file.
pub(super) struct Home {
    pub(super) tenant: TenantId,
    pub(super) path: PathBuf,
    pub(super) options: Arc<SqlitePoolOptions>,
    pub(super) migration: Option<Migration>,
    is_checked: AtomicBool,
    is_migrated: AtomicBool,
    /// How often this process has changed the schema.
    schema: AtomicU64,
}

impl Home {
    pub(super) fn new(
        tenant: TenantId,
        path: PathBuf,
        options: Arc<SqlitePoolOptions>,
        migration: Option<Migration>,
    ) -> Self {
        Self {
            tenant,
            path,
            options,
            migration,
            is_checked: AtomicBool::new(false),
            is_migrated: AtomicBool::new(false),
            schema: AtomicU64::new(0),
        }
    }

    /// A connection to a file that is this tenant's and was brought up to date. The first one is
    /// opened alone.
    async fn open(&self) -> Result<Connection, Error> {
        let schema = self.schema();
        if !self.is_checked.load(Ordering::SeqCst) {
            Connection::check(&self.path, &self.tenant, &self.options).await?;
            self.is_checked.store(true, Ordering::SeqCst);
        }
        let mut connection = self.open_up_to_date().await?;
        connection.schema = schema;
        Ok(connection)
    }

    async fn open_up_to_date(&self) -> Result<Connection, Error> {
        let connection = Connection::open(&self.path, &self.tenant, &self.options).await?;
        let Some(migration) = &self.migration else {
            return Ok(connection);
        };
        if self.is_migrated.load(Ordering::SeqCst) {
            return Ok(connection);
        }
        let connection = migration::run(migration, connection, &self.tenant).await?;
        self.is_migrated.store(true, Ordering::SeqCst);
        match connection {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.path, &self.tenant, &self.options).await,
        }
    }

    pub(super) fn schema(&self) -> u64 {
        self.schema.load(Ordering::SeqCst)
    }

    /// From here on other connections are used no more. They would notice while a statement runs,
    /// but sqlx counts its columns before that, and its thread panics where there are more.
    pub(super) fn schema_changed(&self) {
        self.schema.fetch_add(1, Ordering::SeqCst);
    }
}

/// Opens and closes connections in tasks, which nobody who waits can cancel. sqlx runs each in a
/// thread of its own.
pub(super) struct Threads {
    runtime: Handle,
    at_rest: Arc<AtRest>,
}

impl Threads {
    pub(super) fn new(runtime: Handle, at_rest: Arc<AtRest>) -> Self {
        Self { runtime, at_rest }
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Driver<Disk> for Threads {
    fn open(&self, pool: Arc<Pool<Disk>>) {
        self.runtime.spawn(async move {
            let opening = Opening(Some(pool));
            let Some(pool) = &opening.0 else { return };
            match pool.home().open().await {
                Ok(connection) => opening.done(connection),
                Err(error) => opening.failed(error),
            }
        });
    }

    fn close(&self, pool: Arc<Pool<Disk>>, connection: Connection) {
        self.runtime.spawn(async move {
            connection.close().await;
            pool.closed(Instant::now());
        });
    }

    fn idle(&self) {
        self.at_rest.ring();
    }

    fn wake(&self, server: Arc<Server<Disk>>, at: Instant) {
        self.runtime.spawn(async move {
            sleep_until(at.into()).await;
            server.look(Instant::now());
        });
    }
}

/// A connection that is being opened.
///
/// # Drop
///
/// Without an end it has failed: a migration may have panicked.
struct Opening(Option<Arc<Pool<Disk>>>);

impl Opening {
    fn done(mut self, connection: Connection) {
        if let Some(pool) = self.0.take() {
            pool.opened(connection, Instant::now());
        }
    }

    fn failed(mut self, error: Error) {
        self.fail(error);
    }

    fn fail(&mut self, error: Error) {
        if let Some(pool) = self.0.take() {
            pool.not_opened(error, Instant::now());
            pool.closed(Instant::now());
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.fail(Error::new(
            ErrorKind::Connect,
            "the opening of a tenant's file was given up half-way",
        ));
    }
}
