//! The connection on which everything is asked, in one transaction that reads.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, Either, PgConnection, PgPool, Row as _};

use super::catalog::Id;
use crate::error::Error;
use crate::quote;
use crate::sql::{LOOK_FOR_SEAL, SEAL_MADE_UP};

/// Rows of text.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// As whom, and with which settings, something is tried.
#[derive(Clone, Copy, Default)]
pub(super) struct As<'a> {
    pub(super) role: Option<&'a str>,
    pub(super) settings: &'a [(String, String)],
}

/// A transaction. Dropped, it closes the connection.
pub(super) struct Session {
    connection: PgConnection,
    /// What unqualified names are found by, as the pool has it.
    path: String,
    /// Whether the database is sealed, and the auditor could not make a context up.
    trusts_seal: bool,
    /// What makes the contexts count that are made up.
    seal: &'static str,
}

impl Session {
    /// Nothing that is asked waits for a lock, or runs for longer than `patience`.
    pub(super) async fn begin(pool: &PgPool, patience: Duration) -> Result<Self, Error> {
        // Out of the pool: whatever becomes of this, nobody gets the connection afterwards.
        let mut connection = pool.acquire().await?.detach();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
             SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '{}ms'",
            patience.as_millis().clamp(1, 3_600_000)
        );
        sqlx::raw_sql(AssertSqlSafe(begin))
            .execute(&mut connection)
            .await?;
        let path: String = sqlx::query_scalar("SELECT pg_catalog.current_setting('search_path')")
            .persistent(false)
            .fetch_one(&mut connection)
            .await?;
        let mut session = Self {
            connection,
            path,
            trusts_seal: false,
            seal: "",
        };
        session.run(PINNED).await?;
        let (is_sealed, may_seal): (bool, bool) = sqlx::query_as(LOOK_FOR_SEAL)
            .persistent(false)
            .fetch_one(&mut session.connection)
            .await?;
        session.trusts_seal = is_sealed && !may_seal;
        if is_sealed && may_seal {
            session.seal = SEAL_MADE_UP;
        }
        Ok(session)
    }

    pub(super) async fn end(self) {
        // The server is done; that the good-bye arrives changes nothing.
        let _ = self.connection.close().await;
    }

    /// Whether nothing that is made up can show what reads a seal.
    pub(super) fn trusts_seal(&self) -> bool {
        self.trusts_seal
    }

    /// For questions to the catalog, where every name is one of `pg_catalog`.
    pub(super) fn catalog(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// From here on nothing is asked but what somebody else wrote: policies, and functions that may
    /// do anything for as long as they like.
    pub(super) async fn be_impatient(&mut self) -> Result<(), Error> {
        self.run(&format!(
            "SET LOCAL statement_timeout = '{}ms'",
            IMPATIENT.as_millis()
        ))
        .await
    }

    /// Tries something that the server may refuse, and undoes it. Inside is what the server said: rows
    /// of text, or its SQLSTATE.
    pub(super) async fn attempt(
        &mut self,
        who: As<'_>,
        sql: &str,
    ) -> Result<Result<Rows, String>, Error> {
        let mut text = "SAVEPOINT tenantry_audit;".to_owned();
        for (name, value) in who.settings {
            let name = name.split('.').map(quote::identifier).collect::<Vec<_>>();
            text += &format!(" SET LOCAL {} = {};", name.join("."), quote::literal(value));
        }
        text += &format!(" {} SET LOCAL search_path = {};", self.seal, self.path);
        if let Some(role) = who.role {
            text += &format!(" SET LOCAL ROLE {};", quote::identifier(role));
        }
        text += &format!(" {sql}");
        let answer = self.ask(text).await;
        let outcome = match answer {
            Ok(rows) => Ok(rows),
            Err(sqlx::Error::Database(error)) => {
                Err(error.code().map(Into::into).unwrap_or_default())
            }
            Err(error) => return Err(error.into()),
        };
        self.run("ROLLBACK TO SAVEPOINT tenantry_audit; RELEASE SAVEPOINT tenantry_audit")
            .await?;
        Ok(outcome)
    }

    /// Whether the role may be become at all.
    pub(super) async fn can_be(&mut self, who: As<'_>) -> Result<bool, Error> {
        let nobody = As {
            role: who.role,
            settings: &[],
        };
        Ok(self.attempt(nobody, "SELECT 1::text").await?.is_ok())
    }

    /// The rows of its statements; those that set something have none.
    async fn ask(&mut self, text: String) -> Result<Rows, sqlx::Error> {
        let mut rows = Vec::new();
        let mut answers = sqlx::raw_sql(AssertSqlSafe(text)).fetch_many(&mut self.connection);
        while let Some(answer) = answers.try_next().await? {
            if let Either::Right(row) = answer {
                let texts = (0..row.len()).map(|column| row.try_get_unchecked(column));
                rows.push(texts.collect::<Result<_, _>>()?);
            }
        }
        Ok(rows)
    }

    async fn run(&mut self, sql: &str) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// What names of relations mean to the pool; `None` for one that is not there.
    pub(super) async fn resolve(&mut self, names: &[&str]) -> Result<Vec<Option<Id>>, Error> {
        let path = format!("SET LOCAL search_path = {}", self.path);
        self.run(&path).await?;
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            // A name that cannot be one is an error of the server, which would end the transaction.
            let named = quote::TableName::parse(name).map(|name| name.to_string());
            found.push(match named {
                Ok(name) => {
                    sqlx::query_scalar("SELECT to_regclass($1)::oid")
                        .bind(name)
                        .persistent(false)
                        .fetch_one(&mut self.connection)
                        .await?
                }
                Err(_) => None,
            });
        }
        self.run(PINNED).await?;
        Ok(found)
    }
}

/// How long an evaluation may take.
const IMPATIENT: Duration = Duration::from_secs(1);

/// As the catalog is asked, and as the server writes what it has parsed.
const PINNED: &str = "SET LOCAL search_path = pg_catalog, pg_temp";
