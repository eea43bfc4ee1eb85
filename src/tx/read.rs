//! The transaction that cannot write.

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Execute, Executor, Postgres, SqlStr};

use super::{CommitError, TenantTx};
use crate::context::TenantContext;
use crate::error::Error;

/// A transaction of one tenant that only reads: the server refuses writes, and the type system
/// keeps it away from methods that take a [`TenantTx`].
///
/// Methods that only read take a [`Reader`](crate::Reader), which is made from this, from a
/// [`TenantTx`] or from a [`TenantScope`](crate::TenantScope).
///
/// # Drop
///
/// As [`TenantTx`].
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct TenantReadTx(TenantTx);

impl TenantReadTx {
    pub(crate) fn new(tx: TenantTx) -> Self {
        Self(tx)
    }

    /// Who acts.
    pub fn context(&self) -> &TenantContext {
        self.0.context()
    }

    /// Ends the transaction, and says whether all that was read was consistent: under
    /// SERIALIZABLE only a commit does.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::commit`].
    ///
    /// # Cancel safety
    ///
    /// As [`TenantTx::commit`].
    pub async fn commit(self) -> Result<(), CommitError> {
        self.0.commit().await
    }

    /// Ends the transaction.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::rollback`].
    ///
    /// # Cancel safety
    ///
    /// As [`TenantTx::rollback`].
    pub async fn rollback(self) -> Result<(), Error> {
        self.0.rollback().await
    }

    pub(crate) fn inner(&mut self) -> &mut TenantTx {
        &mut self.0
    }
}

impl<'c> Executor<'c> for &'c mut TenantReadTx {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.inner().fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.inner().fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.inner().prepare_with(sql, parameters)
    }

    #[doc(hidden)]
    fn describe<'e>(
        self,
        sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.inner().describe(sql)
    }
}
