//! The handle that statements are run on.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection as _, Either, Execute, Executor, Postgres, SqlStr};

use crate::argument::{self, Admitted, Scoped};
use crate::assertion::Assertion;
use crate::context::TenantContext;
use crate::error::{Error, is_connection_lost, is_stale_plan};
use crate::lease::Lease;
#[cfg(feature = "testing")]
use crate::lease::no_database;
use crate::settings::ContextSettings;
use crate::signing::Signer;
use crate::slots::{Place, Purpose, Slots, Test};
use crate::tenant::TenantId;
use crate::tx::{CommitError, Failure, TenantReadTx, TenantTx, TxOptions};

/// A context bound to a registry: what a request, a job or a repository runs its statements on.
///
/// `&scope` is a sqlx [`Executor`]. One statement is one round trip: the context travels with it
/// as a hidden argument, PostgreSQL sets it before it plans the statement, and it ends with the
/// statement's own transaction. `query`, `query_as`, `query_scalar`, `QueryBuilder`, the `query!`
/// macros, streaming and prepared statements work as they do on a pool.
///
/// It takes SELECT, INSERT, UPDATE, DELETE, MERGE, WITH, VALUES, TABLE, EXPLAIN and SHOW. All else
/// may leave something on the session and is refused with an error that says where it belongs:
/// mostly in a transaction, see [`begin`](Self::begin).
///
/// A scope holds no connection. It is cheap to clone, may live as long as one likes, and looks up
/// where its tenant lives at each use.
///
/// # Cancel safety
///
/// A statement whose future or stream is dropped goes on in the server for at most
/// [`PoolOptions::abandoned_grace`](crate::PoolOptions::abandoned_grace); then its connection is
/// closed and the server stops it. Nobody gets the connection meanwhile. Whether a write that was
/// dropped took place is not known, as with any autocommit statement.
#[derive(Clone)]
pub struct TenantScope {
    home: Home,
    names: Arc<ContextSettings>,
    assertion: Arc<Assertion>,
    purpose: Purpose,
}

/// Where connections come from.
#[derive(Clone)]
enum Home {
    Registry(Arc<Slots>),
    /// From nowhere: see `testing::detached_scope`.
    #[cfg(feature = "testing")]
    Nowhere,
}

impl TenantScope {
    pub(crate) fn new(
        slots: Arc<Slots>,
        names: Arc<ContextSettings>,
        signer: Option<&Arc<Signer>>,
        context: TenantContext,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let assertion = Arc::new(Assertion::new(context, &names, signer)?);
        Ok(Self {
            home: Home::Registry(slots),
            names,
            assertion,
            purpose,
        })
    }

    /// A scope without a server, for whose context any setting will do.
    #[cfg(feature = "testing")]
    pub(crate) fn detached(context: TenantContext) -> Result<Self, Error> {
        let mut names = ContextSettings::default();
        for name in context.names() {
            names = names.with(name)?;
        }
        let assertion = Arc::new(Assertion::new(context, &names, None)?);
        Ok(Self {
            home: Home::Nowhere,
            names: Arc::new(names),
            assertion,
            purpose: Purpose::Foreground,
        })
    }

    /// Who acts.
    pub fn context(&self) -> &TenantContext {
        self.assertion.context()
    }

    /// Whose data it is.
    pub fn tenant(&self) -> &TenantId {
        self.assertion.tenant()
    }

    /// Begins a transaction with the server's defaults, in one round trip.
    ///
    /// # Errors
    ///
    /// [`TenantUnknown`], [`AcquireTimeout`], [`Connect`], [`Misrouted`], [`Installation`].
    ///
    /// [`TenantUnknown`]: crate::ErrorKind::TenantUnknown
    /// [`AcquireTimeout`]: crate::ErrorKind::AcquireTimeout
    /// [`Connect`]: crate::ErrorKind::Connect
    /// [`Misrouted`]: crate::ErrorKind::Misrouted
    /// [`Installation`]: crate::ErrorKind::Installation
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if a transaction was begun, it is rolled back before anyone else gets its
    /// connection.
    pub async fn begin(&self) -> Result<TenantTx, Error> {
        self.begin_with(&TxOptions::default()).await
    }

    /// Begins a transaction, in one round trip, options included.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin), and [`InvalidOption`] or [`Database`] for an option that is not
    /// acceptable to us or to the server.
    ///
    /// [`InvalidOption`]: crate::ErrorKind::InvalidOption
    /// [`Database`]: crate::ErrorKind::Database
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_with(&self, options: &TxOptions) -> Result<TenantTx, Error> {
        #[cfg(feature = "testing")]
        if matches!(self.home, Home::Nowhere) {
            return TenantTx::detached(&self.assertion, &self.names, options);
        }
        loop {
            let place = self.place(Test::No).await?;
            if let Some(tx) = self.begin_on(place, options).await? {
                return Ok(tx);
            }
        }
    }

    async fn begin_on(&self, place: Place, options: &TxOptions) -> Result<Option<TenantTx>, Error> {
        let Place { lease, schema } = place;
        let (assertion, names) = (&self.assertion, &self.names);
        TenantTx::begin(lease, assertion, names, options, schema.as_deref()).await
    }

    async fn place(&self, test: Test) -> Result<Place, Error> {
        match &self.home {
            Home::Registry(slots) => slots.lease(self.tenant(), self.purpose, test).await,
            #[cfg(feature = "testing")]
            Home::Nowhere => Err(no_database()),
        }
    }

    /// See [`Place::needs_transaction`].
    async fn begin_for_one(&self, place: Place) -> Result<TenantTx, Error> {
        let options = TxOptions::default();
        match self.begin_on(place, &options).await? {
            Some(tx) => Ok(tx),
            None => self.begin_with(&options).await,
        }
    }

    /// The transaction of a single statement that failed before it ran, once more.
    async fn begin_anew(&self, tx: TenantTx, schema: Option<&str>) -> Result<TenantTx, Error> {
        let options = TxOptions::default();
        match tx.begin_anew(&options, schema).await? {
            Some(tx) => Ok(tx),
            None => self.begin_with(&options).await,
        }
    }

    /// Begins a READ ONLY transaction, in one round trip.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_read_only(&self) -> Result<TenantReadTx, Error> {
        self.begin_read_only_with(TxOptions::default()).await
    }

    /// Begins a READ ONLY transaction, in one round trip, options included.
    ///
    /// # Errors
    ///
    /// As [`begin_with`](Self::begin_with).
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_read_only_with(&self, options: TxOptions) -> Result<TenantReadTx, Error> {
        let tx = self.begin_with(&options.read_only()).await?;
        Ok(TenantReadTx::new(tx))
    }

    /// Runs `work` in a transaction: commits if it returns `Ok`, rolls back if it returns `Err` or
    /// panics, and begins anew where [`TxOptions::retry`] says that it is worth it.
    ///
    /// What decides about another attempt is what the server said in the transaction, not what
    /// `work` made of it. An unknown outcome of the commit is never repeated, nor is a transaction
    /// that used [`TenantTx::dangerous_connection`]. `work` may run
    /// several times: what it does elsewhere (mails, counters) belongs behind this call.
    ///
    /// The closure returns a boxed future because a future that borrows the transaction could not
    /// otherwise be sent to another thread
    /// (<https://github.com/rust-lang/rust/issues/110338>). It borrows nothing but the transaction:
    /// what the future needs from outside is cloned into it, at each attempt.
    ///
    /// ```no_run
    /// # use tenantry::{Error, TenantScope, TxOptions};
    /// # async fn example(scope: TenantScope) -> Result<(), Error> {
    /// let total: i64 = scope
    ///     .transaction(TxOptions::default().serializable(), |tx| {
    ///         Box::pin(async move {
    ///             sqlx::query("UPDATE invoices SET paid = true WHERE id = $1")
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
    /// Cancel safe but for the commit: see [`TenantTx::commit`].
    pub async fn transaction<T, E, F>(&self, options: TxOptions, mut work: F) -> Result<T, E>
    where
        F: for<'t> FnMut(&'t mut TenantTx) -> BoxFuture<'t, Result<T, E>>,
        E: From<Error>,
    {
        let started = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut tx = self.begin_with(&options).await?;
            let done = work(&mut tx).await;
            let may_repeat = !tx.went_through_hatch();
            let mut failure = tx.failure().cloned();
            let error = match done {
                Ok(value) => match tx.commit().await {
                    Ok(()) => return Ok(value),
                    Err(error) => {
                        failure = match &error {
                            CommitError::RolledBack(cause) => {
                                failure.or_else(|| cause.database_error().map(Failure::new))
                            }
                            _ => None,
                        };
                        E::from(error.into())
                    }
                },
                Err(error) => {
                    // If this fails the connection is closed, which rolls back as well.
                    let _ = tx.rollback().await;
                    error
                }
            };
            // What was done through the hatch may have been committed there.
            let Some(failure) = failure.filter(|_| may_repeat) else {
                return Err(error);
            };
            let Some(delay) = options
                .retry
                .next_delay(&failure, attempts, started.elapsed())
            else {
                return Err(error);
            };
            tracing::info!(
                tenant = %self.tenant(),
                code = %failure.code,
                attempts,
                delay_ms = delay.as_millis() as u64,
                "transaction is tried again"
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// The registry, and where it finds its tenants; `None` where there is none.
    pub(crate) fn slots(&self) -> Option<&Slots> {
        match &self.home {
            Home::Registry(slots) => Some(slots),
            #[cfg(feature = "testing")]
            Home::Nowhere => None,
        }
    }

    pub(crate) fn admit<'q, E: Execute<'q, Postgres>>(&self, query: E) -> Result<Admitted, Error> {
        Admitted::new(query, argument::Place::Scope, &self.names)
    }

    /// A lease that is armed for the statement, and the statement with its argument.
    fn armed(&self, mut lease: Lease, admitted: Admitted) -> Result<(Lease, Scoped), Error> {
        lease.connection()?.belongs_to(self.tenant())?;
        let scoped = admitted.scoped(&self.assertion, lease.connection()?)?;
        lease.begins_statement();
        Ok((lease, scoped))
    }

    fn finish(&self, mut lease: Lease, error: Option<&sqlx::Error>, started: Instant) {
        lease.statement_ended(started, self.tenant());
        match error {
            None => lease.finished(),
            Some(error) if is_connection_lost(error) => lease.discard(),
            // The server's ReadyForQuery is still to be read: dropping the lease sees to it.
            Some(_) => {}
        }
    }

    /// The answers to a statement that has been admitted.
    pub(crate) fn run<'e>(
        &'e self,
        admitted: Result<Admitted, Error>,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>> {
        Box::pin(async_stream::try_stream! {
            let admitted = admitted?;
            let place = self.place(Test::Yes).await?;
            if place.needs_transaction() {
                let schema = place.schema.clone();
                let mut tx = self.begin_for_one(place).await?;
                let mut again = Some(admitted.clone());
                let mut admitted = admitted;
                loop {
                    let mut failure = None;
                    {
                        let mut answers = tx.run(Ok(admitted));
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
                    let Some(error) = failure else {
                        break;
                    };
                    admitted = match again.take_if(|_| has_stale_plan(&error)) {
                        Some(again) => again,
                        None => Err(error)?,
                    };
                    tx = self.begin_anew(tx, schema.as_deref()).await?;
                }
                tx.commit().await.map_err(Error::from)?;
                return;
            }
            let (mut lease, mut scoped) = self.armed(place.lease, admitted)?;
            let started = Instant::now();
            let mut again = Some(scoped.clone());
            let failure = loop {
                let mut failure = None;
                {
                    let mut answers = lease.connection()?.raw().fetch_many(scoped);
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
                let Some(again) = again.take_if(|_| failure.as_ref().is_some_and(has_stale_plan))
                else {
                    break failure;
                };
                lease.connection()?.raw().clear_cached_statements().await?;
                scoped = again;
            };
            self.finish(lease, failure.as_ref(), started);
            if let Some(error) = failure {
                Err(error)?;
            }
        })
    }

    /// As [`run`](Self::run), for at most one row.
    pub(crate) fn run_optional<'e>(
        &'e self,
        admitted: Result<Admitted, Error>,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>> {
        Box::pin(async move {
            let admitted = admitted?;
            let place = self.place(Test::Yes).await?;
            if place.needs_transaction() {
                let schema = place.schema.clone();
                let mut tx = self.begin_for_one(place).await?;
                let again = admitted.clone();
                let mut answer = tx.run_optional(Ok(admitted)).await;
                if answer.as_ref().is_err_and(has_stale_plan) {
                    tx = self.begin_anew(tx, schema.as_deref()).await?;
                    answer = tx.run_optional(Ok(again)).await;
                }
                let answer = answer?;
                tx.commit().await.map_err(Error::from)?;
                return Ok(answer);
            }
            let (mut lease, scoped) = self.armed(place.lease, admitted)?;
            let started = Instant::now();
            let again = scoped.clone();
            let mut answer = lease.connection()?.raw().fetch_optional(scoped).await;
            if answer.as_ref().is_err_and(has_stale_plan) {
                lease.connection()?.raw().clear_cached_statements().await?;
                answer = lease.connection()?.raw().fetch_optional(again).await;
            }
            self.finish(lease, answer.as_ref().err(), started);
            answer
        })
    }
}

impl<'c> Executor<'c> for &'c TenantScope {
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
            let place = self.place(Test::Yes).await?;
            if place.needs_transaction() {
                let mut tx = self.begin_for_one(place).await?;
                let prepared = tx.prepare_with(sql, parameters).await?;
                tx.rollback().await?;
                return Ok(prepared);
            }
            let mut lease = place.lease;
            lease.connection()?.belongs_to(self.tenant())?;
            let types = argument::parameters(
                sql.as_str(),
                parameters,
                &self.names,
                argument::Place::Scope,
                lease.connection()?.scope_oid(),
            )?;
            let started = Instant::now();
            lease.begins_statement();
            let prepared = lease.connection()?.raw().prepare_with(sql, &types).await;
            self.finish(lease, prepared.as_ref().err(), started);
            prepared
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

impl fmt::Debug for TenantScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantScope")
            .field("context", self.context())
            .finish_non_exhaustive()
    }
}

/// In autocommit such a statement may be prepared and sent again.
fn has_stale_plan(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if is_stale_plan(error.as_ref()))
}
