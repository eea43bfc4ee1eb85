//! What may stand between us and the server, and how it is found out.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

use crate::error::{Error, ErrorKind};

/// Whether there is a pooler in front of a server, and for how long it lends a session of the
/// server: said with [`Database::pooler`](crate::Database::pooler). The default finds it out.
///
/// A pooler that lends a session for one transaction (PgBouncer's `pool_mode = transaction`) keeps
/// nothing that belongs to a session. Through such a one
///
/// * each statement on a scope runs in a transaction of its own, four round trips instead of one
///   (three with prepared statements);
/// * statements have no names, so that the server plans them each time;
/// * what would leave something on the session is refused with
///   [`ErrorKind::StatementRefused`](crate::ErrorKind::StatementRefused): `SET` (`SET LOCAL` is
///   taken), `LISTEN`, temporary tables and other DDL, advisory locks of the session
///   ([`TenantTx::advisory_lock`](crate::TenantTx::advisory_lock) ends with the transaction),
///   `dangerous_connection`, and `prepare`;
/// * a [`ConnectionBudget`](crate::ConnectionBudget) counts connections to the pooler, and does
///   not ask the server whether they are gone: its sessions are the pooler's.
///
/// [`PostgresDirectory`](crate::PostgresDirectory) and [`Authorizer`](crate::Authorizer) listen,
/// which needs a session: they refuse such a pooler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooler {
    /// Found out for each connection as it is opened, at no cost: the message that opens it sets a
    /// setting of the session, which only the server itself carries out. If it is not there, or was
    /// refused, there is a pooler, and it is taken for [`Transaction`](Self::Transaction), which is
    /// right with every pooler.
    #[default]
    Detect,
    /// There is none, or one that lends a session for as long as the connection lasts
    /// (`pool_mode = session`). A connection that meets another session than before is closed, and
    /// no more are opened. A [`ConnectionBudget`](crate::ConnectionBudget) does not wait for the end
    /// of sessions then, so do not say it of the server itself.
    Session,
    /// One that lends a session for a transaction (`pool_mode = transaction`).
    Transaction,
    /// The same, which knows the statements that its clients have prepared: PgBouncer from 1.21 on,
    /// with `max_prepared_statements` greater than 0. With any other **wrong statements run**.
    ///
    /// PgBouncer keeps such a statement when its table is altered, and the server refuses it from
    /// then on. When that happens to one, a registry goes on as with
    /// [`Transaction`](Self::Transaction), and tells so at WARN.
    TransactionWithPreparedStatements,
}

/// A word that a session is given by the message which opens it, so that it is known again.
#[derive(Debug)]
pub(crate) struct Mark(String);

/// No setting of PostgreSQL; any role may have its own.
const SETTING: &str = "tenantry.session";

impl Mark {
    pub(crate) fn new() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)))
    }

    /// A condition in SQL.
    pub(crate) fn is_here(&self) -> String {
        let word = &self.0;
        format!("pg_catalog.current_setting('{SETTING}', true) = '{word}'")
    }

    /// What to ask in one message of the simple protocol: one row, with one boolean.
    pub(crate) fn question(&self) -> String {
        format!("SELECT coalesce({}, false)", self.is_here())
    }

    /// As which the session is marked that these options open.
    pub(crate) fn on(&self, options: PgConnectOptions) -> PgConnectOptions {
        options.options([(SETTING, &self.0)])
    }
}

/// A connection that was opened with a mark, or without one where that was refused.
pub(crate) struct Marked {
    pub(crate) connection: PgConnection,
    /// `None` if something in between refused it.
    pub(crate) mark: Option<Mark>,
}

impl Marked {
    /// # Cancel safety
    ///
    /// Dropped, it closes the socket.
    pub(crate) async fn connect(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        let mark = Mark::new();
        match mark.on(options.clone()).connect().await {
            Ok(connection) => Ok(Self {
                connection,
                mark: Some(mark),
            }),
            Err(error) if is_refusal(&error) => Ok(Self {
                connection: options.connect().await?,
                mark: None,
            }),
            Err(error) => Err(error),
        }
    }

    /// Whether there is nobody in between.
    pub(crate) async fn is_direct(&mut self) -> Result<bool, sqlx::Error> {
        let Some(mark) = &self.mark else {
            return Ok(false);
        };
        let query = sqlx::raw_sql(AssertSqlSafe(mark.question()));
        query.fetch_one(&mut self.connection).await?.try_get(0)
    }
}

/// Of a start-up option, which PostgreSQL takes: with 08P01, as PgBouncer says of all that it does
/// not like, or with 0A000, as the proxy of Amazon RDS
/// (<https://github.com/psycopg/psycopg2/issues/1577>).
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("08P01" | "0A000"))
}

/// What to say of a connection that could not be opened. The words of a pooler are looked at only
/// to see which of our own sentences fits.
pub(crate) fn could_not_connect(error: sqlx::Error, otherwise: &'static str) -> Error {
    let words = match &error {
        sqlx::Error::Database(database) if is_refusal(&error) => database.message(),
        _ => "",
    };
    let message = match words {
        words if !words.contains("startup parameter") => otherwise,
        words if words.contains("extra_float_digits") => {
            "the pooler refuses a start-up parameter of sqlx: set \
             `ignore_startup_parameters = extra_float_digits` in its configuration, or \
             PgConnectOptions::extra_float_digits(None)"
        }
        _ => {
            "the pooler refuses a start-up parameter, those of PgConnectOptions::options among \
             them: leave it away, or set `ignore_startup_parameters = options` in its \
             configuration, which then ignores them"
        }
    };
    Error::new(ErrorKind::Connect, message).with_source(error)
}
