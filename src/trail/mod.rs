//! Who did what, and that nobody has changed it since.

mod entry;
mod query;
mod report;

use sqlx::Row as _;

use crate::error::Error;
use crate::reader::Reader;
use crate::tx::TenantTx;

pub use entry::TrailEntry;
pub use query::{TrailQuery, TrailRecord};
pub use report::{TrailHead, TrailReport};

/// The audit log of a tenant: append-only, and chained so that a change or a removal is noticed.
///
/// An entry is committed with the transaction it was recorded in, or not at all. Entries are
/// numbered from 1, without gaps, in the order in which they were committed, so that none appears
/// later between those somebody has read. Each has the hash of the one before it in its own.
///
/// Those who record do not wait for each other: an entry is chained when its transaction commits,
/// and only then the tenant's newest entry is locked. Tenants never wait for each other. Under
/// REPEATABLE READ and SERIALIZABLE, a commit fails with 40001 if somebody else of the tenant has
/// recorded since the transaction began to read; [`TenantScope::transaction`] repeats it.
///
/// It is kept in what [`Installation::trail`](crate::sql::Installation::trail) makes. Who is not
/// to be trusted with what is told there.
///
/// [`TenantScope::transaction`]: crate::TenantScope::transaction
///
/// ```no_run
/// # use serde_json::json;
/// # use tenantry::{Error, TenantScope, Trail, TrailEntry, TrailQuery};
/// # async fn example(scope: TenantScope) -> Result<(), Error> {
/// let mut tx = scope.begin().await?;
/// let entry = TrailEntry::new("invoice.pay")
///     .object("invoice", "INV-AXO-00001")
///     .before(json!({ "paid": false }))
///     .after(json!({ "paid": true }));
/// Trail::record(&mut tx, &entry).await?;
/// tx.commit().await?;
///
/// let history = TrailQuery::new().object("invoice", "INV-AXO-00001");
/// for record in Trail::page((&scope).into(), &history).await? {
///     println!("{} {:?} {}", record.number(), record.actor(), record.action());
/// }
/// assert!(Trail::verify((&scope).into()).await?.is_sound());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Trail;

impl Trail {
    /// Records an entry in the transaction, with the user of its context as the actor.
    ///
    /// In a single statement on a scope, call `tenantry.record_in_trail(action, object_kind,
    /// object_id, before, after)`.
    ///
    /// # Errors
    ///
    /// - [`InvalidOption`]: the entry is not as it should be;
    /// - those of any statement. The server refuses a `\u0000` in the values (22P05).
    ///
    /// [`InvalidOption`]: crate::ErrorKind::InvalidOption
    ///
    /// # Cancel safety
    ///
    /// Dropped while the server is asked, the transaction can only be rolled back: what it did
    /// would have an entry or none, and nobody could tell.
    pub async fn record(tx: &mut TenantTx, entry: &TrailEntry) -> Result<(), Error> {
        entry.check()?;
        let query = sqlx::query("SELECT tenantry.record_in_trail($1, $2, $3, $4, $5)");
        tx.fetch_whole(entry.bind(query)).await?;
        Ok(())
    }

    /// The tenant's entries, a page at a time; the entries of the reader's own transaction are not
    /// among them.
    ///
    /// # Errors
    ///
    /// Those of any statement.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn page(
        mut reader: Reader<'_>,
        query: &TrailQuery,
    ) -> Result<Vec<TrailRecord>, Error> {
        query.run(&mut reader).await
    }

    /// Looks whether the trail is what was recorded, all of it: one statement that reads each entry
    /// of the tenant once.
    ///
    /// # Errors
    ///
    /// Those of any statement. A trail that is not sound is none: see [`TrailReport::is_sound`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn verify(reader: Reader<'_>) -> Result<TrailReport, Error> {
        Self::verify_from(reader, 0, &[]).await
    }

    /// As [`verify`](Self::verify), from a head on that an earlier report gave and that was kept
    /// where the owner of the database cannot change it: whatever was done to the trail before it,
    /// a chain that was forged from end to end included, that very entry has to be there.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn verify_since(reader: Reader<'_>, head: &TrailHead) -> Result<TrailReport, Error> {
        Self::verify_from(reader, head.number(), head.hash()).await
    }

    async fn verify_from(
        mut reader: Reader<'_>,
        number: i64,
        hash: &[u8],
    ) -> Result<TrailReport, Error> {
        let row = sqlx::query(
            "SELECT entries, head_number, head_hash, broken_at FROM tenantry.verify_trail($1, $2)",
        )
        .bind(number)
        .bind(hash)
        .fetch_one(&mut reader)
        .await?;
        let head = TrailHead::new(row.try_get(1)?, &row.try_get::<Vec<u8>, _>(2)?);
        Ok(TrailReport::new(row.try_get(0)?, head, row.try_get(3)?))
    }
}
