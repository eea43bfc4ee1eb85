//! A file per tenant, with no server: the feature `sqlite`.
//!
//! The shape is that of the registry for PostgreSQL: a [`SqliteRegistry`] binds a context to a
//! [`SqliteScope`], which is a sqlx executor and begins a [`SqliteTx`]. What keeps tenants apart is
//! simpler. A connection leads to one file, a file holds one tenant's rows and says whose it is,
//! and no statement reaches another file.
//!
//! * The file's name comes from the tenant's id, so that no two tenants share one, on file systems
//!   that do not tell upper from lower case either.
//! * Files are opened when their tenants are met, at most
//!   [`max_pools`](SqliteRegistryBuilder::max_pools) of them at a time.
//! * One connection writes to a file at a time and several read beside it (WAL). Who wants to write
//!   waits in turn, and gets no "database is locked" from this process.
//! * Foreign keys are checked. A commit is on the disk when it returns, unless
//!   [`SqliteSynchronous::Normal`] was asked for.
//! * `ATTACH` is refused as text, and there is no place left on a connection for it either.
//!
//! Files belong to the registry as long as it runs: to copy one safely, use SQLite's own backup; to
//! take one away, [`evict`](SqliteRegistry::evict) its tenant when nobody uses it, or
//! [`shutdown`](SqliteRegistry::shutdown) the registry.

mod builder;
mod connection;
mod disk;
mod file_name;
mod files;
mod lease;
mod migration;
mod options;
mod read_tx;
mod registry;
mod scope;
mod statement;
mod status;
mod tx;

pub use builder::SqliteRegistryBuilder;
pub use options::{SqlitePoolOptions, SqliteSynchronous};
pub use read_tx::SqliteReadTx;
pub use registry::SqliteRegistry;
pub use scope::SqliteScope;
pub use status::{SqliteStatus, SqliteTenantStatus};
pub use tx::SqliteTx;
