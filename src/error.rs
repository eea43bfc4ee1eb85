//! One opaque error with a kind to branch on.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, in this crate's own words.
///
/// [`kind`](Self::kind) is what callers branch on; `Display` is one sentence that says what to do
/// and never holds a value, a secret, SQL or a message of the database. The next layer, where
/// there is one, is [`source`](StdError::source): it may hold the server's own text, so it belongs
/// in a debugger and not in an answer to a client.
///
/// Executors of this crate return [`sqlx::Error`], as sqlx wants it. An error of ours travels
/// inside it and comes back whole:
///
/// ```
/// use tenantry::{Error, ErrorKind, TenantId};
///
/// let ours = "no spaces, please".parse::<TenantId>().unwrap_err();
/// let through_sqlx = sqlx::Error::from(ours);
/// assert_eq!(Error::from(through_sqlx).kind(), ErrorKind::InvalidTenantId);
/// ```
///
/// A clone shares its source: one failure to open a connection reaches all who wait for it.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync + 'static>>,
    retry_after: Option<Duration>,
    outcome_unknown: bool,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is not a tenant id; the message names the rule.
    InvalidTenantId,
    /// The user or a setting of a context is not acceptable; the message names the rule.
    InvalidContext,
    /// An option (of a registry, a transaction, an installation) is not acceptable.
    InvalidOption,
    /// The directory knows no such tenant.
    TenantUnknown,
    /// The directory says that the tenant is suspended. Nothing was sent.
    TenantSuspended,
    /// The directory says that the tenant is being moved. Nothing was sent; try again later.
    TenantMoving,
    /// The directory says that the tenant has been deleted. Nothing was sent.
    TenantDeleted,
    /// The directory could not tell where the tenant lives.
    Directory,
    /// The connection or the database belongs to another tenant. Nothing was read or written.
    Misrouted,
    /// What tenantry installs in a database is missing there, or is of another version.
    Installation,
    /// A sealed database refused the context: its key, its signature, its age, or a seal that is not
    /// the transaction's; the message says what to look at. Nothing was read or written.
    ContextRefused,
    /// The start-up check found a role or a database that would undo the isolation.
    Preflight,
    /// The statement was refused before it was sent; the message says where it belongs.
    StatementRefused,
    /// The tenant's own connections were all in use for as long as `acquire_timeout`.
    AcquireTimeout,
    /// All pools or all connections that the registry may have were in use for as long as
    /// `acquire_timeout`, or the server has none left: see [`Error::retry_after`].
    Saturated,
    /// The server could not be reached or refused the connection.
    Connect,
    /// The connection broke. What was under way on it has not been committed, unless it was the
    /// COMMIT or an autocommit statement itself.
    ConnectionLost,
    /// The transaction can only be rolled back; the message says since when.
    TransactionAborted,
    /// `COMMIT` was not carried out, or nobody can tell: see [`CommitError`](crate::CommitError).
    Commit,
    /// The registry has been closed.
    Closed,
    /// The database refused a statement; [`Error::code`] is its SQLSTATE, or SQLite's extended
    /// result code.
    Database,
    /// What was asked for is not there, or not this tenant's: nobody can tell which. Also of
    /// sqlx's `fetch_one` where there is no row.
    NotFound,
    /// The row is there and was changed since it was read. Read it again and decide anew.
    StaleVersion,
    /// A unique or an exclusion constraint refused the row (SQLSTATE 23505, 23P01; of SQLite, a
    /// unique index or a primary key): [`Error::constraint`] is its name. The transaction can only
    /// be rolled back, or back to a savepoint.
    Conflict,
    /// The cursor of a page is not one, or belongs to another tenant, another list or another
    /// order. Begin again without a cursor.
    InvalidCursor,
    /// The list cannot be ordered as was asked.
    UnknownOrder,
    /// The user may not do this.
    PermissionDenied,
    /// The user is not a member of the tenant, or no longer.
    NotAMember,
    /// Nobody could tell whether the user may do this, so it was not done. Try again later.
    PermissionUnknown,
    /// sqlx reported something else, such as a value that could not be decoded.
    Other,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            source: None,
            retry_after: None,
            outcome_unknown: false,
        }))
    }

    /// For a [`TenantDirectory`](crate::TenantDirectory) of your own: it could not tell where a
    /// tenant lives, because of `source`.
    pub fn directory(source: impl Into<BoxError>) -> Self {
        Self::new(
            ErrorKind::Directory,
            "the directory could not tell where the tenant lives",
        )
        .with_source(source)
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    pub(crate) fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    pub(crate) fn with_unknown_outcome(mut self) -> Self {
        self.0.outcome_unknown = true;
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The SQLSTATE of the server's error, where the server reported one; of SQLite, its extended
    /// result code.
    pub fn code(&self) -> Option<Cow<'_, str>> {
        self.database_error()?.code()
    }

    /// The name of the violated constraint, where the server reported one: of
    /// [`ErrorKind::Conflict`], which unique value was taken already.
    pub fn constraint(&self) -> Option<&str> {
        self.database_error()?.constraint()
    }

    /// Whether the same work, done again from the start, may succeed without anything being
    /// mended: serialization failures, deadlocks, lock time-outs, a file that another process writes
    /// to, time-outs of the pool, a
    /// registry that is saturated, a tenant on its way to another place, a directory that does not
    /// answer, lost connections, statements whose table was altered after they were prepared.
    ///
    /// A write that was lost with its connection may have been carried out. Repeating it is safe
    /// only if it is idempotent.
    pub fn is_retryable(&self) -> bool {
        match self.kind() {
            ErrorKind::AcquireTimeout
            | ErrorKind::Saturated
            | ErrorKind::TenantMoving
            | ErrorKind::Directory
            | ErrorKind::PermissionUnknown
            | ErrorKind::Connect
            | ErrorKind::ConnectionLost => true,
            ErrorKind::Database | ErrorKind::TransactionAborted | ErrorKind::Commit => {
                let code = self.code();
                matches!(code.as_deref(), Some("40001" | "40P01" | "55P03"))
                    || matches!(code.as_deref(), Some("5" | "261" | "517" | "773")) // SQLITE_BUSY
                    || self.database_error().is_some_and(is_stale_plan)
            }
            _ => false,
        }
    }

    /// How long to wait before the next attempt, where that can be said: after
    /// [`ErrorKind::Saturated`], [`ErrorKind::TenantMoving`], and while the opening of a
    /// connection that has failed is not tried again. For the header `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether nobody can tell if a transaction was committed: its COMMIT was sent, and the
    /// connection was lost before the answer came. Look before you do it again.
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// Whether the tenant is not known to the directory.
    pub fn is_tenant_unknown(&self) -> bool {
        self.kind() == ErrorKind::TenantUnknown
    }

    /// Whether a statement or a transaction reached, or would have reached, a database of another
    /// tenant.
    pub fn is_misrouted(&self) -> bool {
        self.kind() == ErrorKind::Misrouted
    }

    pub(crate) fn database_error(&self) -> Option<&(dyn sqlx::error::DatabaseError + 'static)> {
        let mut source = self
            .0
            .source
            .as_deref()
            .map(|e| e as &(dyn StdError + 'static));
        while let Some(error) = source {
            if let Some(sqlx::Error::Database(database)) = error.downcast_ref::<sqlx::Error>() {
                return Some(database.as_ref());
            }
            source = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

/// As terse as `Display`: the source is left out, because it may hold the server's own text.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind)
            .field("message", &self.0.message);
        if let Some(code) = self.code() {
            out.field("code", &code);
        }
        if let Some(constraint) = self.constraint() {
            out.field("constraint", &constraint);
        }
        out.finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|e| e as &(dyn StdError + 'static))
    }
}

/// So that an executor, whose errors are sqlx's, can return ours.
impl From<Error> for sqlx::Error {
    fn from(error: Error) -> Self {
        Self::Configuration(Box::new(error))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Configuration(inner) = error {
            return match inner.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(inner) => Self::new(ErrorKind::Other, "sqlx refused its configuration")
                    .with_source(sqlx::Error::Configuration(inner)),
            };
        }
        let (kind, message) = classify(&error);
        Self::new(kind, message).with_source(error)
    }
}

/// Whether nothing more can be said over the connection that this error came from.
pub(crate) fn is_connection_lost(error: &sqlx::Error) -> bool {
    classify(error).0 == ErrorKind::ConnectionLost
}

/// The server no longer has the statement as it was prepared, and says so before it runs anything:
///
/// * "cached plan must not change result type": the table behind a `SELECT *` was altered since;
/// * "prepared statement does not exist": one without a name is forgotten when sqlx, between
///   preparing and running it, asks the server what a type of its result is. The next time it
///   knows.
pub(crate) fn is_stale_plan(error: &dyn sqlx::error::DatabaseError) -> bool {
    match error.code().as_deref() {
        Some("0A000") => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| error.routine() == Some("RevalidateCachedQuery")),
        Some("26000") => true,
        _ => false,
    }
}

/// Whoever sent it has closed the connection behind it. PostgreSQL does so in class 57P and a few
/// other cases, a pooler with whatever it says.
fn is_fatal(error: &dyn sqlx::error::DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

fn classify(error: &sqlx::Error) -> (ErrorKind, &'static str) {
    match error {
        sqlx::Error::Database(database) => classify_database(database.as_ref()),
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed => (
            ErrorKind::ConnectionLost,
            "the connection to the database broke",
        ),
        sqlx::Error::RowNotFound => (ErrorKind::NotFound, "there is no such row"),
        _ => (
            ErrorKind::Other,
            "sqlx could not carry out the statement, or not read its answer",
        ),
    }
}

fn classify_database(error: &dyn sqlx::error::DatabaseError) -> (ErrorKind, &'static str) {
    match (error.code().as_deref(), error.constraint()) {
        (Some("23514"), Some("tenantry_1_layout")) => (
            ErrorKind::Installation,
            "the database does not know this release's scope argument: \
             run tenantry::sql::Installation::install on it with this release",
        ),
        (Some("23514"), Some("tenantry_2_tenant")) => (
            ErrorKind::Misrouted,
            "the database belongs to another tenant and refused the statement",
        ),
        // What a sealed database refuses, see `sql::seal`.
        (Some("28000"), Some("tenantry_key")) => (
            ErrorKind::ContextRefused,
            "the sealed database does not know the key that this process signs with: \
             run tenantry::sql::Installation::add_signing_key on it",
        ),
        (Some("28000"), Some("tenantry_signature")) => (
            ErrorKind::ContextRefused,
            "the sealed database knows the key of this id with another secret, or the context was \
             changed on its way: compare the secret of this process with the one that \
             tenantry::sql::Installation::add_signing_key was given",
        ),
        (Some("28000"), Some("tenantry_expired")) => (
            ErrorKind::ContextRefused,
            "the signature of the context had expired when it came to the database: compare the \
             clock of this machine with that of the server, or see SigningKey::token_lifetime",
        ),
        (Some("28000"), Some("tenantry_seal")) => (
            ErrorKind::ContextRefused,
            "the seal of the context is not that of this transaction: a statement has tampered with \
             it",
        ),
        // What functions of the schema `tenantry` refuse, see `sql::tenant_rows`.
        (Some("TN020"), _) => (
            ErrorKind::StatementRefused,
            "there is no tenant in the context, so nothing was written",
        ),
        (Some("TN021"), _) => (
            ErrorKind::InvalidOption,
            "the number series is not defined as it should be",
        ),
        (Some("TN022"), _) => (
            ErrorKind::InvalidOption,
            "a number series that has begun keeps beginning anew at the same times: give one with \
             another rule another name",
        ),
        (Some("TN023"), _) => (
            ErrorKind::NotFound,
            "no such number of the series was given out, or it is void already",
        ),
        // Class 57P: the server ends the session (shutdown, pg_terminate_backend, ..).
        (Some(code), _) if code.starts_with("57P") => {
            (ErrorKind::ConnectionLost, "the server ended the connection")
        }
        // The server ends a transaction, and with it the session, that idled for too long.
        (Some("25P03" | "25P04"), _) => (
            ErrorKind::ConnectionLost,
            "the server ended the connection: the transaction was idle, or open, for too long",
        ),
        _ if is_fatal(error) => (ErrorKind::ConnectionLost, "the server ended the connection"),
        (Some("25P02"), _) => (
            ErrorKind::TransactionAborted,
            "an earlier statement failed: the transaction can only be rolled back",
        ),
        // The last two are SQLite's: SQLITE_CONSTRAINT_UNIQUE and SQLITE_CONSTRAINT_PRIMARYKEY.
        (Some("23505" | "23P01" | "2067" | "1555"), _) => (
            ErrorKind::Conflict,
            "the row would contradict another one: a value that is to be unique is taken",
        ),
        _ => (ErrorKind::Database, "the database refused the statement"),
    }
}
