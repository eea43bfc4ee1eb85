//! What leases connections: the one place that decides whether a connection may be used by the
//! next borrower. Nothing outside this module ever holds a connection without a [`Lease`].

mod at_rest;
mod budget;
mod connection;
mod control;
mod options;
mod pool;
pub(crate) mod schedule;
mod types;
mod way;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout;

use crate::error::{Error, ErrorKind};
use crate::tenant::TenantId;

use schedule::{Checkout, Unfit};
use wire::Postgres;

pub(crate) use at_rest::AtRest;
pub use budget::ConnectionBudget;
pub(crate) use connection::{Connection, Traces};
pub use options::PoolOptions;
pub(crate) use pool::{Connections, NoLease, Servers};
pub(crate) use schedule::PoolCounts;
pub(crate) use wire::Owner;

/// A connection that is in use, and what it may be in the middle of.
///
/// # Drop
///
/// In order (the state is [`State::Idle`] and nothing was left on the session), the connection is
/// free again at once. Otherwise a task brings it in order, and nobody gets it before; what does
/// not come in order in time is closed. Needs no runtime in scope.
pub(crate) struct Lease {
    /// `None` once it is on its way back, and where there is no server.
    checkout: Option<Checkout<Postgres>>,
    state: State,
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
    fn new(checkout: Checkout<Postgres>) -> Self {
        Self {
            checkout: Some(checkout),
            state: State::Idle,
            out_of_step: false,
        }
    }

    /// What stands for a lease where there is no server.
    #[cfg(feature = "testing")]
    pub(crate) fn of_nothing() -> Self {
        Self {
            checkout: None,
            state: State::Idle,
            out_of_step: false,
        }
    }

    /// # Errors
    ///
    /// [`ErrorKind::ConnectionLost`] after [`discard`](Self::discard).
    pub(crate) fn connection(&mut self) -> Result<&mut Connection, Error> {
        let checkout = self.checkout.as_mut().ok_or_else(no_database)?;
        let held = checkout.connection();
        held.filter(|_| !self.out_of_step).ok_or_else(broken)
    }

    /// The connection for a stream of COPY data, and the mark that says that it was left before
    /// its end.
    pub(crate) fn copying(&mut self) -> Result<(&mut Connection, &mut bool), Error> {
        let checkout = self.checkout.as_mut().ok_or_else(no_database)?;
        let held = checkout.connection();
        let connection = held.filter(|_| !self.out_of_step).ok_or_else(broken)?;
        Ok((connection, &mut self.out_of_step))
    }

    /// Whether it was opened for this lease, a moment ago.
    pub(crate) fn opened_now(&self) -> bool {
        self.checkout.as_ref().is_some_and(Checkout::is_new)
    }

    /// Whether it was used so short a time ago that it need not be tested.
    fn is_fresh(&self) -> bool {
        self.checkout.as_ref().is_some_and(Checkout::is_fresh)
    }

    /// Whether only what is in one transaction meets one session of the server.
    pub(crate) fn is_lent(&self) -> bool {
        self.looked_at().is_some_and(Connection::is_lent)
    }

    /// Whether it was opened before something came out of the way to the server that it should have
    /// known.
    pub(crate) fn is_outdated(&self) -> bool {
        self.looked_at().is_some_and(Connection::is_outdated)
    }

    fn looked_at(&self) -> Option<&Connection> {
        self.checkout.as_ref()?.look()
    }

    /// The name of the database that it leads to.
    pub(crate) fn database(&self) -> Option<&str> {
        let checkout = self.checkout.as_ref()?;
        Some(checkout.pool().home().database.name())
    }

    /// A statement that began then has ended: an event at WARN if it took its time.
    pub(crate) fn statement_ended(&mut self, started: Instant, tenant: &TenantId) {
        let now = Instant::now();
        if let Some(checkout) = &mut self.checkout {
            checkout.used_until(now);
            let options = &checkout.pool().home().options;
            options.report_if_slow(now.saturating_duration_since(started), tenant);
        }
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
        if let (State::Transaction, Some(checkout)) = (self.state, &mut self.checkout) {
            checkout.used_until(Instant::now());
        }
        self.state = State::Idle;
    }

    /// Closes the connection: it broke, or is in a state that the driver does not understand.
    pub(crate) fn discard(&mut self) {
        if let Some(checkout) = &mut self.checkout {
            checkout.close();
        }
    }
}

/// Of a lease that is of nothing.
pub(crate) fn no_database() -> Error {
    Error::new(
        ErrorKind::StatementRefused,
        "a detached scope has no database: it is for doubles, which send no statements",
    )
}

fn broken() -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        "the connection broke and is not replaced: begin anew",
    )
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut checkout) = self.checkout.take() else {
            return;
        };
        if self.out_of_step {
            checkout.close();
        }
        let Some(connection) = checkout.look() else {
            return;
        };
        if self.state == State::Idle && connection.traces == Traces::None {
            return; // and with that it goes back
        }
        let state = self.state;
        let pool = Arc::clone(checkout.pool());
        let unfit = Unfit::new(checkout);
        // Spawned on the runtime that the connection was opened on. If that is gone, so is the
        // task, and the connection is closed.
        pool.server()
            .driver()
            .runtime()
            .spawn(bring_in_order(unfit, state));
    }
}

/// Gives the connection back if the server has said, in time, that it is idle and carries nothing.
async fn bring_in_order(mut unfit: Unfit<Postgres>, state: State) {
    let checkout = unfit.checkout();
    let grace = checkout.pool().home().options.abandoned_grace;
    let Some(connection) = checkout.connection() else {
        return;
    };
    let is_past_scrubbing = connection.is_lent() && connection.traces != Traces::None;
    if connection.traces == Traces::Lasting || is_past_scrubbing {
        tracing::debug!("connection closed: a statement left something that cannot be scrubbed");
        return;
    }
    let in_order = timeout(grace, async {
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
        Ok(Ok(())) => unfit.mended(),
        Ok(Err(_)) => {
            tracing::debug!(
                ?state,
                "connection closed: it could not be brought in order"
            );
        }
        Err(_) => {
            tracing::debug!(
                ?state,
                "connection closed: what was abandoned on it did not end"
            );
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = self.checkout.as_ref().is_some_and(Checkout::is_open);
        f.debug_struct("Lease")
            .field("state", &self.state)
            .field("is_open", &is_open)
            .finish_non_exhaustive()
    }
}
