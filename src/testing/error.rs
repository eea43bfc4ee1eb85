//! What can keep a throw-away server from running.

use std::io;
use std::path::PathBuf;

use super::binaries::BINARIES_VARIABLE;
use super::existing::URL_VARIABLE;

type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a [`PostgresServer`](super::PostgresServer) could not do what was asked.
///
/// `Display` is one sentence about this layer, followed by the end of the server's log where that
/// tells the reason; the next layer is `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// There is no PostgreSQL server on this machine.
    #[error(
        "found no PostgreSQL server: install one (on Debian and Ubuntu `apt-get install \
         postgresql`), or turn on tenantry's feature `embedded`, which downloads one, or set \
         {BINARIES_VARIABLE} to a folder that holds `initdb` and `postgres`, or {URL_VARIABLE} to \
         the URL of a running server"
    )]
    NotFound,

    /// The folder that was named for the server's programs lacks one of them.
    #[error(
        "{} does not hold both `initdb` and `postgres`: name the folder of a PostgreSQL \
         server's programs (on Debian and Ubuntu `apt-get install postgresql` makes \
         /usr/lib/postgresql/<version>/bin), or name none to have one looked for",
        path.display()
    )]
    #[non_exhaustive]
    NoBinaries {
        /// The folder that was named.
        path: PathBuf,
    },

    /// The feature `embedded` could not fetch a server.
    #[error(
        "the PostgreSQL server could not be downloaded: install one instead, if the network is the reason"
    )]
    #[non_exhaustive]
    Download {
        /// What the download says.
        source: BoxError,
    },

    /// The setting is not acceptable.
    #[error("the server setting {name:?} is not possible: {reason}")]
    #[non_exhaustive]
    Setting {
        /// The setting's name.
        name: String,
        /// Why it is not possible.
        reason: &'static str,
    },

    /// The variable `TENANTRY_TEST_DATABASE_URL` does not hold a PostgreSQL URL.
    #[error("{URL_VARIABLE} does not hold the URL of a PostgreSQL server")]
    #[non_exhaustive]
    Url {
        /// What is wrong with it; the URL itself is left out, as it may hold a password.
        source: BoxError,
    },

    /// Only a server that was started here can do this.
    #[error(
        "{operation} is not possible on the existing server that {URL_VARIABLE} names: unset the \
         variable to have a server started"
    )]
    #[non_exhaustive]
    NotOurs {
        /// What was asked for.
        operation: &'static str,
    },

    /// The process runs as root and found no other account to run the server as.
    #[error("PostgreSQL does not run as root, and there is no account `postgres` or `nobody`")]
    NoAccount,

    /// No folder could be made for the data.
    #[error(
        "found no folder for the server's data: set TMPDIR to one that is writable and has a short path"
    )]
    NoFolder,

    /// The operating system refused something.
    #[error("{operation} failed")]
    #[non_exhaustive]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the operating system says.
        source: io::Error,
    },

    /// `initdb` or `postgres` ended when it should not have.
    #[error("`{program}` ended with status {status}; the last lines of its log:\n{log}")]
    #[non_exhaustive]
    Ended {
        /// The program.
        program: &'static str,
        /// Its exit status as `sh` gives it: above 128 it was a signal.
        status: String,
        /// The last lines of the log.
        log: String,
    },

    /// The server did not get where it should in time.
    #[error("the server took too long to {operation}; the last lines of its log:\n{log}")]
    #[non_exhaustive]
    Timeout {
        /// What was waited for.
        operation: &'static str,
        /// The last lines of the log.
        log: String,
    },

    /// The server is there, but a connection or a statement failed.
    #[error("the server refused {operation}")]
    #[non_exhaustive]
    Database {
        /// What was asked of it.
        operation: &'static str,
        /// What sqlx says.
        source: sqlx::Error,
    },

    /// The runtime shut down in the middle of the work.
    #[error("the work on the server was interrupted")]
    #[non_exhaustive]
    Interrupted {
        /// What the runtime says.
        source: BoxError,
    },
}

impl ServerError {
    /// For `map_err` on file and process operations.
    pub(super) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }

    /// For `map_err` on connections and statements.
    pub(super) fn database(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { operation, source }
    }
}
