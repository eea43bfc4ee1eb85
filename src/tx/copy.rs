//! COPY, which sqlx streams past its executors.

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use sqlx::postgres::{PgConnection, PgCopyIn};

use super::{Failure, TenantTx};
use crate::error::{Error, ErrorKind};
use crate::statement::{self, Kind};

impl TenantTx {
    /// Begins `COPY .. FROM STDIN`, in two round trips: the context, and the COPY itself.
    ///
    /// PostgreSQL refuses COPY into a table under row-level security (SQLSTATE 0A000): insert
    /// there with `INSERT .. SELECT .. FROM unnest(..)`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StatementRefused`] if the text is not one COPY, and those of any statement.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, the connection is closed and with it the transaction.
    pub async fn copy_in_raw(&mut self, statement: &str) -> Result<TenantCopyIn<'_>, Error> {
        self.begin_copy(statement).await?;
        let Self { lease, failure, .. } = self;
        let (connection, out_of_step) = lease.copying()?;
        *out_of_step = true;
        match connection.raw().copy_in_raw(statement).await {
            Ok(copy) => Ok(TenantCopyIn {
                copy,
                out_of_step,
                failure,
            }),
            Err(error) => {
                *out_of_step = !is_answered(&error);
                remember(failure, &error);
                Err(error.into())
            }
        }
    }

    /// `COPY .. TO STDOUT`, in two round trips and the stream. Row-level security applies.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StatementRefused`] if the text is not one COPY, and those of any statement.
    /// After an error the connection is closed and the transaction can only be rolled back.
    ///
    /// # Cancel safety
    ///
    /// If the future or the stream is dropped before its end, the connection is closed and with
    /// it the transaction: the server would otherwise send all that is left.
    pub async fn copy_out_raw(
        &mut self,
        statement: &str,
    ) -> Result<BoxStream<'_, Result<Bytes, Error>>, Error> {
        self.begin_copy(statement).await?;
        let Self { lease, failure, .. } = self;
        let (connection, out_of_step) = lease.copying()?;
        *out_of_step = true;
        let begun = connection.raw().copy_out_raw(statement).await;
        let mut data = begun.inspect_err(|error| remember(failure, error))?;
        Ok(Box::pin(async_stream::try_stream! {
            while let Some(chunk) = data.next().await {
                yield chunk.inspect_err(|error| remember(failure, error))?;
            }
            *out_of_step = false;
        }))
    }

    async fn begin_copy(&mut self, statement: &str) -> Result<(), Error> {
        let seen = statement::inspect(statement, |name| self.names.contains(name));
        if seen.kind != Kind::Copy || seen.statements != 1 {
            return Err(Error::new(
                ErrorKind::StatementRefused,
                "copy_in_raw and copy_out_raw take one COPY statement",
            ));
        }
        self.settle().await?;
        self.say_context().await
    }
}

/// A `COPY .. FROM STDIN` that is under way.
///
/// # Drop
///
/// Without [`finish`](Self::finish) or [`abort`](Self::abort) the connection is closed, and with
/// it the transaction.
#[must_use = "a COPY that is dropped takes its transaction with it"]
pub struct TenantCopyIn<'t> {
    copy: PgCopyIn<&'t mut PgConnection>,
    out_of_step: &'t mut bool,
    failure: &'t mut Option<Failure>,
}

impl TenantCopyIn<'_> {
    /// Sends data in the format that the COPY statement asked for; chunks may end anywhere.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConnectionLost`]. An error in the data is reported by
    /// [`finish`](Self::finish).
    ///
    /// # Cancel safety
    ///
    /// Part of the data may have been sent.
    pub async fn send(&mut self, data: &[u8]) -> Result<(), Error> {
        self.copy.send(data).await?;
        Ok(())
    }

    /// Says that this was all, and returns the number of rows.
    ///
    /// # Errors
    ///
    /// Those of the statement, such as a constraint that the data violates.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, the connection is closed and with it the transaction.
    pub async fn finish(self) -> Result<u64, Error> {
        let finished = self.copy.finish().await;
        *self.out_of_step = matches!(&finished, Err(error) if !is_answered(error));
        Ok(finished.inspect_err(|error| remember(self.failure, error))?)
    }

    /// Gives up. The transaction has failed then, as after any error, and can only be rolled
    /// back, to a savepoint or altogether.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConnectionLost`].
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, the connection is closed and with it the transaction.
    pub async fn abort(self) -> Result<(), Error> {
        let aborted = self.copy.abort("given up by the client").await;
        *self.out_of_step = aborted.is_err();
        match &aborted {
            // sqlx has taken the server's refusal for the success that it is.
            Ok(()) => drop(self.failure.get_or_insert_with(Failure::given_up)),
            Err(error) => remember(self.failure, error),
        }
        Ok(aborted?)
    }
}

impl std::fmt::Debug for TenantCopyIn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantCopyIn").finish_non_exhaustive()
    }
}

/// For whoever decides about another attempt.
fn remember(failure: &mut Option<Failure>, error: &sqlx::Error) {
    if let sqlx::Error::Database(database) = error {
        failure.get_or_insert_with(|| Failure::new(database.as_ref()));
    }
}

/// After an error of the server sqlx has read on to its ReadyForQuery.
fn is_answered(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_))
}
