//! Who gets a connection next: counting, waiting in turn, and taking back, without any I/O.
//!
//! A [`Server`] counts the connections of all its [`Pool`]s and knows who waits. What has to be
//! done on the wire (open, close) it tells its [`Driver`], which reports back when it is done. Time
//! comes in as an argument. So all of this can be put through every schedule of threads and
//! compared with a plain model, with connections that are numbers.
//!
//! Locks: the server's before a pool's, and nothing foreign is called or dropped under either:
//! what is to be done is collected in [`Effects`] and done behind them.

mod checkout;
mod effects;
mod pool;
mod round;
mod server;
mod wait;

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use checkout::{Checkout, Unfit};
pub(crate) use pool::{Pool, PoolCounts, PoolLimits, TryLease};
pub(crate) use server::{Server, ServerCounts, ServerLimits};
pub(crate) use wait::{Refusal, Wait};

/// What the connections are, and who asks for them.
pub(crate) trait Types: Sized + Send + Sync + 'static {
    type Connection: Send;
    type Tenant: Clone + Eq + Hash + Debug + Send + Sync;
    /// Why a connection could not be opened; everybody who waits gets a copy.
    type Failure: Clone + Send + Sync;
    /// What a pool knows about how its connections are opened.
    type Home: Send + Sync;
    type Driver: Driver<Self>;
}

/// Does what the schedule wants done, in the background.
pub(crate) trait Driver<T: Types>: Send + Sync {
    /// Open a connection, and say [`Pool::opened`] or [`Pool::not_opened`].
    fn open(&self, pool: Arc<Pool<T>>);

    /// Close it, and say [`Pool::closed`] when the server has let go of it.
    fn close(&self, pool: Arc<Pool<T>>, connection: T::Connection);

    /// A pool has come to rest: nobody uses it or waits for it.
    fn idle(&self);

    /// Say [`Server::look`] at this time.
    fn wake(&self, server: Arc<Server<T>>, at: Instant);
}

/// The shortest and the longest time between a failure to open and the next attempt.
const BACK_OFF: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(10);
