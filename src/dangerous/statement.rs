//! A statement of a transaction that reaches all tenants: sent as it is, if it may be sent.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgStatement};
use sqlx::{Execute, Postgres, SqlStr};

use crate::error::{Error, ErrorKind};
use crate::lease::{Connection, Traces};
use crate::statement::{self, Kind};

/// A statement that has been looked at, with the caller's arguments and no others.
pub(super) struct Plain {
    sql: SqlStr,
    arguments: Option<PgArguments>,
    prepared: Option<PgStatement>,
    persistent: bool,
    traces: Traces,
}

impl Plain {
    /// # Errors
    ///
    /// [`ErrorKind::StatementRefused`], before anything is sent.
    pub(super) fn new<'q, E>(mut query: E) -> Result<Self, Error>
    where
        E: Execute<'q, Postgres>,
    {
        let prepared = query.statement().cloned();
        let arguments = query.take_arguments().map_err(|error| {
            Error::new(
                ErrorKind::Other,
                "an argument of the statement could not be encoded",
            )
            .with_source(error)
        })?;
        let persistent = query.persistent();
        let sql = query.sql();
        let kind = check(sql.as_str())?;
        Ok(Self {
            traces: match kind > Kind::Local {
                true => Traces::Lasting,
                false => Traces::None,
            },
            sql,
            arguments,
            prepared,
            persistent,
        })
    }

    /// The same for a connection whose statements may be named, or not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StatementRefused`] where it would leave something on the session of others.
    pub(super) fn on(mut self, connection: &mut Connection) -> Result<Self, Error> {
        connection.carries(self.traces)?;
        self.persistent &= connection.caches();
        Ok(self)
    }
}

/// Refuses what would end the transaction, and its record with it, or what the scanner could then
/// no longer tell.
pub(super) fn check(sql: &str) -> Result<Kind, Error> {
    // There is no context here, and so no setting of it.
    let kind = statement::inspect(sql, |_| false).kind;
    let rule = match kind {
        Kind::TransactionControl => {
            "a dangerous transaction is begun and ended by methods: DangerousRegistry::begin, \
             DangerousTx::commit and rollback"
        }
        Kind::Context => {
            "the settings that statements are read by stay as they are: standard_conforming_strings \
             and client_encoding, also in RESET ALL and DISCARD ALL"
        }
        Kind::Copy => "COPY streams, which a dangerous transaction does not: use SELECT or INSERT",
        _ => return Ok(kind),
    };
    Err(Error::new(ErrorKind::StatementRefused, rule))
}

impl Execute<'_, Postgres> for Plain {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.prepared.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}
