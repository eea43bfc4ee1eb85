//! The options of a throw-away server.

use std::path::PathBuf;

use super::configuration::Configuration;
use super::{PostgresServer, ServerError};

/// Options of a [`PostgresServer`], from [`PostgresServer::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct PostgresServerBuilder {
    pub(super) configuration: Configuration,
    pub(super) binaries: Option<PathBuf>,
}

impl PostgresServerBuilder {
    /// Sets a setting of `postgresql.conf`, such as `max_connections` or `work_mem`, with the
    /// value as it would stand there without quotes.
    ///
    /// The default is what the server comes with, except for `max_connections = 100`,
    /// `fsync = off`, `full_page_writes = off` and `timezone = UTC`. Of several values for one
    /// name the last counts. Port, listening addresses, socket and data folder cannot be set.
    /// Whether name and value are acceptable is found out at [`start`](Self::start).
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), tenantry::testing::ServerError> {
    /// use tenantry::testing::PostgresServer;
    ///
    /// let small = PostgresServer::builder().setting("max_connections", "10").start().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configuration.set(name.into(), value.into());
        self
    }

    /// Uses the server in this folder, which holds `initdb` and `postgres`, and looks nowhere
    /// else. An existing server that `TENANTRY_TEST_DATABASE_URL` names still goes first.
    pub fn binaries(mut self, folder: impl Into<PathBuf>) -> Self {
        self.binaries = Some(folder.into());
        self
    }

    /// Starts the server and waits until it takes connections. That takes about a second or two,
    /// most of it for `initdb`; each of its steps is given up after 60 seconds.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotFound`] or [`ServerError::NoBinaries`] without a server to start,
    /// [`ServerError::Setting`] for a setting that cannot be written, [`ServerError::NotOurs`] for
    /// settings with an existing server, [`ServerError::Ended`] with the end of the log if the
    /// server refused to come up (as it does for a setting it does not know). The other kinds tell
    /// of trouble with the machine.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what has been started and deletes its folder, in the background.
    pub async fn start(self) -> Result<PostgresServer, ServerError> {
        PostgresServer::start_with(self).await
    }
}
