//! A server, and databases on it to break.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tenantry::testing::PostgresServer;
use tokio::sync::OnceCell;

static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub async fn server() -> &'static PostgresServer {
    let start = || async {
        PostgresServer::start()
            .await
            .expect("PostgreSQL: run ./scripts/test")
    };
    SERVER.get_or_init(start).await
}

/// A name that nobody else has on the server.
pub fn name(what: &str) -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{what}_{}_{number}", std::process::id())
}

/// Runs SQL as the role of these options.
pub async fn run(options: &PgConnectOptions, sql: &str) {
    let options = options.clone().disable_statement_logging();
    let mut connection = options.connect().await.expect("a connection");
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
    {
        panic!("{sql}: {error}");
    }
    connection.close().await.expect("closed");
}

/// The first column of all rows.
pub async fn texts(options: &PgConnectOptions, sql: &str) -> Vec<String> {
    let options = options.clone().disable_statement_logging();
    let mut connection = options.connect().await.expect("a connection");
    let rows = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_all(&mut connection)
        .await
        .expect("rows");
    connection.close().await.expect("closed");
    rows
}

/// A new database, as the superuser, in which nobody may make temporary tables.
pub async fn database(what: &str) -> PgConnectOptions {
    let name = name(what);
    let database = server()
        .await
        .create_database(&name)
        .await
        .expect("a database");
    run(
        &database,
        &format!("REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"),
    )
    .await;
    database
}

/// As `#[sqlx::test]` has one.
pub fn pool(options: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .connect_lazy_with(options.clone().disable_statement_logging())
}
