//! Pools as the rest of the crate sees them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::Lease;
use super::at_rest::AtRest;
use super::budget::ConnectionBudget;
use super::control::Control;
use super::options::PoolOptions;
use super::schedule::{
    Checkout, Pool, PoolCounts, PoolLimits, Refusal, Server, ServerCounts, ServerLimits, TryLease,
};
use super::way::Way;
use super::wire::{Home, Owner, Postgres, Wire};
use crate::directory::{Database, ServerKey};
use crate::error::{Error, ErrorKind};
use crate::settings::ContextSettings;
use crate::tenant::TenantId;

/// The connections to one database with one role.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Pool<Postgres>>);

/// Why there is no lease.
#[derive(Debug)]
pub(crate) enum NoLease {
    /// The pool leases no more: look up where the tenant lives now.
    Retired,
    Failed(Error),
}

impl From<Error> for NoLease {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Connections {
    /// A connection that was used a moment ago and is free, if there is one: neither a timer nor
    /// a task switch.
    pub(crate) fn lease_now(
        &self,
        tenant: &TenantId,
        now: Instant,
    ) -> Result<Option<Lease>, NoLease> {
        match self.0.try_lease(tenant, true, now) {
            TryLease::Leased(checkout) => Ok(up_to_date(checkout)),
            TryLease::Wait => Ok(None),
            TryLease::Retired => Err(NoLease::Retired),
        }
    }

    /// A connection that was used a moment ago, or else one that has just been tested or opened.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection that was being tested goes back when the test is over, one that
    /// was being opened is for the next.
    pub(crate) async fn lease(&self, tenant: &TenantId) -> Result<Lease, NoLease> {
        loop {
            let mut lease = self.lease_untested(tenant).await?;
            // Where sessions are lent a transaction is begun, which is a test.
            if lease.is_fresh() || lease.is_lent() {
                return Ok(lease);
            }
            lease.begins_statement();
            if lease.connection()?.settle().await.is_ok() {
                lease.finished();
                return Ok(lease);
            }
            lease.discard();
        }
    }

    /// As [`lease`](Self::lease), without the test: for a message that is one itself.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn lease_untested(&self, tenant: &TenantId) -> Result<Lease, NoLease> {
        loop {
            let now = Instant::now();
            match self.0.try_lease(tenant, false, now) {
                TryLease::Leased(checkout) => match up_to_date(checkout) {
                    Some(lease) => return Ok(lease),
                    None => continue,
                },
                TryLease::Retired => return Err(NoLease::Retired),
                TryLease::Wait => {}
            }
            let mut place = self.0.wait(tenant, now);
            match place.answer().await {
                Ok(checkout) => {
                    if let Some(lease) = up_to_date(checkout) {
                        return Ok(lease);
                    }
                }
                Err(Refusal::Retired) => return Err(NoLease::Retired),
                Err(Refusal::Failed(error, after)) => {
                    return Err(NoLease::Failed(error.with_retry_after(after)));
                }
            }
        }
    }

    /// What to say to somebody who has waited for too long.
    pub(crate) fn timed_out(&self) -> Error {
        if self.0.server().is_full_for(&self.0) {
            Error::new(
                ErrorKind::Saturated,
                "all connections of the budget were in use for as long as acquire_timeout",
            )
            .with_retry_after(self.0.server().limits().turn * 10)
        } else {
            Error::new(
                ErrorKind::AcquireTimeout,
                "no connection became free in acquire_timeout",
            )
        }
    }

    pub(crate) fn options(&self) -> &PoolOptions {
        &self.0.home().options
    }

    /// See [`Pool::touch`].
    pub(crate) fn touch(&self, now: Instant) {
        self.0.touch(now);
    }

    pub(crate) fn last_used(&self) -> u64 {
        self.0.last_used()
    }

    pub(crate) fn retire(&self) {
        self.0.retire();
    }

    pub(crate) fn retire_if_idle(&self) -> bool {
        self.0.retire_if_idle()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.0.is_retired()
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.0.is_drained()
    }

    pub(crate) fn reap(&self, now: Instant) {
        self.0.reap(now);
    }

    pub(crate) async fn drained(&self) {
        self.0.drained().await;
    }

    pub(crate) fn counts(&self) -> PoolCounts {
        self.0.counts()
    }

    /// Who uses how many connections, where tenants share them.
    pub(crate) fn in_use_by(&self) -> Vec<(TenantId, usize)> {
        self.0.in_use_by()
    }
}

/// `None`, and closed, if it was opened for what the way to the server is not.
fn up_to_date(checkout: Checkout<Postgres>) -> Option<Lease> {
    let mut lease = Lease::new(checkout);
    if lease.is_outdated() {
        lease.discard();
        return None;
    }
    Some(lease)
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("database", &self.0.home().database)
            .field("counts", &self.0.counts())
            .finish_non_exhaustive()
    }
}

/// All servers that a registry has connections to, each counted by itself.
pub(crate) struct Servers {
    budget: Option<ConnectionBudget>,
    settings: Arc<ContextSettings>,
    runtime: Handle,
    epoch: Instant,
    at_rest: Arc<AtRest>,
    known: Mutex<HashMap<ServerKey, Arc<Server<Postgres>>>>,
    dangerous: Option<Dangerous>,
    /// Whether contexts are signed.
    signs: bool,
}

/// Where dangerous access leads.
struct Dangerous {
    database: Database,
    role: Arc<str>,
}

impl Servers {
    /// To be called inside a tokio runtime, which becomes the home of all connections.
    pub(crate) fn new(
        budget: Option<ConnectionBudget>,
        settings: Arc<ContextSettings>,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|error| {
            Error::new(
                ErrorKind::InvalidOption,
                "a registry is built inside a tokio runtime",
            )
            .with_source(error)
        })?;
        Ok(Self {
            budget,
            settings,
            runtime,
            epoch: Instant::now(),
            at_rest: Arc::default(),
            known: Mutex::default(),
            dangerous: None,
            signs: false,
        })
    }

    /// The same for contexts that are signed, or are not.
    pub(crate) fn with_signatures(mut self, signs: bool) -> Self {
        self.signs = signs;
        self
    }

    /// The same with a database for dangerous access, whose role no tenant's pool may have.
    pub(crate) fn with_dangerous(mut self, database: Option<Database>) -> Self {
        self.dangerous = database.map(|database| Dangerous {
            role: database.role().into(),
            database,
        });
        self
    }

    /// The database for dangerous access, if there is one.
    pub(crate) fn dangerous(&self) -> Option<&Database> {
        self.dangerous.as_ref().map(|dangerous| &dangerous.database)
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Told when a pool has come to rest.
    pub(crate) fn at_rest(&self) -> &Arc<AtRest> {
        &self.at_rest
    }

    /// Microseconds since the registry was built, as [`Connections::last_used`] counts them.
    pub(crate) fn ticks(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64 + 1
    }

    /// A pool without a connection.
    pub(crate) fn connections(
        &self,
        database: Database,
        owner: Owner,
        options: PoolOptions,
    ) -> Connections {
        let most = options.max_connections as usize;
        let (max, max_per_tenant, min) = match (&self.budget, &owner) {
            (None, Owner::Tenant(_) | Owner::Dangerous) => (most, None, 0),
            (None, Owner::Many) => (most, Some(most), 0),
            (Some(budget), Owner::Tenant(_)) => {
                let max = most.min(budget.share());
                (max, None, budget.guaranteed().min(max))
            }
            (Some(budget), Owner::Dangerous) => (most.min(budget.share()), None, 0),
            (Some(budget), Owner::Many) => {
                let max = most.min(budget.for_tenants());
                let one = budget.share_of(max);
                (max, Some(one), budget.guaranteed().min(max))
            }
        };
        let limits = PoolLimits {
            max,
            max_per_tenant,
            min,
            test_after: options.test_after,
            idle_timeout: options.idle_timeout,
            max_lifetime: options.max_lifetime,
        };
        let server = self.server(database.server_key());
        let role = self
            .dangerous
            .as_ref()
            .map(|dangerous| Arc::clone(&dangerous.role));
        let settings = Arc::clone(&self.settings);
        let home = Home::new(database, settings, options, owner, role, self.signs);
        Connections(server.pool(limits, home))
    }

    fn server(&self, key: ServerKey) -> Arc<Server<Postgres>> {
        let mut known = self.known.lock();
        let server = known.entry(key).or_insert_with(|| {
            let (max, turn) = match &self.budget {
                Some(budget) => (budget.for_tenants(), budget.turn_of_a_tenant()),
                None => (usize::MAX, std::time::Duration::ZERO),
            };
            let way = Arc::<Way>::default();
            let control = self.budget.as_ref().map(|budget| {
                let cap = budget.for_tenants() + 1;
                Control::new(cap, budget.database(), Arc::clone(&way))
            });
            let wire = Wire::new(
                self.runtime.clone(),
                control,
                way,
                Arc::clone(&self.at_rest),
            );
            Server::new(ServerLimits { max, turn }, wire, self.epoch)
        });
        Arc::clone(server)
    }

    /// How many connections of tenants each server may have.
    pub(crate) fn cap(&self) -> Option<usize> {
        self.budget.as_ref().map(ConnectionBudget::for_tenants)
    }

    /// The most that one tenant may have of a server.
    pub(crate) fn share(&self) -> Option<usize> {
        self.budget.as_ref().map(ConnectionBudget::share)
    }

    /// What each server has.
    pub(crate) fn counts(&self) -> Vec<(ServerKey, ServerCounts)> {
        let known = self.known.lock();
        known
            .iter()
            .map(|(key, server)| (key.clone(), server.counts()))
            .collect()
    }

    /// Ends the sessions that count.
    pub(crate) async fn close(&self) {
        let servers: Vec<_> = self.known.lock().values().cloned().collect();
        for server in servers {
            server.driver().close_control().await;
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
