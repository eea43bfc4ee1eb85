//! What an authorizer is told before it begins.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Authorizer;
use super::flights::Flights;
use super::inner::{Counts, Following, Inner};
#[cfg(feature = "redis")]
use super::redis::Redis;
use super::subscription::{Follower, Known};
use crate::directory::Database;
use crate::error::{Error, ErrorKind};

/// Options of an [`Authorizer`].
#[must_use = "a builder does nothing until `build`"]
pub struct AuthorizerBuilder {
    subscription: Option<Database>,
    time_to_live: Duration,
    timeout: Duration,
    max_entries: usize,
    #[cfg(feature = "redis")]
    redis: Option<String>,
    #[cfg(feature = "redis")]
    redis_timeout: Duration,
}

impl AuthorizerBuilder {
    pub(super) fn new() -> Self {
        Self {
            subscription: None,
            time_to_live: Duration::from_secs(5 * 60),
            timeout: Duration::from_secs(5),
            max_entries: 100_000,
            #[cfg(feature = "redis")]
            redis: None,
            #[cfg(feature = "redis")]
            redis_timeout: Duration::from_millis(50),
        }
    }

    /// The database whose changes to roles are followed, as the application's role, over one
    /// connection beside those of the registry. It costs the server a question of no rows four
    /// times a second.
    ///
    /// None by default: then nothing is cached, and each check asks the database, as it does for
    /// tenants that live in other databases than this one. The connection must lead to the server
    /// itself, past any pooler that lends sessions by transaction, which is refused (see
    /// [`Pooler`](crate::Pooler)), and not to a standby.
    pub fn subscription(mut self, database: impl Into<Database>) -> Self {
        self.subscription = Some(database.into());
        self
    }

    /// How old an answer may become although nothing was heard of its tenant: what a change takes
    /// that was made past the triggers of the tables. 5 minutes by default. An answer that came by
    /// way of Redis may have been that old before.
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.time_to_live = time;
        self
    }

    /// How long the database may take to answer before nobody knows: 5 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many tenants and users are known in this process at most, give or take those who are
    /// asked for at the same moment. 100,000 by default, at some 200 bytes each and some 100 for
    /// each pattern that a user holds.
    pub fn max_entries(mut self, max: usize) -> Self {
        self.max_entries = max;
        self
    }

    /// A Redis that processes share what they found out in, such as `redis://cache.internal/2`.
    /// None by default. It is asked for users that this process does not know yet, of tenants that
    /// it does, and needs a [`subscription`](Self::subscription).
    ///
    /// It need not be trusted nor be up. Entries are sealed with a key that the tenant's own
    /// database hands out and that is another one after each change, so that one that was written
    /// by somebody else, that belongs to another user or tenant, or that is out of date is ignored,
    /// and the database asked. What Redis can read in them is what users may do, not who they are.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.redis = Some(url.into());
        self
    }

    /// How long Redis may take to answer before the database is asked instead: 50 milliseconds by
    /// default. Once it has not answered it is left alone for a second.
    #[cfg(feature = "redis")]
    pub fn redis_timeout(mut self, timeout: Duration) -> Self {
        self.redis_timeout = timeout;
        self
    }

    /// Connects to the database of the subscription and begins to follow it. Redis is connected to
    /// when it is first needed.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`] if a time or the number of entries is zero, if the address of
    ///   Redis is not one, or if there is one without a subscription;
    /// - [`ErrorKind::Connect`] if the database is not reached within 5 seconds;
    /// - [`ErrorKind::Installation`] if its tables are missing, or not for this role to read: run
    ///   [`Authorization::apply`](crate::sql::Authorization::apply);
    /// - [`ErrorKind::ConnectionLost`] if the connection has no session of its own, or broke.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing stays behind but a connection that is being closed.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn build(self) -> Result<Authorizer, Error> {
        self.check()?;
        #[cfg(feature = "redis")]
        let redis = match &self.redis {
            Some(url) => Some(Redis::new(url, self.redis_timeout, self.time_to_live)?),
            None => None,
        };
        let following = match self.subscription {
            Some(database) => Some(follow(database, self.max_entries).await?),
            None => None,
        };
        Ok(Authorizer::new(Inner {
            following,
            #[cfg(feature = "redis")]
            redis,
            time_to_live: self.time_to_live,
            timeout: self.timeout,
            counts: Counts::default(),
        }))
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |rule| Err(Error::new(ErrorKind::InvalidOption, rule));
        if self.time_to_live.is_zero() || self.timeout.is_zero() || self.max_entries == 0 {
            return refuse("the times of an authorizer, and how much it may know, are not zero");
        }
        #[cfg(feature = "redis")]
        if self.redis_timeout.is_zero() {
            return refuse("the times of an authorizer, and how much it may know, are not zero");
        }
        #[cfg(feature = "redis")]
        if self.redis.is_some() && self.subscription.is_none() {
            return refuse("an authorizer with Redis needs a subscription to know what is current");
        }
        Ok(())
    }
}

async fn follow(database: Database, max_entries: usize) -> Result<Following, Error> {
    let known = Arc::new(Known::new(max_entries));
    let follower = Follower::new(database, Arc::clone(&known));
    let session = follower.open().await?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(follower.run(session, stopped));
    Ok(Following {
        known,
        flights: Flights::new(),
        _stop: stop,
    })
}

/// Shows nothing of how the database and Redis are reached.
impl fmt::Debug for AuthorizerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizerBuilder")
            .field("has_subscription", &self.subscription.is_some())
            .field("time_to_live", &self.time_to_live)
            .field("timeout", &self.timeout)
            .field("max_entries", &self.max_entries)
            .finish_non_exhaustive()
    }
}
