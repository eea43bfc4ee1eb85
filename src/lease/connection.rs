//! One session: how it is opened, what it is known to carry, how it is tested and cleaned.

use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgTypeInfo};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor as _, SqlStr};

use crate::error::{Error, ErrorKind};
use crate::preflight;
use crate::settings::ContextSettings;
use crate::tenant::TenantId;

/// A session of a server, and what is known of it.
pub(crate) struct Connection {
    pub(super) raw: PgConnection,
    /// The number of the server's process.
    pub(super) backend: i32,
    /// As whom it is logged in, in the server's own words.
    pub(super) role: String,
    pub(super) traces: Traces,
    /// Whether the server looks whether we are still there.
    checks_client: bool,
    /// Whether sqlx closes the statements that it names: without a cache it never does.
    caches: bool,
    /// The domain `tenantry.scope` of this database.
    scope_oid: Oid,
    /// Whose database this is, in the server's own words; `None` where tenants share it.
    tenant: Option<String>,
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

/// Settings of every session of ours.
///
/// * `client_min_messages`: sqlx logs what the server notifies at WARN and INFO, and a RAISE
///   WARNING holds whatever its author put into it.
/// * `standard_conforming_strings`: the scanner of statements reads backslashes as PostgreSQL
///   does with this setting on, which has been the default since 9.1.
const SESSION: &str = "SET client_min_messages = error; SET standard_conforming_strings = on";

/// And where the server takes it, `client_connection_check_interval`: a statement whose client has
/// gone is stopped within this time. A server older than 14 does not know the setting, and one on
/// a system that cannot see a closed socket refuses it, with the whole message; a value that
/// somebody has chosen stays. No DO block: that would load a language into each session, which
/// takes longer than all else here.
const CHECK_CLIENT: &str = "; SELECT set_config('client_connection_check_interval', '500', false) \
    WHERE current_setting('client_connection_check_interval', true) = '0'";

/// Everything that outlives a transaction. Prepared statements too, which a DO block may have made:
/// sqlx must believe in none when this is sent.
const SCRUB: &str = "CLOSE ALL; UNLISTEN *; RESET ROLE; RESET ALL; DEALLOCATE ALL; \
    SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; ";

impl Connection {
    /// Opens a session and learns whose it is.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the socket.
    pub(super) async fn open(
        options: &PgConnectOptions,
        settings: &ContextSettings,
    ) -> Result<Self, Error> {
        let refused = |error: sqlx::Error| {
            Error::new(
                ErrorKind::Connect,
                "no connection to the database could be opened",
            )
            .with_source(error)
        };
        // sqlx would log the text of statements, at DEBUG all and at WARN the slow ones.
        let options = options.clone().disable_statement_logging();
        let mut raw = options.connect().await.map_err(refused)?;
        let mut checks_client = true;
        if let Err(error) = set_up(&mut raw, "", checks_client).await {
            if !matches!(error, sqlx::Error::Database(_)) {
                return Err(refused(error));
            }
            checks_client = false;
            set_up(&mut raw, "", checks_client).await.map_err(refused)?;
        }
        let installed = preflight::check_installation(&mut raw, settings).await?;
        // Makes sqlx look the type up now and not under somebody's first statement.
        raw.prepare_with(
            SqlStr::from_static("SELECT $1 /* tenantry: the scope's type */"),
            &[PgTypeInfo::with_oid(installed.scope_oid)],
        )
        .await
        .map_err(refused)?;
        Ok(Self {
            caches: raw.cached_statements_size() > 0,
            raw,
            backend: installed.backend,
            checks_client,
            role: installed.role,
            traces: Traces::None,
            scope_oid: installed.scope_oid,
            tenant: installed.tenant,
        })
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

    /// What this connection carries from now on. Said before the statement is sent, so that it
    /// is known whatever becomes of the statement.
    pub(crate) fn note(&mut self, traces: Traces) {
        self.traces = self.traces.max(traces);
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

    /// Reads and drops what is still under way, and comes back when the server is ready.
    pub(super) async fn settle(&mut self) -> Result<(), sqlx::Error> {
        self.raw.ping().await
    }

    /// Outside any transaction, whatever was before. ROLLBACK where there is no transaction is a
    /// warning to the server, and the session does not ask for warnings.
    pub(super) async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.raw.execute("ROLLBACK").await.map(drop)
    }

    pub(super) async fn scrub(&mut self) -> Result<(), sqlx::Error> {
        self.raw.clear_cached_statements().await?;
        set_up(&mut self.raw, SCRUB, self.checks_client).await?;
        self.traces = Traces::None;
        Ok(())
    }
}

/// The settings of a session, behind what comes `before` them in the same message.
async fn set_up(
    raw: &mut PgConnection,
    before: &str,
    checks_client: bool,
) -> Result<(), sqlx::Error> {
    let check = if checks_client { CHECK_CLIENT } else { "" };
    let text = format!("{before}{SESSION}{check}");
    raw.execute(AssertSqlSafe(text)).await?;
    Ok(())
}
