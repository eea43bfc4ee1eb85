//! A connection in somebody's hands.

use std::sync::Arc;
use std::time::Instant;

use super::{Pool, Types};
use crate::sync::now;

/// A connection and the times that decide what becomes of it.
pub(super) struct Held<C> {
    pub(super) connection: C,
    pub(super) opened_at: Instant,
    /// Since when its pool has had it while others may have been waiting.
    pub(super) turn_began: Instant,
    pub(super) used_at: Instant,
    /// Whether it goes straight from being opened to who waited for it.
    pub(super) is_new: bool,
}

/// A connection that is in use.
///
/// # Drop
///
/// It goes back to its pool as it is. What is not fit for the next borrower must not be dropped
/// but [`close`](Self::close)d.
pub(crate) struct Checkout<T: Types> {
    pool: Arc<Pool<T>>,
    /// `None` once it was closed.
    held: Option<Held<T::Connection>>,
    /// Whom it counts for, where that is counted.
    tenant: Option<T::Tenant>,
    is_new: bool,
    is_fresh: bool,
    was_used: bool,
    /// The last that is known of the time: looking at the clock takes longer than all else here.
    now: Instant,
}

impl<T: Types> Checkout<T> {
    pub(super) fn new(
        pool: &Arc<Pool<T>>,
        held: Held<T::Connection>,
        tenant: Option<T::Tenant>,
        now: Instant,
    ) -> Self {
        let is_fresh = now.saturating_duration_since(held.used_at) <= pool.limits().test_after;
        Self {
            is_new: held.is_new,
            is_fresh,
            was_used: false,
            now,
            pool: Arc::clone(pool),
            held: Some(held),
            tenant,
        }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool<T>> {
        &self.pool
    }

    /// `None` after [`close`](Self::close).
    pub(crate) fn connection(&mut self) -> Option<&mut T::Connection> {
        self.was_used = true;
        self.held.as_mut().map(|held| &mut held.connection)
    }

    /// The same, to look at it: that is no use of it.
    pub(crate) fn look(&self) -> Option<&T::Connection> {
        self.held.as_ref().map(|held| &held.connection)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.held.is_some()
    }

    /// Whether it was opened a moment ago and was never free.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether it was used so short a time ago that it need not be tested.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// It was in use until now.
    pub(crate) fn used_until(&mut self, now: Instant) {
        self.now = now;
    }

    /// Gives the connection up. It counts until the server has let go of it.
    pub(crate) fn close(&mut self) {
        if let Some(held) = self.held.take() {
            self.pool
                .close_checked_out(held.connection, self.tenant.take(), now());
        }
    }
}

impl<T: Types> Checkout<T> {
    fn give_back(&mut self) {
        if let Some(mut held) = self.held.take() {
            held.is_new = false;
            if self.was_used {
                held.used_at = self.now;
            }
            self.pool.put_back(held, self.tenant.take(), self.now);
        }
    }
}

impl<T: Types> Drop for Checkout<T> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A connection that is not in order.
///
/// # Drop
///
/// Closes it: only [`mended`](Self::mended) lets it go back.
pub(crate) struct Unfit<T: Types>(Checkout<T>);

impl<T: Types> Unfit<T> {
    pub(crate) fn new(checkout: Checkout<T>) -> Self {
        Self(checkout)
    }

    pub(crate) fn checkout(&mut self) -> &mut Checkout<T> {
        &mut self.0
    }

    /// It is in order again, since now.
    pub(crate) fn mended(mut self) {
        self.0.used_until(now());
        self.0.give_back();
    }
}

impl<T: Types> Drop for Unfit<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}
