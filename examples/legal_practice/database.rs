//! One database for all organisations: its tables, its role, and what it begins with.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tenantry::sql::{Installation, TenantType};

use crate::Failure;

/// The organisations that there are at the beginning.
pub const ORGANISATIONS: [&str; 4] = ["axo", "bruma", "cedro", "dorado"];

pub struct Database {
    /// As the owner of the tables.
    pub owner: PgConnectOptions,
    /// As the role that the service logs in as. It owns nothing.
    pub service: PgConnectOptions,
}

impl Database {
    /// Makes what is missing; what is there is kept. `name` is that of the database, and of the role
    /// that the service logs in as. `admin` may create databases and roles.
    pub async fn prepare(admin: PgConnectOptions, name: &str) -> Result<Self, Failure> {
        let mut connection = connect(&admin).await?;
        let password = create_role(&mut connection, name).await?;
        create_database(&mut connection, name).await?;
        connection.close().await?;
        let database = Self {
            owner: admin.clone().database(name),
            service: admin.username(name).password(&password).database(name),
        };
        let mut owner = connect(&database.owner).await?;
        install(&mut owner, name).await?;
        owner.close().await?;
        Ok(database)
    }
}

/// The work of a migration.
async fn install(owner: &mut PgConnection, role: &str) -> Result<(), Failure> {
    let installation = Installation::new(role).tenant_column("tenant_id", TenantType::Text);
    installation.install(owner).await?;
    installation.authorization().apply(owner).await?;
    installation.number_series().apply(owner).await?;
    installation.trail().apply(owner).await?;
    owner.execute(include_str!("tables.sql")).await?;
    for table in [
        "cases",
        "invoices",
        "payments",
        "journal_entries",
        "postings",
    ] {
        installation.table(table).apply(owner).await?;
    }
    // What is booked stays. An invoice is changed by what is paid for it and by nothing else. Before
    // PostgreSQL 15 anybody could make tables beside these.
    let privileges = format!(
        "REVOKE UPDATE, DELETE ON journal_entries, postings, payments, invoices FROM {role}; \
         GRANT UPDATE (paid) ON invoices TO {role}; \
         REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
    );
    owner.execute(AssertSqlSafe(privileges)).await?;
    Ok(())
}

/// The role gets a new password each time, which nobody else knows.
async fn create_role(admin: &mut PgConnection, name: &str) -> Result<String, Failure> {
    let (exists, password): (bool, String) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1), gen_random_uuid()::text",
    )
    .bind(name)
    .fetch_one(&mut *admin)
    .await?;
    let verb = if exists { "ALTER" } else { "CREATE" };
    let statement = format!("{verb} ROLE {name} LOGIN PASSWORD '{password}'");
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
        admin
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
    }
    Ok(())
}

pub async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Failure> {
    Ok(options
        .clone()
        .disable_statement_logging()
        .connect()
        .await?)
}
