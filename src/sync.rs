//! The locks, counters and clock of the parts that decide by themselves.
//!
//! The tests put the same source files through other schedules with a module of this name that
//! has `shuttle`'s in their place, see `tests/schedules.rs`.

use std::sync::atomic::AtomicUsize;
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};

/// What time it is, for what nobody tells it, such as a `drop`.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A counter that is changed under a lock and read without it.
#[derive(Debug, Default)]
pub(crate) struct AtomicCounter(AtomicUsize);

impl AtomicCounter {
    pub(crate) fn new(value: usize) -> Self {
        Self(AtomicUsize::new(value))
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more, Ordering::SeqCst);
    }

    pub(crate) fn sub(&self, less: usize) {
        self.0.fetch_sub(less, Ordering::SeqCst);
    }
}
