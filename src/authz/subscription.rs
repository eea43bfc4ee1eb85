//! The task that hears of changes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use parking_lot::Mutex;
use sqlx::postgres::{PgListener, PgNotification};
use sqlx::{Executor as _, Row as _};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::cache::{BOUND, Cache};
use super::held::Held;
use super::question::{self, DATABASE};
use crate::directory::Database;
use crate::error::{Error, ErrorKind};
use crate::listen::{self, Pauses};
use crate::slots::Target;
use crate::sql::AUTHORIZATION_CHANNEL;
use crate::sync;
use crate::tenant::TenantId;

/// What a process knows, and which database it hears of.
pub(super) struct Known {
    pub(super) cache: Cache<Arc<Held>, Target>,
    database: Mutex<Option<Arc<str>>>,
}

/// Follows the changes over one connection at a time.
pub(super) struct Follower {
    database: Database,
    known: Arc<Known>,
}

/// A connection that listens.
pub(super) struct Session {
    listener: PgListener,
    backend: i32,
    ping_due: Instant,
}

impl Known {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            cache: Cache::new(PARTS, capacity, sync::now()),
            database: Mutex::new(None),
        }
    }

    /// Whether this is the database whose changes are heard of.
    pub(super) fn is_followed(&self, database: &str) -> bool {
        self.database.lock().as_deref() == Some(database)
    }
}

impl Follower {
    pub(super) fn new(database: Database, known: Arc<Known>) -> Self {
        Self { database, known }
    }

    /// A new connection. It listens before anything counts that is found out from now on.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection, and nothing counts.
    pub(super) async fn open(&self) -> Result<Session, Error> {
        let options = self.database.connect_options().await?;
        let pooler = self.database.pooler_setting();
        let failure = "no connection to the database of the subscription could be opened";
        let mut listener = listen::connect(options, pooler, PATIENCE, failure).await?;
        // What the server notifies at WARNING sqlx logs.
        in_time(listener.execute("SET client_min_messages = error")).await?;
        in_time(listener.listen(AUTHORIZATION_CHANNEL)).await?;
        let (backend, database) = {
            let sql = format!(
                "SELECT pg_backend_pid() AS backend, {DATABASE} AS database FROM tenantry.authorization"
            );
            let query = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
            let row = in_time(query.fetch_one(&mut listener)).await?;
            let backend: i32 = row.try_get("backend").map_err(question::explain)?;
            let database: String = row.try_get("database").map_err(question::explain)?;
            (backend, database)
        };
        *self.known.database.lock() = Some(database.into());
        // Of all that was found out before, something may have been missed.
        self.known.cache.all_changed();
        let mut session = Session {
            listener,
            backend,
            ping_due: Instant::now(),
        };
        self.ping(&mut session).await?;
        Ok(session)
    }

    /// Follows the changes until `stopped`.
    pub(super) async fn run(self, session: Session, stopped: oneshot::Receiver<()>) {
        let follow = pin!(self.follow(session));
        future::select(follow, stopped).await;
    }

    async fn follow(&self, mut session: Session) -> Infallible {
        loop {
            let Err(error) = self.serve(&mut session).await;
            self.known.cache.lost();
            tracing::warn!(%error, "changes to roles are not heard of: each check asks the database");
            drop(session);
            session = self.reopen().await;
            tracing::info!("changes to roles are heard of again");
        }
    }

    async fn reopen(&self) -> Session {
        let mut pauses = Pauses::new(LONGEST_PAUSE);
        loop {
            sleep(pauses.next()).await;
            match self.open().await {
                Ok(session) => return session,
                Err(error) => {
                    self.known.cache.lost();
                    tracing::debug!(%error, "the database of the subscription is still out of reach");
                }
            }
        }
    }

    /// Applies what this connection tells, until it breaks.
    async fn serve(&self, session: &mut Session) -> Result<Infallible, Error> {
        loop {
            // First, so that no flood of notifications puts it off.
            if Instant::now() >= session.ping_due {
                self.ping(session).await?;
            }
            if let Ok(told) = timeout_at(session.ping_due, session.listener.try_recv()).await {
                self.apply(told)?;
            }
        }
    }

    /// Asks the server for a sign of life, and learns with it of everything that had been committed
    /// when it asked.
    ///
    /// PostgreSQL signals those who listen before it acknowledges a commit, and a backend that has
    /// been signalled sends what there is before it says that it is ready for the next query
    /// (`PostgresMain` and `ProcessNotifyInterrupt`; `async.c` on the order in the queue). So the
    /// answer is read to that very end. That it is the same backend, and that it listens, tells a
    /// pooler that shares sessions out by transaction.
    async fn ping(&self, session: &mut Session) -> Result<(), Error> {
        let sent = sync::now();
        let asked = Instant::now();
        let query = sqlx::raw_sql(
            "SELECT pg_backend_pid() AS backend, EXISTS (SELECT FROM pg_listening_channels() AS c \
             WHERE c = 'tenantry_authorization') AS listens",
        );
        let rows = in_time(query.fetch_all(&mut session.listener)).await?;
        let is_ours = |row: &sqlx::postgres::PgRow| -> Result<bool, sqlx::Error> {
            let backend: i32 = row.try_get("backend")?;
            Ok(backend == session.backend && row.try_get("listens")?)
        };
        if !rows.first().map_or(Ok(false), is_ours)? {
            return Err(Error::new(
                ErrorKind::ConnectionLost,
                "the connection of the subscription has not one session of its own: connect it to \
                 the server, past any pooler",
            ));
        }
        // All of it came before the answer.
        while let Some(told) = session.listener.next_buffered() {
            self.apply(Ok(Some(told)))?;
        }
        self.known.cache.heard(sent);
        session.ping_due = asked + PING;
        Ok(())
    }

    fn apply(&self, told: Result<Option<PgNotification>, sqlx::Error>) -> Result<(), Error> {
        let told = told?.ok_or_else(lost)?;
        let id = told.payload();
        // Anybody in the database may notify, and of anything: it costs no more than a question.
        if id.is_empty() {
            self.known.cache.all_changed();
        } else if let Ok(tenant) = id.parse::<TenantId>() {
            self.known.cache.changed(&tenant);
        }
        Ok(())
    }
}

/// Waits for the server to answer, and takes a silent one for a lost one.
async fn in_time<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(question::explain),
        Err(_) => Err(lost()),
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        "the connection of the subscription broke, or fell silent",
    )
}

/// So many tenants can be looked up at once that seldom two get in each other's way.
const PARTS: u64 = 256;

/// How often the server is asked: so that one answer may take three times as long before what is
/// known stops to count.
const PING: Duration = BOUND.checked_div(4).expect("four is not zero");

/// How long the server may take for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(5);

const LONGEST_PAUSE: Duration = Duration::from_secs(2);
