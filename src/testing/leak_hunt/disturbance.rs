//! What happens around tenants while they are at work.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use fastrand::Rng;
use futures_core::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::sleep;

use crate::directory::{StaticDirectory, TenantState};
use crate::registry::TenantRegistry;
use crate::tenant::TenantId;
use crate::testing::PostgresServer;

/// Something that happens again and again while a [`LeakHunt`](super::LeakHunt) goes on.
#[must_use = "a disturbance does nothing by itself, give it to a hunt"]
pub struct Disturbance {
    name: String,
    every: Duration,
    act: Act,
}

/// With a random number; whether it took place.
type Act = Box<dyn FnMut(u64) -> BoxFuture<'static, bool> + Send>;

impl Disturbance {
    /// A disturbance of your own, every 500 ms or so. The closure gets a random number, which is
    /// drawn from the seed, and says whether anything took place. What it does it brings to an end
    /// by itself: the hunt waits for that.
    pub fn new<A, W>(name: impl Into<String>, mut act: A) -> Self
    where
        A: FnMut(u64) -> W + Send + 'static,
        W: Future<Output = bool> + Send + 'static,
    {
        Self {
            name: name.into(),
            every: Duration::from_millis(500),
            act: Box::new(move |random| Box::pin(act(random))),
        }
    }

    /// How often, give or take a half.
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// A session of this role is ended by `pg_terminate_backend`, whatever it is doing. Every 100 ms
    /// or so. `admin` may signal the role's sessions, as a superuser does.
    pub fn killed_backends(admin: PgConnectOptions, role: impl Into<String>) -> Self {
        let role = role.into();
        let kill = move |random| kill_one(admin.clone(), role.clone(), random);
        Self::new("a killed backend", kill).every(Duration::from_millis(100))
    }

    /// The pool of one of these tenants is [evicted](TenantRegistry::evict). Every 250 ms or so.
    pub fn eviction(
        registry: &TenantRegistry,
        tenants: impl IntoIterator<Item = TenantId>,
    ) -> Self {
        let (registry, tenants) = (registry.clone(), Vec::from_iter(tenants));
        let evict = move |random| {
            let evicted = one_of(&tenants, random).is_some_and(|tenant| registry.evict(tenant));
            std::future::ready(evicted)
        };
        Self::new("an eviction", evict).every(Duration::from_millis(250))
    }

    /// One of these tenants is suspended, for up to 200 ms, and then active again. Every second or
    /// so. For other directories write one with [`new`](Self::new).
    pub fn suspension(
        directory: &StaticDirectory,
        tenants: impl IntoIterator<Item = TenantId>,
    ) -> Self {
        let (directory, tenants) = (directory.clone(), Vec::from_iter(tenants));
        let suspend = move |random| {
            let suspended = one_of(&tenants, random).map(|tenant| Suspended {
                directory: directory.clone(),
                tenant: tenant.clone(),
            });
            async move {
                let Some(suspended) = suspended else {
                    return false;
                };
                let state = TenantState::Suspended;
                let is_known = suspended.directory.set_state(&suspended.tenant, state);
                sleep(Duration::from_millis(random % 200)).await;
                is_known
            }
        };
        Self::new("a suspension", suspend).every(Duration::from_secs(1))
    }

    /// The server is restarted, every other time after a crash. Every 5 seconds or so. One that
    /// somebody else runs is left alone.
    pub fn restart<S>(server: S) -> Self
    where
        S: Deref<Target = PostgresServer> + Clone + Send + Sync + 'static,
    {
        let restart = move |random: u64| {
            let server = server.clone();
            async move {
                if random.is_multiple_of(2) && server.crash().await.is_err() {
                    return false;
                }
                server.restart().await.is_ok()
            }
        };
        Self::new("a restart of the server", restart).every(Duration::from_secs(5))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn next_pause(&self, rng: &mut Rng) -> Duration {
        self.every.mul_f64(0.5 + rng.f64())
    }

    pub(super) fn take_place(&mut self, rng: &mut Rng) -> BoxFuture<'static, bool> {
        (self.act)(rng.u64(..))
    }
}

impl fmt::Debug for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disturbance")
            .field("name", &self.name)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

/// Active again when it is dropped, whatever comes between.
struct Suspended {
    directory: StaticDirectory,
    tenant: TenantId,
}

impl Drop for Suspended {
    fn drop(&mut self) {
        self.directory.set_state(&self.tenant, TenantState::Active);
    }
}

fn one_of(tenants: &[TenantId], random: u64) -> Option<&TenantId> {
    let at = random.checked_rem(tenants.len() as u64)?;
    tenants.get(usize::try_from(at).ok()?)
}

async fn kill_one(admin: PgConnectOptions, role: String, random: u64) -> bool {
    let Ok(mut connection) = admin.disable_statement_logging().connect().await else {
        return false;
    };
    let killed = sqlx::query_scalar(
        "WITH sessions AS (SELECT pid, row_number() OVER () AS number, count(*) OVER () AS of \
           FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid()) \
         SELECT pg_terminate_backend(pid) FROM sessions WHERE number = 1 + $2 % of",
    )
    .bind(role)
    .bind((random >> 1) as i64)
    .fetch_optional(&mut connection)
    .await;
    // That the good-bye arrives changes nothing.
    let _ = connection.close().await;
    matches!(killed, Ok(Some(true)))
}
