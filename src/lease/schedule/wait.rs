//! A place in the queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Checkout, Pool, Types};

/// Why who waited gets no connection.
#[derive(Debug)]
pub(crate) enum Refusal<F> {
    /// The pool leases no more: look up where the tenant lives now.
    Retired,
    /// No connection could be opened; the next attempt is made after this time.
    Failed(F, Duration),
}

/// A place in the queue.
///
/// # Drop
///
/// Gives the place up; a connection that was on its way goes to the next.
pub(crate) struct Wait<T: Types> {
    pub(super) pool: Arc<Pool<T>>,
    pub(super) tenant: T::Tenant,
    pub(super) number: u64,
    pub(super) answer: oneshot::Receiver<Result<Checkout<T>, Refusal<T::Failure>>>,
}

impl<T: Types> Wait<T> {
    /// # Cancel safety
    ///
    /// Cancel safe: may be called again until it has answered.
    pub(crate) async fn answer(&mut self) -> Result<Checkout<T>, Refusal<T::Failure>> {
        match (&mut self.answer).await {
            Ok(answer) => answer,
            // The sender is only dropped with its server.
            Err(_) => Err(Refusal::Retired),
        }
    }
}

impl<T: Types> Drop for Wait<T> {
    fn drop(&mut self) {
        self.answer.close();
        self.pool.forget(&self.tenant, self.number);
        // What was sent before it was closed is dropped with the receiver, and goes back.
    }
}
