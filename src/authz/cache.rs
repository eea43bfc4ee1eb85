//! What is known in this process, and for how long it counts. It does no I/O: `tests/schedules.rs`
//! puts it through schedules of threads.
//!
//! An entry counts while two things hold: nothing has been heard of its tenant since *before* it
//! was asked for, and the hearing is good, which it is for [`BOUND`] from when a question was sent
//! that the server has answered. Who is told of changes calls [`Cache::changed`] for each before
//! it calls [`Cache::heard`]; so whatever was committed before that question was sent is known.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::sync::{AtomicCounter, AtomicU64, Ordering, RwLock};
use crate::tenant::TenantId;

/// For how long an answer of the server vouches for what is known.
pub(crate) const BOUND: Duration = Duration::from_secs(1);

/// What is known of users, as `V`, of tenants whose places are `P`s.
pub(crate) struct Cache<V, P> {
    begun: Instant,
    /// Nanoseconds from `begun`.
    current_until: AtomicU64,
    parts: Box<[Part<V, P>]>,
    hasher: RandomState,
    /// Tenants and users.
    entries: AtomicCounter,
    capacity: usize,
}

/// On cache lines of its own: who looks into one does not slow down who looks into another.
#[repr(align(128))]
struct Part<V, P>(RwLock<Tenants<V, P>>);

struct Tenants<V, P> {
    known: HashMap<TenantId, Known<V, P>, RandomState>,
    /// That of the last tenant which became known, and never the same again.
    number: u64,
}

/// A tenant from when it is first asked for until something is heard of it.
struct Known<V, P> {
    number: u64,
    registry: u64,
    route: u64,
    place: P,
    /// Nanoseconds from `begun`.
    place_until: u64,
    epoch: Option<Epoch>,
    users: HashMap<Box<str>, Entry<V>, RandomState>,
}

struct Entry<V> {
    value: V,
    /// Nanoseconds from `begun`.
    until: u64,
    was_used: AtomicBool,
}

/// Who is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) user: &'a str,
    /// Tenants of another registry are others, whatever their names.
    pub(crate) registry: u64,
    /// The state of the registry's directory: with another one, tenants may live elsewhere.
    pub(crate) route: u64,
}

/// The state that a tenant's roles are in. The number rises with each change; the mark belongs to
/// this state and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) number: i64,
    pub(crate) mark: u128,
}

/// Taken before a question is asked, so that the answer is kept only if nothing was heard meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// Of the tenant, from when it became known.
    pub(crate) number: u64,
    /// The last that is known, if one is.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) epoch: Option<Epoch>,
}

impl<V, P: PartialEq> Cache<V, P> {
    /// Two tenants chosen at random share a part in one of `parts` times.
    pub(crate) fn new(parts: u64, capacity: usize, begun: Instant) -> Self {
        let part = |number| {
            Part(RwLock::new(Tenants {
                known: HashMap::default(),
                number,
            }))
        };
        Self {
            begun,
            current_until: AtomicU64::new(0),
            parts: (0..parts).map(part).collect(),
            hasher: RandomState::default(),
            entries: AtomicCounter::new(0),
            capacity,
        }
    }

    /// What is known and counts now: the way that most take.
    ///
    /// The time is looked at first. What was heard by then had been applied before, so that it is
    /// seen here; what comes later makes the answer only better.
    pub(crate) fn find<R>(
        &self,
        who: &Who<'_>,
        now: Instant,
        what: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        let at = self.nanoseconds(now);
        if at >= self.current_until.load(Ordering::Acquire) {
            return None;
        }
        let part = self.part(who.tenant).0.read();
        let known = part.known.get(who.tenant)?;
        if known.registry != who.registry || known.route != who.route || at >= known.place_until {
            return None;
        }
        let entry = known.users.get(who.user)?;
        if at >= entry.until {
            return None;
        }
        if !entry.was_used.load(Ordering::Relaxed) {
            entry.was_used.store(true, Ordering::Relaxed);
        }
        Some(what(&entry.value))
    }

    /// Whether anything that is known counts now.
    pub(crate) fn is_current(&self, now: Instant) -> bool {
        self.nanoseconds(now) < self.current_until.load(Ordering::Acquire)
    }

    /// Before the database is asked. A tenant that lives in the same place as before is the same;
    /// that it does is known until the time that is given.
    pub(crate) fn ticket(&self, who: &Who<'_>, place: P, until: Option<Instant>) -> Ticket {
        let place_until = until.map_or(u64::MAX, |until| self.nanoseconds(until));
        let mut part = self.part(who.tenant).0.write();
        if let Some(known) = part.known.get_mut(who.tenant)
            && known.registry == who.registry
            && known.place == place
        {
            known.route = who.route;
            known.place_until = place_until;
            return Ticket {
                number: known.number,
                epoch: known.epoch,
            };
        }
        // Another one than in any other part.
        part.number += self.parts.len() as u64;
        let number = part.number;
        let known = Known {
            number,
            registry: who.registry,
            route: who.route,
            place,
            place_until,
            epoch: None,
            users: HashMap::default(),
        };
        self.entries.add(1);
        if let Some(before) = part.known.insert(who.tenant.clone(), known) {
            self.entries.sub(before.weight());
        }
        Ticket {
            number,
            epoch: None,
        }
    }

    /// Keeps an answer, unless something was heard of the tenant since the ticket was taken.
    pub(crate) fn keep(
        &self,
        ticket: &Ticket,
        who: &Who<'_>,
        epoch: Epoch,
        value: V,
        until: Instant,
    ) -> bool {
        let part = self.part(who.tenant);
        {
            let mut tenants = part.0.write();
            let Some(known) = tenants.known.get_mut(who.tenant) else {
                return false;
            };
            if known.number != ticket.number {
                return false;
            }
            match known.epoch {
                Some(last) if last == epoch => {}
                // What was told has not arrived yet, but here is the proof that there was something.
                Some(last) if last.number < epoch.number && last.mark != epoch.mark => {
                    self.entries.sub(known.users.len());
                    known.users.clear();
                }
                Some(last) if last.number > epoch.number => return false,
                Some(_) => {
                    // Not the same history: a backup was restored.
                    let gone = tenants.known.remove(who.tenant);
                    self.entries.sub(gone.map_or(0, |gone| gone.weight()));
                    return false;
                }
                None => {}
            }
            known.epoch = Some(epoch);
            let entry = Entry {
                value,
                until: self.nanoseconds(until),
                was_used: AtomicBool::new(true),
            };
            if known.users.insert(who.user.into(), entry).is_none() {
                self.entries.add(1);
            }
        }
        if self.entries.get() > self.capacity {
            self.make_room();
        }
        true
    }

    /// Something is different in this tenant.
    pub(crate) fn changed(&self, tenant: &TenantId) {
        let gone = self.part(tenant).0.write().known.remove(tenant);
        if let Some(gone) = gone {
            self.entries.sub(gone.weight());
        }
    }

    /// Something may be different in any tenant.
    pub(crate) fn all_changed(&self) {
        for part in &self.parts {
            let gone = std::mem::take(&mut part.0.write().known);
            self.entries.sub(gone.values().map(Known::weight).sum());
        }
    }

    /// The server has answered a question that was sent at that time, and all that it told before
    /// the answer has been applied.
    pub(crate) fn heard(&self, sent: Instant) {
        let until = self.nanoseconds(sent + BOUND);
        self.current_until.store(until, Ordering::Release);
    }

    /// Nothing is heard any more. Before it is again, [`all_changed`](Self::all_changed) is called.
    pub(crate) fn lost(&self) {
        self.current_until.store(0, Ordering::Release);
    }

    /// How many tenants and users are known.
    pub(crate) fn len(&self) -> usize {
        self.entries.get()
    }

    /// Forgets those that were not used since the last time, and then, if that was not enough,
    /// others.
    fn make_room(&self) {
        let enough = self.capacity - self.capacity / 8;
        let first = fastrand::usize(..self.parts.len());
        let (before, behind) = self.parts.split_at(first);
        for part in behind
            .iter()
            .chain(before)
            .cycle()
            .take(2 * self.parts.len())
        {
            if self.entries.get() <= enough {
                return;
            }
            let mut tenants = part.0.write();
            let mut weight = 0;
            let mut left = 0;
            tenants.known.retain(|_, known| {
                weight += known.weight();
                let is_used = |entry: &mut Entry<V>| std::mem::take(entry.was_used.get_mut());
                known.users.retain(|_, entry| is_used(entry));
                let stays = !known.users.is_empty();
                left += if stays { known.weight() } else { 0 };
                stays
            });
            self.entries.sub(weight - left);
        }
    }

    fn part(&self, tenant: &TenantId) -> &Part<V, P> {
        let at = self.hasher.hash_one(tenant) % self.parts.len() as u64;
        &self.parts[at as usize]
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.begun).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

impl<V, P> Known<V, P> {
    fn weight(&self) -> usize {
        1 + self.users.len()
    }
}
