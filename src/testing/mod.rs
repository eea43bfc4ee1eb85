//! A PostgreSQL server that exists only as long as a test or an example needs it.
//!
//! ```no_run
//! use sqlx::{ConnectOptions as _, Connection as _};
//! use tenantry::testing::PostgresServer;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = PostgresServer::start().await?;
//! let database = server.create_database("accounts").await?;
//! let mut connection = database.connect().await?;
//! sqlx::query("create table account (id bigint primary key)").execute(&mut connection).await?;
//! connection.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where the server comes from
//!
//! The first of these that applies:
//!
//! 1. The server that the variable `TENANTRY_TEST_DATABASE_URL` names, as
//!    `postgres://user:password@host:port/database`. It has to be running, version 13 or newer (for
//!    `drop database .. with (force)`), and its user needs the
//!    right to create databases. Nothing is started or stopped there, so settings and restarts
//!    are refused; databases made with [`PostgresServer::create_database`] are dropped at the end.
//! 2. The programs in the folder given to [`PostgresServerBuilder::binaries`], else in the one
//!    that the variable `TENANTRY_POSTGRES_BINARIES` names. A folder that was named is the only
//!    one looked at.
//! 3. Programs found on the machine: in `PATH`, where `pg_config --bindir` says, and where
//!    distributions put them (`/usr/lib/postgresql/*/bin`, `/usr/pgsql-*/bin`,
//!    `/usr/local/pgsql/bin`, Homebrew's and MacPorts' folders), the newest major version first.
//! 4. With the feature `embedded`, programs downloaded from the
//!    [theseus-rs/postgresql-binaries](https://github.com/theseus-rs/postgresql-binaries)
//!    releases. The newest release is fetched once, checked against its published checksum (if
//!    there is one), and kept in
//!    `~/.theseus/postgresql`; for root in `/var/cache/tenantry/postgresql`, which the account
//!    that runs the server can read. Later starts use the copy and need no network.
//!
//! A folder counts if it holds both `initdb` and `postgres`.
//!
//! # What is started
//!
//! A cluster with a folder and a port of its own, UTF-8 with the C locale, time zone UTC,
//! superuser `postgres` without a password, reachable on 127.0.0.1 and on a Unix socket in its
//! folder. `fsync` and `full_page_writes` are off: the data survives a crash of the server but not
//! one of the machine. Several servers can run at once.
//!
//! PostgreSQL refuses to run as root. Root's server runs as the account `postgres`, else as
//! `nobody`.
//!
//! # When it goes
//!
//! The server runs under a small `sh` script that reads a pipe held by this process. When the
//! pipe closes, the script stops the server and deletes the folder. That happens on drop, and also
//! when the process ends in any other way: a panic, SIGINT, SIGKILL, or with the server in a
//! `static` that is never dropped.
//!
//! This module works on Unix only.

mod account;
mod binaries;
mod blocking;
mod builder;
mod cluster;
mod configuration;
pub mod conformance;
mod detached;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod existing;
mod fault_proxy;
pub mod leak_hunt;
mod memory;
mod polls;
mod probe;
mod server;
mod watchdog;

pub use builder::PostgresServerBuilder;
pub use detached::detached_scope;
pub use error::ServerError;
pub use fault_proxy::{Direction, FaultProxy, ProxyCounts};
pub use memory::{MemoryRepository, MemoryTable, SortKey};
pub use polls::{CancelledAfter, cancelled_after};
pub use probe::lease_and_give_back;
pub use server::PostgresServer;
