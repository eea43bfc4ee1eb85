//! The task that keeps what is known as the table is.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use futures_util::stream::TryStreamExt as _;
use sqlx::postgres::{PgListener, PgNotification};
use sqlx::{Acquire as _, Connection as _, Executor as _};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::known::Known;
use super::row::{ALL_ROWS, Row, SOME_ROWS, Servers};
use crate::directory::Database;
use crate::error::{Error, ErrorKind};
use crate::listen::{self, Pauses};
use crate::sql;
use crate::tenant::TenantId;

/// Follows the table over one connection at a time.
pub(super) struct Follower {
    control: Database,
    servers: Servers,
    known: Arc<Known>,
    time_to_live: Duration,
    /// For how long the server may say nothing before it is asked whether it is there.
    quiet: Duration,
    /// The ids that nobody can have and that have been complained about.
    strangers: HashSet<String>,
}

/// A connection that listens.
pub(super) struct Session {
    listener: PgListener,
    whole_table_due: Instant,
    ping_due: Instant,
}

/// What the server has told and is still to be read.
#[derive(Default)]
struct Pending {
    ids: BTreeSet<String>,
    all: bool,
}

impl Follower {
    pub(super) fn new(
        control: Database,
        servers: Servers,
        known: Arc<Known>,
        time_to_live: Duration,
        stale_after: Duration,
    ) -> Self {
        Self {
            control,
            servers,
            known,
            time_to_live,
            // So that a directory is never stale whose connection works.
            quiet: QUIET.min(stale_after / 4),
            strangers: HashSet::new(),
        }
    }

    /// A new connection, with everything read over it. It listens before it reads: what is
    /// committed in between is told.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection, and what is known stays as it was.
    pub(super) async fn open(&mut self) -> Result<Session, Error> {
        let options = self.control.connect_options().await?;
        let pooler = self.control.pooler_setting();
        let failure = "no connection to the control database could be opened";
        let mut listener = listen::connect(options, pooler, PATIENCE, failure).await?;
        // What the server notifies at WARNING sqlx logs.
        in_time(listener.execute("SET client_min_messages = error")).await?;
        in_time(listener.listen(sql::CHANNEL)).await?;
        let mut session = Session {
            listener,
            whole_table_due: Instant::now(),
            ping_due: Instant::now(),
        };
        self.read_everything(&mut session).await?;
        Ok(session)
    }

    /// Follows the table until `stopped`.
    pub(super) async fn run(mut self, session: Session, stopped: oneshot::Receiver<()>) {
        let follow = pin!(self.follow(session));
        future::select(follow, stopped).await;
    }

    async fn follow(&mut self, mut session: Session) -> Infallible {
        loop {
            let Err(error) = self.serve(&mut session).await;
            tracing::warn!(%error, "the directory lost the control database: what it knows holds for a while");
            drop(session);
            session = self.reopen().await;
            tracing::info!("the directory follows the control database again");
        }
    }

    async fn reopen(&mut self) -> Session {
        let mut pauses = Pauses::new(LONGEST_PAUSE);
        loop {
            sleep(pauses.next()).await;
            match self.open().await {
                Ok(session) => return session,
                Err(error) => {
                    tracing::debug!(%error, "the control database is still out of reach");
                }
            }
        }
    }

    /// Applies what this connection tells, until it breaks.
    async fn serve(&mut self, session: &mut Session) -> Result<Infallible, Error> {
        loop {
            // First, so that no flood of notifications puts it off.
            if Instant::now() >= session.whole_table_due {
                self.read_everything(session).await?;
            }
            let due = session.ping_due.min(session.whole_table_due);
            match timeout_at(due, session.listener.try_recv()).await {
                Ok(told) => {
                    let pending = session.pending(told)?;
                    if pending.all {
                        self.read_everything(session).await?;
                    } else {
                        self.read_some(session, pending.ids).await?;
                    }
                }
                Err(_) if Instant::now() >= session.ping_due => {
                    let connection = (&mut session.listener).acquire().await?;
                    in_time(connection.ping()).await?;
                    self.has_heard(session);
                }
                Err(_) => {}
            }
        }
    }

    async fn read_everything(&mut self, session: &mut Session) -> Result<(), Error> {
        self.servers.begin_reading();
        let mut strangers = HashSet::new();
        let mut differences = Vec::new();
        let mut last: Option<TenantId> = None;
        {
            // Not prepared: the table may be altered while this connection lives.
            let query = sqlx::query(ALL_ROWS).persistent(false);
            let mut rows = query.fetch(&mut session.listener);
            while let Some(row) = in_time(rows.try_next()).await? {
                let row = Row::read(&row).map_err(explain)?;
                let Some(tenant) = row.tenant() else {
                    self.complain(row.id, &mut strangers);
                    continue;
                };
                let entry = row.entry(&mut self.servers);
                self.known
                    .compare_gap(last.as_ref(), Some(&tenant), &mut differences);
                last = Some(tenant.clone());
                self.known.compare(tenant, entry, &mut differences);
            }
        }
        self.known
            .compare_gap(last.as_ref(), None, &mut differences);
        self.known.apply(differences);
        self.strangers = strangers;
        session.whole_table_due =
            Instant::now() + self.time_to_live.mul_f64(1.0 - fastrand::f64() / 5.0);
        self.has_heard(session);
        Ok(())
    }

    async fn read_some(
        &mut self,
        session: &mut Session,
        mut ids: BTreeSet<String>,
    ) -> Result<(), Error> {
        let mut strangers = HashSet::new();
        let mut differences = Vec::new();
        {
            let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
            let query = sqlx::query(SOME_ROWS).bind(wanted).persistent(false);
            let mut rows = query.fetch(&mut session.listener);
            while let Some(row) = in_time(rows.try_next()).await? {
                let row = Row::read(&row).map_err(explain)?;
                let Some(tenant) = row.tenant() else {
                    self.complain(row.id, &mut strangers);
                    continue;
                };
                ids.remove(tenant.as_str());
                let entry = row.entry(&mut self.servers);
                self.known.compare(tenant, entry, &mut differences);
            }
        }
        let gone = ids.iter().filter_map(|id| id.parse().ok());
        for tenant in gone {
            self.known.compare_gone(tenant, &mut differences);
        }
        self.known.apply(differences);
        self.strangers.extend(strangers);
        self.has_heard(session);
        Ok(())
    }

    fn has_heard(&self, session: &mut Session) {
        session.ping_due = Instant::now() + self.quiet;
        self.known.heard();
    }

    /// Tells of an id that nobody can have, once.
    fn complain(&self, id: Option<&str>, strangers: &mut HashSet<String>) {
        let id: String = id.unwrap_or_default().chars().take(64).collect();
        if strangers.len() < MOST_STRANGERS && !self.strangers.contains(&id) {
            tracing::warn!(
                tenant = ?id,
                rule = "its id is none that a tenant can have",
                "a tenant is unavailable: its row in the directory cannot be used"
            );
        }
        strangers.insert(id);
    }
}

impl Session {
    /// All that has arrived, beginning with this: a burst is one reading.
    fn pending(
        &mut self,
        first: Result<Option<PgNotification>, sqlx::Error>,
    ) -> Result<Pending, Error> {
        let mut pending = Pending::default();
        let mut next = Some(first);
        while let Some(told) = next {
            pending.note(told?.ok_or_else(lost)?);
            next = listen::arrived(&mut self.listener);
        }
        Ok(pending)
    }
}

impl Pending {
    fn note(&mut self, notification: PgNotification) {
        let id = notification.payload();
        // Anybody in the control database may notify, and of anything.
        if id.is_empty() || self.ids.len() >= MOST_IDS {
            self.all = true;
        } else if id.len() <= TenantId::MAX_LEN {
            self.ids.insert(id.to_owned());
        }
    }
}

/// Waits for the server to answer, and takes a silent one for a lost one.
async fn in_time<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(explain),
        Err(_) => Err(lost()),
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        "the connection to the control database broke, or fell silent",
    )
}

fn explain(error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|error| error.code());
    match (code.as_deref(), &error) {
        // undefined_table, invalid_schema_name, undefined_column, insufficient_privilege
        (Some("42P01" | "3F000" | "42703" | "42501"), _)
        | (None, sqlx::Error::ColumnDecode { .. }) => Error::new(
            ErrorKind::Installation,
            "the table tenantry.tenants is missing, of another version, or not for this role to \
             read: run tenantry::sql::ControlTables::install on the control database",
        )
        .with_source(error),
        _ => error.into(),
    }
}

/// With [`PATIENCE`], within what time a silent network is noticed: eight seconds.
const QUIET: Duration = Duration::from_secs(3);

/// How long the server may take for a connection, an answer, or the next row.
const PATIENCE: Duration = Duration::from_secs(5);

const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// More than this at once, and the whole table is read instead.
const MOST_IDS: usize = 1_000;

/// Enough to know that something is wrong with the table.
const MOST_STRANGERS: usize = 100;
