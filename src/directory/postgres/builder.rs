//! What a directory is told before it connects.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::follower::Follower;
use super::known::Known;
use super::row::Servers;
use super::{Handle, PostgresDirectory};
use crate::directory::Database;
use crate::error::{Error, ErrorKind};

/// Options of a [`PostgresDirectory`].
#[must_use = "a builder does nothing until `connect`"]
pub struct PostgresDirectoryBuilder {
    control: Database,
    servers: HashMap<Arc<str>, Database>,
    named_twice: bool,
    time_to_live: Duration,
    stale_after: Duration,
}

impl PostgresDirectoryBuilder {
    pub(super) fn new(control: Database) -> Self {
        Self {
            control,
            servers: HashMap::new(),
            named_twice: false,
            time_to_live: Duration::from_secs(30),
            stale_after: Duration::from_secs(5 * 60),
        }
    }

    /// What the table means by this name in its column `server`: where that server is, as which
    /// role to log in, and where the password is to be had. The name of the database does not
    /// matter, each row has its own.
    pub fn server(mut self, name: impl Into<Arc<str>>, server: impl Into<Database>) -> Self {
        let replaced = self.servers.insert(name.into(), server.into());
        self.named_twice |= replaced.is_some();
        self
    }

    /// How often the whole table is read although nothing was heard: what a change takes whose
    /// notification never came. 30 seconds by default, drawn up to a fifth shorter each time, so
    /// that processes that began together do not read together. It costs one query over the
    /// table.
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.time_to_live = time;
        self
    }

    /// How long the last answers hold when the control database is out of reach: 5 minutes by
    /// default.
    ///
    /// Not zero, because an outage of the control database would be one of every tenant. Not for
    /// ever, because a process that is cut off would go on serving tenants that have been
    /// suspended since, and write into databases that others have been moved out of.
    pub fn stale_after(mut self, time: Duration) -> Self {
        self.stale_after = time;
        self
    }

    /// Connects, reads the whole table and begins to follow it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`] if no server is named, one is named twice, or a time is
    ///   zero;
    /// - [`ErrorKind::Connect`] if the control database is not reached within 5 seconds, or its
    ///   password cannot be had;
    /// - [`ErrorKind::Installation`] if the table is not there, or is not for this role to read:
    ///   run [`ControlTables::install`](crate::sql::ControlTables::install);
    /// - [`ErrorKind::ConnectionLost`] or [`ErrorKind::Database`] if the reading failed otherwise.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing stays behind but a connection that is being closed.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn connect(self) -> Result<PostgresDirectory, Error> {
        self.check()?;
        let known = Arc::new(Known::new(self.stale_after));
        let mut follower = Follower::new(
            self.control,
            Servers::new(self.servers),
            Arc::clone(&known),
            self.time_to_live,
            self.stale_after,
        );
        let session = follower.open().await?;
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(follower.run(session, stopped));
        Ok(PostgresDirectory(Arc::new(Handle {
            known,
            time_to_live: self.time_to_live,
            _stop: stop,
        })))
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |rule| Err(Error::new(ErrorKind::InvalidOption, rule));
        if self.servers.is_empty() {
            return refuse("a directory needs the servers that its table names");
        }
        if self.named_twice {
            return refuse("two servers of a directory have the same name");
        }
        if self.time_to_live.is_zero() || self.stale_after.is_zero() {
            return refuse("the time to live of a directory, and when it is stale, are not zero");
        }
        Ok(())
    }
}

/// Shows the names of the servers, and nothing of how they are reached.
impl fmt::Debug for PostgresDirectoryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.servers.keys().collect();
        names.sort();
        f.debug_struct("PostgresDirectoryBuilder")
            .field("servers", &names)
            .field("time_to_live", &self.time_to_live)
            .field("stale_after", &self.stale_after)
            .finish_non_exhaustive()
    }
}
