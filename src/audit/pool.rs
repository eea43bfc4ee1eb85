//! The sessions of a pool, as whoever takes a connection finds them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use sqlx::pool::PoolConnection;
use sqlx::postgres::Postgres;
use sqlx::{AssertSqlSafe, FromRow, PgPool};

use crate::error::{Error, ErrorKind};
use crate::quote;

/// What one session is like between two pieces of work.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct State {
    pub(super) backend: i32,
    pub(super) session_user: String,
    pub(super) current_user: String,
    /// Whether policies hold for neither of them.
    pub(super) session_is_above: bool,
    pub(super) current_is_above: bool,
    /// The settings of the context that are set. Their values are nobody's business.
    pub(super) context: Vec<String>,
    pub(super) in_transaction: bool,
    pub(super) temporary: i64,
    pub(super) cursors: i64,
    pub(super) advisory_locks: i64,
    pub(super) channels: i64,
    pub(super) row_security: bool,
}

/// What was seen of a pool.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) states: Vec<State>,
    /// A connection met another session than a moment before, or two of them the same one.
    pub(super) shares_sessions: bool,
}

/// How many connections are taken at once, at most.
const MOST: u32 = 16;

/// How often each is asked whose session it has.
const ROUNDS: usize = 5;

/// Takes connections as the service does, hooks of the pool included, and gives them back.
pub(super) async fn look(
    pool: &PgPool,
    settings: &[&str],
    patience: Duration,
) -> Result<Seen, Error> {
    let work = async {
        let count = pool.options().get_max_connections().min(MOST);
        let mut connections = try_join_all((0..count).map(|_| pool.acquire())).await?;
        let question = question(settings);
        let mut states: Vec<State> = Vec::with_capacity(connections.len());
        for connection in &mut connections {
            states.push(ask(connection, &question).await?);
        }
        let mut backends: Vec<_> = states.iter().map(|state| state.backend).collect();
        let distinct: BTreeSet<_> = backends.iter().collect();
        let mut shares_sessions = distinct.len() < backends.len();
        for _ in 0..ROUNDS {
            let asked = connections.iter_mut().map(backend);
            let now = try_join_all(asked).await?;
            shares_sessions |= now != backends;
            backends = now;
        }
        Ok::<_, sqlx::Error>(Seen {
            states,
            shares_sessions,
        })
    };
    match tokio::time::timeout(patience, work).await {
        Ok(seen) => Ok(seen?),
        Err(_) => Err(Error::new(
            ErrorKind::AcquireTimeout,
            "the pool gave no connections in time: look at it while nothing else uses it",
        )),
    }
}

/// In the simple protocol, which leaves no statement behind; and as a statement of its own, in a
/// transaction of its own unless one was left open.
async fn ask(
    connection: &mut PoolConnection<Postgres>,
    question: &str,
) -> Result<State, sqlx::Error> {
    let row = sqlx::raw_sql(AssertSqlSafe(question))
        .fetch_one(&mut **connection)
        .await?;
    State::from_row(&row)
}

/// For a moment each has a session of its own, if they have any.
async fn backend(connection: &mut PoolConnection<Postgres>) -> Result<i32, sqlx::Error> {
    let row = sqlx::raw_sql("SELECT pg_catalog.pg_backend_pid() FROM pg_catalog.pg_sleep(0.01)")
        .fetch_one(&mut **connection)
        .await?;
    sqlx::Row::try_get(&row, 0)
}

fn question(settings: &[&str]) -> String {
    let settings: Vec<_> = settings.iter().map(|name| quote::literal(name)).collect();
    format!(
        "SELECT pg_catalog.pg_backend_pid() AS backend, \
           session_user::text AS session_user, current_user::text AS current_user, \
           (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = session_user) AS session_is_above, \
           (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user) AS current_is_above, \
           ARRAY(SELECT name FROM pg_catalog.unnest(ARRAY[{}]::text[]) AS name \
             WHERE coalesce(pg_catalog.current_setting(name, true), '') <> '')::text[] AS context, \
           pg_catalog.transaction_timestamp() <> pg_catalog.statement_timestamp() AS in_transaction, \
           (SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()) AS temporary, \
           (SELECT count(*) FROM pg_catalog.pg_cursors WHERE is_holdable) AS cursors, \
           (SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' \
             AND pid = pg_catalog.pg_backend_pid()) AS advisory_locks, \
           (SELECT count(*) FROM pg_catalog.pg_listening_channels()) AS channels, \
           pg_catalog.current_setting('row_security') = 'on' AS row_security",
        settings.join(", ")
    )
}
