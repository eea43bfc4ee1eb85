//! The connection on which everything is asked, in one transaction that is rolled back.

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use sqlx::{AssertSqlSafe, Connection as _, Either, PgConnection, PgPool, Row as _};

use super::catalog;
use crate::error::{Error, ErrorKind};
use crate::quote;
use crate::sql::{LOOK_FOR_SEAL, SEAL_MADE_UP};

/// A transaction. Dropped, it closes the connection.
pub(super) struct Session {
    connection: PgConnection,
    /// What unqualified names are found by, as the pool has it.
    path: String,
    /// Whether triggers and foreign keys can be put aside.
    pub(super) is_superuser: bool,
    pub(super) is_sealed: bool,
    /// What makes the contexts count that are made up.
    seal: &'static str,
}

/// As whom, and with which settings, something is tried.
#[derive(Clone, Copy, Default)]
pub(super) struct As<'a> {
    pub(super) role: Option<&'a str>,
    pub(super) settings: &'a [(String, String)],
}

impl Session {
    pub(super) async fn begin(pool: &PgPool) -> Result<Self, Error> {
        // Out of the pool: whatever becomes of this, nobody gets the connection afterwards.
        let mut connection = pool.acquire().await?.detach();
        sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
        let (path, is_superuser): (String, bool) = sqlx::query_as(
            "SELECT pg_catalog.current_setting('search_path'), rolsuper \
             FROM pg_catalog.pg_roles WHERE rolname = current_user",
        )
        .persistent(false)
        .fetch_one(&mut connection)
        .await?;
        let mut session = Self {
            connection,
            path,
            is_superuser,
            is_sealed: false,
            seal: "",
        };
        // As the server writes what it has parsed, and as the catalog is asked.
        session.run(PINNED).await?;
        let (is_sealed, may_seal): (bool, bool) = sqlx::query_as(LOOK_FOR_SEAL)
            .persistent(false)
            .fetch_one(&mut session.connection)
            .await?;
        session.is_sealed = is_sealed;
        if is_sealed && may_seal {
            session.seal = SEAL_MADE_UP;
        }
        Ok(session)
    }

    pub(super) async fn end(self) {
        // The server is done; that the good-bye arrives changes nothing.
        let _ = self.connection.close().await;
    }

    /// For questions to the catalog, where every name is one of `pg_catalog`.
    pub(super) fn catalog(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Tries something that the server may refuse. What it did is undone unless it is to be kept.
    /// Inside is what the server said: rows of text, or its SQLSTATE.
    pub(super) async fn attempt(
        &mut self,
        who: As<'_>,
        sql: &str,
        keep: bool,
    ) -> Result<Result<Vec<Vec<Option<String>>>, String>, Error> {
        let mut text = "SAVEPOINT tenantry_proof;".to_owned();
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
        let end = match keep && outcome.is_ok() {
            true => format!("RESET ROLE; {PINNED}; RELEASE SAVEPOINT tenantry_proof"),
            false => {
                "ROLLBACK TO SAVEPOINT tenantry_proof; RELEASE SAVEPOINT tenantry_proof".into()
            }
        };
        self.run(&end).await?;
        Ok(outcome)
    }

    /// The rows of its statements; those that set something have none.
    async fn ask(&mut self, text: String) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
        let mut rows = Vec::new();
        let mut answers = sqlx::raw_sql(AssertSqlSafe(text)).fetch_many(&mut self.connection);
        while let Some(answer) = answers.try_next().await? {
            if let Either::Right(row) = answer {
                rows.push(texts(&row)?);
            }
        }
        Ok(rows)
    }

    /// What a name on a list names.
    pub(super) async fn resolve(&mut self, name: &str) -> Result<Option<Oid>, Error> {
        self.run(&format!("SET LOCAL search_path = {}", self.path))
            .await?;
        let found = catalog::resolve(&mut self.connection, name).await?;
        self.run(PINNED).await?;
        Ok(found)
    }

    /// Refuses a role that is not there, or that the pool's role may not become.
    pub(super) async fn check_role(&mut self, role: &str) -> Result<(), Error> {
        quote::check_name(role)?;
        let who = As {
            role: Some(role),
            settings: &[],
        };
        match self.attempt(who, "SELECT 1::text", false).await? {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(
                ErrorKind::Installation,
                "the application role does not exist, or the role of the pool may not become it: \
                 use the pool of a superuser, or of the application role itself",
            )),
        }
    }
}

const PINNED: &str = "SET LOCAL search_path = pg_catalog, pg_temp";

fn texts(row: &PgRow) -> Result<Vec<Option<String>>, sqlx::Error> {
    (0..row.len())
        .map(|column| row.try_get_unchecked(column))
        .collect()
}
