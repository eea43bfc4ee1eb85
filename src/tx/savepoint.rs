//! Savepoints.

use std::fmt::{self, Write as _};
use std::ops::{Deref, DerefMut};

use super::TenantTx;
use crate::error::Error;

impl TenantTx {
    /// Sets a savepoint, in one round trip. What is done through the guard can be rolled back on
    /// its own.
    ///
    /// Tenant and user are those of the transaction, before, within and after: they are said
    /// again by every statement, so that rolling back to a savepoint cannot bring back others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Database`](crate::ErrorKind::Database) with code 25P02 if the transaction has
    /// failed already, [`ErrorKind::ConnectionLost`](crate::ErrorKind::ConnectionLost).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropped half-way, nobody knows whether the savepoint is there, so that the
    /// transaction can only be rolled back; `commit` then says so.
    pub async fn savepoint(&mut self) -> Result<TenantSavepoint<'_>, Error> {
        self.settle().await?;
        let number = self.savepoints.depth + 1;
        self.send_whole(&format!("SAVEPOINT {}", name(number)))
            .await?;
        self.savepoints.depth = number;
        Ok(TenantSavepoint {
            tx: self,
            number,
            is_open: true,
        })
    }
}

/// A savepoint of a [`TenantTx`], to which it dereferences: `&mut *savepoint` is what takes a
/// statement, and what a method gets that takes a `&mut TenantTx`.
///
/// ```no_run
/// # async fn example(tx: &mut tenantry::TenantTx) -> Result<(), tenantry::Error> {
/// let mut savepoint = tx.savepoint().await?;
/// let inserted = sqlx::query("INSERT INTO labels (name) VALUES ('new')")
///     .execute(&mut *savepoint)
///     .await;
/// match inserted {
///     Ok(_) => savepoint.release().await?,
///     Err(_) => savepoint.rollback().await?, // the transaction goes on
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Drop
///
/// Rolls back to the savepoint: not at once, but in the same message as, and before, the next
/// thing that is done with the transaction.
#[must_use = "a savepoint that is dropped is rolled back to"]
pub struct TenantSavepoint<'t> {
    tx: &'t mut TenantTx,
    number: usize,
    is_open: bool,
}

impl TenantSavepoint<'_> {
    /// Keeps what was done since, as part of the transaction.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Database`](crate::ErrorKind::Database) with code 25P02 if a statement since
    /// has failed. The transaction then goes on as if the guard had been dropped.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: see [`TenantTx::savepoint`].
    pub async fn release(mut self) -> Result<(), Error> {
        self.tx.settle().await?;
        let message = format!("RELEASE SAVEPOINT {}", name(self.number));
        self.tx.send_whole(&message).await?;
        self.left();
        Ok(())
    }

    /// Undoes what was done since; the transaction goes on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConnectionLost`](crate::ErrorKind::ConnectionLost).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: see [`TenantTx::savepoint`].
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.tx.savepoints.abandon(self.number);
        self.is_open = false;
        self.tx.settle().await
    }

    fn left(&mut self) {
        let depth = self.number - 1;
        self.tx.savepoints.depth = depth;
        self.tx.said.released(depth);
        self.is_open = false;
        #[cfg(feature = "testing")]
        self.tx.release_doubles();
    }
}

impl Deref for TenantSavepoint<'_> {
    type Target = TenantTx;

    fn deref(&self) -> &TenantTx {
        self.tx
    }
}

impl DerefMut for TenantSavepoint<'_> {
    fn deref_mut(&mut self) -> &mut TenantTx {
        self.tx
    }
}

impl Drop for TenantSavepoint<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.tx.savepoints.abandon(self.number);
        }
    }
}

impl fmt::Debug for TenantSavepoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantSavepoint")
            .field("number", &self.number)
            .field("tx", &self.tx)
            .finish()
    }
}

/// The savepoints that the server has, and the one that it has yet to roll back to.
#[derive(Debug, Default)]
pub(super) struct Stack {
    depth: usize,
    abandoned: Option<usize>,
}

impl Stack {
    /// How many savepoints are set.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    fn abandon(&mut self, number: usize) {
        self.abandoned = Some(self.abandoned.map_or(number, |lower| lower.min(number)));
    }

    /// What is to be sent before anything else, if a guard has been dropped. `ROLLBACK TO` comes
    /// first in it: in an aborted transaction the server takes nothing else.
    pub(super) fn unwind(&self) -> Option<String> {
        let name = name(self.abandoned?);
        let mut message = String::new();
        let _ = write!(
            message,
            "ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}; "
        );
        Some(message)
    }

    pub(super) fn unwound(&mut self) {
        if let Some(number) = self.abandoned.take() {
            self.depth = number - 1;
        }
    }
}

/// Used again when the savepoint is left: up to PostgreSQL 16 pg_stat_statements keeps each name as a
/// statement of its own (<https://www.postgresql.org/docs/17/release-17.html>).
fn name(number: usize) -> String {
    format!("tenantry_{number}")
}
