//! A bell that pools ring when nobody uses them any more.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// For those who need a pool that can be closed for one of their own.
#[derive(Debug, Default)]
pub(crate) struct AtRest {
    listeners: AtomicUsize,
    bell: Notify,
}

impl AtRest {
    /// Cheap where nobody listens.
    pub(crate) fn ring(&self) {
        if self.listeners.load(Ordering::SeqCst) > 0 {
            self.bell.notify_waiters();
        }
    }

    /// Tries until `attempt` has something: now, and each time a pool comes to rest.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn until<R>(&self, mut attempt: impl FnMut() -> Option<R>) -> R {
        struct Listening<'a>(&'a AtomicUsize);
        impl Drop for Listening<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.listeners.fetch_add(1, Ordering::SeqCst);
        let _listening = Listening(&self.listeners);
        loop {
            // Made before the attempt: what rings from here on is not missed.
            let rung = self.bell.notified();
            if let Some(found) = attempt() {
                return found;
            }
            rung.await;
        }
    }
}
