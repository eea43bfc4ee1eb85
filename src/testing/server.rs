//! The handle of a throw-away server.

use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::cluster::Cluster;
use super::existing::Existing;
use super::{PostgresServerBuilder, ServerError, binaries};

/// A PostgreSQL server for a test or an example; see [the module](super) for where it comes from.
///
/// All of its methods take `&self`, so one server can be shared, also in a `static`.
///
/// # Drop
///
/// A server that was started here is stopped at once, its connections with it, and its folder is
/// deleted. That happens in the background: the drop does not wait, and needs no runtime.
/// [`stop`](Self::stop) waits. The same happens if the process ends without a drop.
///
/// On an existing server (`TENANTRY_TEST_DATABASE_URL`) the databases made here are dropped, for
/// which the drop waits up to 5 seconds; a process that is killed leaves them.
#[derive(Debug)]
#[must_use = "the server is stopped when it is dropped"]
pub struct PostgresServer {
    origin: Origin,
    version: u32,
}

#[derive(Debug)]
enum Origin {
    Ours(Cluster),
    Existing(Existing),
}

impl PostgresServer {
    /// Starts a server with the default settings and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// As [`PostgresServerBuilder::start`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what has been started and deletes its folder, in the background.
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }

    /// A server with settings of its own.
    pub fn builder() -> PostgresServerBuilder {
        PostgresServerBuilder::default()
    }

    pub(super) async fn start_with(builder: PostgresServerBuilder) -> Result<Self, ServerError> {
        let PostgresServerBuilder {
            configuration,
            binaries,
        } = builder;
        configuration.check()?;
        let origin = match Existing::from_environment()? {
            Some(_) if !configuration.is_empty() => {
                return Err(ServerError::NotOurs {
                    operation: "changing a setting",
                });
            }
            Some(existing) => Origin::Existing(existing),
            None => {
                let binaries = binaries::find(binaries).await?;
                Origin::Ours(Cluster::start(binaries, &configuration).await?)
            }
        };
        let mut server = Self { origin, version: 0 };
        server.version = version(&server.connect_options()).await?;
        Ok(server)
    }

    /// How to connect over TCP to the database `postgres` as the superuser `postgres`; to an
    /// existing server, as its URL says.
    pub fn connect_options(&self) -> PgConnectOptions {
        match &self.origin {
            Origin::Ours(cluster) => cluster.connect_options(),
            Origin::Existing(existing) => existing.options().clone(),
        }
    }

    /// As [`connect_options`](Self::connect_options), over the Unix socket. To an existing server,
    /// as its URL says.
    pub fn socket_options(&self) -> PgConnectOptions {
        match &self.origin {
            Origin::Ours(cluster) => cluster.socket_options(),
            Origin::Existing(existing) => existing.options().clone(),
        }
    }

    /// The TCP port. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        match &self.origin {
            Origin::Ours(cluster) => cluster.port(),
            Origin::Existing(existing) => existing.options().get_port(),
        }
    }

    /// The server's `server_version_num`: 150004 for 15.4.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The folder with the data, the log (in the file `log`) and the Unix socket; `None` for an
    /// existing server. It belongs to the account that runs the server.
    pub fn folder(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Ours(cluster) => Some(cluster.folder()),
            Origin::Existing(_) => None,
        }
    }

    /// Creates a database and returns how to connect to it, otherwise as
    /// [`connect_options`](Self::connect_options). Any name is possible, up to 63 bytes; it is
    /// quoted.
    ///
    /// # Errors
    ///
    /// [`ServerError::Database`], among others if there is such a database already.
    ///
    /// # Cancel safety
    ///
    /// The database may have been created or not when the future is dropped. It goes with the
    /// server either way; on an existing server too, unless the runtime is shut down meanwhile.
    pub async fn create_database(&self, name: &str) -> Result<PgConnectOptions, ServerError> {
        let options = self.connect_options();
        match &self.origin {
            Origin::Ours(_) => create_database(&options, name).await?,
            Origin::Existing(existing) => existing.create_database(name).await?,
        }
        Ok(options.database(name))
    }

    /// Stops the server (a "fast" shutdown: connections are ended, what is committed is written)
    /// and starts it again with the same data on the same port. A server that is down, as after
    /// [`crash`](Self::crash), is only started; it recovers from its log then.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] for an existing server; [`ServerError::Ended`] or
    /// [`ServerError::Timeout`] if the server does not come back.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the server may be up, down, or on its way. Calling it again
    /// puts that right.
    pub async fn restart(&self) -> Result<(), ServerError> {
        match &self.origin {
            Origin::Ours(cluster) => cluster.restart().await,
            Origin::Existing(_) => Err(ServerError::NotOurs {
                operation: "a restart",
            }),
        }
    }

    /// Stops the server as if it had crashed (an "immediate" shutdown, SIGQUIT): connections break
    /// and what is committed has to be recovered from the log. Returns when the server is down.
    /// [`restart`](Self::restart) brings it up again.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] for an existing server; [`ServerError::Timeout`] if the server
    /// does not go down.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the server may be up, down, or on its way. Calling it again, or
    /// [`restart`](Self::restart), puts that right.
    pub async fn crash(&self) -> Result<(), ServerError> {
        match &self.origin {
            Origin::Ours(cluster) => cluster.crash().await,
            Origin::Existing(_) => Err(ServerError::NotOurs {
                operation: "a crash",
            }),
        }
    }

    /// What a drop does, but returns only when the process and the folder, or the databases on an
    /// existing server, are gone.
    ///
    /// # Errors
    ///
    /// [`ServerError::Timeout`] or [`ServerError::Io`] if something is left, and
    /// [`ServerError::Database`] if a database on an existing server could not be dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future amounts to dropping the server.
    pub async fn stop(self) -> Result<(), ServerError> {
        match self.origin {
            Origin::Ours(cluster) => cluster.stop().await,
            Origin::Existing(existing) => existing.stop().await,
        }
    }
}

pub(super) async fn create_database(
    options: &PgConnectOptions,
    name: &str,
) -> Result<(), ServerError> {
    const CREATE: &str = "the creation of a database";
    execute(options, CREATE, format!("create database {}", quote(name))).await
}

/// With the connections that are open to it, which a test that failed may well have left.
pub(super) async fn drop_database(
    options: &PgConnectOptions,
    name: &str,
) -> Result<(), ServerError> {
    const DROP: &str = "to drop a database";
    execute(
        options,
        DROP,
        format!("drop database if exists {} with (force)", quote(name)),
    )
    .await
}

async fn execute(
    options: &PgConnectOptions,
    operation: &'static str,
    statement: String,
) -> Result<(), ServerError> {
    let mut connection = connect(options).await?;
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .map_err(ServerError::database(operation))?;
    // The server is done; that the good-bye arrives changes nothing.
    let _ = connection.close().await;
    Ok(())
}

async fn version(options: &PgConnectOptions) -> Result<u32, ServerError> {
    const VERSION: &str = "to tell its version";
    let mut connection = connect(options).await?;
    let number: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&mut connection)
        .await
        .map_err(ServerError::database(VERSION))?;
    let _ = connection.close().await;
    Ok(number.unsigned_abs())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, ServerError> {
    options
        .connect()
        .await
        .map_err(ServerError::database("a connection"))
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
