//! What was found out about the way to a server, by any of its connections.

use std::sync::atomic::{AtomicBool, Ordering};

/// One for each server of a registry.
#[derive(Debug, Default)]
pub(super) struct Way {
    pooler: AtomicBool,
    shares: AtomicBool,
    stale_names: AtomicBool,
}

impl Way {
    /// Whether there is a pooler in between.
    pub(super) fn has_pooler(&self) -> bool {
        self.pooler.load(Ordering::Relaxed)
    }

    /// Whether a connection that was taken to have a session of its own had none.
    pub(super) fn is_shared(&self) -> bool {
        self.shares.load(Ordering::Relaxed)
    }

    /// Connections are opened as for a pooler that lends sessions by transaction.
    pub(super) fn found_a_pooler(&self) {
        if !self.pooler.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "there is a pooler in front of the server: each statement runs in a transaction; \
                 say with Database::pooler what it is"
            );
        }
    }

    /// Whether the pooler has kept a statement that the server no longer takes.
    pub(super) fn has_stale_names(&self) -> bool {
        self.stale_names.load(Ordering::Relaxed)
    }

    /// The pooler has no word by which it would forget it: statements have no names from now on.
    pub(super) fn found_a_stale_name(&self) {
        if !self.stale_names.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the pooler keeps a prepared statement whose table was altered: statements are sent \
                 without names from now on"
            );
        }
    }

    /// None of the connections is used again that were opened before this came out.
    pub(super) fn shares_sessions(&self) {
        self.pooler.store(true, Ordering::Relaxed);
        if !self.shares.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a connection met another session of the server than before: there is a pooler that \
                 lends sessions by transaction, and it was taken for none"
            );
        }
    }
}
