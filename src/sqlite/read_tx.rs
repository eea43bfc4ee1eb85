//! The transaction that cannot write.

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::sqlite::{SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo};
use sqlx::{Either, Execute, Executor, SqlStr, Sqlite};

use super::tx::SqliteTx;
use crate::context::TenantContext;
use crate::error::Error;
use crate::tenant::TenantId;

/// A transaction that only reads: all its statements see the file as it was at the first of them,
/// whatever is written meanwhile. It waits for no writer, and none waits for it.
///
/// What writes is refused before it is sent; and a commit is none to the engine.
///
/// # Drop
///
/// As [`SqliteTx`].
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct SqliteReadTx(SqliteTx);

impl SqliteReadTx {
    pub(super) fn new(tx: SqliteTx) -> Self {
        Self(tx)
    }

    /// Who acts.
    pub fn context(&self) -> &TenantContext {
        self.0.context()
    }

    /// Whose data it is.
    pub fn tenant(&self) -> &TenantId {
        self.0.tenant()
    }

    /// Ends the transaction.
    ///
    /// # Errors
    ///
    /// As [`SqliteTx::rollback`].
    ///
    /// # Cancel safety
    ///
    /// As [`SqliteTx::rollback`].
    pub async fn rollback(self) -> Result<(), Error> {
        self.0.rollback().await
    }
}

impl<'c> Executor<'c> for &'c mut SqliteReadTx {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        self.0.fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<SqliteRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        self.0.fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, Result<SqliteStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.0.prepare_with(sql, parameters)
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Sqlite>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.0.describe(sql)
    }
}
