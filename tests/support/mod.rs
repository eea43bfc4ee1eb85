//! What the tests share: a server, databases on it, and a registry over them.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc
)]

pub mod authz;
pub mod control;
pub mod database;
pub mod fleet;
pub mod listed;
pub mod log;
pub mod redis;
pub mod silent;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::{FaultProxy, PostgresServer};
use tenantry::{
    ContextSettings, PoolOptions, StaticDirectory, TenantContext, TenantId, TenantRegistry,
    TenantScope,
};
use tokio::sync::OnceCell;

static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();

/// One server for each test binary; it goes when the binary does.
pub async fn server() -> &'static PostgresServer {
    SERVER
        .get_or_init(|| async {
            PostgresServer::builder()
                .setting("max_connections", "200")
                .start()
                .await
                .expect("these tests need PostgreSQL: run ./scripts/test")
        })
        .await
}

/// A database of its own for one test, with the role `app` of the application.
pub struct World {
    /// As the superuser.
    pub admin: PgConnectOptions,
    /// As the role of the application, which nothing is granted that it does not need.
    pub app: PgConnectOptions,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Everything is installed, and there is one table under RLS, `notes(id, body)`, with one note of
/// each tenant that says whose it is, and a table without, `plain(body)`.
pub async fn world(tenants: &[&str]) -> World {
    world_with(
        Installation::new("app").tenant_column("tenant_id", TenantType::Text),
        tenants,
    )
    .await
}

pub async fn world_with(installation: Installation, tenants: &[&str]) -> World {
    let world = empty_world().await;
    let mut admin = world.admin().await;
    installation.install(&mut admin).await.expect("installed");
    admin
        .execute(
            "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                                 body text NOT NULL); \
             CREATE TABLE plain (body text); GRANT ALL ON plain TO app;",
        )
        .await
        .expect("tables");
    installation
        .table("notes")
        .apply(&mut admin)
        .await
        .expect("policies");
    for tenant in tenants {
        let insert = format!(
            "INSERT INTO notes (tenant_id, body) VALUES ('{tenant}', 'a note of {tenant}')"
        );
        admin.execute(AssertSqlSafe(insert)).await.expect("a note");
    }
    world
}

pub async fn empty_world() -> World {
    let server = server().await;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("world_{}_{number}", std::process::id());
    let admin = server.create_database(&name).await.expect("a database");
    let world = World {
        app: admin.clone().username("app"),
        admin,
    };
    static ROLES: OnceLock<tokio::sync::Mutex<()>> = OnceLock::new();
    let _one_at_a_time = ROLES.get_or_init(Default::default).lock().await;
    world
        .admin()
        .await
        .execute(
            "DO $$ BEGIN \
               IF to_regrole('app') IS NULL THEN CREATE ROLE app LOGIN; END IF; \
             END $$",
        )
        .await
        .expect("the role");
    world
}

impl World {
    pub async fn admin(&self) -> PgConnection {
        self.admin
            .clone()
            .disable_statement_logging()
            .connect()
            .await
            .expect("the superuser connects")
    }

    /// A proxy with a millisecond of latency each way, so that every answer is waited for: each
    /// await of an operation is then a poll that can be told apart.
    pub async fn slow_wire(&self) -> FaultProxy {
        let wire = FaultProxy::start(&self.app).await.expect("a proxy");
        wire.set_latency(Duration::from_millis(1));
        wire
    }

    /// A registry with one connection, so that whoever comes next gets what the last one left.
    pub async fn registry(&self) -> TenantRegistry {
        self.registry_with(|options| options.max_connections(1))
            .await
    }

    /// The same with a wire in between.
    pub async fn registry_over(&self, wire: &FaultProxy) -> TenantRegistry {
        let app = wire.connect_options(&self.app);
        self.registry_of(app, ContextSettings::default(), |options| {
            options.max_connections(1)
        })
        .await
    }

    pub async fn registry_with(
        &self,
        options: impl Fn(PoolOptions) -> PoolOptions + Send + Sync + 'static,
    ) -> TenantRegistry {
        self.registry_of(self.app.clone(), ContextSettings::default(), options)
            .await
    }

    pub async fn registry_of(
        &self,
        app: PgConnectOptions,
        settings: ContextSettings,
        options: impl Fn(PoolOptions) -> PoolOptions + Send + Sync + 'static,
    ) -> TenantRegistry {
        TenantRegistry::builder(StaticDirectory::new().shared_by_all(app))
            .settings(settings)
            .pool_options(move |_, defaults| options(defaults))
            .build()
            .await
            .expect("a registry")
    }

    /// How many sessions of the application the server counts in this database.
    pub async fn sessions(&self) -> i64 {
        let mut admin = self.admin().await;
        let count = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND usename = 'app'",
        )
        .fetch_one(&mut admin)
        .await
        .expect("a count");
        admin.close().await.expect("closed");
        count
    }
}

pub fn tenant(id: &str) -> TenantId {
    id.parse().expect("a tenant id")
}

pub async fn scope(registry: &TenantRegistry, id: &str) -> TenantScope {
    registry
        .scope(TenantContext::new(tenant(id)).user(format!("user of {id}")))
        .await
        .expect("a scope")
}

/// What the next borrower of a connection finds there.
#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Session {
    pub backend: i32,
    /// Two statements in autocommit have two transaction ids; inside a leftover transaction they
    /// have one.
    pub xid: i64,
    pub tenant: Option<String>,
    pub user: Option<String>,
}

pub async fn session<'e>(executor: impl sqlx::PgExecutor<'e>) -> Result<Session, sqlx::Error> {
    sqlx::query_as(
        "SELECT pg_backend_pid() AS backend, txid_current() AS xid, \
                current_setting('app.tenant_id', true) AS tenant, \
                current_setting('app.user_id', true) AS user",
    )
    .fetch_one(executor)
    .await
}

/// The bodies of all notes that can be seen.
pub async fn notes<'e>(executor: impl sqlx::PgExecutor<'e>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT body FROM notes ORDER BY body")
        .fetch_all(executor)
        .await
}

/// Asks until it is so. The bound is for a test that fails, and far from what it takes.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}
