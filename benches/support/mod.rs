//! What the benches share: a server with a table under row-level security, the ways to it, and
//! measurements that take turns.

// Not every bench uses everything.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod report;
pub mod rounds;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::PostgresServer;
use tenantry::{
    ContextSettings, PoolOptions, Secret, SecretError, SecretResolver, SecretString, SigningKey,
    StaticDirectory, TenantContext, TenantId, TenantRegistry, TenantScope,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

use rounds::Ground;
use wire::Wire;

const TENANTS: u32 = 1_000;
pub const ROWS: u64 = 200;

/// The same indexed read, with the tenant in the policy and with the tenant in the text.
pub const SCOPED: &str = "SELECT amount FROM invoices WHERE id = $1";
pub const EXPLICIT: &str = "SELECT amount FROM invoices WHERE tenant_id = $2::uuid AND id = $1";

/// A server of its own, on loopback TCP.
pub struct Server {
    server: PostgresServer,
    admin: PgConnectOptions,
    /// A role under row-level security.
    app: PgConnectOptions,
    /// A role that no policy applies to.
    plain: PgConnectOptions,
    is_sealed: bool,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// The same with a database that is sealed.
    pub fn start_sealed() -> Self {
        Self::start_with(true)
    }

    fn start_with(is_sealed: bool) -> Self {
        runtime(1).block_on(async {
            let server = PostgresServer::start()
                .await
                .expect("the benches need PostgreSQL: run ./scripts/test");
            let name = format!("bench_{}", std::process::id());
            let admin = server.create_database(&name).await.expect("a database");
            let server = Self {
                server,
                app: admin.clone().username("bench_app"),
                plain: admin.clone().username("bench_plain"),
                admin,
                is_sealed,
            };
            server.install().await.expect("installed");
            server
        })
    }

    async fn install(&self) -> Result<(), Box<dyn std::error::Error>> {
        let mut admin = self
            .admin
            .clone()
            .disable_statement_logging()
            .connect()
            .await?;
        admin
            .execute(
                "DO $$ BEGIN \
                   IF to_regrole('bench_app') IS NULL THEN \
                     CREATE ROLE bench_app LOGIN; CREATE ROLE bench_plain LOGIN BYPASSRLS; \
                   END IF; \
                 END $$",
            )
            .await?;
        let mut installation =
            Installation::new("bench_app").tenant_column("tenant_id", TenantType::Uuid);
        if self.is_sealed {
            installation = installation.sealed();
        }
        installation.install(&mut admin).await?;
        if self.is_sealed {
            Installation::add_signing_key(&mut admin, &signing_key()).await?;
        }
        admin
            .execute(
                "CREATE TABLE invoices (tenant_id uuid NOT NULL, id bigint NOT NULL, \
                   amount integer NOT NULL, PRIMARY KEY (tenant_id, id))",
            )
            .await?;
        let fill = "INSERT INTO invoices \
             SELECT ('00000000-0000-4000-8000-' || lpad(tenant::text, 12, '0'))::uuid, id, id \
             FROM generate_series(1, $1) AS tenant, generate_series(1, $2) AS id";
        sqlx::query(fill)
            .bind(TENANTS as i32)
            .bind(ROWS as i32)
            .execute(&mut admin)
            .await?;
        installation.table("invoices").apply(&mut admin).await?;
        admin
            .execute("GRANT ALL ON invoices TO bench_plain")
            .await?;
        admin.execute("VACUUM ANALYZE invoices").await?;
        admin.close().await?;
        Ok(())
    }

    /// The conditions that the numbers depend on.
    pub fn conditions(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let version = self.server.version();
        format!(
            "PostgreSQL {}.{}, {cores} cores for the server and its clients, {TENANTS} tenants \
             with {ROWS} rows each",
            version / 10_000,
            version % 10_000,
        )
    }
}

/// Every way to the table that is compared, on a runtime of its own.
///
/// All pools have the same number of connections. What sqlx does at DEBUG level for its log is
/// switched off everywhere, as it is in this crate.
pub struct Ways {
    pub runtime: Runtime,
    /// A scope of each tenant.
    pub scopes: Vec<TenantScope>,
    /// The same tenants, as text.
    pub tenants: Vec<String>,
    /// A connection without a pool, as the role that no policy applies to: the floor. A pool of
    /// sqlx tests what comes back, and with one connection whoever comes next waits for that.
    pub bare: Mutex<PgConnection>,
    /// sqlx's pool, with its defaults, as that role.
    pub plain: PgPool,
    /// The same, without the test before each use.
    pub plain_untested: PgPool,
    /// sqlx, with its defaults, under row-level security.
    pub app: PgPool,
    _wire: Option<Wire>,
}

impl Ways {
    /// `latency` is added in each direction; `None`: straight to the server. Never dropped, so
    /// that measurements may refer to it.
    pub fn new(
        server: &Server,
        threads: usize,
        connections: u32,
        latency: Option<Duration>,
    ) -> &'static Self {
        let wire = latency.map(|latency| Wire::start(&server.admin, latency));
        let through = |options: &PgConnectOptions| match &wire {
            Some(wire) => wire.before(options),
            None => options.clone(),
        };
        let runtime = runtime(threads);
        let tenants: Vec<String> = (1..=TENANTS)
            .map(|tenant| format!("00000000-0000-4000-8000-{tenant:012}"))
            .collect();
        let pool = |options: &PgConnectOptions, tested| {
            PgPoolOptions::new()
                .min_connections(connections)
                .max_connections(connections)
                .test_before_acquire(tested)
                .connect_with(through(options).disable_statement_logging())
        };
        let (scopes, bare, plain, plain_untested, app) = runtime.block_on(async {
            let app = through(&server.app);
            let registry = registry(app, connections, server.is_sealed).await;
            let mut scopes = Vec::new();
            for tenant in &tenants {
                let tenant: TenantId = tenant.parse().expect("a tenant id");
                let context = TenantContext::new(tenant).user("bench");
                scopes.push(registry.scope(context).await.expect("a scope"));
            }
            (
                scopes,
                through(&server.plain)
                    .disable_statement_logging()
                    .connect()
                    .await
                    .expect("a connection"),
                pool(&server.plain, true).await.expect("a pool"),
                pool(&server.plain, false).await.expect("a pool"),
                pool(&server.app, true).await.expect("a pool"),
            )
        });
        Box::leak(Box::new(Self {
            runtime,
            scopes,
            tenants,
            bare: Mutex::new(bare),
            plain,
            plain_untested,
            app,
            _wire: wire,
        }))
    }

    /// The scope that the `i`-th operation is for: tenants take turns.
    pub fn scope(&self, i: u64) -> &TenantScope {
        &self.scopes[i as usize % self.scopes.len()]
    }

    /// The same tenant, as text.
    pub fn tenant(&self, i: u64) -> &str {
        &self.tenants[i as usize % self.tenants.len()]
    }
}

impl Ground for Ways {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

async fn registry(app: PgConnectOptions, connections: u32, signs: bool) -> TenantRegistry {
    let mut builder = TenantRegistry::builder(StaticDirectory::new().shared_by_all(app))
        .settings(ContextSettings::default())
        .pool_options(move |_, defaults: PoolOptions| defaults.max_connections(connections));
    if signs {
        builder = builder.signing_key(signing_key());
    }
    builder.build().await.expect("a registry")
}

fn signing_key() -> SigningKey {
    let secret = Secret::resolver(Arc::new(Vault), "bench");
    SigningKey::new("bench", secret).expect("a key")
}

struct Vault;

#[async_trait]
impl SecretResolver for Vault {
    async fn resolve(&self, _reference: &str) -> Result<SecretString, SecretError> {
        Ok("a secret of the benches, of 32 bytes".into())
    }
}

/// The row that the `i`-th operation reads.
pub fn row(i: u64) -> i64 {
    (i % ROWS) as i64 + 1
}

/// One thread: the tasks run on the thread that waits for them.
pub fn runtime(threads: usize) -> Runtime {
    match threads {
        1 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build(),
    }
    .expect("a runtime")
}
