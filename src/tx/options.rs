//! How a transaction is begun.

use std::fmt::Write as _;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::quote;

/// The isolation levels of PostgreSQL. READ UNCOMMITTED is READ COMMITTED there, and left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// Each statement sees what was committed before it began.
    ReadCommitted,
    /// All statements see what was committed before the first of them began.
    RepeatableRead,
    /// As if the transactions ran one after the other.
    Serializable,
}

/// Options of a transaction. All of them travel in the message that begins it, and end with it.
///
/// The default is the server's: READ COMMITTED and READ WRITE, unless it is configured otherwise.
///
/// ```
/// use std::time::Duration;
/// use tenantry::TxOptions;
///
/// let options = TxOptions::default()
///     .serializable()
///     .lock_timeout(Duration::from_secs(3));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing by themselves, use `begin_with` or `transaction`"]
pub struct TxOptions {
    isolation: Option<IsolationLevel>,
    read_only: bool,
    deferrable: bool,
    timeouts: [Option<Duration>; TIMEOUTS.len()],
    role: Option<String>,
    search_path: Vec<String>,
    pub(crate) retry: super::RetryPolicy,
}

const TIMEOUTS: [&str; 3] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
];

impl TxOptions {
    /// The isolation level.
    pub fn isolation(mut self, level: IsolationLevel) -> Self {
        self.isolation = Some(level);
        self
    }

    /// `ISOLATION LEVEL SERIALIZABLE`.
    pub fn serializable(self) -> Self {
        self.isolation(IsolationLevel::Serializable)
    }

    /// `ISOLATION LEVEL REPEATABLE READ`.
    pub fn repeatable_read(self) -> Self {
        self.isolation(IsolationLevel::RepeatableRead)
    }

    /// `READ ONLY`: the server refuses writes. [`TenantScope::begin_read_only`] gives such a
    /// transaction a type of its own.
    ///
    /// [`TenantScope::begin_read_only`]: crate::TenantScope::begin_read_only
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// `DEFERRABLE`: a serializable, read-only transaction waits at its first statement until it
    /// can run without the risk of a serialization failure.
    pub fn deferrable(mut self) -> Self {
        self.deferrable = true;
        self
    }

    /// Cancels a statement that takes longer. Whole milliseconds, rounded up.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts[0] = Some(timeout);
        self
    }

    /// Fails a statement (SQLSTATE 55P03) that waits longer for a lock. Whole milliseconds,
    /// rounded up.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts[1] = Some(timeout);
        self
    }

    /// Ends the session if the transaction waits longer for its next statement. Whole
    /// milliseconds, rounded up.
    pub fn idle_in_transaction_session_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts[2] = Some(timeout);
        self
    }

    /// `SET LOCAL ROLE`: the transaction runs with the rights of this role, of which the
    /// registry's role must be a member.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    /// `SET LOCAL search_path`: the schemas in which unqualified names are looked up. Where the
    /// tenant has a schema of its own, that one comes before them.
    pub fn search_path<S: Into<String>>(mut self, schemas: impl IntoIterator<Item = S>) -> Self {
        self.search_path = schemas.into_iter().map(Into::into).collect();
        self
    }

    /// When and how often [`TenantScope::transaction`](crate::TenantScope::transaction) repeats.
    pub fn retry(mut self, policy: super::RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    #[cfg(feature = "testing")]
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The settings, then BEGIN.
    ///
    /// In this order because a setting that the server refuses then ends the message before there
    /// is a transaction. The statements of one message of the simple protocol share a transaction,
    /// which BEGIN turns into a block of its own, and the settings stay in it
    /// (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT>).
    ///
    /// The `schema` of a tenant that has one of its own comes first in the search path.
    pub(super) fn begin(&self, set_local: &str, schema: Option<&str>) -> Result<String, Error> {
        let mut text = String::from(set_local);
        for (name, timeout) in TIMEOUTS.iter().zip(self.timeouts) {
            if let Some(timeout) = timeout {
                let _ = write!(text, "SET LOCAL {name} = {}; ", milliseconds(timeout)?);
            }
        }
        let path = schema
            .into_iter()
            .chain(self.search_path.iter().map(String::as_str));
        let path = path.map(identifier).collect::<Result<Vec<_>, Error>>()?;
        if !path.is_empty() {
            let _ = write!(text, "SET LOCAL search_path = {}; ", path.join(", "));
        }
        if let Some(role) = &self.role {
            let _ = write!(text, "SET LOCAL ROLE {}; ", identifier(role)?);
        }
        text.push_str("BEGIN");
        text.push_str(match self.isolation {
            None => "",
            Some(IsolationLevel::ReadCommitted) => " ISOLATION LEVEL READ COMMITTED",
            Some(IsolationLevel::RepeatableRead) => " ISOLATION LEVEL REPEATABLE READ",
            Some(IsolationLevel::Serializable) => " ISOLATION LEVEL SERIALIZABLE",
        });
        if self.read_only {
            text.push_str(" READ ONLY");
        }
        if self.deferrable {
            text.push_str(" DEFERRABLE");
        }
        Ok(text)
    }
}

fn identifier(name: &str) -> Result<String, Error> {
    if name.is_empty() || name.len() > 63 || name.contains('\0') {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "the name of a role or a schema has 1 to 63 bytes and no NUL byte",
        ));
    }
    Ok(quote::identifier(name))
}

/// PostgreSQL reads 0 as "no time-out", which a very short one must not become.
fn milliseconds(timeout: Duration) -> Result<i32, Error> {
    i32::try_from(timeout.as_nanos().div_ceil(1_000_000).max(1)).map_err(|_| {
        Error::new(
            ErrorKind::InvalidOption,
            "a time-out of a transaction is at most 24 days",
        )
    })
}
