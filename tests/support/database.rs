//! A database for one test, with an owner and an application role of its own.
//!
//! Roles belong to a server and not to a database, so each test has roles with names of its own:
//! tests may share a server.

// Not every test binary uses everything.
#![allow(dead_code)]

use tokio::sync::OnceCell;

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use tenantry::testing::PostgresServer;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

pub(crate) const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub(crate) const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";

pub(crate) struct TestDatabase {
    options: PgConnectOptions,
    pub(crate) name: String,
    /// The role that owns the database; may not bypass anything.
    pub(crate) owner: String,
    /// The role of the service.
    pub(crate) app: String,
}

impl TestDatabase {
    pub(crate) async fn start() -> Outcome<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!(
            "{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
        let server = SERVER.get_or_try_init(PostgresServer::start).await?;
        let options = server.connect_options();
        let name = format!("test_{mark}");
        let (owner, app) = (format!("owner_{mark}"), format!("app_{mark}"));
        let mut admin = PgConnection::connect_with(&options).await?;
        for statement in [
            format!("CREATE ROLE {owner} LOGIN"),
            format!("CREATE ROLE {app} LOGIN"),
            format!("CREATE DATABASE {name} OWNER {owner}"),
        ] {
            run(&mut admin, &statement).await?;
        }
        admin.close().await?;
        Ok(Self {
            options: options.database(&name),
            name,
            owner,
            app,
        })
    }

    /// As the superuser.
    pub(crate) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// The role of the server's superuser.
    pub(crate) async fn superuser(&self) -> Outcome<PgConnection> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    pub(crate) async fn owner(&self) -> Outcome<PgConnection> {
        self.role(&self.owner).await
    }

    pub(crate) async fn app(&self) -> Outcome<PgConnection> {
        self.role(&self.app).await
    }

    pub(crate) async fn role(&self, role: &str) -> Outcome<PgConnection> {
        Ok(PgConnection::connect_with(&self.options.clone().username(role)).await?)
    }

    /// How many privileges on the tables of numbers and of the trail somebody holds who is neither
    /// their owner, who asks, nor the application.
    pub(crate) async fn given_away(&self, owner: &mut PgConnection) -> Outcome<String> {
        let sql = format!(
            "SELECT count(*) FROM pg_class AS c, aclexplode(c.relacl) AS a \
             WHERE c.relnamespace = 'tenantry'::regnamespace AND c.relkind = 'r' \
               AND c.relname ~ '^(number|void|unique|trail)' \
               AND pg_get_userbyid(a.grantee) NOT IN (current_user, $app${}$app$)",
            self.app
        );
        text(owner, &sql).await
    }
}

/// Runs statements over the simple protocol.
pub(crate) async fn run(connection: &mut PgConnection, sql: &str) -> Outcome {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}

/// The SQLSTATE that `sql` fails with.
pub(crate) async fn refused(connection: &mut PgConnection, sql: &str) -> String {
    match sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await {
        Ok(_) => "none: it was carried out".to_owned(),
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        Err(error) => format!("none: {error}"),
    }
}

/// The first column of the first row of the last statement that has one.
pub(crate) async fn text(connection: &mut PgConnection, sql: &str) -> Outcome<String> {
    use sqlx::Row as _;
    let rows: Vec<PgRow> = sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await?;
    let row = rows.last().ok_or("no row")?;
    Ok(row
        .try_get_unchecked::<Option<String>, _>(0)?
        .unwrap_or_else(|| "NULL".to_owned()))
}

/// The server's `server_version_num`.
pub(crate) async fn version(connection: &mut PgConnection) -> Outcome<u32> {
    Ok(text(connection, "SHOW server_version_num").await?.parse()?)
}

/// What `sql` answers in a transaction with the context of `tenant`, which is then rolled back.
pub(crate) async fn text_as(
    connection: &mut PgConnection,
    tenant: &str,
    sql: &str,
) -> Outcome<String> {
    let script = format!("BEGIN; SET LOCAL app.tenant_id = '{tenant}'; {sql}");
    let answer = text(connection, &script).await;
    run(connection, "ROLLBACK").await?;
    answer
}
