//! How eight tenants share sixteen connections.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::postgres::{PgExecutor, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tenantry::sql::{Installation, TenantType};
use tenantry::{ConnectionBudget, StaticDirectory, TenantRegistry, TenantScope};
use tokio::sync::Semaphore;

use super::databases::{Databases, TENANTS, sqlx_pool, tenant};

/// For all of them.
const CONNECTIONS: usize = 16;

/// For one.
const SHARE: usize = 4;

/// Sends a tenant's statement and comes back when it is done.
#[derive(Clone)]
pub struct Way {
    pub name: &'static str,
    ask: Arc<Ask>,
    registry: Option<TenantRegistry>,
}

type Ask = dyn Fn(usize, &'static str) -> BoxFuture<'static, ()> + Send + Sync;

impl Way {
    fn new<F>(
        name: &'static str,
        ask: impl Fn(usize, &'static str) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self {
            name,
            ask: Arc::new(move |tenant, statement| Box::pin(ask(tenant, statement))),
            registry: None,
        }
    }

    /// How many connections were opened so far; `None` where nobody counts.
    pub fn opened(&self) -> Option<u64> {
        let registry = self.registry.as_ref()?;
        Some(registry.status().connections_opened)
    }

    pub async fn ask(&self, tenant: usize, statement: &'static str) {
        (self.ask)(tenant, statement).await;
    }
}

/// A pool for each, under a budget.
pub async fn own_databases(databases: &Databases) -> Way {
    let directory = (0..TENANTS).fold(StaticDirectory::new(), |directory, number| {
        directory.database(tenant(number), databases.app(number).clone())
    });
    ours("tenantry, a pool each, budget of 16, 4 for one", directory).await
}

/// One pool in which tenants are told apart.
pub async fn shared_database(databases: &Databases) -> Way {
    let mut admin = databases.admin().await;
    let name = "bench_shared";
    admin
        .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .expect("a database");
    admin.close().await.expect("closed");
    let options = databases.admin_options().database(name);
    let mut admin = options.connect().await.expect("a connection");
    Installation::new("bench_app")
        .tenant_column("tenant_id", TenantType::BigInt)
        .install(&mut admin)
        .await
        .expect("installed");
    admin.close().await.expect("closed");
    let app = databases.app(0).clone().database(name);
    let directory = StaticDirectory::new().shared(app, (0..TENANTS).map(tenant));
    ours("tenantry, one pool of 16, 4 for one", directory).await
}

async fn ours(name: &'static str, directory: StaticDirectory) -> Way {
    let budget = ConnectionBudget::per_server(CONNECTIONS + 1).max_per_tenant(SHARE);
    let registry = TenantRegistry::builder(directory)
        .pool_options(|_, defaults| defaults.max_connections(CONNECTIONS as u32))
        .budget(budget)
        .build()
        .await
        .expect("a registry");
    let mut scopes: Vec<TenantScope> = Vec::new();
    for number in 0..TENANTS {
        scopes.push(registry.scope(tenant(number)).await.expect("a scope"));
    }
    let way = Way::new(name, move |tenant, statement| {
        let scope = scopes[tenant].clone();
        async move { send(&scope, statement).await }
    });
    Way {
        registry: Some(registry),
        ..way
    }
}

/// Nobody can take what is another's, at the price of twice as many connections: what is left of a
/// flood then is what it does to the machine.
pub async fn pool_of_each(databases: &Databases) -> Way {
    let pools = pools(databases, SHARE).await;
    Way::new(
        "control: sqlx, a pool of 4 each, 32 in all",
        move |tenant, statement| {
            let pool = pools[tenant].clone();
            async move { send(&pool, statement).await }
        },
    )
}

/// Whoever they are.
pub async fn one_pool(databases: &Databases) -> Way {
    let pool = sqlx_pool(CONNECTIONS as u32, false).connect_with(databases.app(0).clone());
    let pool = pool.await.expect("a pool");
    Way::new("sqlx, one pool of 16 for all", move |_, statement| {
        let pool = pool.clone();
        async move { send(&pool, statement).await }
    })
}

/// A cap on all pools together, kept by one queue in front of them.
pub async fn one_queue(databases: &Databases) -> Way {
    let pools = pools(databases, CONNECTIONS).await;
    let queue = Arc::new(Semaphore::new(CONNECTIONS));
    Way::new(
        "sqlx, a pool each, one queue for 16 at a time",
        move |tenant, statement| {
            let (pool, queue) = (pools[tenant].clone(), Arc::clone(&queue));
            async move {
                let _turn = queue.acquire().await.expect("never closed");
                send(&pool, statement).await;
            }
        },
    )
}

async fn pools(databases: &Databases, connections: usize) -> Vec<PgPool> {
    let mut pools = Vec::new();
    for number in 0..TENANTS {
        let pool = sqlx_pool(connections as u32, false).connect_with(databases.app(number).clone());
        pools.push(pool.await.expect("a pool"));
    }
    pools
}

async fn send(executor: impl PgExecutor<'_>, statement: &'static str) {
    sqlx::query(statement)
        .execute(executor)
        .await
        .expect("served");
}
