//! Which connections a tenant's statements go to: the map that scopes look into at every use.

mod changes;
mod dangerous;
mod eviction;
mod pools;
mod routes;
mod target;
#[cfg(feature = "metrics")]
mod waits;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{Instant as Deadline, timeout_at};
use tracing::Instrument as _;

use crate::directory::{Database, Placement, TenantDirectory, TenantRecord};
use crate::error::{Error, ErrorKind};
use crate::lease::{Connections, Lease, NoLease, Owner, PoolOptions, Servers};
use crate::tenant::TenantId;

use routes::{Route, Routes};

pub use eviction::EvictionCause;
#[cfg(feature = "sqlite")]
pub(crate) use pools::Totals;
pub(crate) use pools::{Done, OpenPool, PoolMap, Pooled};
pub(crate) use target::Target;

/// The options of a pool: of a tenant's own database, or, with `None`, of one that tenants share.
pub(crate) type PoolOptionsOf =
    Box<dyn Fn(Option<&TenantId>, PoolOptions) -> PoolOptions + Send + Sync>;

/// Directory, routes, pools and servers of one registry.
pub(crate) struct Slots {
    /// Which registry this is: no two of a process have the same.
    id: u64,
    directory: Arc<dyn TenantDirectory>,
    routes: Routes,
    pools: PoolMap<Target, Connections>,
    servers: Servers,
    pool_options: PoolOptionsOf,
    idle_timeout: Option<Duration>,
    closed: AtomicBool,
    misses: AtomicU64,
}

/// Where a statement goes.
pub(crate) struct Place {
    pub(crate) lease: Lease,
    /// The schema that comes first in the search path, where the tenant has one of its own.
    pub(crate) schema: Option<Arc<str>>,
}

impl Place {
    /// Whether a single statement has to be in a transaction that we begin: for a tenant with a
    /// schema of its own, because names are resolved before any argument is looked at, and where
    /// only a transaction has a session.
    pub(crate) fn needs_transaction(&self) -> bool {
        self.schema.is_some() || self.lease.is_lent()
    }
}

/// For whom a connection is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A request. It makes its pool the one that was used last.
    Foreground,
    /// A job over many tenants, which changes nothing in the order of the pools.
    Background,
}

/// Whether a connection that was idle for a while is tried before it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Yes,
    /// For a message that is a test itself.
    No,
}

impl Slots {
    /// To be called inside a tokio runtime.
    pub(crate) fn new(
        directory: Arc<dyn TenantDirectory>,
        servers: Servers,
        pool_options: PoolOptionsOf,
        max_pools: Option<usize>,
        idle_timeout: Option<Duration>,
    ) -> Arc<Self> {
        let pools = PoolMap::new(max_pools, Arc::clone(servers.at_rest()));
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let slots = Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            directory,
            routes: Routes::default(),
            pools,
            servers,
            pool_options,
            idle_timeout,
            closed: AtomicBool::new(false),
            misses: AtomicU64::new(0),
        });
        changes::watch(&slots);
        slots
    }

    pub(crate) fn directory(&self) -> &Arc<dyn TenantDirectory> {
        &self.directory
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Raised whenever the directory says something else of any tenant.
    pub(crate) fn generation(&self) -> u64 {
        self.routes.generation()
    }

    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }

    pub(crate) fn pools(&self) -> &PoolMap<Target, Connections> {
        &self.pools
    }

    /// How often a statement did not find a free connection that was ready.
    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// A connection for one use.
    ///
    /// # Errors
    ///
    /// Those of the tenant's state, of the directory, of opening a connection, and
    /// [`ErrorKind::AcquireTimeout`] or [`ErrorKind::Saturated`] after `acquire_timeout`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn lease(
        &self,
        tenant: &TenantId,
        purpose: Purpose,
        test: Test,
    ) -> Result<Place, Error> {
        if let Some(place) = self.lease_now(tenant, purpose, Instant::now()) {
            return Ok(place);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let span = tracing::debug_span!("acquire", %tenant);
        let started = Instant::now();
        let place = self.lease_in_time(tenant, purpose, test, started);
        let place = place.instrument(span).await;
        #[cfg(feature = "metrics")]
        waits::record(started.elapsed(), place.as_ref().err());
        place
    }

    /// A connection that is free, if the way there is known: the way that most take, with neither a
    /// timer nor a task switch nor an allocation.
    pub(crate) fn lease_now(
        &self,
        tenant: &TenantId,
        purpose: Purpose,
        now: Instant,
    ) -> Option<Place> {
        self.routes.with(tenant, now, |route| {
            let lease = route.connections.lease_now(tenant, now).ok().flatten()?;
            if purpose == Purpose::Foreground {
                route.connections.touch(now);
            }
            let schema = route.schema.clone();
            Some(Place { lease, schema })
        })?
    }

    async fn lease_in_time(
        &self,
        tenant: &TenantId,
        purpose: Purpose,
        test: Test,
        started: Instant,
    ) -> Result<Place, Error> {
        loop {
            let route = self.route(tenant, purpose, started).await?;
            let connections = &route.connections;
            let deadline = Deadline::from(started + connections.options().acquire_timeout);
            let lease = async {
                match test {
                    Test::Yes => connections.lease(tenant).await,
                    Test::No => connections.lease_untested(tenant).await,
                }
            };
            match timeout_at(deadline, lease).await {
                Ok(Ok(lease)) => {
                    if purpose == Purpose::Foreground {
                        connections.touch(Instant::now());
                    }
                    let schema = route.schema.clone();
                    return Ok(Place { lease, schema });
                }
                Ok(Err(NoLease::Retired)) => self.routes.forget(tenant),
                Ok(Err(NoLease::Failed(error))) => return Err(error),
                Err(_) => return Err(connections.timed_out()),
            }
        }
    }

    /// That this tenant may be served now. Opens nothing.
    ///
    /// # Errors
    ///
    /// Those of the tenant's state and of the directory.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn check(&self, tenant: &TenantId) -> Result<(), Error> {
        if self.routes.find(tenant, Instant::now()).is_none() {
            self.record(tenant).await?;
        }
        Ok(())
    }

    /// Where this tenant lives, if it may be served now. Opens nothing.
    ///
    /// # Errors
    ///
    /// Those of the tenant's state and of the directory.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn target(&self, tenant: &TenantId) -> Result<Target, Error> {
        let record = self.record(tenant).await?;
        Ok(Target::of(tenant, &record))
    }

    /// Where this tenant lives, with a pool there.
    async fn route(
        &self,
        tenant: &TenantId,
        purpose: Purpose,
        started: Instant,
    ) -> Result<Route, Error> {
        if let Some(route) = self.routes.find(tenant, Instant::now()) {
            return Ok(route);
        }
        loop {
            // What was asked before a change is not believed after it.
            let generation = self.routes.generation();
            let record = self.record(tenant).await?;
            let target = Target::of(tenant, &record);
            let schema = match record.placement() {
                Placement::Schema { schema, .. } => Some(Arc::clone(schema)),
                _ => None,
            };
            let options = self.options_of(&target);
            let deadline = Deadline::from(started + options.acquire_timeout);
            let make = || self.make(&target, &record, options.clone(), purpose);
            let connections = timeout_at(deadline, self.pools.get_or_make(&target, make))
                .await
                .map_err(|_| no_place())?;
            let route = Route {
                connections,
                schema,
                until: self
                    .directory
                    .time_to_live()
                    .map(|ttl| Instant::now() + ttl),
            };
            if self.closed.load(Ordering::SeqCst) {
                route.connections.retire();
                return Err(closed());
            }
            if self.routes.keep(tenant, route.clone(), generation) {
                return Ok(route);
            }
        }
    }

    /// Opens a connection to a database that tenants share, whoever they are.
    pub(crate) async fn open_shared(&self, database: Database) -> Result<(), Error> {
        let target = Target::shared(&database);
        let options = self.options_of(&target);
        let wait = options.acquire_timeout;
        let make = || {
            let (database, options) = (database.clone(), options.clone());
            self.servers.connections(database, Owner::Many, options)
        };
        let connections = self.pools.get_or_make(&target, make).await;
        let nobody = TenantId::from(0_u64);
        let lease = connections.lease_untested(&nobody);
        match tokio::time::timeout(wait, lease).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(NoLease::Failed(error))) => Err(error),
            Ok(Err(NoLease::Retired)) => Err(closed()),
            Err(_) => Err(connections.timed_out()),
        }
    }

    /// What the directory says, if the tenant may be served.
    async fn record(&self, tenant: &TenantId) -> Result<TenantRecord, Error> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        let found = self.directory.find(tenant).await?;
        let record = found.ok_or_else(|| {
            Error::new(
                ErrorKind::TenantUnknown,
                "the directory knows no such tenant",
            )
        })?;
        record.tenant_state().check()?;
        Ok(record)
    }

    /// A job is done with this tenant: a pool that nobody else has used goes, so that jobs keep no
    /// more pools open than they work on.
    pub(crate) fn job_is_done_with(&self, tenant: &TenantId) {
        if self.pools.max().is_some() {
            self.pools.retire_idle(EvictionCause::Job, |target, pool| {
                target.tenant() == Some(tenant) && pool.last_used() == 0
            });
        }
    }

    fn options_of(&self, target: &Target) -> PoolOptions {
        (self.pool_options)(target.tenant(), PoolOptions::default())
    }

    fn make(
        &self,
        target: &Target,
        record: &TenantRecord,
        options: PoolOptions,
        purpose: Purpose,
    ) -> Connections {
        let owner = match target.tenant() {
            Some(tenant) => Owner::Tenant(tenant.clone()),
            None => Owner::Many,
        };
        let database = record.placement().database().clone();
        let connections = self.servers.connections(database, owner, options);
        if purpose == Purpose::Foreground {
            connections.touch(Instant::now());
        }
        connections
    }

    /// Takes no more work and closes what is idle; what is in use goes on to its end. Comes back
    /// with the pools that had work under way.
    pub(crate) fn close(&self) -> Vec<OpenPool<Target, Connections>> {
        self.closed.store(true, Ordering::SeqCst);
        self.routes.clear();
        self.pools.retire(EvictionCause::Shutdown, |_, _| true);
        self.pools.draining()
    }
}

impl Pooled for Connections {
    fn last_used(&self) -> u64 {
        Self::last_used(self)
    }

    fn retire(&self) {
        Self::retire(self);
    }

    fn retire_if_idle(&self) -> bool {
        Self::retire_if_idle(self)
    }

    fn is_drained(&self) -> bool {
        Self::is_drained(self)
    }

    fn done(&self) -> Done {
        let counts = self.counts();
        Done {
            leases: counts.leases,
            opened: counts.opened,
            failures: counts.failures,
        }
    }
}

fn no_place() -> Error {
    Error::new(
        ErrorKind::Saturated,
        "all pools that the registry may have were in use for as long as acquire_timeout",
    )
    .with_retry_after(Duration::from_secs(1))
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the registry has been closed")
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("pools", &self.pools)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}
