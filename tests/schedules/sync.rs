//! In the place of `src/sync.rs`: locks and counters that hand over to another thread wherever
//! they are used, and a clock that goes on only when told to.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, PoisonError};
use std::time::{Duration, Instant};

use shuttle::sync::atomic::AtomicUsize;
pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Drop
///
/// Hands over behind the lock as well, where [`hand_over_behind_locks`] was called: what follows
/// may be a primitive that is not `shuttle`'s.
pub(crate) struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is held until it is dropped")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is held until it is dropped")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.0 = None;
        if HANDS_OVER.get() && !std::thread::panicking() {
            shuttle::thread::yield_now();
        }
    }
}

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
        let before = self.0.fetch_sub(less, Ordering::SeqCst);
        assert!(before >= less, "a counter went below zero");
    }
}

impl Default for AtomicCounter {
    fn default() -> Self {
        Self::new(0)
    }
}

impl fmt::Debug for AtomicCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtomicCounter")
    }
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    // All threads of one schedule are coroutines of one thread.
    static CLOCK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static HANDS_OVER: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn hand_over_behind_locks(yes: bool) {
    HANDS_OVER.set(yes);
}

pub(crate) fn epoch() -> Instant {
    *EPOCH
}

pub(crate) fn now() -> Instant {
    *EPOCH + CLOCK.get()
}

/// The beginning of an execution.
pub(crate) fn reset_clock() {
    CLOCK.set(Duration::ZERO);
}

pub(crate) fn advance(by: Duration) {
    CLOCK.set(CLOCK.get() + by);
}

pub(crate) fn advance_to(at: Instant) {
    CLOCK.set(CLOCK.get().max(at - *EPOCH));
}
