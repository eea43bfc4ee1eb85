//! The side that writes.

use async_trait::async_trait;

use super::ReadRepository;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::tx::TenantTx;

/// What is done to one kind of rows.
///
/// A method takes a `&mut` [`TenantTx`] and never begins nor ends one: what is done with the same
/// transaction, through however many repositories, is kept or undone as a whole.
///
/// ```
/// # use std::sync::Arc;
/// # use tenantry::repository::WriteRepository;
/// # use tenantry::{Error, TenantScope};
/// # struct Case { id: i64 }
/// # struct NewCase;
/// # struct Note;
/// struct Desk {
///     cases: Arc<dyn WriteRepository<Id = i64, Row = Case, Draft = NewCase>>,
///     notes: Arc<dyn WriteRepository<Id = i64, Row = Note, Draft = (i64, String)>>,
/// }
///
/// impl Desk {
///     async fn open(&self, scope: &TenantScope, case: &NewCase) -> Result<Case, Error> {
///         let mut tx = scope.begin().await?;
///         let case = self.cases.insert(&mut tx, case).await?;
///         let note = (case.id, "opened".to_owned());
///         self.notes.insert(&mut tx, &note).await?;
///         tx.commit().await?;
///         Ok(case)
///     }
/// }
/// ```
///
/// Rows have a version, which each change raises. Who changes a row says which version has been
/// read, and nobody's change is overwritten unseen.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] leaves a transaction that can only be rolled back, or back to a
/// savepoint, as any error of a statement does; [`ErrorKind::NotFound`] and
/// [`ErrorKind::StaleVersion`] do not.
///
/// # Cancel safety
///
/// All methods, of any implementation in plain sqlx: as a statement of the transaction. It may
/// have been carried out, and is kept if the transaction is committed.
#[async_trait]
pub trait WriteRepository: ReadRepository {
    /// What a new row is made of.
    type Draft: Send + Sync;

    /// Makes a row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`], and those of a statement.
    async fn insert(&self, tx: &mut TenantTx, draft: &Self::Draft) -> Result<Self::Row, Error>;

    /// Makes many rows by one statement (`INSERT .. SELECT .. FROM unnest(..)`), all of them or
    /// none, and says how many. It does not say which, because PostgreSQL does not promise in
    /// which order it returns them.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    async fn insert_many(&self, tx: &mut TenantTx, drafts: &[Self::Draft]) -> Result<u64, Error>;

    /// Changes a row to be as this one, and returns it as it is now. The row's id says which, its
    /// version as of when it was read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], [`ErrorKind::StaleVersion`] if it was changed since it was read
    /// (see [`missed`](super::missed)), [`ErrorKind::Conflict`], and those of a statement.
    async fn update(&self, tx: &mut TenantTx, row: &Self::Row) -> Result<Self::Row, Error>;

    /// Makes a row, or changes the one that is there under the same unique value, whatever its
    /// version; returns it as it is now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] with another unique value than that, and those of a statement.
    async fn upsert(&self, tx: &mut TenantTx, draft: &Self::Draft) -> Result<Self::Row, Error>;

    /// Removes the row of this id, if it has this version.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], [`ErrorKind::StaleVersion`], and those of a statement.
    async fn delete(&self, tx: &mut TenantTx, id: &Self::Id, version: i64) -> Result<(), Error>;
}
