//! Optimistic locking.

use super::ReadRepository;
use super::read::not_found;
use crate::error::{Error, ErrorKind};
use crate::tx::TenantTx;

/// A row that can be told from others, and from what it was before.
pub trait Versioned {
    /// What the row is known by.
    type Id;

    /// The row's id.
    fn id(&self) -> Self::Id;

    /// Which version of the row this is. It grows with each change.
    fn version(&self) -> i64;
}

/// Why a statement with `WHERE id = $1 AND version = $2` met no row:
/// [`StaleVersion`](ErrorKind::StaleVersion) if there is a row of this id, else
/// [`NotFound`](ErrorKind::NotFound). Or, if that could not be found out, why not.
///
/// It asks [`find`](ReadRepository::find), in one more round trip, which only those pay who meet
/// none.
///
/// # Cancel safety
///
/// As [`find`](ReadRepository::find).
pub async fn missed<R>(repository: &R, tx: &mut TenantTx, id: &R::Id) -> Error
where
    R: ReadRepository + ?Sized,
{
    match repository.find(tx.into(), id).await {
        Ok(Some(_)) => stale(),
        Ok(None) => not_found(),
        Err(error) => error,
    }
}

pub(crate) fn stale() -> Error {
    Error::new(
        ErrorKind::StaleVersion,
        "the row was changed since it was read: read it again",
    )
}
