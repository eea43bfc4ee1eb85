//! A statement of a transaction that reaches all tenants: sent as it is, if it may be sent.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgStatement};
use sqlx::{Execute, Postgres, SqlStr};

use crate::error::{Error, ErrorKind};
use crate::statement::{self, Kind};

/// A statement that has been looked at, with the caller's arguments and no others.
pub(super) struct Plain {
    sql: SqlStr,
    arguments: Option<PgArguments>,
    prepared: Option<PgStatement>,
    persistent: bool,
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
        check(sql.as_str())?;
        Ok(Self {
            sql,
            arguments,
            prepared,
            persistent,
        })
    }

    /// The same for a connection whose statements may be named, or not.
    pub(super) fn named_if(mut self, caches: bool) -> Self {
        self.persistent &= caches;
        self
    }
}

/// Refuses what would end the transaction, and its record with it, or what the scanner could then
/// no longer tell.
pub(super) fn check(sql: &str) -> Result<(), Error> {
    // There is no context here, and so no setting of it.
    let rule = match statement::inspect(sql, |_| false).kind {
        Kind::TransactionControl => {
            "a dangerous transaction is begun and ended by methods: DangerousRegistry::begin, \
             DangerousTx::commit and rollback"
        }
        Kind::Context => {
            "the settings that statements are read by stay as they are: standard_conforming_strings \
             and client_encoding, also in RESET ALL and DISCARD ALL"
        }
        Kind::Copy => "COPY streams, which a dangerous transaction does not: use SELECT or INSERT",
        _ => return Ok(()),
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
