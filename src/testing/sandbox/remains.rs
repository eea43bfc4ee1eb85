//! What a sandbox leaves, and how it goes.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use crate::error::Error;
use crate::quote;
use crate::tenant::TenantId;

/// The role, and the tenants' rows or databases. Noted before they are made.
pub(super) struct Remains {
    options: PgConnectOptions,
    role: String,
    /// The tenant column, where the rows of tenants are to be deleted.
    column: Option<String>,
    made: Mutex<Made>,
    is_closing: AtomicBool,
    is_gone: AtomicBool,
}

#[derive(Clone, Default)]
struct Made {
    tenants: Vec<TenantId>,
    databases: Vec<String>,
}

impl Remains {
    pub(super) fn new(options: PgConnectOptions, column: Option<String>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let role = format!(
            "tenantry_sandbox_{}_{number}_{:08x}",
            std::process::id(),
            fastrand::u32(..)
        );
        Self {
            options,
            role,
            column,
            made: Mutex::default(),
            is_closing: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        }
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// As whom the registry logs in.
    pub(super) fn role(&self) -> &str {
        &self.role
    }

    pub(super) fn has_tenant(&self, tenant: &TenantId) {
        self.made.lock().tenants.push(tenant.clone());
    }

    /// The name of a database to be made.
    pub(super) fn has_database(&self) -> String {
        let mut made = self.made.lock();
        let name = format!("{}_{}", self.role, made.databases.len());
        made.databases.push(name.clone());
        name
    }

    /// What is made from now on, nobody else removes.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    pub(super) async fn clear(&self) -> Result<(), Error> {
        self.is_closing.store(true, Ordering::SeqCst);
        let mut owner = self.options.connect().await?;
        let made = self.made.lock().clone();
        for statement in self.statements(&made) {
            run(&mut owner, statement).await?;
        }
        self.is_gone.store(true, Ordering::Relaxed);
        // The server is done; that the good-bye arrives changes nothing.
        let _ = owner.close().await;
        Ok(())
    }

    fn statements(&self, made: &Made) -> Vec<String> {
        // What a test holds open holds locks. The role is the sandbox's own, and so are these.
        let mut statements = vec![format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {}",
            quote::literal(&self.role)
        )];
        if let Some(column) = &self.column
            && !made.tenants.is_empty()
        {
            statements.push(deletion(column, &made.tenants));
        }
        for name in &made.databases {
            let name = quote::identifier(name);
            statements.push(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
        let role = quote::identifier(&self.role);
        statements.push(format!("DROP ROLE IF EXISTS {role}"));
        statements
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if *self.is_gone.get_mut() {
            return;
        }
        let remains = Self {
            options: self.options.clone(),
            role: self.role.clone(),
            column: self.column.clone(),
            made: Mutex::new(std::mem::take(self.made.get_mut())),
            is_closing: AtomicBool::new(true),
            is_gone: AtomicBool::new(true),
        };
        let (sender, receiver) = mpsc::channel();
        // A thread and a runtime of its own: a drop may happen outside of any runtime, and inside
        // of one nothing may block on a future.
        let thread = std::thread::Builder::new().name("tenantry-sandbox".to_owned());
        let spawned = thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let cleared = runtime.is_ok_and(|runtime| runtime.block_on(remains.clear()).is_ok());
            if !cleared {
                tracing::warn!(role = remains.role, "a sandbox was left on the server");
            }
            let _ = sender.send(());
        });
        if spawned.is_ok() {
            // The process may be about to end, and the thread would end with it.
            let _ = receiver.recv_timeout(DROP_TIMEOUT);
        }
    }
}

const DROP_TIMEOUT: Duration = Duration::from_secs(10);

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes the rows of these tenants from every table, in whatever order references allow: what is
/// refused is tried again when others have gone. Only where no order helps are triggers and
/// references put aside.
///
/// Epochs come last, because triggers of the other tables write them.
fn deletion(column: &str, tenants: &[TenantId]) -> String {
    let ids: Vec<_> = tenants
        .iter()
        .map(|tenant| quote::literal(tenant.as_str()))
        .collect();
    format!(
        "DO $tenantry$
DECLARE
  ids constant text[] := ARRAY[{ids}];
  open text[];
  refused text[];
  statement text;
BEGIN
  SET LOCAL search_path = pg_catalog, pg_temp;
  SET LOCAL lock_timeout = '5s';
  SET CONSTRAINTS ALL IMMEDIATE;
  SELECT array_agg(format('DELETE FROM %I.%I WHERE %I::text = ANY ($1)', n.nspname, c.relname, a.attname)
      ORDER BY n.nspname = 'tenantry', c.relname = 'authorization_epochs', n.nspname, c.relname)
    INTO open
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT a.attisdropped AND a.attnum > 0
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND (a.attname = {column} OR n.nspname = 'tenantry' AND a.attname = 'tenant' AND c.relname <> 'installation');
  LOOP
    refused := '{{}}';
    FOREACH statement IN ARRAY coalesce(open, '{{}}') LOOP
      BEGIN
        EXECUTE statement USING ids;
      EXCEPTION WHEN OTHERS THEN
        IF current_setting('session_replication_role') = 'replica' THEN
          RAISE;
        END IF;
        refused := refused || statement;
      END;
    END LOOP;
    EXIT WHEN cardinality(refused) = 0;
    IF cardinality(refused) = cardinality(open) THEN
      SET LOCAL session_replication_role = replica;
    END IF;
    open := refused;
  END LOOP;
END $tenantry$",
        ids = ids.join(", "),
        column = quote::literal(column),
    )
}
