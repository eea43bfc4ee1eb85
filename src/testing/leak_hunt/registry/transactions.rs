//! Transactions, with every end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row as _};

use super::super::turn::Turn;
use super::Work;
use super::reading::{Seen, Statements};
use crate::error::{Error, ErrorKind};
use crate::tx::{CommitError, TenantTx, TxOptions};

impl Work<'_> {
    pub(super) async fn commit(&self, turn: &Turn) -> Result<(), Error> {
        let mut tx = self.scope.begin().await?;
        self.statements.write(turn, &mut tx).await?;
        self.statements.look(turn, &mut tx).await?;
        tx.commit().await?;
        turn.wrote();
        Ok(())
    }

    pub(super) async fn rollback(&self, turn: &Turn) -> Result<(), Error> {
        let mut tx = self.scope.begin().await?;
        self.statements.write_doomed(turn, &mut tx).await?;
        self.statements.look(turn, &mut tx).await?;
        tx.rollback().await
    }

    pub(super) async fn abandoned(&self, turn: &Turn) -> Result<(), Error> {
        let mut tx = self.scope.begin().await?;
        self.statements.write_doomed(turn, &mut tx).await?;
        self.statements.look(turn, &mut tx).await
    }

    pub(super) async fn read_only(&self, turn: &Turn) -> Result<(), Error> {
        let options = TxOptions::default().repeatable_read();
        let mut tx = self.scope.begin_read_only_with(options).await?;
        self.statements.look(turn, &mut tx).await?;
        self.statements.look(turn, &mut tx).await?;
        Ok(tx.commit().await?)
    }

    /// Two of them, of which the inner one never stays.
    pub(super) async fn savepoints(&self, turn: &Turn) -> Result<(), Error> {
        let mut tx = self.scope.begin().await?;
        let mut outer = tx.savepoint().await?;
        self.statements.write(turn, &mut *outer).await?;
        let mut inner = outer.savepoint().await?;
        self.statements.write_doomed(turn, &mut *inner).await?;
        match turn.random() % 3 {
            0 => drop(inner),
            1 => inner.rollback().await?,
            _ => {
                let failed = sqlx::query("SELECT 1 / 0").execute(&mut *inner).await;
                must_be_refused(failed, ErrorKind::Database)?;
                inner.rollback().await?;
            }
        }
        self.statements.look(turn, &mut *outer).await?;
        outer.release().await?;
        tx.commit().await?;
        turn.wrote();
        Ok(())
    }

    /// Several statements in a text of the simple protocol.
    pub(super) async fn raw_text(&self, turn: &Turn) -> Result<(), Error> {
        let mut tx = self.scope.begin().await?;
        let text = self.statements.raw(turn);
        {
            let mut rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch(&mut tx);
            while let Some(row) = rows.try_next().await? {
                Statements::see(turn, &seen(&row)?);
            }
        }
        tx.commit().await?;
        turn.wrote();
        Ok(())
    }

    /// A statement fails, and the caller goes on as if nothing had happened.
    pub(super) async fn aborted(&self, turn: &Turn) -> Result<(), Error> {
        let mut tx = self.scope.begin().await?;
        self.statements.write_doomed(turn, &mut tx).await?;
        let failed = sqlx::query("SELECT 1 / 0").execute(&mut tx).await;
        must_be_refused(failed, ErrorKind::Database)?;
        let ignored = self.statements.look(turn, &mut tx).await;
        must_be_refused(ignored, ErrorKind::TransactionAborted)?;
        match turn.random() % 3 {
            0 => Ok(drop(tx)),
            1 => tx.rollback().await,
            _ => match tx.commit().await {
                Err(CommitError::RolledBack(_)) => Ok(()),
                Ok(()) => Err(was_let_through()),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Serializable, and begun again where that helps.
    pub(super) async fn retried(&self, turn: &Turn) -> Result<(), Error> {
        // The closure lends nothing but the transaction to its future.
        let statements = Arc::clone(self.statements);
        let options = TxOptions::default().serializable();
        self.scope
            .transaction(options, |tx: &mut TenantTx| {
                let (statements, turn) = (Arc::clone(&statements), turn.clone());
                Box::pin(async move {
                    statements.write(&turn, &mut *tx).await?;
                    statements.look(&turn, tx).await
                })
            })
            .await?;
        turn.wrote();
        Ok(())
    }

    pub(super) async fn time_out(&self, turn: &Turn) -> Result<(), Error> {
        let options = TxOptions::default().statement_timeout(Duration::from_millis(2));
        let mut tx = self.scope.begin_with(&options).await?;
        let written = self.statements.write_doomed(turn, &mut tx).await;
        if written.is_err() {
            // On a busy server that takes long enough.
            return must_be_refused(written, ErrorKind::Database);
        }
        let slow = sqlx::query("SELECT pg_sleep(5)").execute(&mut tx).await;
        must_be_refused(slow, ErrorKind::Database)
    }
}

pub(super) fn seen(row: &sqlx::postgres::PgRow) -> Result<Seen, Error> {
    Ok((
        row.try_get_unchecked(0)?,
        row.try_get_unchecked(1)?,
        row.try_get_unchecked(2)?,
        row.try_get_unchecked(3)?,
        row.try_get_unchecked(4)?,
    ))
}

/// Any other error is the turn's.
pub(super) fn must_be_refused<T, E: Into<Error>>(
    done: Result<T, E>,
    kind: ErrorKind,
) -> Result<(), Error> {
    match done.map_err(Into::into) {
        Ok(_) => Err(was_let_through()),
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn was_let_through() -> Error {
    Error::new(ErrorKind::Other, "what has to be refused was not refused")
}
