//! Questions that are under way, so that one answer does for all who ask the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};
use parking_lot::Mutex;

/// A question that is under way, driven by whoever waits for it: it goes on when the one who began
/// it does not, and ends with the last of them.
pub(super) type Flight<T> = Shared<BoxFuture<'static, T>>;

pub(super) struct Flights<T>(Arc<Mutex<UnderWay<T>>>);

struct UnderWay<T> {
    known: HashMap<Key, Begun<T>>,
    number: u64,
}

/// The tenant's number in the cache, which is another one after each change, and the user.
type Key = (u64, Box<str>);

struct Begun<T> {
    number: u64,
    at: Instant,
    flight: WeakShared<BoxFuture<'static, T>>,
}

/// # Drop
///
/// Takes its flight off the list.
struct Landing<T> {
    flights: Flights<T>,
    key: Key,
    number: u64,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(UnderWay {
            known: HashMap::new(),
            number: 0,
        })))
    }

    /// Joins a flight that began less than `youth` ago, or begins one.
    pub(super) fn join(
        &self,
        tenant: u64,
        user: &str,
        now: Instant,
        youth: Duration,
        begin: impl FnOnce() -> BoxFuture<'static, T>,
    ) -> Flight<T> {
        let key: Key = (tenant, user.into());
        // One that is too old is let go behind the lock: with its last waiter it ends, and that
        // takes the lock.
        let mut too_old = None;
        let mut under_way = self.0.lock();
        if let Some(begun) = under_way.known.get(&key)
            && let Some(flight) = begun.flight.upgrade()
        {
            if now.saturating_duration_since(begun.at) < youth {
                return flight;
            }
            too_old = Some(flight);
        }
        under_way.number += 1;
        let number = under_way.number;
        let landing = Landing {
            flights: self.clone(),
            key: key.clone(),
            number,
        };
        let question = begin();
        let flight = async move {
            let _landing = landing;
            question.await
        };
        let flight = flight.boxed().shared();
        // Only one that is over has none.
        if let Some(weak) = flight.downgrade() {
            let begun = Begun {
                number,
                at: now,
                flight: weak,
            };
            under_way.known.insert(key, begun);
        }
        drop(under_way);
        drop(too_old);
        flight
    }
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut under_way = self.flights.0.lock();
        if under_way
            .known
            .get(&self.key)
            .is_some_and(|begun| begun.number == self.number)
        {
            under_way.known.remove(&self.key);
        }
    }
}
