//! The way past this crate, named so that a review finds it.

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::TenantTx;
use crate::error::{Error, ErrorKind};
use crate::lease::Traces;

/// Whether the connection has been handed out, and the mark by which its transaction is known.
#[derive(Debug, Default)]
pub(super) struct Hatch {
    began: Option<String>,
    is_open: bool,
    was_used: bool,
}

impl Hatch {
    /// Whether the connection was handed out since the last statement of ours.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether anybody ever had it in hand.
    pub(super) fn was_used(&self) -> bool {
        self.was_used
    }

    pub(super) fn shut(&mut self) {
        self.is_open = false;
    }
}

/// A transaction's time does not change while it lasts, and no two transactions of one session
/// have the same: between them lie a COMMIT and a BEGIN, and a microsecond.
const BEGAN: &str = "SELECT transaction_timestamp()::text";

impl TenantTx {
    /// The connection itself, inside the transaction, with the context set but without this
    /// crate's protection: for what only a plain `&mut PgConnection` can do.
    ///
    /// **Dangerous**: statements sent on it are neither looked at nor scoped again, so that
    /// `SET LOCAL` of the context takes effect until the next statement through `&mut tx`.
    ///
    /// It costs three round trips now, one more at `commit`, which makes sure that the
    /// transaction is still the one that was begun, and the connection, which is closed at the end.
    ///
    /// # Errors
    ///
    /// Those of any statement.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn dangerous_connection(&mut self) -> Result<&mut PgConnection, Error> {
        self.settle().await?;
        // What was in other hands is not taken back: it may be another connection by now, or sqlx
        // may count it as inside a transaction of its own.
        self.lease.connection()?.carries(Traces::Lasting)?;
        if self.hatch.began.is_none() {
            let began = sqlx::query_scalar(BEGAN).fetch_one(&mut *self).await?;
            self.hatch.began = Some(began);
        }
        self.say_context().await?;
        self.hatch.is_open = true;
        let connection = self.lease.connection()?;
        // Texts that were prepared with the scope argument would be taken for plain ones.
        let cleared = connection.raw().clear_cached_statements().await;
        cleared.map_err(|error| self.seen(error))?;
        // Who was refused it, or gave up before, has not ended the transaction on it.
        self.hatch.was_used = true;
        Ok(self.lease.connection()?.raw())
    }

    /// That the transaction is still the one that was begun, if anyone could have ended it.
    pub(super) async fn is_still_the_same(&mut self) -> Result<(), Error> {
        let Some(began) = self.hatch.began.clone() else {
            return Ok(());
        };
        let now: String = sqlx::query_scalar(BEGAN).fetch_one(&mut *self).await?;
        if now == began {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Commit,
            "the transaction was ended through dangerous_connection",
        ))
    }
}
