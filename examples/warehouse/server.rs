//! A database for each tenant, on a server that is given or on one of our own.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tenantry::sql::Installation;
use tenantry::testing::PostgresServer;
use tenantry::{StaticDirectory, TenantId};

use crate::Failure;

pub struct Databases {
    admin: PgConnectOptions,
    /// As the role that the service logs in as. It owns nothing.
    app: PgConnectOptions,
    /// What the names of the databases and of the role begin with.
    prefix: String,
    tenants: Vec<TenantId>,
}

impl Databases {
    /// Makes what is missing; what is there is kept. `admin` may create databases and roles.
    pub async fn prepare(
        admin: PgConnectOptions,
        prefix: &str,
        tenants: Vec<TenantId>,
    ) -> Result<Self, Failure> {
        let role = format!("{prefix}_app");
        let mut connection = connect(&admin).await?;
        let password = create_role(&mut connection, &role).await?;
        let databases = Self {
            app: admin.clone().username(&role).password(&password),
            admin,
            prefix: prefix.to_owned(),
            tenants,
        };
        for tenant in &databases.tenants {
            create_database(&mut connection, &databases.name(tenant)).await?;
        }
        connection.close().await?;
        stream::iter(&databases.tenants)
            .map(|tenant| install(databases.as_admin(tenant), &role, tenant))
            .buffer_unordered(4)
            .try_collect::<()>()
            .await?;
        Ok(databases)
    }

    pub fn tenants(&self) -> &[TenantId] {
        &self.tenants
    }

    /// Where each tenant lives.
    pub fn directory(&self) -> StaticDirectory {
        let tenants = self.tenants.iter();
        tenants.fold(StaticDirectory::new(), |directory, tenant| {
            directory.database(tenant.clone(), self.as_app(tenant))
        })
    }

    pub fn as_app(&self, tenant: &TenantId) -> PgConnectOptions {
        self.app.clone().database(&self.name(tenant))
    }

    pub fn as_admin(&self, tenant: &TenantId) -> PgConnectOptions {
        self.admin.clone().database(&self.name(tenant))
    }

    fn name(&self, tenant: &TenantId) -> String {
        format!("{}_{tenant}", self.prefix)
    }
}

/// `count` tenants.
pub fn tenants(count: usize) -> Result<Vec<TenantId>, Failure> {
    const NAMES: [&str; 4] = ["acme", "globex", "initech", "umbrella"];
    let name = |number: usize| match NAMES.get(number) {
        Some(name) => (*name).to_owned(),
        None => format!("tenant-{}", number + 1),
    };
    let tenants = (0..count).map(|number| Ok(name(number).parse()?));
    tenants.collect()
}

/// A server that goes when it is dropped.
pub async fn own() -> Result<PostgresServer, Failure> {
    Ok(PostgresServer::start().await?)
}

/// The role gets a new password each time, which nobody else knows.
async fn create_role(admin: &mut PgConnection, role: &str) -> Result<String, Failure> {
    let (exists, password): (bool, String) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1), gen_random_uuid()::text",
    )
    .bind(role)
    .fetch_one(&mut *admin)
    .await?;
    let verb = if exists { "ALTER" } else { "CREATE" };
    let statement = format!("{verb} ROLE {} LOGIN PASSWORD '{password}'", quote(role));
    admin.execute(AssertSqlSafe(statement)).await?;
    Ok(password)
}

async fn create_database(admin: &mut PgConnection, name: &str) -> Result<(), Failure> {
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut *admin)
            .await?;
    if !exists {
        let statement = format!("CREATE DATABASE {}", quote(name));
        admin.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// The work of a migration: the database learns whose it is, and gets its tables.
async fn install(database: PgConnectOptions, role: &str, tenant: &TenantId) -> Result<(), Failure> {
    let mut owner = connect(&database).await?;
    Installation::new(role)
        .database_of(tenant.clone())
        .install(&mut owner)
        .await?;
    owner.execute(include_str!("tables.sql")).await?;
    // Before PostgreSQL 15 anybody could make tables beside these.
    let privileges = format!(
        "GRANT SELECT, INSERT, UPDATE ON products, moves, orders TO {}; \
         REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
        quote(role)
    );
    owner.execute(AssertSqlSafe(privileges)).await?;
    sqlx::query(FIRST_PRODUCTS)
        .bind(tenant.as_str())
        .execute(&mut owner)
        .await?;
    owner.close().await?;
    Ok(())
}

/// The same products everywhere: what tells them apart is only whose they are. Some run low at
/// once, so that the worker has something to do.
const FIRST_PRODUCTS: &str = "
    WITH added AS (
        INSERT INTO products (sku, name, reorder_point, on_hand, written_by)
        SELECT 'sku-' || n, 'Pallet ' || n, 10 * n, 40, $1 FROM generate_series(1, 8) AS n
        ON CONFLICT DO NOTHING
        RETURNING sku, on_hand)
    INSERT INTO moves (sku, quantity, reference, written_by)
    SELECT sku, on_hand, $1 || '/opening/' || sku, $1 FROM added";

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Failure> {
    Ok(options
        .clone()
        .disable_statement_logging()
        .connect()
        .await?)
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
