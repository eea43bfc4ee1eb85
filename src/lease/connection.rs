//! One connection: how it is opened, what it is known to carry, how it is tested and cleaned.

use std::sync::Arc;

use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgTypeInfo};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _, SqlStr};

use super::types;
use super::way::Way;
use crate::error::{Error, ErrorKind};
use crate::pooler::{Marked, Pooler, could_not_connect};
use crate::preflight;
use crate::settings::ContextSettings;
use crate::sql::Seal;
use crate::tenant::TenantId;

/// A connection to a server, and what is known of it.
pub(crate) struct Connection {
    pub(super) raw: PgConnection,
    session: Session,
    way: Arc<Way>,
    /// The number of the server's process; where sessions are lent, of one that it met.
    pub(super) backend: i32,
    /// As whom it is logged in, in the server's own words.
    pub(super) role: String,
    pub(super) traces: Traces,
    /// Whether the server looks whether we are still there.
    checks_client: bool,
    /// Whether statements may have names: not where sessions are lent, and not without sqlx's cache,
    /// because then it never closes them.
    caches: bool,
    /// The domain `tenantry.scope` of this database.
    scope_oid: Oid,
    /// Whose database this is, in the server's own words; `None` where tenants share it.
    tenant: Option<String>,
    seal: Seal,
}

/// Whose the session of the server is that a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    /// Ours, and it ends with the connection: there is nobody in between.
    Own,
    /// Ours as long as the connection lasts, we were told.
    Kept,
    /// Ours as long as a transaction lasts, and then somebody else's: there is a pooler.
    Lent,
}

/// What a transaction may have left on the session that does not end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Traces {
    /// Nothing.
    None,
    /// Something that [`SCRUB`] takes away.
    Scrubbable,
    /// Something that nothing takes away without harm to the driver's own state.
    Lasting,
}

/// Settings of every session of ours; of one that is lent, of every transaction.
///
/// * `client_min_messages`: sqlx logs what the server notifies at WARN and INFO, and a RAISE
///   WARNING holds whatever its author put into it.
/// * `standard_conforming_strings`: the scanner of statements reads backslashes as PostgreSQL
///   does with this setting on, which has been the default since 9.1.
const SESSION: &str = "SELECT pg_catalog.pg_backend_pid() AS backend, \
    pg_catalog.set_config('client_min_messages', 'error', false), \
    pg_catalog.set_config('standard_conforming_strings', 'on', false)";

/// Before BEGIN on a session that is lent. Whoever had it before may have left a role and a path
/// there; other settings of the session are those of all who share it.
const TRANSACTION: &str = "SET LOCAL client_min_messages = error; \
    SET LOCAL standard_conforming_strings = on; SET LOCAL ROLE NONE; \
    SET LOCAL search_path TO DEFAULT; ";

/// And where the server takes it, `client_connection_check_interval`: a statement whose client has
/// gone is stopped within this time. A server older than 14 does not know the setting, and one on
/// a system that cannot see a closed socket refuses it, with the whole message; a value that
/// somebody has chosen stays. No DO block: that would load a language into each session, which
/// takes longer than all else here.
const CHECK_CLIENT: &str = "; SELECT set_config('client_connection_check_interval', '500', false) \
    WHERE current_setting('client_connection_check_interval', true) = '0' AND ";

const BACKEND: &str = "SELECT pg_catalog.pg_backend_pid() AS backend";

/// Everything that outlives a transaction. Prepared statements too, which a DO block may have made:
/// sqlx must believe in none when this is sent.
const SCRUB: &str = "CLOSE ALL; UNLISTEN *; RESET ROLE; RESET ALL; DEALLOCATE ALL; \
    SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; ";

impl Connection {
    /// Opens a connection and learns where it leads.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the socket.
    pub(super) async fn open(
        options: &PgConnectOptions,
        pooler: Pooler,
        way: &Arc<Way>,
        settings: &ContextSettings,
    ) -> Result<Self, Error> {
        let refused =
            |error| could_not_connect(error, "no connection to the database could be opened");
        if pooler == Pooler::Session && way.is_shared() {
            return Err(Error::new(
                ErrorKind::Preflight,
                "the pooler was said to lend sessions for as long as a connection lasts, and lends \
                 them by transaction: see Pooler",
            ));
        }
        // sqlx would log the text of statements, at DEBUG all and at WARN the slow ones.
        let options = options.clone().disable_statement_logging();
        let (mut raw, mark) = match pooler {
            Pooler::Detect if !way.is_shared() => {
                let marked = Marked::connect(&options).await.map_err(refused)?;
                (marked.connection, marked.mark)
            }
            _ => (options.connect().await.map_err(refused)?, None),
        };
        let condition = match (pooler, &mark) {
            (Pooler::Session, _) => Some("true".to_owned()),
            (_, Some(mark)) => Some(mark.is_here()),
            (_, None) => None,
        };
        let mut checks_client = true;
        let mut met = None;
        if let Some(condition) = &condition {
            met = match set_up(&mut raw, "", condition, checks_client).await {
                Err(sqlx::Error::Database(_)) => {
                    checks_client = false;
                    set_up(&mut raw, "", condition, checks_client).await
                }
                done => done,
            }
            .map_err(refused)?;
        }
        let session = match (met, mark) {
            (None, _) => Session::Lent,
            (Some(_), Some(_)) => Session::Own,
            (Some(_), None) => Session::Kept,
        };
        if session == Session::Lent && pooler == Pooler::Detect {
            way.found_a_pooler();
        }
        let installed = preflight::check_installation(&mut raw, settings).await?;
        let names = match session {
            Session::Own | Session::Kept => true,
            Session::Lent => {
                pooler == Pooler::TransactionWithPreparedStatements && !way.has_stale_names()
            }
        };
        let mut connection = Self {
            raw,
            session,
            way: Arc::clone(way),
            backend: installed.backend,
            checks_client,
            role: installed.role,
            traces: Traces::None,
            caches: false,
            scope_oid: installed.scope_oid,
            tenant: installed.tenant,
            seal: installed.seal,
        };
        if met.is_some_and(|backend| backend != installed.backend) {
            return Err(connection.met_another());
        }
        if names {
            connection.learn_the_scope().await.map_err(refused)?;
            connection.caches = connection.raw.cached_statements_size() > 0;
        }
        if !connection.caches {
            types::learn(&mut connection.raw).await.map_err(refused)?;
        }
        Ok(connection)
    }

    /// Makes sqlx look the scope's type up now and not under somebody's first statement.
    async fn learn_the_scope(&mut self) -> Result<(), sqlx::Error> {
        let text = SqlStr::from_static("SELECT $1 /* tenantry: the scope's type */");
        let scope = [PgTypeInfo::with_oid(self.scope_oid)];
        self.raw.prepare_with(text, &scope).await.map(drop)
    }

    pub(crate) fn raw(&mut self) -> &mut PgConnection {
        &mut self.raw
    }

    /// Whose database this is; `None` where tenants share it.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    pub(crate) fn scope_oid(&self) -> Oid {
        self.scope_oid
    }

    /// Whether statements may be named.
    pub(crate) fn caches(&self) -> bool {
        self.caches
    }

    /// Whether only what is in one transaction meets one session.
    pub(crate) fn is_lent(&self) -> bool {
        self.session == Session::Lent
    }

    /// Whether the server's session ends with the connection, so that its end can be waited for.
    pub(super) fn ends_its_session(&self) -> bool {
        self.session == Session::Own
    }

    /// Whether it was opened before something came out that it should have known.
    pub(super) fn is_outdated(&self) -> bool {
        match self.session {
            Session::Own | Session::Kept => self.way.is_shared(),
            Session::Lent => self.caches && self.way.has_stale_names(),
        }
    }

    /// The server no longer takes a statement as it was prepared.
    pub(crate) fn has_stale_statements(&mut self) {
        if !self.caches {
            return;
        }
        if self.is_lent() {
            self.way.found_a_stale_name();
        }
        // The scrub drops them, so that another attempt finds none.
        self.closes_after(Traces::Scrubbable);
    }

    /// What a transaction begins with, to stand in front of all else in it.
    pub(crate) fn settings_of_transaction(&self) -> &'static str {
        match self.session {
            Session::Own | Session::Kept => "",
            Session::Lent => TRANSACTION,
        }
    }

    /// What this connection carries from now on. Said before the statement is sent, so that it
    /// is known whatever becomes of the statement.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StatementRefused`] where the session is lent: it would carry it to others.
    pub(crate) fn carries(&mut self, traces: Traces) -> Result<(), Error> {
        if traces > Traces::None && self.is_lent() {
            return Err(Error::new(
                ErrorKind::StatementRefused,
                "the statement may leave something on the session, and there is a pooler that \
                 lends the session to others: SET LOCAL, LOCK, NOTIFY and TenantTx::advisory_lock \
                 end with the transaction; for all else connect past the pooler, see Pooler",
            ));
        }
        self.closes_after(traces);
        Ok(())
    }

    /// The same for what reaches nobody: the connection is given up with it.
    pub(crate) fn closes_after(&mut self, traces: Traces) {
        self.traces = self.traces.max(traces);
    }

    /// # Errors
    ///
    /// [`ErrorKind::StatementRefused`] where statements have no names: sqlx gives one to each that
    /// it prepares.
    pub(crate) fn may_prepare(&self) -> Result<(), Error> {
        if self.is_lent() && !self.caches {
            return Err(Error::new(
                ErrorKind::StatementRefused,
                "a pooler that lends sessions keeps no prepared statement: run the query without \
                 preparing it, or see Pooler::TransactionWithPreparedStatements",
            ));
        }
        Ok(())
    }

    /// That the database takes contexts which are signed, or which are not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Installation`] says what to set.
    pub(super) fn takes_contexts(&self, signed: bool) -> Result<(), Error> {
        let rule = match (self.seal, signed) {
            (Seal::None, true) => {
                "the registry signs contexts, and the database does not verify them: run \
                 tenantry::sql::Installation::install on it with sealed or prepare_seal, or build \
                 the registry without signing_key"
            }
            (Seal::Sealed, false) => {
                "the database is sealed and takes signed contexts only: give the registry a key, \
                 TenantRegistryBuilder::signing_key, that the database knows, \
                 tenantry::sql::Installation::add_signing_key"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Installation, rule))
    }

    /// The first of two fences against a map that answers with the wrong database; the second is
    /// the database itself.
    pub(crate) fn belongs_to(&self, tenant: &TenantId) -> Result<(), Error> {
        match &self.tenant {
            Some(owner) if owner != tenant.as_str() => Err(Error::new(
                ErrorKind::Misrouted,
                "the connection leads to the database of another tenant; nothing was sent",
            )),
            _ => Ok(()),
        }
    }

    /// Reads and drops what is still under way, and comes back when the server is ready, and is
    /// the one that it was.
    pub(super) async fn settle(&mut self) -> Result<(), sqlx::Error> {
        match self.session {
            Session::Own | Session::Kept => self.is_the_same(BACKEND).await,
            Session::Lent => self.raw.ping().await,
        }
    }

    /// Outside any transaction, whatever was before. ROLLBACK where there is no transaction is a
    /// warning to the server, and the session does not ask for warnings.
    pub(super) async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        match self.session {
            Session::Own | Session::Kept => {
                let text = format!("ROLLBACK; {BACKEND}");
                self.is_the_same(&text).await
            }
            Session::Lent => self.raw.execute("ROLLBACK").await.map(drop),
        }
    }

    /// Not for a session that is lent: what it carries went to somebody else.
    pub(super) async fn scrub(&mut self) -> Result<(), sqlx::Error> {
        self.raw.clear_cached_statements().await?;
        let met = set_up(&mut self.raw, SCRUB, "true", self.checks_client).await?;
        if met != Some(self.backend) {
            return Err(self.met_another().into());
        }
        self.traces = Traces::None;
        Ok(())
    }

    async fn is_the_same(&mut self, question: &str) -> Result<(), sqlx::Error> {
        let query = sqlx::raw_sql(AssertSqlSafe(question));
        let row = query.fetch_one(&mut self.raw).await?;
        if row.try_get::<i32, _>("backend")? != self.backend {
            return Err(self.met_another().into());
        }
        Ok(())
    }

    /// This is no session of ours, whatever was said or seen when the connection was opened.
    fn met_another(&self) -> Error {
        self.way.shares_sessions();
        Error::new(
            ErrorKind::ConnectionLost,
            "the connection led to another session than before: there is a pooler in between that \
             lends sessions by transaction, see Pooler",
        )
    }
}

/// The settings of a session, behind what comes `before` them in the same message. `None` if the
/// condition does not hold, and nothing was set; otherwise the number of the server's process.
async fn set_up(
    raw: &mut PgConnection,
    before: &str,
    condition: &str,
    checks_client: bool,
) -> Result<Option<i32>, sqlx::Error> {
    let mut text = format!("{before}{SESSION} WHERE {condition}");
    if checks_client {
        text.push_str(CHECK_CLIENT);
        text.push_str(condition);
    }
    let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(raw).await?;
    Ok(rows.iter().find_map(|row| row.try_get("backend").ok()))
}
