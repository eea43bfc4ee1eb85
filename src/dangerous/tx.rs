//! The transaction that reaches all tenants.

use std::fmt;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{AssertSqlSafe, Either, Execute, Executor, Postgres, Row as _, SqlStr};

use super::record::Record;
use super::statement::{self, Plain};
use crate::argument;
use crate::error::{Error, ErrorKind, is_connection_lost};
use crate::lease::{Lease, Traces};
use crate::tx::CommitError;

/// A transaction that reaches the rows of all tenants, and is on record if it is committed. Begun
/// by [`DangerousRegistry::begin`](crate::DangerousRegistry::begin).
///
/// `&mut tx` is a sqlx [`Executor`]. Statements are sent as they are: no context is set and
/// **nothing narrows them down**, so that what is to be one tenant's has to say so. Policies hold
/// the role or not, as it was made. Refused are transaction control as text, `COPY`, and a change
/// of the settings that statements are read by.
///
/// # Cancel safety
///
/// Dropping the future of a statement leaves the transaction usable; the next statement waits for
/// the end of the abandoned one.
///
/// # Drop
///
/// Rolls back, by closing the connection in the background; it needs no runtime in scope and does
/// not block. No row is kept then, and a second event at WARN says so.
#[must_use = "a transaction that is dropped is rolled back, and leaves no record"]
pub struct DangerousTx {
    lease: Lease,
    /// As the column `transaction` of the record has it.
    number: String,
    end: End,
}

/// What is known of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing that would keep anything was sent.
    Open,
    /// COMMIT was sent, and the server has not said what became of it.
    Committing,
    /// The server has committed.
    Committed,
}

/// Raised by [`DangerousTx::commit`] where the transaction is another one than was begun.
const ANOTHER_TRANSACTION: &str = "TN017";

impl DangerousTx {
    /// One round trip. `None` if the connection, which was idle, turned out dead: nothing was done
    /// then, and it may be tried on another.
    pub(super) async fn begin(
        mut lease: Lease,
        record: &Record<'_>,
    ) -> Result<Option<Self>, Error> {
        let connection = lease.connection()?;
        // Nothing of it reaches anybody: the connection is closed, whatever becomes of this.
        connection.closes_after(Traces::Lasting);
        let begin = format!("{}{}", connection.settings_of_transaction(), record.begin());
        lease.begins_transaction();
        let begun = sqlx::raw_sql(AssertSqlSafe(begin))
            .fetch_one(lease.connection()?.raw())
            .await;
        match begun.and_then(|row| row.try_get(0)).map_err(Error::from) {
            Ok(number) => {
                let tx = Self {
                    lease,
                    number,
                    end: End::Open,
                };
                tx.tell("dangerous access to all tenants has begun");
                Ok(Some(tx))
            }
            Err(error) if error.kind() != ErrorKind::ConnectionLost => Err(error),
            Err(error) => {
                lease.discard();
                match lease.opened_now() {
                    true => Err(error),
                    false => Ok(None),
                }
            }
        }
    }

    /// The number of the transaction, as the column `transaction` of its record and the events
    /// have it.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// Commits, in one round trip. `Ok` means that the server has committed, the record with it.
    ///
    /// The message is a comparison of the transaction's number with that which was begun, and
    /// `COMMIT`. The comparison fails in a transaction that has failed before, in another one and
    /// outside any, where `COMMIT` alone would report success.
    ///
    /// # Errors
    ///
    /// * [`CommitError::RolledBack`]: nothing was kept. Also when a deferred constraint failed.
    /// * [`CommitError::OutcomeUnknown`]: the connection was lost before the server's answer came,
    ///   or the transaction is not the one that was begun.
    ///
    /// # Cancel safety
    ///
    /// Dropped after the first poll, the outcome is unknown, and an event at WARN says so.
    pub async fn commit(mut self) -> Result<(), CommitError> {
        self.lease.connection().map_err(CommitError::RolledBack)?;
        let message = format!(
            "DO $$ BEGIN \
               IF pg_catalog.pg_current_xact_id()::pg_catalog.text <> '{}' THEN \
                 RAISE EXCEPTION USING ERRCODE = '{ANOTHER_TRANSACTION}'; \
               END IF; \
             END $$; COMMIT",
            self.number
        );
        self.end = End::Committing;
        let Err(error) = self.send(&message).await else {
            self.end = End::Committed;
            self.lease.finished();
            return Ok(());
        };
        let error = match error.code().as_deref() {
            Some(ANOTHER_TRANSACTION) => CommitError::OutcomeUnknown(error),
            _ => CommitError::judge(error),
        };
        if error.is_rolled_back() {
            self.end = End::Open;
        }
        Err(error)
    }

    /// Rolls back, and waits until the server has done so. No record is kept, and a second event at
    /// WARN says so.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConnectionLost`]: the server rolls back by itself when it notices.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, the transaction is rolled back as by dropping the guard.
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.send("ROLLBACK").await?;
        self.lease.finished();
        Ok(())
    }

    /// Sends a message of the simple protocol.
    async fn send(&mut self, message: &str) -> Result<(), Error> {
        let connection = self.lease.connection()?.raw();
        let sent = connection.execute(AssertSqlSafe(message)).await;
        sent.map(drop).map_err(|error| self.seen(error).into())
    }

    /// Gives the connection up if the error was its last.
    fn seen(&mut self, error: sqlx::Error) -> sqlx::Error {
        if is_connection_lost(&error) {
            self.lease.discard();
        }
        error
    }

    /// An event for whoever watches over such access, without a word of what anybody wrote.
    fn tell(&self, what: &'static str) {
        let database = self.lease.database();
        tracing::warn!(target: "tenantry::dangerous", transaction = %self.number, database, "{what}");
    }

    fn run<'e>(
        &'e mut self,
        plain: Result<Plain, Error>,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>> {
        Box::pin(async_stream::try_stream! {
            let connection = self.lease.connection()?;
            let plain = plain?.on(connection)?;
            let mut failure = None;
            {
                let mut answers = connection.raw().fetch_many(plain);
                while let Some(answer) = answers.next().await {
                    match answer {
                        Ok(answer) => yield answer,
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    }
                }
            }
            if let Some(error) = failure {
                Err(self.seen(error))?;
            }
        })
    }
}

impl Drop for DangerousTx {
    fn drop(&mut self) {
        match self.end {
            End::Open => self.tell("dangerous access was rolled back: there is no record of it"),
            End::Committing => {
                self.tell(
                    "dangerous access has ended, and nobody can tell whether it is on record",
                );
            }
            End::Committed => {}
        }
    }
}

impl<'c> Executor<'c> for &'c mut DangerousTx {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let plain = Plain::new(query);
        self.run(plain)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let plain = Plain::new(query);
        Box::pin(async move {
            let connection = self.lease.connection()?;
            let plain = plain?.on(connection)?;
            let answer = connection.raw().fetch_optional(plain).await;
            answer.map_err(|error| self.seen(error))
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            statement::check(sql.as_str())?;
            let connection = self.lease.connection()?;
            connection.may_prepare()?;
            let prepared = connection.raw().prepare_with(sql, parameters).await;
            prepared.map_err(|error| self.seen(error))
        })
    }

    #[doc(hidden)]
    fn describe<'e>(
        self,
        _sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async { Err(argument::describe_is_for_macros().into()) })
    }
}

impl fmt::Debug for DangerousTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DangerousTx")
            .field("number", &self.number)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
