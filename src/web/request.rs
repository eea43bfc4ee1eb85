//! What a request carries: its scope, and the one transaction it may have.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::rejection::{OUTCOME_UNKNOWN, Rejection};
use crate::error::{Error, ErrorKind};
use crate::scope::TenantScope;
use crate::tenant::TenantId;
use crate::tx::{TenantTx, TxOptions};

/// The argument of a handler by which it gets the scope of its tenant: an extractor for axum and
/// for actix.
///
/// It is there where a [`TenantLayer`](super::TenantLayer) is installed; elsewhere the answer is 500
/// and the log says what to install.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "handlers take it apart in their arguments"
)]
pub struct Scope(pub TenantScope);

impl Scope {
    pub(super) fn found(scope: Option<&TenantScope>) -> Result<Self, Rejection> {
        scope.cloned().map(Self).ok_or_else(no_tenant_layer)
    }
}

impl Deref for Scope {
    type Target = TenantScope;

    fn deref(&self) -> &TenantScope {
        &self.0
    }
}

/// The argument of a handler by which it gets the transaction of its request: an extractor for
/// axum and for actix that is a [`TenantTx`] to work with.
///
/// The first one to ask begins the transaction; a middleware and a handler that ask in turn work in
/// the same one. It ends with the request, see [`TransactionLayer`](super::TransactionLayer); who
/// needs to know before that how it ended says [`commit`](Self::commit).
///
/// There is one at a time. Asked for while somebody else still holds it, in a second argument or in
/// a middleware around the handler, the answer is 500 and the log says so. So is it after it was
/// ended.
///
/// It is begun before the handler is called, and so it holds a connection while the client sends the
/// body that the handler takes as well, however slowly: [`LazyTx`] does not. In axum arguments are
/// extracted from left to right: put what may refuse the request before this one.
///
/// # Drop
///
/// Gives the transaction back to the request. In a panic it is rolled back, whatever the answer
/// will be.
pub struct Tx {
    /// There until the guard ends.
    tx: Option<TenantTx>,
    request: RequestTransaction,
}

impl Tx {
    pub(super) async fn found(
        scope: Option<TenantScope>,
        request: Option<RequestTransaction>,
    ) -> Result<Self, Rejection> {
        LazyTx::found(scope, request)?.begin().await
    }

    /// Commits now, before the request is answered, and says what became of it. The answer is then
    /// the handler's alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Commit`]: see [`TenantTx::commit`], whose error is its source.
    /// [`ErrorKind::TransactionAborted`] after the request has been answered, or dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropped after the first poll, the outcome is unknown, and that is what the client is told
    /// whatever the handler says.
    pub async fn commit(mut self) -> Result<(), Error> {
        let tx = self.end(State::Committing)?;
        let committed = commit(tx).await;
        self.request.pass(State::Committing, State::Ended);
        committed
    }

    /// Rolls back now, although the answer may be a success.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::rollback`], and [`ErrorKind::TransactionAborted`] after the request has been
    /// answered, or dropped.
    ///
    /// # Cancel safety
    ///
    /// As [`TenantTx::rollback`].
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.end(State::Ended)?.rollback().await
    }

    /// The transaction, which is the request's no more.
    fn end(&mut self, state: State) -> Result<TenantTx, Error> {
        let tx = self.tx.take().expect("it is there until the guard ends");
        match self.request.pass(State::Out, state) {
            true => Ok(tx),
            false => Err(Error::new(
                ErrorKind::TransactionAborted,
                "the request has been answered, and its transaction rolled back",
            )),
        }
    }
}

impl Deref for Tx {
    type Target = TenantTx;

    fn deref(&self) -> &TenantTx {
        self.tx.as_ref().expect("it is there until the guard ends")
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut TenantTx {
        self.tx.as_mut().expect("it is there until the guard ends")
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(tx) = self.tx.take() {
            self.request.give_back(tx);
        }
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tx").field(&self.tx).finish()
    }
}

/// The argument of a handler that begins the transaction of its request by itself: an extractor for
/// axum and for actix.
///
/// For handlers that take a body, or ask others first: the connection is taken when it is needed.
#[derive(Clone, Debug)]
pub struct LazyTx {
    scope: TenantScope,
    request: RequestTransaction,
}

impl LazyTx {
    pub(super) fn found(
        scope: Option<TenantScope>,
        request: Option<RequestTransaction>,
    ) -> Result<Self, Rejection> {
        let scope = scope.ok_or_else(no_tenant_layer)?;
        let request = request.ok_or_else(|| {
            Rejection::internal(
                "a handler takes tenantry::web::Tx or LazyTx, and no \
                 tenantry::web::TransactionLayer is installed around it",
            )
        })?;
        Ok(Self { scope, request })
    }

    /// The transaction, which is begun if it has not been. Dropped and asked for again, it is the
    /// same.
    ///
    /// # Errors
    ///
    /// As [`TenantScope::begin_with`]; 500 while somebody else holds it, and after it has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if a transaction was begun, it is rolled back, and the next one who asks begins
    /// another.
    pub async fn begin(&self) -> Result<Tx, Rejection> {
        self.request.take(&self.scope).await
    }

    /// The scope of the request, for what is not part of the transaction.
    pub fn scope(&self) -> &TenantScope {
        &self.scope
    }
}

/// The transaction of a request, from before it is begun until after it has ended. Travels in the
/// extensions of the request.
#[derive(Clone)]
pub(super) struct RequestTransaction {
    options: Arc<TxOptions>,
    state: Arc<Mutex<State>>,
    /// Read by each check of a permission that is under way. Actix extracts all arguments at once,
    /// and a check that waits for a connection must not wait for the one that its own request has.
    checks: Arc<RwLock<()>>,
}

#[expect(clippy::large_enum_variant, reason = "there is one, behind a pointer")]
enum State {
    /// Nobody has asked for it.
    Unbegun,
    /// Somebody waits for it to begin.
    Beginning,
    /// Somebody works on it.
    Out,
    /// It was given back.
    In(TenantTx),
    /// It was rolled back because of a panic.
    Panicked,
    /// Its COMMIT is under way, or was when its future was dropped, and nobody was told the outcome.
    Committing,
    /// It was committed or rolled back, and whoever did it knows.
    Ended,
    /// The request has been answered, or dropped: what comes back now is rolled back.
    Answered,
}

impl fmt::Debug for RequestTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestTransaction").finish_non_exhaustive()
    }
}

impl RequestTransaction {
    pub(super) fn new(options: Arc<TxOptions>) -> Self {
        Self {
            options,
            state: Arc::new(Mutex::new(State::Unbegun)),
            checks: Arc::default(),
        }
    }

    /// As long as this is held, the transaction is not begun.
    pub(super) fn check(&self) -> Option<OwnedRwLockReadGuard<()>> {
        Arc::clone(&self.checks).try_read_owned().ok()
    }

    /// To be held by whoever answers the request, from before anybody can ask for the transaction.
    pub(super) fn answering(&self) -> Answering {
        Answering(self.clone())
    }

    async fn take(&self, scope: &TenantScope) -> Result<Tx, Rejection> {
        if let Some(tx) = self.begun(scope)? {
            return Ok(self.out(tx));
        }
        let beginning = Beginning(self);
        drop(self.checks.write().await);
        let tx = scope.begin_with(&self.options).await?;
        if !self.pass(State::Beginning, State::Out) {
            return Err(refusal(&State::Answered));
        }
        drop(beginning);
        Ok(self.out(tx))
    }

    fn out(&self, tx: TenantTx) -> Tx {
        Tx {
            tx: Some(tx),
            request: self.clone(),
        }
    }

    /// The transaction, or `None` to whom it falls to begin it.
    fn begun(&self, scope: &TenantScope) -> Result<Option<TenantTx>, Rejection> {
        let mut state = self.state.lock();
        match &*state {
            State::Unbegun => {
                *state = State::Beginning;
                Ok(None)
            }
            State::In(tx) if tx.context() != scope.context() => Err(Rejection::internal(
                "a request was given another context after its transaction had been begun: install \
                 one tenantry::web::TenantLayer, around whatever takes a tenantry::web::Tx",
            )),
            State::In(_) => match std::mem::replace(&mut *state, State::Out) {
                State::In(tx) => Ok(Some(tx)),
                _ => Ok(None),
            },
            other => Err(refusal(other)),
        }
    }

    /// From one state to another, if that is the state.
    fn pass(&self, from: State, to: State) -> bool {
        let mut state = self.state.lock();
        let is_there = std::mem::discriminant(&*state) == std::mem::discriminant(&from);
        if is_there {
            *state = to;
        }
        is_there
    }

    fn give_back(&self, tx: TenantTx) {
        // What is not kept is rolled back after the lock has been let go.
        let _rolled_back = {
            let mut state = self.state.lock();
            match &*state {
                State::Out if std::thread::panicking() => {
                    *state = State::Panicked;
                    Some(tx)
                }
                State::Out => {
                    *state = State::In(tx);
                    None
                }
                _ => Some(tx),
            }
        };
    }

    /// Nobody gets it any more.
    fn close(&self) -> State {
        std::mem::replace(&mut *self.state.lock(), State::Answered)
    }
}

/// Why nobody can have it now.
fn refusal(state: &State) -> Rejection {
    Rejection::internal(match state {
        State::Beginning | State::Out => {
            "two hold the tenantry::web::Tx of a request at the same time: take it once, and drop it \
             in a middleware before the handler is called"
        }
        State::Answered => {
            "the tenantry::web::Tx of a request was asked for after the request had been answered"
        }
        _ => "the tenantry::web::Tx of a request was asked for after it had ended",
    })
}

pub(super) fn no_tenant_layer() -> Rejection {
    Rejection::internal(
        "a handler takes tenantry::web::Scope, Tx or Permitted, and no tenantry::web::TenantLayer is \
         installed around it",
    )
}

/// While a transaction is begun. Dropped before that is done, the next one who asks begins it.
struct Beginning<'r>(&'r RequestTransaction);

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.0.pass(State::Beginning, State::Unbegun);
    }
}

/// While a request is answered. Dropped before it is, the transaction is rolled back.
pub(super) struct Answering(RequestTransaction);

impl Answering {
    /// The handler has given an answer with this status. An error is what the client must be told
    /// instead.
    pub(super) async fn answered(self, status: u16) -> Result<(), Rejection> {
        let is_success = status < 400;
        match self.0.close() {
            State::In(tx) if is_success => Ok(commit(tx).await?),
            State::Beginning | State::Out if is_success => Err(Rejection::internal(
                "a handler has answered, and somebody still holds the tenantry::web::Tx of the \
                 request, which was rolled back: a body that is streamed and a task that goes on \
                 need the scope, or Tx::commit before",
            )),
            State::Panicked if is_success => Err(Rejection::internal(
                "a request was answered with a success after a panic that rolled its transaction back",
            )),
            // Whatever the handler says, it does not know.
            State::Committing => Err(OUTCOME_UNKNOWN),
            _ => Ok(()),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

async fn commit(tx: TenantTx) -> Result<(), Error> {
    let mut untold = Untold(Some(tx.context().tenant().clone()));
    let committed = tx.commit().await;
    untold.0 = None;
    Ok(committed?)
}

/// While a COMMIT is under way. Dropped before the answer came, nobody will know it: the log is
/// told.
struct Untold(Option<TenantId>);

impl Drop for Untold {
    fn drop(&mut self) {
        if let Some(tenant) = &self.0 {
            tracing::warn!(
                %tenant,
                "a request was dropped while its transaction was being committed: \
                 nobody can tell whether it was"
            );
        }
    }
}
