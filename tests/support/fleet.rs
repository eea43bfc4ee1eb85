//! Many tenants, each with a database of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::PostgresServer;
use tenantry::{Database, StaticDirectory, TenantId};

use super::tenant;

/// Databases of tenants on one server. In each there is one table, `notes(id, body)`, without
/// policies and with one note of its tenant: whose it is, only the database knows.
pub struct Fleet {
    /// As the superuser, to the database `postgres`.
    pub admin: PgConnectOptions,
    /// The server, as the role of the application.
    pub server: Database,
    pub tenants: Vec<TenantId>,
    mark: String,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Fleet {
    /// Tenants `t0`, `t1`, .. on the server that the tests of a binary share.
    pub async fn new(count: usize) -> Self {
        Self::on(super::server().await, count).await
    }

    pub async fn on(server: &PostgresServer, count: usize) -> Self {
        let ids: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
        Self::of(server, ids.iter().map(String::as_str)).await
    }

    /// Of tenants with these ids.
    pub async fn of(server: &PostgresServer, ids: impl IntoIterator<Item = &str>) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("fleet_{}_{number}", std::process::id());
        let role = format!("app_{mark}");
        let admin = server.connect_options();
        let fleet = Self {
            server: Database::new(admin.clone().username(&role)),
            tenants: ids.into_iter().map(tenant).collect(),
            admin,
            mark,
        };
        // A role of its own: what it has on the server is this fleet's.
        fleet.run(format!("CREATE ROLE {role} LOGIN")).await;
        for id in &fleet.tenants {
            fleet.create(id).await;
        }
        fleet
    }

    /// Makes the database of a tenant.
    pub async fn create(&self, id: &TenantId) {
        let name = self.name(id);
        self.run(format!("CREATE DATABASE {name}")).await;
        let mut owner = self.connect(id).await;
        Installation::new(self.role())
            .tenant_column("tenant_id", TenantType::Text)
            .database_of(id.clone())
            .install(&mut owner)
            .await
            .expect("installed");
        let tables = format!(
            "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
               body text NOT NULL); \
             INSERT INTO notes (body) VALUES ('a note of {id}'); GRANT ALL ON notes TO {role}",
            role = self.role(),
        );
        owner.execute(AssertSqlSafe(tables)).await.expect("a table");
        owner.close().await.expect("closed");
    }

    pub fn role(&self) -> String {
        format!("app_{}", self.mark)
    }

    /// The name of a tenant's database.
    pub fn name(&self, id: &TenantId) -> String {
        format!("{}_{id}", self.mark)
    }

    pub fn directory(&self) -> StaticDirectory {
        let databases = self.tenants.iter().map(|id| (id.clone(), self.name(id)));
        StaticDirectory::new().databases(self.server.clone(), databases)
    }

    /// The superuser's connection to a tenant's database.
    pub async fn connect(&self, id: &TenantId) -> PgConnection {
        let options = self.admin.clone().database(&self.name(id));
        let options = options.disable_statement_logging();
        options.connect().await.expect("the superuser connects")
    }

    /// Runs SQL as the superuser in the database `postgres`.
    pub async fn run(&self, sql: String) {
        let mut admin = self.superuser().await;
        admin.execute(AssertSqlSafe(sql)).await.expect("done");
        admin.close().await.expect("closed");
    }

    pub async fn superuser(&self) -> PgConnection {
        let options = self.admin.clone().disable_statement_logging();
        options.connect().await.expect("the superuser connects")
    }

    /// How many sessions of the fleet's role the server counts.
    pub async fn sessions(&self, superuser: &mut PgConnection) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = $1")
            .bind(self.role())
            .fetch_one(superuser)
            .await
            .expect("a count")
    }
}
