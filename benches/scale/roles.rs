//! A role for each tenant.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tenantry::sql::{Installation, TenantType};
use tenantry::{StaticDirectory, TenantId};

use super::databases::Databases;
use super::support::runtime;
use super::workload::Workload;

/// Belongs to whoever logs in.
const OWN: &str = "bench_own";

/// Belongs to all of them, as the crate has it.
const SHARED: &str = "bench_shared";

/// What makes a shared database one that is everybody's own: the two places in which it says whose
/// it is.
const BELONGS_TO_ALL: &str = "\
    ALTER TABLE tenantry.installation RENAME TO installation_of_all; \
    CREATE VIEW tenantry.installation AS \
      SELECT layout, oldest_layout, tenant_setting, user_setting, further_settings, \
        session_user::text AS tenant FROM tenantry.installation_of_all; \
    GRANT SELECT ON tenantry.installation TO bench_app; \
    ALTER DOMAIN tenantry.scope ADD CONSTRAINT tenantry_2_tenant \
      CHECK (VALUE[2] = session_user::text COLLATE pg_catalog.\"C\")";

/// The databases that the roles share, and how each of them logs in. A role is called as its
/// tenant.
pub struct Roles {
    port: u16,
}

impl Roles {
    pub fn create(databases: &Databases, workload: &Workload) -> Self {
        let roles = Self::on(databases.port());
        runtime(1)
            .block_on(roles.install(databases, workload.tenants()))
            .expect("installed");
        roles
    }

    /// Those of a server that is there already.
    pub fn on(port: u16) -> Self {
        Self { port }
    }

    async fn install(
        &self,
        databases: &Databases,
        tenants: &[TenantId],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let mut admin = databases.admin().await;
        let names: Vec<String> = tenants.iter().map(|tenant| format!("'{tenant}'")).collect();
        admin
            .execute(AssertSqlSafe(format!(
                "DO $$ DECLARE name text; BEGIN \
                   FOREACH name IN ARRAY ARRAY[{}] LOOP \
                     EXECUTE format('CREATE ROLE %I LOGIN IN ROLE bench_app', name); \
                   END LOOP; \
                 END $$",
                names.join(", ")
            )))
            .await?;
        // As a server has it that has run for a while.
        for table in ["pg_authid", "pg_auth_members"] {
            let vacuum = format!("VACUUM ANALYZE {table}");
            admin.execute(AssertSqlSafe(vacuum)).await?;
        }
        for name in [OWN, SHARED] {
            let create = format!("CREATE DATABASE {name}");
            admin.execute(AssertSqlSafe(create)).await?;
            let mut owner = self.login("postgres", name).connect().await?;
            Installation::new("bench_app")
                .tenant_column("tenant_id", TenantType::Uuid)
                .install(&mut owner)
                .await?;
            if name == OWN {
                owner.execute(BELONGS_TO_ALL).await?;
            }
            owner.close().await?;
        }
        admin.close().await?;
        Ok(())
    }

    /// How a tenant logs in to the database that is its own.
    pub fn own(&self, tenant: &TenantId) -> PgConnectOptions {
        self.login(tenant.as_str(), OWN)
    }

    /// And to the one that is shared.
    pub fn shared(&self, tenant: &TenantId) -> PgConnectOptions {
        self.login(tenant.as_str(), SHARED)
    }

    /// Each of these tenants in the database that is its own.
    pub fn directory<'a>(
        &self,
        tenants: impl IntoIterator<Item = &'a TenantId>,
    ) -> StaticDirectory {
        let tenants = tenants.into_iter();
        tenants.fold(StaticDirectory::new(), |directory, tenant| {
            directory.database(tenant.clone(), self.own(tenant))
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn login(&self, role: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .ssl_mode(PgSslMode::Disable)
            .username(role)
            .database(database)
            .disable_statement_logging()
    }
}
