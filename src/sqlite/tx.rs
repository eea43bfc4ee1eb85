//! The transaction guard.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use sqlx::Connection as _;
use sqlx::sqlite::{
    SqliteConnection, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo,
};
use sqlx::{Either, Execute, Executor, SqlSafeStr, SqlStr, Sqlite};

use super::connection::Connection;
use super::lease::Lease;
use super::statement::{self, Admitted, Kind, Place};
use crate::context::TenantContext;
use crate::error::{Error, ErrorKind, is_connection_lost};
use crate::tenant::TenantId;
use crate::tx::CommitError;

/// A transaction on one tenant's file.
///
/// It is begun by [`SqliteScope::begin`](super::SqliteScope::begin), and `&mut tx` is a sqlx
/// [`Executor`]. It is the only one that writes to its file until it ends, so that nothing it read
/// has changed when it writes.
///
/// It takes what changes the schema as well, and several statements in one text. Transaction
/// control as text, `ATTACH`, `DETACH`, `VACUUM` and a `PRAGMA` that changes the connection are
/// refused before they are sent.
///
/// Where SQLite ends a transaction by itself (`ON CONFLICT ROLLBACK`, a full disk), every later
/// statement and the commit get [`ErrorKind::TransactionAborted`]: nothing runs outside the
/// transaction that was meant to be inside.
///
/// # Cancel safety
///
/// Dropping the future of a statement leaves the transaction usable; the next statement waits for
/// the end of the abandoned one, which may take effect.
///
/// # Drop
///
/// Rolls back, in a task of the registry's runtime; it needs no runtime in scope and does not
/// block. The connection is free again when that is done, and closed if it takes longer than
/// [`SqlitePoolOptions::abandoned_grace`](super::SqlitePoolOptions::abandoned_grace).
#[must_use = "a transaction that is dropped is rolled back"]
pub struct SqliteTx {
    lease: Lease,
    context: Arc<TenantContext>,
    place: Place,
    /// A statement was sent, and its end has not been seen.
    unsettled: bool,
    /// The schema was changed since statements were prepared.
    changed_schema: bool,
}

impl SqliteTx {
    pub(super) async fn begin(
        mut lease: Lease,
        context: &Arc<TenantContext>,
        writes: bool,
    ) -> Result<Self, Error> {
        // Takes the right to write now: later, what was read may be out of date.
        let (begin, place) = match writes {
            true => ("BEGIN IMMEDIATE", Place::Transaction),
            false => ("BEGIN", Place::ReadTransaction),
        };
        lease.begins_transaction()?;
        let mut tx = Self {
            lease,
            context: Arc::clone(context),
            place,
            unsettled: false,
            changed_schema: false,
        };
        tx.send(begin).await?;
        Ok(tx)
    }

    /// Who acts.
    pub fn context(&self) -> &TenantContext {
        &self.context
    }

    /// Whose data it is.
    pub fn tenant(&self) -> &TenantId {
        self.context.tenant()
    }

    /// Commits. `Ok` means that SQLite has committed, and under
    /// [`SqliteSynchronous::Full`](super::SqliteSynchronous::Full) that it is on the disk.
    ///
    /// # Errors
    ///
    /// * [`CommitError::RolledBack`]: nothing was kept. Also when a deferred foreign key was
    ///   violated, and when the transaction had been rolled back before.
    /// * [`CommitError::OutcomeUnknown`]: the disk failed during the commit.
    ///
    /// # Cancel safety
    ///
    /// Dropped after the first poll, the outcome is unknown. Nobody gets the connection before it
    /// is outside the transaction.
    pub async fn commit(mut self) -> Result<(), CommitError> {
        self.commit_here().await
    }

    async fn commit_here(&mut self) -> Result<(), CommitError> {
        self.settle().await.map_err(CommitError::RolledBack)?;
        let connection = self.lease.connection();
        connection.map_err(CommitError::RolledBack)?.may_commit();
        self.send("COMMIT").await.map_err(judge)?;
        self.lease.finished();
        Ok(())
    }

    /// Rolls back, and waits until that is done.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConnectionLost`]: nothing was kept, either.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, the transaction is rolled back as by dropping the guard.
    pub async fn rollback(mut self) -> Result<(), Error> {
        let connection = self.lease.connection()?;
        let done = async {
            connection.settle().await?;
            connection.roll_back().await
        };
        done.await.map_err(|error| self.seen(error))?;
        self.lease.finished();
        Ok(())
    }

    pub(super) fn raw(&mut self) -> Result<&mut SqliteConnection, Error> {
        Ok(&mut self.lease.connection()?.raw)
    }

    pub(super) fn has_changed_schema(&self) -> bool {
        self.lease.has_changed_schema()
    }

    /// For a connection that no pool knows of.
    pub(super) async fn commit_and_keep(mut self) -> Result<Connection, Error> {
        if let Err(error) = self.commit_here().await {
            self.close().await;
            return Err(error.into());
        }
        self.lease.into_connection().ok_or_else(|| {
            Error::new(
                ErrorKind::ConnectionLost,
                "the connection is its pool's, and goes back there",
            )
        })
    }

    /// Rolls back with the file's end. For a connection that no pool knows of.
    pub(super) async fn close(self) {
        if let Some(connection) = self.lease.into_connection() {
            connection.close().await;
        }
    }

    /// Sends a text of our own.
    pub(super) async fn send(&mut self, text: impl SqlSafeStr) -> Result<(), Error> {
        let sent = self.raw()?.execute(text.into_sql_str()).await;
        sent.map(drop).map_err(|error| self.seen(error).into())
    }

    /// Looks at an error on its way to the caller, and gives the connection up if it was the last.
    fn seen(&mut self, error: sqlx::Error) -> sqlx::Error {
        if is_connection_lost(&error) {
            self.lease.discard();
        }
        error
    }

    /// Before a statement: that there is a transaction for it. What runs outside is committed.
    async fn settle(&mut self) -> Result<(), Error> {
        if self.unsettled {
            let settled = self.lease.connection()?.settle().await;
            settled.map_err(|error| self.seen(error))?;
            self.unsettled = false;
        }
        if self.lease.connection()?.was_rolled_back() {
            return Err(Error::new(
                ErrorKind::TransactionAborted,
                "SQLite rolled the transaction back when an earlier statement failed",
            ));
        }
        if self.changed_schema {
            let cleared = self.raw()?.clear_cached_statements().await;
            cleared.map_err(|error| self.seen(error))?;
            self.changed_schema = false;
        }
        Ok(())
    }

    async fn ready_for(&mut self, admitted: &Admitted) -> Result<(), Error> {
        self.settle().await?;
        if admitted.kind == Kind::Schema {
            self.lease.changes_schema();
            self.changed_schema = true;
        }
        Ok(())
    }

    fn run<'e>(
        &'e mut self,
        admitted: Result<Admitted, Error>,
    ) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>> {
        Box::pin(async_stream::try_stream! {
            let admitted = admitted?;
            self.ready_for(&admitted).await?;
            let started = Instant::now();
            let mut failure = None;
            let mut is_whole = admitted.is_empty();
            self.unsettled = true;
            {
                let mut answers = self.raw()?.fetch_many(admitted);
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
            self.unsettled = false;
            self.lease.report_if_slow(started, self.context.tenant());
            if let Some(error) = failure {
                Err(self.seen(error))?;
            }
        })
    }

    fn run_optional<'e>(
        &'e mut self,
        admitted: Result<Admitted, Error>,
    ) -> BoxFuture<'e, Result<Option<SqliteRow>, sqlx::Error>> {
        Box::pin(async move {
            let admitted = admitted?;
            if !admitted.may_stop_at_a_row() {
                return first(self.run(Ok(admitted))).await;
            }
            self.ready_for(&admitted).await?;
            let started = Instant::now();
            self.unsettled = true;
            let mut answer = self.raw()?.fetch_optional(admitted).await;
            if let Ok(None) = answer {
                answer = self.lease.connection()?.settle().await.map(|()| None);
            }
            self.unsettled = false;
            self.lease.report_if_slow(started, self.context.tenant());
            answer.map_err(|error| self.seen(error))
        })
    }
}

/// SQLite's own word that it did not commit comes with nothing kept, but for a disk that failed:
/// what is in the journal by then may be found there later.
fn judge(error: Error) -> CommitError {
    /// The primary result code, in the low byte of the extended one.
    const SQLITE_IOERR: u32 = 10;
    let code = error.code().and_then(|code| code.parse::<u32>().ok());
    match code {
        Some(code) if code & 0xff != SQLITE_IOERR => CommitError::RolledBack(error),
        _ => CommitError::OutcomeUnknown(error),
    }
}

/// The first row, read to the end and not only to that row: an error may follow it.
pub(super) async fn first(
    mut answers: BoxStream<'_, Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>>,
) -> Result<Option<SqliteRow>, sqlx::Error> {
    let mut first = None;
    while let Some(answer) = answers.next().await {
        if let (Either::Right(row), None) = (answer?, &first) {
            first = Some(row);
        }
    }
    Ok(first)
}

impl<'c> Executor<'c> for &'c mut SqliteTx {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let admitted = Admitted::new(query, self.place);
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
        let admitted = Admitted::new(query, self.place);
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
            statement::admit(sql.as_str(), self.place)?;
            self.settle().await?;
            let prepared = self.raw()?.prepare_with(sql, parameters).await;
            prepared.map_err(|error| self.seen(error))
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

impl fmt::Debug for SqliteTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteTx")
            .field("context", self.context())
            .finish_non_exhaustive()
    }
}
