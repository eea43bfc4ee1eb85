//! What leases connections: the one place that decides whether a connection may be used by the
//! next borrower. Nothing outside this module ever holds a connection without a [`Lease`].

mod connection;
mod options;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, ErrorKind};
use crate::settings::ContextSettings;

pub(crate) use connection::{Connection, Traces};
pub use options::PoolOptions;

/// The connections to one database with one role.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Inner>);

struct Inner {
    connect: PgConnectOptions,
    settings: ContextSettings,
    options: PoolOptions,
    /// One permit for each connection that is open, being opened, or being closed by us.
    permits: Arc<Semaphore>,
    /// The one used last is at the end and is used next, so that the others can grow old.
    idle: Mutex<Vec<Connection>>,
    /// Where connections are brought in order, also when a guard is dropped outside a runtime.
    runtime: Handle,
}

impl Connections {
    /// Opens nothing yet. To be called inside a tokio runtime, which becomes its home.
    pub(crate) fn new(
        connect: PgConnectOptions,
        settings: ContextSettings,
        options: PoolOptions,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|error| {
            Error::new(
                ErrorKind::InvalidOption,
                "a registry is built inside a tokio runtime",
            )
            .with_source(error)
        })?;
        Ok(Self(Arc::new(Inner {
            connect,
            settings,
            permits: Arc::new(Semaphore::new(options.max_connections as usize)),
            idle: Mutex::default(),
            options,
            runtime,
        })))
    }

    /// A connection that was used a moment ago, or else one that has just been tested or opened.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection that was being tested goes back when the test is over, one that
    /// was being opened is closed.
    pub(crate) async fn lease(&self) -> Result<Lease, Error> {
        if let Some(lease) = self.lease_now() {
            return Ok(lease);
        }
        self.in_time(async {
            loop {
                let mut lease = self.next().await?;
                if lease.opened_now || self.0.is_fresh(lease.connection()?) {
                    return Ok(lease);
                }
                lease.begins_statement();
                if lease.connection()?.settle().await.is_ok() {
                    lease.finished();
                    return Ok(lease);
                }
                lease.discard();
            }
        })
        .await
    }

    /// As [`lease`](Self::lease), without the test: for a message that is one itself.
    pub(crate) async fn lease_untested(&self) -> Result<Lease, Error> {
        if let Some(lease) = self.lease_now() {
            return Ok(lease);
        }
        self.in_time(self.next()).await
    }

    /// No more leases. Idle connections are closed; those on lease are when they come back.
    pub(crate) fn close(&self) {
        self.0.permits.close();
        self.0.idle.lock().clear();
    }

    /// The way without waiting, which most leases take: neither a timer nor a task switch.
    fn lease_now(&self) -> Option<Lease> {
        let permit = Arc::clone(&self.0.permits).try_acquire_owned().ok()?;
        let connection = {
            let mut idle = self.0.idle.lock();
            idle.pop_if(|last| self.0.is_fresh(last) && !self.0.is_too_old(last))?
        };
        Some(Lease::new(connection, permit, &self.0))
    }

    async fn next(&self) -> Result<Lease, Error> {
        let permit = Arc::clone(&self.0.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(ErrorKind::Closed, "the registry has been closed"))?;
        if let Some(connection) = self.take_idle() {
            return Ok(Lease::new(connection, permit, &self.0));
        }
        let connection = Connection::open(&self.0.connect, &self.0.settings).await?;
        let mut lease = Lease::new(connection, permit, &self.0);
        lease.opened_now = true;
        Ok(lease)
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.0.idle.lock();
        while let Some(connection) = idle.pop() {
            if !self.0.is_too_old(&connection) {
                return Some(connection);
            }
        }
        None
    }

    async fn in_time(
        &self,
        lease: impl Future<Output = Result<Lease, Error>>,
    ) -> Result<Lease, Error> {
        timeout(self.0.options.acquire_timeout, lease)
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::AcquireTimeout,
                    "no connection became free in acquire_timeout",
                ))
            })
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("max_connections", &self.0.options.max_connections)
            .field("idle", &self.0.idle.lock().len())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn is_too_old(&self, connection: &Connection) -> bool {
        self.options
            .max_lifetime
            .is_some_and(|lifetime| connection.opened_at.elapsed() > lifetime)
    }

    fn is_fresh(&self, connection: &Connection) -> bool {
        connection.used_at.elapsed() <= self.options.test_after
    }

    /// The end of every lease that is in order.
    fn put_back(&self, mut connection: Connection, permit: OwnedSemaphorePermit) {
        if !self.is_too_old(&connection) {
            connection.used_at = Instant::now();
            let mut idle = self.idle.lock();
            // Asked under the lock: `close` empties the row once, after it has closed the permits.
            if !self.permits.is_closed() {
                idle.push(connection);
            }
        }
        // After the connection is in the row, or whoever gets the permit would open another.
        drop(permit);
    }
}

/// A connection that is in use, and what it may be in the middle of.
///
/// # Drop
///
/// In order (the state is [`State::Idle`] and nothing was left on the session), the connection is
/// free again at once. Otherwise a task brings it in order, and nobody gets it before; what does
/// not come in order in time is closed. Needs no runtime in scope.
pub(crate) struct Lease {
    /// `None` once the connection broke or was given away.
    held: Option<(Connection, OwnedSemaphorePermit)>,
    home: Arc<Inner>,
    state: State,
    opened_now: bool,
    /// A stream of COPY data was left before its end: the driver no longer knows what it reads.
    out_of_step: bool,
}

/// What the session may be in the middle of. Raised before the message that begins it is sent,
/// lowered when the server has said that it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Ready, and outside any transaction.
    Idle,
    /// A statement in autocommit has not been answered to its end.
    Statement,
    /// Inside a transaction, or perhaps so.
    Transaction,
}

impl Lease {
    fn new(connection: Connection, permit: OwnedSemaphorePermit, home: &Arc<Inner>) -> Self {
        Self {
            held: Some((connection, permit)),
            home: Arc::clone(home),
            state: State::Idle,
            opened_now: false,
            out_of_step: false,
        }
    }

    /// # Errors
    ///
    /// [`ErrorKind::ConnectionLost`] after [`discard`](Self::discard).
    pub(crate) fn connection(&mut self) -> Result<&mut Connection, Error> {
        match &mut self.held {
            Some((connection, _)) if !self.out_of_step => Ok(connection),
            _ => Err(Error::new(
                ErrorKind::ConnectionLost,
                "the connection broke and is not replaced: begin anew",
            )),
        }
    }

    /// The connection for a stream of COPY data, and the mark that says that the stream has not
    /// come to its end. With the mark set the connection is not used again.
    pub(crate) fn copying(&mut self) -> Result<(&mut Connection, &mut bool), Error> {
        self.connection()?;
        match &mut self.held {
            Some((connection, _)) => Ok((connection, &mut self.out_of_step)),
            None => Err(Error::new(
                ErrorKind::ConnectionLost,
                "the connection broke",
            )),
        }
    }

    /// Whether the connection was opened for this lease, and so cannot have died of age.
    pub(crate) fn opened_now(&self) -> bool {
        self.opened_now
    }

    pub(crate) fn options(&self) -> &PoolOptions {
        &self.home.options
    }

    /// Before a statement in autocommit is sent.
    pub(crate) fn begins_statement(&mut self) {
        self.state = State::Statement;
    }

    /// Before a transaction is begun.
    pub(crate) fn begins_transaction(&mut self) {
        self.state = State::Transaction;
    }

    /// The server has said that it is ready and outside any transaction.
    pub(crate) fn finished(&mut self) {
        self.state = State::Idle;
    }

    /// Closes the connection: it broke, or is in a state that the driver does not understand.
    pub(crate) fn discard(&mut self) {
        self.held = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some((connection, permit)) = self.held.take() else {
            return;
        };
        if self.out_of_step {
            return;
        }
        let home = Arc::clone(&self.home);
        if self.state == State::Idle && connection.traces == Traces::None {
            return home.put_back(connection, permit);
        }
        let state = self.state;
        // Spawned on the runtime that the connection was opened on. If that is gone, so is the
        // task, and with it the connection and the permit.
        self.home.runtime.spawn(async move {
            if let Some(connection) = bring_in_order(connection, state, &home).await {
                home.put_back(connection, permit);
            }
        });
    }
}

/// Gives the connection back if the server has said, in time, that it is idle and carries nothing.
async fn bring_in_order(
    mut connection: Connection,
    state: State,
    home: &Inner,
) -> Option<Connection> {
    if connection.traces == Traces::Lasting {
        tracing::debug!("connection closed: a statement left something that cannot be scrubbed");
        return None;
    }
    let in_order = timeout(home.options.abandoned_grace, async {
        match state {
            State::Idle => {}
            State::Statement => connection.settle().await?,
            State::Transaction => connection.roll_back().await?,
        }
        if connection.traces != Traces::None {
            connection.scrub().await?;
        }
        Ok::<(), sqlx::Error>(())
    });
    match in_order.await {
        Ok(Ok(())) => Some(connection),
        Ok(Err(_)) => {
            tracing::debug!(
                ?state,
                "connection closed: it could not be brought in order"
            );
            None
        }
        Err(_) => {
            tracing::debug!(
                ?state,
                "connection closed: what was abandoned on it did not end"
            );
            None
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("state", &self.state)
            .field("is_open", &self.held.is_some())
            .finish_non_exhaustive()
    }
}
