//! What is left to do when the locks are released.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::{Checkout, Driver as _, Pool, Refusal, Server, Types};

pub(super) type Answer<T> = Result<Checkout<T>, Refusal<<T as Types>::Failure>>;

/// How a waiter is told.
pub(super) type Reply<T> = oneshot::Sender<Answer<T>>;

pub(super) struct Effects<T: Types> {
    replies: Vec<(Reply<T>, Answer<T>)>,
    open: Vec<Arc<Pool<T>>>,
    close: Vec<(Arc<Pool<T>>, T::Connection)>,
    wake: Option<Instant>,
    rests: bool,
}

impl<T: Types> Effects<T> {
    pub(super) fn new() -> Self {
        Self {
            replies: Vec::new(),
            open: Vec::new(),
            close: Vec::new(),
            wake: None,
            rests: false,
        }
    }

    pub(super) fn reply(&mut self, to: Reply<T>, answer: Answer<T>) {
        self.replies.push((to, answer));
    }

    pub(super) fn open(&mut self, pool: &Arc<Pool<T>>) {
        self.open.push(Arc::clone(pool));
    }

    /// To be said under the pool's lock, with `closing` raised.
    pub(super) fn close(&mut self, pool: &Arc<Pool<T>>, connection: T::Connection) {
        pool.server().is_closing_one();
        self.close.push((Arc::clone(pool), connection));
    }

    pub(super) fn wake(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// A pool may have come to rest.
    pub(super) fn rests(&mut self) {
        self.rests = true;
    }

    /// To be called with no lock held.
    pub(super) fn carry_out(self, server: &Arc<Server<T>>) {
        for (to, answer) in self.replies {
            // Who gave up meanwhile leaves the answer here, and a checkout goes back by itself.
            drop(to.send(answer));
        }
        for (pool, connection) in self.close {
            server.driver().close(pool, connection);
        }
        for pool in self.open {
            server.driver().open(pool);
        }
        if let Some(at) = self.wake {
            server.driver().wake(Arc::clone(server), at);
        }
        if self.rests {
            server.driver().idle();
        }
    }
}
