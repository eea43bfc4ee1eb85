//! The handle that statements are run on.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use sqlx::sqlite::{SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo};
use sqlx::{Either, Execute, Executor, SqlStr, Sqlite};

use super::files::{Files, Purpose};
use super::lease::Lease;
use super::read_tx::SqliteReadTx;
use super::statement::{self, Admitted, Kind, Place};
use super::tx::{SqliteTx, first};
use crate::context::TenantContext;
use crate::error::{Error, is_connection_lost};
use crate::tenant::TenantId;

/// A context bound to a registry of files: what a request, a job or a repository runs its
/// statements on.
///
/// `&scope` is a sqlx [`Executor`] for [`Sqlite`]: `query`, `query_as`, `query_scalar`,
/// `QueryBuilder`, streaming and prepared statements work as they do on a pool. It takes one
/// statement at a time, which reads or writes rows: SELECT, INSERT, REPLACE, UPDATE, DELETE, WITH,
/// VALUES, EXPLAIN and those PRAGMAs that only tell. Changes of the schema and several statements
/// in one text belong in a transaction, see [`begin`](Self::begin).
///
/// A scope holds no connection and keeps no file open. It is cheap to clone and may live as long
/// as one likes.
///
/// Who holds a [`SqliteTx`] and writes to the same file by the scope waits for itself, until
/// [`acquire_timeout`](super::SqlitePoolOptions::acquire_timeout).
///
/// # Cancel safety
///
/// A statement whose future or stream is dropped is stopped. Nobody gets its connection before.
/// Whether a write that was dropped took place is not known, as with any autocommit statement.
#[derive(Clone)]
pub struct SqliteScope {
    files: Arc<Files>,
    context: Arc<TenantContext>,
}

impl SqliteScope {
    pub(super) fn new(files: Arc<Files>, context: TenantContext) -> Self {
        Self {
            files,
            context: Arc::new(context),
        }
    }

    /// Who acts. SQLite does not get to know it: what it is for is the application's own affair.
    pub fn context(&self) -> &TenantContext {
        &self.context
    }

    /// Whose data it is.
    pub fn tenant(&self) -> &TenantId {
        self.context.tenant()
    }

    /// Begins a transaction that reads and writes, when it is its turn to write: there is one
    /// writer to a file at a time, and who comes waits in turn.
    ///
    /// # Errors
    ///
    /// [`TenantUnknown`], [`AcquireTimeout`], [`Saturated`], [`Connect`], [`Misrouted`],
    /// [`Installation`], what the migration returned, and [`Database`] with code 5 where another
    /// process wrote for longer than
    /// [`busy_timeout`](super::SqlitePoolOptions::busy_timeout).
    ///
    /// [`TenantUnknown`]: crate::ErrorKind::TenantUnknown
    /// [`AcquireTimeout`]: crate::ErrorKind::AcquireTimeout
    /// [`Saturated`]: crate::ErrorKind::Saturated
    /// [`Connect`]: crate::ErrorKind::Connect
    /// [`Misrouted`]: crate::ErrorKind::Misrouted
    /// [`Installation`]: crate::ErrorKind::Installation
    /// [`Database`]: crate::ErrorKind::Database
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if a transaction was begun, it is rolled back before anyone else gets its
    /// connection.
    pub async fn begin(&self) -> Result<SqliteTx, Error> {
        let lease = self.lease(Purpose::Write).await?;
        SqliteTx::begin(lease, &self.context, true).await
    }

    /// Begins a transaction that only reads.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_read_only(&self) -> Result<SqliteReadTx, Error> {
        let lease = self.lease(Purpose::Read).await?;
        let tx = SqliteTx::begin(lease, &self.context, false).await?;
        Ok(SqliteReadTx::new(tx))
    }

    /// Runs `work` in a transaction: commits if it returns `Ok`, rolls back if it returns `Err` or
    /// panics.
    ///
    /// It runs once. A transaction has the right to write from its beginning, so that there is no
    /// conflict after which it would be worth another attempt.
    ///
    /// ```no_run
    /// # use tenantry::{Error, sqlite::SqliteScope};
    /// # async fn example(scope: SqliteScope) -> Result<(), Error> {
    /// let total: i64 = scope
    ///     .transaction(|tx| {
    ///         Box::pin(async move {
    ///             sqlx::query("UPDATE invoices SET paid = 1 WHERE id = ?")
    ///                 .bind(7)
    ///                 .execute(&mut *tx)
    ///                 .await?;
    ///             let total = sqlx::query_scalar("SELECT sum(amount) FROM invoices WHERE paid")
    ///                 .fetch_one(tx)
    ///                 .await?;
    ///             Ok::<_, Error>(total)
    ///         })
    ///     })
    ///     .await?;
    /// # let _ = total;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `work` returned, or what beginning or committing returned.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe but for the commit: see [`SqliteTx::commit`].
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'t> FnOnce(&'t mut SqliteTx) -> BoxFuture<'t, Result<T, E>>,
        E: From<Error>,
    {
        let mut tx = self.begin().await?;
        match work(&mut tx).await {
            Ok(value) => {
                tx.commit().await.map_err(Error::from)?;
                Ok(value)
            }
            Err(error) => {
                // If this fails the connection is closed, which rolls back as well.
                let _ = tx.rollback().await;
                Err(error)
            }
        }
    }

    async fn lease(&self, purpose: Purpose) -> Result<Lease, Error> {
        self.files.lease(self.tenant(), purpose).await
    }

    /// A lease that is armed for the statement.
    async fn armed(&self, admitted: &Admitted) -> Result<Lease, Error> {
        let purpose = match admitted.kind {
            Kind::Read => Purpose::Read,
            Kind::Write | Kind::Schema => Purpose::Write,
        };
        let mut lease = self.lease(purpose).await?;
        lease.begins_statement();
        Ok(lease)
    }

    fn finish(&self, mut lease: Lease, error: Option<&sqlx::Error>, started: Instant) {
        lease.report_if_slow(started, self.tenant());
        if error.is_some_and(is_connection_lost) {
            lease.discard();
        } else {
            lease.finished();
        }
    }

    fn run<'e>(
        &'e self,
        admitted: Result<Admitted, Error>,
    ) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>> {
        Box::pin(async_stream::try_stream! {
            let admitted = admitted?;
            let mut lease = self.armed(&admitted).await?;
            let started = Instant::now();
            let mut failure = None;
            let mut is_whole = admitted.is_empty();
            {
                let mut answers = lease.connection()?.raw.fetch_many(admitted);
                while let Some(answer) = answers.next().await {
                    match answer {
                        Ok(answer) => {
                            is_whole = answer.is_left();
                            yield answer;
                        }
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    }
                }
            }
            if failure.is_none() && !is_whole {
                failure = Some(sqlx::Error::WorkerCrashed);
            }
            self.finish(lease, failure.as_ref(), started);
            if let Some(error) = failure {
                Err(error)?;
            }
        })
    }

    fn run_optional<'e>(
        &'e self,
        admitted: Result<Admitted, Error>,
    ) -> BoxFuture<'e, Result<Option<SqliteRow>, sqlx::Error>> {
        Box::pin(async move {
            let admitted = admitted?;
            if !admitted.may_stop_at_a_row() {
                return first(self.run(Ok(admitted))).await;
            }
            let mut lease = self.armed(&admitted).await?;
            let started = Instant::now();
            let mut answer = lease.connection()?.raw.fetch_optional(admitted).await;
            if let Ok(None) = answer {
                answer = lease.connection()?.settle().await.map(|()| None);
            }
            self.finish(lease, answer.as_ref().err(), started);
            answer
        })
    }
}

impl<'c> Executor<'c> for &'c SqliteScope {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let admitted = Admitted::new(query, Place::Scope);
        self.run(admitted)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<SqliteRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let admitted = Admitted::new(query, Place::Scope);
        self.run_optional(admitted)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, Result<SqliteStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            statement::admit(sql.as_str(), Place::Scope)?;
            let mut lease = self.lease(Purpose::Read).await?;
            lease.begins_statement();
            let started = Instant::now();
            let prepared = lease.connection()?.raw.prepare_with(sql, parameters).await;
            self.finish(lease, prepared.as_ref().err(), started);
            prepared
        })
    }

    #[doc(hidden)]
    fn describe<'e>(
        self,
        _sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx::Describe<Sqlite>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async { Err(statement::describe_is_for_macros().into()) })
    }
}

impl fmt::Debug for SqliteScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteScope")
            .field("context", self.context())
            .finish_non_exhaustive()
    }
}
