//! The transaction guard.

mod commit;
mod copy;
#[cfg(feature = "testing")]
mod doubles;
mod failure;
mod hatch;
mod options;
mod read;
mod retry;
mod said;
mod savepoint;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Either, Execute, Executor, Postgres, SqlStr};

use crate::argument::{self, Admitted, Place, Scoped};
use crate::assertion::Assertion;
use crate::context::TenantContext;
use crate::error::{Error, ErrorKind, is_connection_lost};
use crate::lease::Lease;
use crate::settings::ContextSettings;

pub use commit::CommitError;
pub use copy::TenantCopyIn;
#[cfg(feature = "testing")]
pub(crate) use doubles::{Participant, nobody_commits};
pub(crate) use failure::Failure;
pub use options::{IsolationLevel, TxOptions};
pub use read::TenantReadTx;
pub use retry::RetryPolicy;
pub use savepoint::TenantSavepoint;

/// A transaction of one tenant.
///
/// It is begun by [`TenantScope::begin`](crate::TenantScope::begin) with the whole context in
/// the message that begins it, and `&mut tx` is a sqlx [`Executor`]: each statement says the
/// context again, so that nothing a statement did to it lasts until the next one.
///
/// Where contexts are [signed](crate::TenantRegistryBuilder::signing_key) the message that begins it
/// says none: the first statement with arguments does, and what has none is refused before that.
///
/// What sqlx's transactions let through is refused with an error that says where it belongs:
/// transaction control as text, `SET` of the context, `COPY` (see
/// [`copy_in_raw`](Self::copy_in_raw)). Other statements that outlive a transaction (`LISTEN`,
/// `SET`, temporary tables, held cursors, ..) are allowed, and their traces are taken off the
/// connection before anyone else gets it.
///
/// Once the connection breaks, every method returns
/// [`ErrorKind::ConnectionLost`]: a transaction never goes on in another session.
///
/// # Cancel safety
///
/// Dropping the future of a statement leaves the transaction usable; the next statement waits
/// for the end of the abandoned one. Dropping a future of [`savepoint`](Self::savepoint), or of
/// one that ends a savepoint, leaves a transaction that can only be rolled back.
///
/// # Drop
///
/// Rolls back, in a task of the registry's runtime; it needs no runtime in scope and does not
/// block. The connection is free again when the server has confirmed it, and closed if that takes
/// longer than [`PoolOptions::abandoned_grace`](crate::PoolOptions::abandoned_grace).
#[must_use = "a transaction that is dropped is rolled back"]
pub struct TenantTx {
    lease: Lease,
    assertion: Arc<Assertion>,
    names: Arc<ContextSettings>,
    /// Set while a message is under way that decides which transaction we are in.
    unsettled: bool,
    savepoints: savepoint::Stack,
    said: said::Said,
    hatch: hatch::Hatch,
    /// The first since the transaction, or the last rollback to a savepoint, began.
    failure: Option<Failure>,
    /// What takes part where there is no server.
    #[cfg(feature = "testing")]
    doubles: Option<Box<doubles::Doubles>>,
}

impl TenantTx {
    /// One round trip. `None` if the connection, which was idle, turned out dead: nothing was done
    /// then, and it may be tried on another.
    pub(crate) async fn begin(
        mut lease: Lease,
        assertion: &Arc<Assertion>,
        names: &Arc<ContextSettings>,
        options: &TxOptions,
        schema: Option<&str>,
    ) -> Result<Option<Self>, Error> {
        let connection = lease.connection()?;
        connection.belongs_to(assertion.tenant())?;
        let first = connection.settings_of_transaction();
        let set_local = match assertion.is_signed() {
            true => "",
            false => assertion.set_local(),
        };
        let message = options.begin(set_local, schema)?;
        lease.begins_transaction();
        let connection = lease.connection()?;
        // A tenant's own database may have no policies, and statements of the simple protocol
        // carry no argument that it could refuse: it is asked before there is a transaction. Where
        // contexts are signed, none of these runs before an argument was taken.
        let question = match connection.tenant() {
            Some(_) if !assertion.is_signed() => assertion.question(),
            _ => "",
        };
        let message = format!("{question}{first}{message}");
        let sent = connection.raw().execute(AssertSqlSafe(message)).await;
        let Err(error) = sent.map_err(Error::from) else {
            return Ok(Some(Self {
                lease,
                assertion: Arc::clone(assertion),
                names: Arc::clone(names),
                unsettled: false,
                savepoints: savepoint::Stack::default(),
                said: said::Said::default(),
                hatch: hatch::Hatch::default(),
                failure: None,
                #[cfg(feature = "testing")]
                doubles: None,
            }));
        };
        if error.kind() != ErrorKind::ConnectionLost {
            return Err(error);
        }
        lease.discard();
        if lease.opened_now() {
            return Err(error);
        }
        Ok(None)
    }

    /// The same transaction once more, on the same connection: it has no stale statements then, and
    /// has learnt what it did not know. `None` if that is lost, or no longer of use.
    pub(crate) async fn begin_anew(
        mut self,
        options: &TxOptions,
        schema: Option<&str>,
    ) -> Result<Option<Self>, Error> {
        if self.send("ROLLBACK").await.is_err() {
            return Ok(None);
        }
        self.lease.finished();
        if self.lease.is_outdated() {
            return Ok(None);
        }
        let (mut lease, assertion, names) = (self.lease, self.assertion, self.names);
        lease.begins_transaction();
        let cleared = lease.connection()?.raw().clear_cached_statements().await;
        if cleared.is_err() {
            return Ok(None);
        }
        Self::begin(lease, &assertion, &names, options, schema).await
    }

    /// Who acts.
    pub fn context(&self) -> &TenantContext {
        self.assertion.context()
    }

    /// Rolls back, and waits until the server has done so.
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

    /// Takes an advisory lock that this tenant's transactions share, and holds it until the
    /// transaction ends. Waits as long as `lock_timeout` allows.
    ///
    /// The key is hashed together with the tenant, to 64 bits: a collision makes somebody wait
    /// who need not, and nothing worse.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Database`] with code 55P03 when `lock_timeout` runs out, 40P01 for a deadlock.
    ///
    /// # Cancel safety
    ///
    /// As any statement: the lock may have been taken, and goes with the transaction.
    pub async fn advisory_lock(&mut self, key: &str) -> Result<(), Error> {
        let name = self.lock_name(key);
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(name)
            .execute(self)
            .await?;
        Ok(())
    }

    /// As [`advisory_lock`](Self::advisory_lock), without waiting: `false` if it is taken.
    ///
    /// # Errors
    ///
    /// Those of any statement.
    ///
    /// # Cancel safety
    ///
    /// As any statement: the lock may have been taken, and goes with the transaction.
    pub async fn try_advisory_lock(&mut self, key: &str) -> Result<bool, Error> {
        let name = self.lock_name(key);
        Ok(
            sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))")
                .bind(name)
                .fetch_one(self)
                .await?,
        )
    }

    /// No tenant id holds a colon, so no two pairs make the same name.
    fn lock_name(&self, key: &str) -> String {
        format!("{}:{key}", self.assertion.tenant())
    }

    pub(crate) fn went_through_hatch(&self) -> bool {
        self.hatch.was_used()
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Sends a message of the simple protocol.
    async fn send(&mut self, message: &str) -> Result<(), Error> {
        #[cfg(feature = "testing")]
        if self.doubles.is_some() {
            return self.answer(message);
        }
        let sent = self
            .lease
            .connection()?
            .raw()
            .execute(AssertSqlSafe(message))
            .await;
        sent.map(drop).map_err(|error| self.seen(error).into())
    }

    /// As [`send`](Self::send), for a message after which we are somewhere else: dropped half-way,
    /// the transaction can only be rolled back.
    async fn send_whole(&mut self, message: &str) -> Result<(), Error> {
        self.unsettled = true;
        let sent = self.send(message).await;
        self.unsettled = false;
        sent
    }

    /// Runs a statement with arguments whose effect must not go unnoticed: dropped half-way, the
    /// transaction can only be rolled back.
    pub(crate) async fn fetch_whole(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Option<PgRow>, Error> {
        let admitted = self.admit(query)?;
        let scoped = self.scoped(admitted).await?;
        let started = Instant::now();
        self.unsettled = true;
        let answer = self.lease.connection()?.raw().fetch_optional(scoped).await;
        self.unsettled = false;
        self.lease.statement_ended(started, self.assertion.tenant());
        if answer.is_ok() {
            self.said.at(self.savepoints.depth());
        }
        answer.map_err(|error| self.seen(error).into())
    }

    /// Looks at an error on its way to the caller: remembers what the server said, and gives the
    /// connection up if that was the last.
    fn seen(&mut self, error: sqlx::Error) -> sqlx::Error {
        if is_connection_lost(&error) {
            self.lease.discard();
        } else if let sqlx::Error::Database(database) = &error {
            let failure = Failure::new(database.as_ref());
            if let (true, Ok(connection)) = (failure.stale_plan, self.lease.connection()) {
                connection.has_stale_statements();
            }
            self.failure.get_or_insert(failure);
        }
        error
    }

    /// Before a statement: what a dropped savepoint and the hatch have left to do is done.
    async fn settle(&mut self) -> Result<(), Error> {
        self.usable()?;
        if let Some(message) = self.savepoints.unwind() {
            self.send_whole(&message).await?;
            self.savepoints.unwound();
            self.said.rolled_back(self.savepoints.depth());
            self.failure = None;
            #[cfg(feature = "testing")]
            self.undo_doubles();
        }
        if self.hatch.is_open() {
            // What was prepared through the hatch has no scope argument, and would be taken for
            // the same text of ours.
            let cleared = self
                .lease
                .connection()?
                .raw()
                .clear_cached_statements()
                .await;
            cleared.map_err(|error| self.seen(error))?;
            self.hatch.shut();
        }
        Ok(())
    }

    /// Whether what comes without an argument has a context: BEGIN says one that is not signed.
    fn has_context(&self) -> bool {
        !self.assertion.is_signed() || self.said.is_said()
    }

    /// Says the context for what has no argument and cannot come behind other statements of its
    /// message. One round trip.
    async fn say_context(&mut self) -> Result<(), Error> {
        if self.has_context() {
            let context = self.assertion.set_local().to_owned();
            return self.send(&context).await;
        }
        sqlx::query("SELECT 1").execute(self).await?;
        Ok(())
    }

    fn usable(&self) -> Result<(), Error> {
        if self.unsettled {
            return Err(Error::new(
                ErrorKind::TransactionAborted,
                "a savepoint, or what must be done as a whole, was abandoned half-way: the \
                 transaction can only be rolled back",
            ));
        }
        Ok(())
    }

    /// Ready to be sent.
    async fn scoped(&mut self, admitted: Admitted) -> Result<Scoped, Error> {
        self.settle().await?;
        if !self.has_context() {
            admitted.may_be_first()?;
        }
        let connection = self.lease.connection()?;
        connection.carries(admitted.traces())?;
        admitted.scoped(&self.assertion, connection)
    }

    pub(crate) fn admit<'q, E: Execute<'q, Postgres>>(&self, query: E) -> Result<Admitted, Error> {
        Admitted::new(query, Place::Transaction, &self.names)
    }

    /// The answers to a statement that has been admitted.
    pub(crate) fn run<'e>(
        &'e mut self,
        admitted: Result<Admitted, Error>,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>> {
        Box::pin(async_stream::try_stream! {
            let admitted = admitted?;
            // The answers to the statements that set the context are not the caller's.
            let mut ours = if admitted.is_simple() { self.assertion.statements() } else { 0 };
            let mut says_context = !admitted.is_simple();
            let scoped = self.scoped(admitted).await?;
            let started = Instant::now();
            let mut failure = None;
            {
                let (depth, said) = (self.savepoints.depth(), &mut self.said);
                let mut answers = self.lease.connection()?.raw().fetch_many(scoped);
                while let Some(answer) = answers.next().await {
                    if answer.is_ok() && std::mem::take(&mut says_context) {
                        said.at(depth);
                    }
                    match answer {
                        Ok(Either::Left(_)) if ours > 0 => ours -= 1,
                        Ok(answer) => yield answer,
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    }
                }
            }
            self.lease.statement_ended(started, self.assertion.tenant());
            if let Some(error) = failure {
                Err(self.seen(error))?;
            }
        })
    }

    /// As [`run`](Self::run), for at most one row.
    pub(crate) fn run_optional<'e>(
        &'e mut self,
        admitted: Result<Admitted, Error>,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>> {
        Box::pin(async move {
            let admitted = admitted?;
            if admitted.is_simple() {
                return first(self.run(Ok(admitted))).await;
            }
            let scoped = self.scoped(admitted).await?;
            let started = Instant::now();
            let answer = self.lease.connection()?.raw().fetch_optional(scoped).await;
            self.lease.statement_ended(started, self.assertion.tenant());
            if answer.is_ok() {
                self.said.at(self.savepoints.depth());
            }
            answer.map_err(|error| self.seen(error))
        })
    }
}

impl<'c> Executor<'c> for &'c mut TenantTx {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let admitted = self.admit(query);
        self.run(admitted)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let admitted = self.admit(query);
        self.run_optional(admitted)
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
            self.settle().await?;
            let connection = self.lease.connection()?;
            connection.may_prepare()?;
            let types = argument::parameters(
                sql.as_str(),
                parameters,
                &self.names,
                Place::Transaction,
                connection.scope_oid(),
            )?;
            let prepared = connection.raw().prepare_with(sql, &types).await;
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

impl fmt::Debug for TenantTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantTx")
            .field("context", self.context())
            .field("savepoints", &self.savepoints)
            .finish_non_exhaustive()
    }
}

/// The first row, read to the end and not only to that row: an error may follow it.
async fn first(
    mut answers: BoxStream<'_, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>,
) -> Result<Option<PgRow>, sqlx::Error> {
    let mut first = None;
    while let Some(answer) = answers.next().await {
        if let (Either::Right(row), None) = (answer?, &first) {
            first = Some(row);
        }
    }
    Ok(first)
}
