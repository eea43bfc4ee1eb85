//! The way to the rows of all tenants: with a reason, as a role of its own, and on record.

mod record;
mod statement;
mod tx;

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::slots::Slots;

use record::Record;

pub use tx::DangerousTx;

/// Begins transactions that reach the rows of all tenants. Made by
/// [`TenantRegistry::dangerous`](crate::TenantRegistry::dangerous).
///
/// It is for support and maintenance, where a statement has no tenant or more than one. Each
/// transaction
///
/// * runs as a role of its own, which no tenant's statement ever has, on a connection that is
///   opened for it and closed behind it;
/// * begins with a row of `tenantry.dangerous_access`: who, why, when, as which role. The row is
///   part of the transaction: what was committed is on record, and the role can neither change nor
///   remove it, see [`sql::DangerousAccess`](crate::sql::DangerousAccess);
/// * is told by a `tracing` event at WARN with the target `tenantry::dangerous`.
///
/// **A transaction that is rolled back leaves no row**, also if it has read all there is. Of such a
/// one the events remain: one when it began, one when it ended without a commit. Keep them, and
/// commit what only reads, so that it is on record.
///
/// The events hold the name of the database and the number of the transaction, which is the column
/// `transaction` of its row: with it the reason is found. Actor and reason are in no event of any
/// level. They are free text of people, may name a tenant's customer, and logs are read by more
/// people than the table.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct DangerousRegistry {
    slots: Arc<Slots>,
}

impl DangerousRegistry {
    pub(crate) fn new(slots: Arc<Slots>) -> Result<Self, Error> {
        slots.dangerous_database()?;
        Ok(Self { slots })
    }

    /// Opens a connection and begins a transaction that is on record as this actor's, for this
    /// reason; one round trip beside the opening, READ COMMITTED unless the role is configured
    /// otherwise.
    ///
    /// The actor has 1 to 255 bytes and the reason 1 to 2,000, not all of them white space, and
    /// neither holds a NUL byte. The server gets both as quoted values; while the transaction
    /// begins, `pg_stat_activity` shows them to superusers and to the role itself.
    ///
    /// ```no_run
    /// # use tenantry::{Error, TenantRegistry};
    /// # async fn example(registry: TenantRegistry) -> Result<(), Error> {
    /// let mut tx = registry
    ///     .dangerous()?
    ///     .begin("sam@support", "ticket 4711: invoices without a number")
    ///     .await?;
    /// let fixed = sqlx::query("UPDATE invoices SET number = id WHERE number IS NULL")
    ///     .execute(&mut tx)
    ///     .await?;
    /// tx.commit().await?;
    /// # let _ = fixed;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`InvalidOption`]: actor or reason are not as described. Nothing was sent.
    /// * [`Installation`]: the database is not prepared, the message says what to run.
    /// * [`Preflight`]: the role could do away with its record, or is not the one that was
    ///   configured.
    /// * [`Connect`], [`AcquireTimeout`], [`Saturated`], [`Closed`]: there is no connection.
    /// * [`Database`]: the server refused the row, and there is no transaction.
    ///
    /// [`InvalidOption`]: crate::ErrorKind::InvalidOption
    /// [`Installation`]: crate::ErrorKind::Installation
    /// [`Preflight`]: crate::ErrorKind::Preflight
    /// [`Connect`]: crate::ErrorKind::Connect
    /// [`AcquireTimeout`]: crate::ErrorKind::AcquireTimeout
    /// [`Saturated`]: crate::ErrorKind::Saturated
    /// [`Closed`]: crate::ErrorKind::Closed
    /// [`Database`]: crate::ErrorKind::Database
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a transaction that was begun ends with its connection. Nothing was read, so
    /// there is no event.
    pub async fn begin(&self, actor: &str, reason: &str) -> Result<DangerousTx, Error> {
        let record = Record::new(actor, reason)?;
        loop {
            let lease = self.slots.lease_dangerous().await?;
            if let Some(tx) = DangerousTx::begin(lease, &record).await? {
                return Ok(tx);
            }
        }
    }
}

impl fmt::Debug for DangerousRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DangerousRegistry").finish_non_exhaustive()
    }
}
