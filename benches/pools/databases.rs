//! A server with a database for each tenant.

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tenantry::sql::Installation;
use tenantry::testing::PostgresServer;
use tenantry::{PoolOptions, StaticDirectory, TenantId, TenantRegistry, TenantScope};

use super::support::runtime;

/// How many tenants there are.
pub const TENANTS: usize = 8;

/// What is sent to and fro.
pub const STATEMENT: &str = "SELECT 1";

pub struct Databases {
    server: PostgresServer,
    /// How to reach each of them, as a role that owns nothing.
    apps: Vec<PgConnectOptions>,
}

impl Databases {
    /// A server of its own, on loopback TCP, that takes so many connections.
    pub fn start(max_connections: u32) -> Self {
        runtime(1).block_on(async {
            let server = PostgresServer::builder()
                .setting("max_connections", max_connections.to_string())
                .start()
                .await
                .expect("this bench needs a PostgreSQL of its own: run ./scripts/test");
            let mut apps = Vec::new();
            for number in 0..TENANTS {
                let name = format!("bench_{number}");
                let options = server.create_database(&name).await.expect("a database");
                install(&options, number).await.expect("installed");
                apps.push(options.username("bench_app").disable_statement_logging());
            }
            Self { server, apps }
        })
    }

    /// How to reach the database of a tenant; they take turns.
    pub fn app(&self, i: usize) -> &PgConnectOptions {
        &self.apps[i % self.apps.len()]
    }

    /// How the superuser logs in.
    pub fn admin_options(&self) -> PgConnectOptions {
        self.server.connect_options().disable_statement_logging()
    }

    /// A session of the superuser's.
    pub async fn admin(&self) -> PgConnection {
        self.admin_options().connect().await.expect("a connection")
    }

    /// That of the server.
    pub fn version(&self) -> String {
        let version = self.server.version();
        format!("{}.{}", version / 10_000, version % 10_000)
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The conditions that the numbers depend on.
    pub fn conditions(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "PostgreSQL {} with authentication `trust`, {cores} cores for the server and its \
             clients, {TENANTS} tenants with a database each",
            self.version(),
        )
    }
}

/// The tenant whose database has this number.
pub fn tenant(number: usize) -> TenantId {
    TenantId::from(number as u64)
}

/// A registry of these tenants.
pub async fn registry(
    apps: impl IntoIterator<Item = PgConnectOptions>,
    options: impl Fn(PoolOptions) -> PoolOptions + Send + Sync + 'static,
) -> TenantRegistry {
    let mut directory = StaticDirectory::new();
    for (number, app) in apps.into_iter().enumerate() {
        directory = directory.database(tenant(number), app);
    }
    TenantRegistry::builder(directory)
        .pool_options(move |_, defaults| options(defaults))
        .build()
        .await
        .expect("a registry")
}

/// A registry of the first tenant alone, and its scope.
pub async fn scope(
    app: PgConnectOptions,
    options: impl Fn(PoolOptions) -> PoolOptions + Send + Sync + 'static,
) -> (TenantRegistry, TenantScope) {
    let registry = registry([app], options).await;
    let scope = registry.scope(tenant(0)).await.expect("a scope");
    (registry, scope)
}

/// The options of a pool of sqlx.
pub fn sqlx_pool(connections: u32, is_tested: bool) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(is_tested)
}

async fn install(
    options: &PgConnectOptions,
    number: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut admin = options
        .clone()
        .disable_statement_logging()
        .connect()
        .await?;
    admin
        .execute(
            "DO $$ BEGIN \
               IF to_regrole('bench_app') IS NULL THEN CREATE ROLE bench_app LOGIN; END IF; \
             END $$",
        )
        .await?;
    Installation::new("bench_app")
        .database_of(tenant(number))
        .install(&mut admin)
        .await?;
    admin.close().await?;
    Ok(())
}
