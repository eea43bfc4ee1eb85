//! The way to an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::cache::{BOUND, Ticket, Who};
use super::flights::Flights;
use super::held::Held;
use super::question;
#[cfg(feature = "redis")]
use super::redis::Redis;
use super::status::AuthorizerStatus;
use super::subscription::Known;
use crate::error::{Error, ErrorKind};
use crate::scope::TenantScope;
use crate::slots::Slots;
use crate::sync;

/// What the clones of an authorizer share.
pub(super) struct Inner {
    pub(super) following: Option<Following>,
    #[cfg(feature = "redis")]
    pub(super) redis: Option<Redis>,
    pub(super) time_to_live: Duration,
    pub(super) timeout: Duration,
    pub(super) counts: Counts,
}

/// What is known, and the questions that are under way.
pub(super) struct Following {
    pub(super) known: Arc<Known>,
    pub(super) flights: Flights<Result<Arc<Held>, Error>>,
    /// The task ends when this is dropped.
    pub(super) _stop: oneshot::Sender<()>,
}

#[derive(Default)]
pub(super) struct Counts {
    asked: AtomicU64,
    found_in_redis: AtomicU64,
}

impl Inner {
    /// What is known in this process and counts now, without asking anybody.
    pub(super) fn known<R>(
        &self,
        scope: &TenantScope,
        user: &str,
        what: impl FnOnce(&Held) -> R,
    ) -> Option<R> {
        let following = self.following.as_ref()?;
        let slots = scope.slots()?;
        let who = who(slots, scope, user, slots.generation());
        let cache = &following.known.cache;
        cache.find(&who, sync::now(), |held| what(held))
    }

    /// Asks, or joins those who do.
    pub(super) async fn find_out(
        self: &Arc<Self>,
        scope: &TenantScope,
        user: &str,
    ) -> Result<Arc<Held>, Error> {
        let (Some(following), Some(slots)) = (&self.following, scope.slots()) else {
            let answer = self.ask(scope, user).await?;
            return Ok(answer.held);
        };
        // What the directory said before a change is not believed after it.
        let route = slots.generation();
        let begun = sync::now();
        let place = slots.target(scope.tenant()).await?;
        let place_until = slots.directory().time_to_live().map(|ttl| begun + ttl);
        let who = who(slots, scope, user, route);
        let cache = &following.known.cache;
        let ticket = cache.ticket(&who, place, place_until);
        let now = sync::now();
        if let Some(held) = cache.find(&who, now, Arc::clone) {
            return Ok(held);
        }
        // Whoever joins asks for what has been so for less than the bound, as for what is known.
        let flight = following.flights.join(ticket.number, user, now, BOUND, || {
            let (inner, scope, user) = (Arc::clone(self), scope.clone(), user.to_owned());
            Box::pin(async move { inner.answer(&scope, &user, route, ticket).await })
        });
        flight.await
    }

    async fn answer(
        &self,
        scope: &TenantScope,
        user: &str,
        route: u64,
        ticket: Ticket,
    ) -> Result<Arc<Held>, Error> {
        let (Some(following), Some(slots)) = (&self.following, scope.slots()) else {
            return self.ask(scope, user).await.map(|answer| answer.held);
        };
        let cache = &following.known.cache;
        let who = who(slots, scope, user, route);
        #[cfg(feature = "redis")]
        if let (Some(redis), Some(epoch)) = (&self.redis, ticket.epoch)
            && cache.is_current(sync::now())
            && let Some(held) = redis.find(scope.tenant().as_str(), user, epoch).await
        {
            let held = Arc::new(held);
            let now = sync::now();
            // In this order: if it still counts, what was heard until now did not concern it.
            let is_current = cache.is_current(now);
            let until = self.until(now);
            if cache.keep(&ticket, &who, epoch, Arc::clone(&held), until) && is_current {
                self.counts.found_in_redis.fetch_add(1, Ordering::Relaxed);
                return Ok(held);
            }
        }
        let until = self.until(sync::now());
        let answer = self.ask(scope, user).await?;
        let held = answer.held;
        let Some((tenant, epoch)) = answer.epoch else {
            return Ok(held);
        };
        // Of `007` and `7` a database may make one tenant, and it tells of it by one name.
        let is_told_of = tenant == scope.tenant().as_str()
            && following.known.is_followed(&answer.database)
            && held.len() <= MAX_PATTERNS;
        if is_told_of && cache.keep(&ticket, &who, epoch, Arc::clone(&held), until) {
            #[cfg(feature = "redis")]
            if let Some(redis) = &self.redis {
                redis.put(scope.tenant().as_str(), user, epoch, &held);
            }
        }
        Ok(held)
    }

    async fn ask(&self, scope: &TenantScope, user: &str) -> Result<question::Answer, Error> {
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        let answer = question::ask(scope, user);
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(
                ErrorKind::PermissionUnknown,
                "the database did not say in time whether the user may do this",
            )),
        }
    }

    fn until(&self, now: Instant) -> Instant {
        now + self.time_to_live
    }

    pub(super) fn status(&self) -> AuthorizerStatus {
        let cache = self.following.as_ref().map(|it| &it.known.cache);
        AuthorizerStatus {
            is_following: cache.is_some_and(|cache| cache.is_current(sync::now())),
            entries: cache.map_or(0, super::cache::Cache::len),
            asked: self.counts.asked.load(Ordering::Relaxed),
            found_in_redis: self.counts.found_in_redis.load(Ordering::Relaxed),
        }
    }
}

fn who<'a>(slots: &Slots, scope: &'a TenantScope, user: &'a str, route: u64) -> Who<'a> {
    Who {
        tenant: scope.tenant(),
        user,
        registry: slots.id(),
        route,
    }
}

/// Who holds more than that is asked for each time.
const MAX_PATTERNS: usize = 10_000;
