//! A tenant with 10,000 invoices.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::PostgresServer;
use tenantry::{StaticDirectory, TenantRegistry, TenantScope};
use tokio::sync::Mutex;

use super::support::wire::Wire;
use super::ways;

/// How many there are when a round begins.
pub const INVOICES: i64 = 10_000;

/// To the server, for all tasks.
pub const CONNECTIONS: u32 = 20;

pub struct World {
    server: PostgresServer,
    app: PgConnectOptions,
    admin: Mutex<PgConnection>,
}

impl World {
    pub async fn start() -> Self {
        let server = PostgresServer::start()
            .await
            .expect("the benches need PostgreSQL: run ./scripts/test");
        let name = format!("numbers_{}", std::process::id());
        let options = server.create_database(&name).await.expect("a database");
        let options = options.disable_statement_logging();
        let mut admin = options.connect().await.expect("a connection");
        install(&mut admin).await.expect("installed");
        Self {
            server,
            app: options.username("bench_app"),
            admin: Mutex::new(admin),
        }
    }

    pub fn conditions(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let version = self.server.version();
        format!(
            "PostgreSQL {}.{} without fsync, {cores} cores for the server and its clients, \
             {CONNECTIONS} connections, {INVOICES} invoices of the tenant at the start of a round",
            version / 10_000,
            version % 10_000,
        )
    }

    /// The tenant, over a wire that is so much longer each way.
    pub async fn scope(&self, latency: Option<Duration>) -> TenantScope {
        let app = match latency {
            Some(latency) => Wire::start(&self.app, latency).before(&self.app),
            None => self.app.clone(),
        };
        let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(app))
            .pool_options(|_, defaults| {
                defaults
                    .max_connections(CONNECTIONS)
                    .acquire_timeout(Duration::from_secs(600))
            })
            .build()
            .await
            .expect("a registry");
        let tenant: tenantry::TenantId = "axo".parse().expect("a tenant id");
        registry.scope(tenant).await.expect("a scope")
    }

    /// As it was before the first round.
    pub async fn reset(&self) {
        let text = format!(
            "DELETE FROM invoices WHERE n > {INVOICES}; \
             UPDATE counters SET n = {INVOICES}; \
             UPDATE tenantry.number_series SET last = {INVOICES}"
        );
        let mut admin = self.admin.lock().await;
        admin.execute(AssertSqlSafe(text)).await.expect("reset");
        for table in ["invoices", "counters", "tenantry.number_series"] {
            let text = format!("VACUUM ANALYZE {table}");
            admin.execute(AssertSqlSafe(text)).await.expect("vacuumed");
        }
        admin.execute("CHECKPOINT").await.expect("written");
    }

    /// How many were saved since, if there is no gap and nothing twice.
    pub async fn saved(&self) -> i64 {
        let (count, last, texts): (i64, i64, i64) = sqlx::query_as(
            "SELECT count(*), max(n), count(DISTINCT number) FROM invoices WHERE tenant_id = 'axo'",
        )
        .fetch_one(&mut *self.admin.lock().await)
        .await
        .expect("a count");
        assert_eq!((count, count), (last, texts), "a gap, or a number twice");
        count - INVOICES
    }
}

async fn install(admin: &mut PgConnection) -> Result<(), Box<dyn std::error::Error>> {
    admin
        .execute(
            "DO $$ BEGIN \
               IF to_regrole('bench_app') IS NULL THEN CREATE ROLE bench_app LOGIN; END IF; \
             END $$",
        )
        .await?;
    let installation = Installation::new("bench_app").tenant_column("tenant_id", TenantType::Text);
    installation.install(&mut *admin).await?;
    installation.number_series().apply(&mut *admin).await?;
    let tables = format!(
        "CREATE TABLE invoices (tenant_id text NOT NULL, n bigint NOT NULL, number text NOT NULL, \
           customer text NOT NULL, amount integer NOT NULL, \
           PRIMARY KEY (tenant_id, n), CONSTRAINT invoices_number UNIQUE (tenant_id, number)); \
         CREATE TABLE counters (tenant_id text PRIMARY KEY, n bigint NOT NULL) \
           WITH (fillfactor = 50); \
         INSERT INTO counters VALUES ('axo', {INVOICES}); \
         INSERT INTO invoices SELECT 'axo', n, 'INV-AXO-' || lpad(n::text, 5, '0'), \
           'customer ' || n, 100 FROM generate_series(1, {INVOICES}) AS n"
    );
    admin.execute(AssertSqlSafe(tables)).await?;
    for table in ["invoices", "counters"] {
        installation.table(table).apply(&mut *admin).await?;
    }
    let first = format!(
        "BEGIN; SET LOCAL app.tenant_id = 'axo'; \
         SELECT tenantry.next_number('{{\"series\": \"{}\", \"start\": {INVOICES}}}'); COMMIT",
        ways::SERIES,
    );
    admin.execute(AssertSqlSafe(first)).await?;
    Ok(())
}
