//! A control database, and what is asked of the directories on it.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tenantry::sql::ControlTables;
use tenantry::{
    DirectoryChange, PostgresDirectory, PostgresDirectoryBuilder, TenantDirectory as _,
    TenantRecord, TenantState,
};

use super::log::log;
use super::tenant;

/// A control database of its own, with a reader that is nobody else's.
pub struct Control {
    pub admin: PgConnection,
    pub role: String,
    pub reader: PgConnectOptions,
}

pub const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

impl Control {
    pub async fn start() -> Self {
        log();
        Self::on(super::empty_world().await.admin).await
    }

    pub async fn on(admin: PgConnectOptions) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let role = format!(
            "reader_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mut control = Self {
            reader: admin.clone().username(&role),
            admin: connect(&admin).await,
            role,
        };
        control
            .run(&format!("CREATE ROLE {} LOGIN", control.role))
            .await;
        let tables = ControlTables::new(&control.role);
        tables.install(&mut control.admin).await.expect("installed");
        control
    }

    pub async fn run(&mut self, sql: &str) {
        let done = self.admin.execute(AssertSqlSafe(sql)).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Three active tenants, one placement each.
    pub async fn three(&mut self) {
        self.run(
            "INSERT INTO tenantry.tenants (id, placement, server, database, schema) VALUES \
             ('a', 'shared', 'main', 'app', NULL), \
             ('B', 'database', 'main', 'app_b', NULL), \
             ('c', 'schema', 'other', 'app', 'tenant_c')",
        )
        .await;
    }

    pub async fn state(&mut self, id: &str, state: &str) {
        let sql = format!("UPDATE tenantry.tenants SET state = '{state}' WHERE id = '{id}'");
        self.run(&sql).await;
    }

    pub fn builder(&self) -> PostgresDirectoryBuilder {
        builder(&self.reader)
    }

    /// One that reads the whole table only when it has to.
    pub async fn directory(&self) -> PostgresDirectory {
        let builder = self.builder().time_to_live(NEVER);
        builder.connect().await.expect("a directory")
    }

    pub async fn sessions(&mut self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = $1")
            .bind(&self.role)
            .fetch_one(&mut self.admin)
            .await
            .expect("a count")
    }

    pub async fn wait_for_sessions(&mut self, count: i64) {
        soon(async {
            while self.sessions().await != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Ends the directories' sessions and lets them have no new ones.
    pub async fn lock_out(&mut self) {
        let role = self.role.clone();
        self.run(&format!("ALTER ROLE {role} NOLOGIN")).await;
        self.run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
        ))
        .await;
        self.wait_for_sessions(0).await;
    }

    pub async fn let_in(&mut self) {
        self.run(&format!("ALTER ROLE {} LOGIN", self.role)).await;
    }
}

pub fn builder(control: &PgConnectOptions) -> PostgresDirectoryBuilder {
    PostgresDirectory::builder(control.clone())
        .server("main", server("db-1.invalid"))
        .server("other", server("db-2.invalid"))
}

pub fn server(host: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(host)
        .username("app")
}

pub async fn connect(options: &PgConnectOptions) -> PgConnection {
    use sqlx::ConnectOptions as _;
    let options = options.clone().disable_statement_logging();
    options.connect().await.expect("connected")
}

/// Waits for what happens by itself, on however slow a machine.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what)
        .await
        .expect("it happens within a minute")
}

/// Waits until this stream tells of this tenant, or of all.
pub async fn told(changes: &mut BoxStream<'static, DirectoryChange>, id: &str) {
    soon(async {
        loop {
            match changes.next().await.expect("the directory lives") {
                DirectoryChange::Tenant(other) if other != tenant(id) => {}
                _ => return,
            }
        }
    })
    .await;
}

pub async fn find(directory: &PostgresDirectory, id: &str) -> Option<TenantRecord> {
    directory.find(&tenant(id)).await.expect("an answer")
}

pub async fn state(directory: &PostgresDirectory, id: &str) -> TenantState {
    find(directory, id).await.expect("a tenant").tenant_state()
}

pub async fn list(directory: &PostgresDirectory, after: Option<&str>, limit: usize) -> Vec<String> {
    let after = after.map(tenant);
    let ids = directory.list(after.as_ref(), limit).await.expect("a list");
    ids.iter().map(|id| id.as_str().to_owned()).collect()
}
