//! A connection that is in use, and what it may be in the middle of.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout;

use super::connection::Connection;
use super::disk::{Disk, Home};
use crate::error::{Error, ErrorKind};
use crate::lease::schedule::{Checkout, Unfit};
use crate::tenant::TenantId;

/// A connection that is in use.
///
/// # Drop
///
/// In order (the state is [`State::Idle`] and nothing was left on it), the connection is free again
/// at once. Otherwise a task brings it in order, and nobody gets it before; what does not come in
/// order in time is closed. Needs no runtime in scope.
pub(super) struct Lease {
    held: Held,
    state: State,
    /// The schema was changed. Temporary objects may be left, which others must not find.
    changed_schema: bool,
}

enum Held {
    Out(Checkout<Disk>),
    /// A connection that no pool knows of. Dropped, it is closed, which rolls back.
    Alone(Box<Connection>),
    Nothing,
}

/// Raised before the statement that begins it is sent, lowered when SQLite has said that it is
/// over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// A statement in autocommit has not been answered to its end.
    Statement,
    /// Inside a transaction, or perhaps so.
    Transaction,
}

impl Lease {
    pub(super) fn new(checkout: Checkout<Disk>) -> Self {
        Self::of(Held::Out(checkout))
    }

    pub(super) fn alone(connection: Connection) -> Self {
        Self::of(Held::Alone(Box::new(connection)))
    }

    fn of(held: Held) -> Self {
        Self {
            held,
            state: State::Idle,
            changed_schema: false,
        }
    }

    /// # Errors
    ///
    /// [`ErrorKind::ConnectionLost`] after [`discard`](Self::discard).
    pub(super) fn connection(&mut self) -> Result<&mut Connection, Error> {
        let connection = match &mut self.held {
            Held::Out(checkout) => checkout.connection(),
            Held::Alone(connection) => Some(&mut **connection),
            Held::Nothing => None,
        };
        connection.ok_or_else(|| {
            Error::new(
                ErrorKind::ConnectionLost,
                "the connection broke and is not replaced: begin anew",
            )
        })
    }

    fn home(&self) -> Option<&Home> {
        match &self.held {
            Held::Out(checkout) => Some(checkout.pool().home()),
            Held::Alone(_) | Held::Nothing => None,
        }
    }

    /// Whether the schema was changed since the connection was opened.
    pub(super) fn is_out_of_date(&mut self) -> bool {
        let schema = self.home().map(Home::schema);
        match (schema, self.connection()) {
            (Some(schema), Ok(connection)) => connection.schema != schema,
            (None, _) | (_, Err(_)) => false,
        }
    }

    pub(super) fn report_if_slow(&self, started: Instant, tenant: &TenantId) {
        if let Some(home) = self.home() {
            home.options.report_if_slow(started, tenant);
        }
    }

    /// Before a statement in autocommit is sent.
    pub(super) fn begins_statement(&mut self) {
        self.state = State::Statement;
    }

    /// Before a transaction is begun.
    pub(super) fn begins_transaction(&mut self) -> Result<(), Error> {
        self.state = State::Transaction;
        self.connection()?.begins_transaction();
        Ok(())
    }

    /// Before a statement is sent that changes the schema.
    pub(super) fn changes_schema(&mut self) {
        self.changed_schema = true;
    }

    /// SQLite has said that it is ready and outside any transaction.
    pub(super) fn finished(&mut self) {
        self.state = State::Idle;
        if let Ok(connection) = self.connection() {
            connection.may_commit();
        }
        if self.changed_schema
            && let Some(home) = self.home()
        {
            home.schema_changed();
        }
    }

    /// Closes the connection: its thread is gone.
    pub(super) fn discard(&mut self) {
        if let Held::Out(mut checkout) = std::mem::replace(&mut self.held, Held::Nothing) {
            checkout.close();
        }
    }

    /// The connection, if no pool has it.
    pub(super) fn into_connection(mut self) -> Option<Connection> {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Alone(connection) => Some(*connection),
            Held::Out(_) | Held::Nothing => None,
        }
    }

    pub(super) fn has_changed_schema(&self) -> bool {
        self.changed_schema
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Held::Out(mut checkout) = std::mem::replace(&mut self.held, Held::Nothing) else {
            return;
        };
        checkout.used_until(Instant::now());
        if self.changed_schema {
            // Which also rolls back.
            checkout.close();
        }
        if self.state == State::Idle || !checkout.is_open() {
            return; // and with that it goes back
        }
        let state = self.state;
        let pool = Arc::clone(checkout.pool());
        let unfit = Unfit::new(checkout);
        // Spawned on the runtime that the registry was built on. If that is gone, so is the task,
        // and the connection is closed.
        let runtime = pool.server().driver().runtime();
        runtime.spawn(bring_in_order(unfit, state));
    }
}

/// Gives the connection back if SQLite has said, in time, that it is idle.
async fn bring_in_order(mut unfit: Unfit<Disk>, state: State) {
    let checkout = unfit.checkout();
    let grace = checkout.pool().home().options.abandoned_grace;
    let Some(connection) = checkout.connection() else {
        return;
    };
    let in_order = timeout(grace, async {
        connection.stop().await?;
        match state {
            State::Idle | State::Statement => Ok(()),
            State::Transaction => connection.roll_back().await,
        }
    });
    match in_order.await {
        Ok(Ok(())) => unfit.mended(),
        Ok(Err(_)) | Err(_) => {
            tracing::debug!(
                ?state,
                "connection closed: it could not be brought in order in time"
            );
        }
    }
}
