//! What the server does with a text, held against what was said of it.
//!
//! Shared with the fuzz target `trial`, and so free of everything else of the crate.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, Row as _};
use tokio::time::timeout;

/// What was said of a text. A text of which not even the first can be said is not sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims {
    /// The transaction that it runs in is the same behind it.
    pub(crate) keeps_the_transaction: bool,
    /// The tenant is the same as well.
    pub(crate) keeps_the_context: bool,
    /// When the transaction has ended, the session is as it was.
    pub(crate) leaves_nothing: bool,
    /// A transaction that is READ ONLY does not refuse it.
    pub(crate) only_reads: bool,
}

/// A session in which texts are tried.
pub(crate) struct Trial {
    connection: PgConnection,
    untouched: String,
}

const TABLES: &str = "CREATE TABLE IF NOT EXISTS t (a int, b text); \
     CREATE TABLE IF NOT EXISTS u (a int PRIMARY KEY, b text); \
     DO $$ BEGIN IF to_regrole('app') IS NULL THEN CREATE ROLE app LOGIN; END IF; END $$; \
     GRANT ALL ON t, u TO app; GRANT CREATE ON SCHEMA public TO app";

/// A session, as far as it outlives a transaction. The setting of the context is '' once it was set
/// locally, which is no trace.
const SESSION: &str = "SELECT concat_ws(' | ', session_user, current_user, \
     (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), \
     (SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings \
       WHERE source = 'session' AND name NOT LIKE 'app.%'), \
     (SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements), \
     (SELECT string_agg(name, ',' ORDER BY name) FROM pg_cursors WHERE name <> ''), \
     (SELECT string_agg(c, ',' ORDER BY c) FROM pg_listening_channels() AS c), \
     (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'))";

/// The number of the transaction, which is there before it writes.
const TRANSACTION: &str = "SELECT virtualtransaction FROM pg_locks \
     WHERE pid = pg_backend_pid() AND locktype = 'virtualxid'";

impl Trial {
    /// On this server, as a role that may do no more than the service's.
    pub(crate) async fn new(server: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        let server = server.clone().disable_statement_logging();
        server.connect().await?.execute(TABLES).await?;
        let options = server.username("app");
        let mut trial = Self {
            connection: options.connect().await?,
            untouched: String::new(),
        };
        trial.run(AFRESH).await?;
        trial.untouched = trial.ask(SESSION).await?;
        Ok(trial)
    }

    /// Runs the text where that can be claimed, and says which claim was wrong. `Ok(true)` if the
    /// server ran it to its end.
    pub(crate) async fn hold(&mut self, sql: &str, claims: Claims) -> Result<bool, String> {
        if !claims.keeps_the_transaction {
            return Ok(false);
        }
        let held = timeout(Duration::from_secs(20), self.hold_in_time(sql, claims)).await;
        held.map_err(|_| "it does not end".to_owned())?
    }

    async fn hold_in_time(&mut self, sql: &str, claims: Claims) -> Result<bool, String> {
        let broken = |error: sqlx::Error| format!("the session broke: {error}");
        if claims.only_reads {
            self.run("BEGIN READ ONLY").await.map_err(broken)?;
            let code = code(self.run(sql).await);
            self.run("ROLLBACK").await.map_err(broken)?;
            // read_only_sql_transaction
            if code.as_deref() == Some("25006") {
                return Err("it does more than read".to_owned());
            }
        }
        let begin = "BEGIN; SET LOCAL app.tenant_id = 'a'";
        self.run(begin).await.map_err(broken)?;
        let before = self.ask(TRANSACTION).await.map_err(broken)?;
        let done = self.run(sql).await;
        let is_done = done.is_ok();
        if is_done {
            let after = self.ask(TRANSACTION).await.map_err(broken)?;
            let tenant = "SELECT current_setting('app.tenant_id', true)";
            let tenant = self.ask(tenant).await.map_err(broken)?;
            if before != after {
                return Err("the transaction is another one".to_owned());
            }
            if claims.keeps_the_context && tenant != "a" {
                return Err("the context is another one".to_owned());
            }
            let _ = self.run("COMMIT").await;
        } else {
            // in_failed_sql_transaction
            let next = code(self.run("SELECT 1").await);
            if next.as_deref() != Some("25P02") {
                return Err(format!("it ended the transaction: {next:?}"));
            }
            self.run("ROLLBACK").await.map_err(broken)?;
        }
        if claims.leaves_nothing {
            let session = self.ask(SESSION).await.map_err(broken)?;
            if session != self.untouched {
                let mut what = String::new();
                let _ = write!(what, "it leaves {session:?} for {:?}", self.untouched);
                return Err(what);
            }
        }
        self.run(AFRESH).await.map_err(broken)?;
        Ok(is_done)
    }

    async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let text = sqlx::raw_sql(AssertSqlSafe(sql));
        text.execute(&mut self.connection).await.map(drop)
    }

    async fn ask(&mut self, sql: &'static str) -> Result<String, sqlx::Error> {
        let row: PgRow = sqlx::raw_sql(sql).fetch_one(&mut self.connection).await?;
        let text: Option<String> = row.try_get_unchecked(0)?;
        Ok(text.unwrap_or_default())
    }
}

/// One statement a message: DISCARD ALL runs in no transaction, and takes the settings with it.
const AFRESH: &str = "DISCARD ALL";

fn code(outcome: Result<(), sqlx::Error>) -> Option<String> {
    match outcome {
        Err(sqlx::Error::Database(error)) => error.code().map(|code| code.into_owned()),
        _ => None,
    }
}
