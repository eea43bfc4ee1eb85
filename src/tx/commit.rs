//! The end that keeps what was done, and the honest account of it.

use std::error::Error as StdError;
use std::fmt;

use super::TenantTx;
use crate::error::{Error, ErrorKind};

impl TenantTx {
    /// Commits, in one round trip. `Ok` means that the server has committed.
    ///
    /// The message is `SAVEPOINT`, the context once more, `COMMIT`. The savepoint fails in a
    /// transaction that has failed before and outside any, where `COMMIT` alone would report
    /// success; the context is for deferred triggers, which run inside `COMMIT`.
    ///
    /// # Errors
    ///
    /// * [`CommitError::RolledBack`]: nothing was kept. Also when a deferred constraint failed, and
    ///   when the connection is lost after a statement has failed.
    /// * [`CommitError::OutcomeUnknown`]: the connection was lost before the server's answer came,
    ///   or the transaction was ended through the escape hatch.
    ///
    /// # Cancel safety
    ///
    /// Dropped after the first poll, the outcome is unknown. The connection is brought in order or
    /// closed before anyone else gets it.
    pub async fn commit(mut self) -> Result<(), CommitError> {
        #[cfg(feature = "testing")]
        if self.doubles.is_some() {
            return self.commit_doubles().await.map_err(CommitError::RolledBack);
        }
        // COMMIT has not been sent yet; only somebody at the hatch could have sent another.
        let failed_before = match self.hatch.was_used() {
            true => CommitError::OutcomeUnknown,
            false => CommitError::RolledBack,
        };
        self.usable().map_err(failed_before)?;
        self.lease.connection().map_err(failed_before)?;
        self.is_still_the_same().await.map_err(failed_before)?;
        let unwind = self.savepoints.unwind();
        // After a refusal that no savepoint takes back nothing is kept, whether COMMIT arrives or
        // not. What went through the hatch may have been committed there.
        let is_doomed = self.failure.is_some() && unwind.is_none() && !self.hatch.was_used();
        let judge = match is_doomed {
            true => CommitError::RolledBack,
            false => CommitError::judge,
        };
        let message = format!(
            "{unwind}SAVEPOINT tenantry_commit; {context}COMMIT",
            unwind = unwind.unwrap_or_default(),
            context = self.assertion.set_local(),
        );
        self.send(&message).await.map_err(judge)?;
        self.lease.finished();
        Ok(())
    }
}

/// Why `commit` did not return `Ok`.
#[derive(Debug)]
#[non_exhaustive]
pub enum CommitError {
    /// The server has rolled the transaction back, or will: nothing of it was kept.
    RolledBack(Error),
    /// Nobody can tell whether the transaction was committed. The work must be idempotent to be
    /// repeated; otherwise, look first.
    OutcomeUnknown(Error),
}

impl CommitError {
    /// The server's own word that it refused something comes with the transaction's end, but for
    /// two cases: it was ending the session, or there was no transaction to be committed.
    pub(crate) fn judge(error: Error) -> Self {
        let no_transaction = error.code().as_deref() == Some("25P01");
        match error.kind() {
            ErrorKind::Database | ErrorKind::Conflict | ErrorKind::TransactionAborted
                if !no_transaction =>
            {
                Self::RolledBack(error)
            }
            _ => Self::OutcomeUnknown(error),
        }
    }

    /// Whether it is certain that nothing was kept.
    pub fn is_rolled_back(&self) -> bool {
        matches!(self, Self::RolledBack(_))
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RolledBack(_) => "the transaction was rolled back instead of committed",
            Self::OutcomeUnknown(_) => "nobody can tell whether the transaction was committed",
        })
    }
}

impl StdError for CommitError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::RolledBack(error) | Self::OutcomeUnknown(error) => Some(error),
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        // In other words than the source, which stands beneath it in every chain.
        match &error {
            CommitError::RolledBack(_) => {
                Self::new(ErrorKind::Commit, "nothing was committed").with_source(error)
            }
            CommitError::OutcomeUnknown(_) => Self::new(
                ErrorKind::Commit,
                "look whether it was committed before you do it again",
            )
            .with_unknown_outcome()
            .with_source(error),
        }
    }
}
