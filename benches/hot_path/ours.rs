//! The registry's own way: look-up, lease and return.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use parking_lot::RwLock;
use sqlx::{ConnectOptions as _, Executor as _};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::{PostgresServer, lease_and_give_back};
use tenantry::{LazyPools, StaticDirectory, TenantId, TenantRegistry};

use super::candidate::Candidate;
use super::schedule::{Driver, Pool, PoolLimits, Server, ServerLimits, TryLease, Types};

const CONNECTIONS: u32 = 16;

/// What the registry is made of, with a pool for each tenant, of which each has one connection
/// that is none.
pub fn parts(tenants: &[TenantId]) -> Candidate {
    let limits = PoolLimits {
        max: 10,
        max_per_tenant: None,
        min: 0,
        test_after: Duration::from_secs(3_600),
        idle_timeout: None,
        max_lifetime: Some(Duration::from_secs(3_600)),
    };
    let now = Instant::now();
    let server = Server::<Nothing>::new(
        ServerLimits {
            max: usize::MAX,
            turn: Duration::ZERO,
        },
        Nothing,
        now,
    );
    let mut map: HashMap<TenantId, Arc<Pool<Nothing>>, RandomState> = HashMap::default();
    for tenant in tenants {
        let pool = server.pool(limits, ());
        // Has one opened, which the driver does at once.
        drop(pool.wait(tenant, now));
        map.insert(tenant.clone(), pool);
    }
    let map = RwLock::new(map);
    Candidate::shared("ours: look-up, lease, return", move |tenant| {
        let now = Instant::now();
        let map = map.read();
        let pool = map.get(tenant)?;
        let TryLease::Leased(checkout) = pool.try_lease(tenant, true, now) else {
            return None;
        };
        pool.touch(now);
        Some(checkout.is_open())
    })
}

/// The registry itself, all tenants in one database.
pub fn registry(tenants: &[TenantId]) -> Candidate {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (server, registry) = runtime.block_on(async {
        let server = PostgresServer::start()
            .await
            .expect("the benches need PostgreSQL: run ./scripts/test");
        let database = server.create_database("bench").await.expect("a database");
        let mut admin = database.clone().connect().await.expect("the superuser");
        admin
            .execute("CREATE ROLE bench_app LOGIN")
            .await
            .expect("a role");
        Installation::new("bench_app")
            .tenant_column("tenant_id", TenantType::Text)
            .install(&mut admin)
            .await
            .expect("installed");
        let directory =
            StaticDirectory::new().shared(database.username("bench_app"), tenants.iter().cloned());
        let registry = TenantRegistry::builder(directory)
            .lazy(LazyPools::default())
            .pool_options(|_, options| {
                let options = options.max_connections(CONNECTIONS);
                options.test_after(Duration::from_secs(3_600))
            })
            .build()
            .await
            .expect("a registry");
        let mut held = Vec::new();
        for tenant in tenants {
            let scope = registry.scope(tenant.clone()).await.expect("a scope");
            let tx = scope.begin().await.expect("begun");
            if held.len() + 1 < CONNECTIONS as usize {
                held.push(tx);
            } else {
                tx.rollback().await.expect("rolled back");
            }
        }
        for tx in held {
            tx.rollback().await.expect("rolled back");
        }
        (server, registry)
    });
    Candidate::shared("ours: the registry, one database", move |tenant| {
        // They live as long as they are measured.
        let _alive = (&server, &runtime);
        lease_and_give_back(&registry, tenant)
    })
}

struct Nothing;

impl Types for Nothing {
    type Connection = ();
    type Tenant = TenantId;
    type Failure = ();
    type Home = ();
    type Driver = Self;
}

impl Driver<Self> for Nothing {
    fn open(&self, pool: Arc<Pool<Self>>) {
        pool.opened((), Instant::now());
    }

    fn close(&self, pool: Arc<Pool<Self>>, (): ()) {
        pool.closed(Instant::now());
    }

    fn idle(&self) {}

    fn wake(&self, _: Arc<Server<Self>>, _: Instant) {}
}
