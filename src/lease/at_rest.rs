//! A bell that pools ring when nobody uses them any more.

use tokio::sync::Notify;

use crate::sync::AtomicCounter;

/// For those who need a pool that can be closed for one of their own.
#[derive(Debug, Default)]
pub(crate) struct AtRest {
    listeners: AtomicCounter,
    bell: Notify,
}

impl AtRest {
    /// Cheap where nobody listens.
    pub(crate) fn ring(&self) {
        if self.listeners.get() > 0 {
            self.bell.notify_waiters();
        }
    }

    /// Tries until `attempt` has something: now, and each time a pool comes to rest.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn until<R>(&self, mut attempt: impl FnMut() -> Option<R>) -> R {
        struct Listening<'a>(&'a AtomicCounter);
        impl Drop for Listening<'_> {
            fn drop(&mut self) {
                self.0.sub(1);
            }
        }
        self.listeners.add(1);
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
