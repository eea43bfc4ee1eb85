//! What a read needs.

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Execute, Executor, Postgres, SqlStr};

use crate::argument::Admitted;
use crate::context::TenantContext;
use crate::scope::TenantScope;
use crate::tx::{TenantReadTx, TenantTx};

/// What a method that only reads takes, so that it can be called with a scope, with a read-only
/// transaction and with a transaction.
///
/// `&mut reader` is a sqlx [`Executor`] for SELECT, VALUES, TABLE, SHOW, and WITH and EXPLAIN of
/// such; what writes or locks rows is refused before it is sent. It is a concrete type because sqlx's trait cannot be a
/// `dyn` one.
///
/// ```
/// # use tenantry::{Error, Reader, TenantScope};
/// async fn count(mut reader: Reader<'_>) -> Result<i64, Error> {
///     Ok(sqlx::query_scalar("SELECT count(*) FROM invoices")
///         .fetch_one(&mut reader)
///         .await?)
/// }
///
/// # async fn example(scope: TenantScope) -> Result<(), Error> {
/// let outside = count((&scope).into()).await?;
/// let mut tx = scope.begin().await?;
/// let inside = count((&mut tx).into()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Scope(&'a TenantScope),
    Tx(&'a mut TenantTx),
}

impl Reader<'_> {
    /// Who acts.
    pub fn context(&self) -> &TenantContext {
        match &self.0 {
            Source::Scope(scope) => scope.context(),
            Source::Tx(tx) => tx.context(),
        }
    }

    /// The same reader for a call that takes one by value.
    pub fn reborrow(&mut self) -> Reader<'_> {
        Reader(match &mut self.0 {
            Source::Scope(scope) => Source::Scope(scope),
            Source::Tx(tx) => Source::Tx(tx),
        })
    }
}

#[cfg(feature = "testing")]
impl Reader<'_> {
    /// The transaction that is read in, if there is one.
    pub(crate) fn tx(&mut self) -> Option<&mut TenantTx> {
        match &mut self.0 {
            Source::Scope(_) => None,
            Source::Tx(tx) => Some(tx),
        }
    }
}

impl<'a> From<&'a TenantScope> for Reader<'a> {
    fn from(scope: &'a TenantScope) -> Self {
        Self(Source::Scope(scope))
    }
}

impl<'a> From<&'a mut TenantTx> for Reader<'a> {
    fn from(tx: &'a mut TenantTx) -> Self {
        Self(Source::Tx(tx))
    }
}

impl<'a> From<&'a mut TenantReadTx> for Reader<'a> {
    fn from(tx: &'a mut TenantReadTx) -> Self {
        Self(Source::Tx(tx.inner()))
    }
}

impl<'c> Executor<'c> for &'c mut Reader<'_> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        match &mut self.0 {
            Source::Scope(scope) => scope.run(scope.admit(query).and_then(Admitted::only_reads)),
            Source::Tx(tx) => {
                let admitted = tx.admit(query).and_then(Admitted::only_reads);
                tx.run(admitted)
            }
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        match &mut self.0 {
            Source::Scope(scope) => {
                scope.run_optional(scope.admit(query).and_then(Admitted::only_reads))
            }
            Source::Tx(tx) => {
                let admitted = tx.admit(query).and_then(Admitted::only_reads);
                tx.run_optional(admitted)
            }
        }
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        match &mut self.0 {
            Source::Scope(scope) => scope.prepare_with(sql, parameters),
            Source::Tx(tx) => tx.prepare_with(sql, parameters),
        }
    }

    #[doc(hidden)]
    fn describe<'e>(
        self,
        sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        match &mut self.0 {
            Source::Scope(scope) => scope.describe(sql),
            Source::Tx(tx) => tx.describe(sql),
        }
    }
}
