//! The session of ours on a server whose connections are counted.
//!
//! Closing a connection does not wait for the server: sqlx sends the farewell and lets the socket
//! go, and `pg_stat_activity` may count the session for some time. So the server is asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex as TurnMutex;
use tokio::time::{sleep, timeout};

use super::way::Way;
use crate::directory::Database;
use crate::error::{Error, ErrorKind};
use crate::pooler::{Marked, Pooler, could_not_connect};

/// Knows how many connections the server has for us, and which of them are gone.
pub(super) struct Control {
    /// What the pools of this server may have together.
    cap: usize,
    name: String,
    /// That of the pool which was opened last: whoever can connect as it can ask.
    database: Mutex<Option<Database>>,
    /// The sessions that were closed and are not known to be gone.
    closing: Mutex<BTreeSet<i32>>,
    /// One question at a time. `None` until the first, and after the session broke.
    session: TurnMutex<Option<PgConnection>>,
    way: Arc<Way>,
}

/// How long the server may take to answer. One that is slower is asked anew.
const PATIENCE: Duration = Duration::from_secs(5);

impl Control {
    pub(super) fn new(cap: usize, name: &str, way: Arc<Way>) -> Self {
        Self {
            cap,
            name: name.to_owned(),
            database: Mutex::default(),
            closing: Mutex::default(),
            session: TurnMutex::default(),
            way,
        }
    }

    /// That there is a session to ask on, before the first connection is opened that has to be
    /// counted. There is none where a pooler is in between: its sessions do not end with our
    /// connections, and what we count are those.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`], or [`ErrorKind::Preflight`] if the server does not take as many
    /// connections as the budget has.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn ready(&self, pool: &Database) -> Result<(), Error> {
        if pool.pooler_setting() != Pooler::Detect {
            return Ok(());
        }
        *self.database.lock() = Some(pool.named(&*self.name));
        let mut session = self.session.lock().await;
        if session.is_none() && !self.way.has_pooler() {
            *session = self.connect().await?;
        }
        Ok(())
    }

    /// Comes back when the server has no session of this number any more. While nobody answers,
    /// it does not come back: what cannot be seen counts. What a pooler hides is not counted.
    ///
    /// Those who ask at the same time share a question: on a busy server the answers would be late
    /// for all of them.
    pub(super) async fn gone(&self, backend: i32) {
        if self.way.has_pooler() {
            return;
        }
        self.closing.lock().insert(backend);
        let mut pause = Duration::from_millis(1);
        loop {
            match timeout(PATIENCE, self.look()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => {
                    tracing::debug!("the session that counts connections does not answer");
                }
            }
            if !self.closing.lock().contains(&backend) {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Asks which of those that are being closed are gone.
    ///
    /// The session is taken out while it is asked, so that one whose question was abandoned is
    /// never asked again.
    async fn look(&self) -> Result<(), Error> {
        let mut place = self.session.lock().await;
        let closing: Vec<i32> = self.closing.lock().iter().copied().collect();
        if closing.is_empty() {
            return Ok(()); // Who asked while we waited has asked for us too.
        }
        let session = match place.take() {
            Some(session) => Some(session),
            None => self.connect().await?,
        };
        let Some(mut session) = session else {
            self.closing.lock().clear();
            return Ok(());
        };
        let gone: Vec<i32> = sqlx::query_scalar(GONE)
            .bind(&closing)
            .fetch_all(&mut session)
            .await?;
        *place = Some(session);
        let mut closing = self.closing.lock();
        for backend in gone {
            closing.remove(&backend);
        }
        Ok(())
    }

    /// `None` if there is a pooler in between.
    async fn connect(&self) -> Result<Option<PgConnection>, Error> {
        let refused = |error: sqlx::Error| {
            could_not_connect(
                error,
                "the session that counts the connections of a budget could not be opened: \
                 ConnectionBudget::control_database names its database",
            )
        };
        let database = self.database.lock().clone();
        let Some(database) = database else {
            return Err(refused(sqlx::Error::PoolClosed));
        };
        let options = database
            .connect_options()
            .await?
            .disable_statement_logging();
        let mut marked = Marked::connect(&options).await.map_err(refused)?;
        let is_direct = marked.is_direct().await.map_err(refused)?;
        let mut session = marked.connection;
        if !is_direct {
            self.way.found_a_pooler();
            let _ = session.close().await;
            return Ok(None);
        }
        let places: i32 = sqlx::query_scalar(PLACES)
            .fetch_one(&mut session)
            .await
            .map_err(refused)?;
        if self.cap > places.unsigned_abs() as usize {
            let _ = session.close().await;
            return Err(Error::new(
                ErrorKind::Preflight,
                format!(
                    "the connection budget is larger than what the server takes from this role, \
                     {places} connections: lower the budget or raise max_connections"
                ),
            ));
        }
        Ok(Some(session))
    }

    /// Ends the session. It is opened again when there is a question.
    pub(super) async fn close(&self) {
        if let Some(session) = self.session.lock().await.take() {
            let _ = timeout(PATIENCE, session.close()).await;
        }
    }
}

/// By the number of the process and not by a name: the row is there for every role to count, its
/// texts are not. <https://www.postgresql.org/docs/current/monitoring-stats.html>
const GONE: &str = "SELECT backend FROM pg_catalog.unnest($1) AS backend \
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(backend))";

/// `reserved_connections` is new in PostgreSQL 16.
const PLACES: &str = "\
SELECT pg_catalog.current_setting('max_connections')::pg_catalog.int4
  - pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4
  - coalesce(pg_catalog.current_setting('reserved_connections', true)::pg_catalog.int4, 0)";
