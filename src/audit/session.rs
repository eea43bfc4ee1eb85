//! The connection on which everything is asked and tried, in one transaction that is not kept.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::types::Oid;
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
    /// What that role becomes then.
    pub(super) then: Option<&'a str>,
    pub(super) settings: &'a [(String, String)],
    /// Whether triggers fire and foreign keys are checked, where they were put aside.
    pub(super) with_triggers: bool,
    /// Whether it is what somebody else wrote, which may do anything for as long as it likes.
    pub(super) is_hurried: bool,
}

/// Whether the transaction may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// A transaction. Dropped, it closes the connection.
pub(super) struct Session {
    connection: PgConnection,
    /// What unqualified names are found by, as the pool has it.
    path: String,
    /// Who logs in.
    user: String,
    /// Whether that is a superuser: then it can be anybody as if that one had logged in.
    is_superuser: bool,
    /// Whether no policy holds for the pool's role.
    is_above_policies: bool,
    /// Whether the database is sealed.
    is_sealed: bool,
    /// What makes the contexts count that are made up, where the database is sealed and the role of the
    /// pool may read the key.
    seal: &'static str,
    /// How long it takes for what somebody else wrote.
    impatience: Duration,
    /// Whether there is a savepoint to go back to. One is for many attempts.
    has_savepoint: bool,
    /// Whether the attempt under way has had a step.
    has_stepped: bool,
}

impl Session {
    /// Nothing that is asked waits for a lock for longer than a second, or runs for longer than
    /// `patience`.
    pub(super) async fn begin(
        pool: &PgPool,
        access: Access,
        patience: Duration,
    ) -> Result<Self, Error> {
        // Out of the pool: whatever becomes of this, nobody gets the connection afterwards.
        let mut connection = pool.acquire().await?.detach();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, {}; \
             SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '{}'",
            match access {
                Access::Read => "READ ONLY",
                Access::Write => "READ WRITE",
            },
            milliseconds(patience)
        );
        sqlx::raw_sql(AssertSqlSafe(begin))
            .execute(&mut connection)
            .await?;
        let (path, user, is_superuser, is_above_policies) = sqlx::query_as(
            "SELECT pg_catalog.current_setting('search_path'), rolname::text, rolsuper, rolsuper OR rolbypassrls \
             FROM pg_catalog.pg_roles WHERE rolname = session_user",
        )
        .persistent(false)
        .fetch_one(&mut connection)
        .await?;
        let mut session = Self {
            connection,
            path,
            user,
            is_superuser,
            is_above_policies,
            is_sealed: false,
            seal: "",
            impatience: IMPATIENT,
            has_savepoint: false,
            has_stepped: false,
        };
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

    /// Whether the server can be asked what this role can become.
    pub(super) fn speaks_for(&self, role: &str) -> bool {
        self.is_superuser || self.user == role
    }

    /// Whether the database takes signed contexts only.
    pub(super) fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Whether nothing that is made up can show what reads a seal.
    pub(super) fn trusts_seal(&self) -> bool {
        self.is_sealed && self.seal.is_empty()
    }

    pub(super) fn is_above_policies(&self) -> bool {
        self.is_above_policies
    }

    /// For questions to the catalog, where every name is one of `pg_catalog`.
    pub(super) fn catalog(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Where nobody else waits, what somebody else wrote may take as long as all the rest.
    pub(super) fn take_time(&mut self, patience: Duration) {
        self.impatience = patience;
    }

    /// How long a predicate may take.
    pub(super) fn impatience(&self) -> Duration {
        self.impatience
    }

    /// From here on nothing is asked but what somebody else wrote: policies, and functions that may
    /// do anything for as long as they like.
    pub(super) async fn be_impatient(&mut self) -> Result<(), Error> {
        let sql = format!(
            "SET LOCAL statement_timeout = '{}'",
            milliseconds(self.impatience)
        );
        self.settle().await?;
        self.run(&sql).await
    }

    /// From here on triggers do not fire and foreign keys are not checked, unless that is asked for;
    /// only a superuser can put them aside.
    pub(super) async fn put_triggers_aside(&mut self) -> Result<(), Error> {
        if !self.is_superuser {
            return Ok(());
        }
        self.settle().await?;
        self.run("SET LOCAL session_replication_role = replica")
            .await
    }

    /// Tries something that the server may refuse, and undoes it. Inside is what the server said: rows
    /// of text, or its SQLSTATE.
    pub(super) async fn attempt(
        &mut self,
        who: As<'_>,
        sql: &str,
    ) -> Result<Result<Rows, String>, Error> {
        self.save().await?;
        let outcome = self.step(who, sql).await?;
        self.undo().await?;
        Ok(outcome)
    }

    /// The same, and what it did stays in the transaction; as the pool's role.
    pub(super) async fn keep(
        &mut self,
        who: As<'_>,
        sql: &str,
    ) -> Result<Result<Rows, String>, Error> {
        self.save().await?;
        let outcome = self.step(who, sql).await?;
        match outcome {
            Ok(_) => {
                let mut back = format!("{PINNED};");
                // Not kept: what it holds would be the context of all that comes.
                for (name, _) in who.settings {
                    back += &format!(" SET LOCAL {} = '';", setting(name));
                }
                back += self.seal;
                self.settle().await?;
                self.run(&back).await?;
            }
            Err(_) => self.undo().await?,
        }
        Ok(outcome)
    }

    /// Begins an attempt of several steps; it is to be undone.
    pub(super) async fn save(&mut self) -> Result<(), Error> {
        self.has_stepped = false;
        if !self.has_savepoint {
            self.run("SAVEPOINT tenantry_audit").await?;
            self.has_savepoint = true;
        }
        Ok(())
    }

    /// What is done from here on is not undone with the next attempt.
    async fn settle(&mut self) -> Result<(), Error> {
        if self.has_savepoint {
            self.run("RELEASE SAVEPOINT tenantry_audit").await?;
            self.has_savepoint = false;
        }
        Ok(())
    }

    /// A step of an attempt. Behind one that is refused no other succeeds.
    pub(super) async fn step(
        &mut self,
        who: As<'_>,
        sql: &str,
    ) -> Result<Result<Rows, String>, Error> {
        let text = format!("{} {sql}", self.becoming(who));
        refusal(self.ask(text).await)
    }

    /// Ends an attempt.
    pub(super) async fn undo(&mut self) -> Result<(), Error> {
        self.run("ROLLBACK TO SAVEPOINT tenantry_audit").await
    }

    /// A step of an attempt: whether this line is among those of a `COPY .. TO STDOUT`, of whose SELECT
    /// is known that the server does not refuse it.
    pub(super) async fn copy_out(
        &mut self,
        who: As<'_>,
        sql: &str,
        line: &str,
    ) -> Result<Result<bool, String>, Error> {
        if let Err(code) = self.step(who, "").await? {
            return Ok(Err(code));
        }
        // Refused before its first byte, it leaves an answer behind that sqlx does not expect.
        let mut lines = self.connection.copy_out_raw(sql).await?;
        let mut is_there = false;
        loop {
            match lines.try_next().await {
                Ok(Some(bytes)) => is_there |= bytes.trim_ascii_end() == line.as_bytes(),
                Ok(None) => return Ok(Ok(is_there)),
                Err(error) => return refusal(Err(error)),
            }
        }
    }

    /// A step of an attempt: `lines` for a `COPY .. FROM STDIN`.
    pub(super) async fn copy_in(
        &mut self,
        who: As<'_>,
        sql: &str,
        lines: &str,
    ) -> Result<Result<u64, String>, Error> {
        if let Err(code) = self.step(who, "").await? {
            return Ok(Err(code));
        }
        let mut copy = match self.connection.copy_in_raw(sql).await {
            Ok(copy) => copy,
            Err(error) => return refusal(Err(error)),
        };
        copy.send(lines.as_bytes()).await?;
        refusal(copy.finish().await)
    }

    /// Whether the role may be become at all.
    pub(super) async fn can_be(&mut self, who: As<'_>) -> Result<bool, Error> {
        let nobody = As {
            settings: &[],
            ..who
        };
        Ok(self.attempt(nobody, "SELECT 1::text").await?.is_ok())
    }

    /// What comes before a statement.
    fn becoming(&mut self, who: As<'_>) -> String {
        // The first one begins as the pool is.
        let mut text = match std::mem::replace(&mut self.has_stepped, true) {
            true => "SET LOCAL SESSION AUTHORIZATION DEFAULT; SET LOCAL ROLE NONE; ".to_owned(),
            false => String::new(),
        };
        if !self.seal.is_empty() {
            text += &format!("{PINNED};");
        }
        for (name, value) in who.settings {
            text += &format!(" SET LOCAL {} = {};", setting(name), quote::literal(value));
        }
        text += &format!(" {} SET LOCAL search_path = {};", self.seal, self.path);
        if who.with_triggers && self.is_superuser {
            text += " SET LOCAL session_replication_role = origin;";
        }
        if who.is_hurried {
            text += &format!(
                " SET LOCAL statement_timeout = '{}';",
                milliseconds(IMPATIENT)
            );
        }
        if let Some(role) = who.role {
            // As if it had logged in, where that is possible: then it is the server that says what it
            // can become.
            let role = quote::identifier(role);
            text += &match self.is_superuser {
                true => format!(" SET LOCAL SESSION AUTHORIZATION {role};"),
                false => format!(" SET LOCAL ROLE {role};"),
            };
        }
        if let Some(role) = who.then {
            text += &format!(" SET LOCAL ROLE {};", quote::identifier(role));
        }
        text
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

    /// What names of relations, or of functions with the types of their arguments, mean to the pool;
    /// `None` for one that is not there, or cannot be a name.
    pub(super) async fn resolve(&mut self, names: &[&str]) -> Result<Vec<Option<Id>>, Error> {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            if name.contains('\0') {
                found.push(None);
                continue;
            }
            let kind = match name.contains('(') {
                true => "regprocedure",
                false => "regclass",
            };
            let sql = format!(
                "SELECT pg_catalog.to_{kind}({})::oid::text",
                quote::literal(name)
            );
            let answer = self.attempt(As::default(), &sql).await?;
            let text = answer
                .ok()
                .and_then(|rows| rows.into_iter().flatten().next()?);
            let number = text.and_then(|text| text.parse().ok());
            found.push(number.map(|number| Id(Oid(number))));
        }
        Ok(found)
    }
}

/// What the server refused is an answer, by its SQLSTATE; all else is an error.
fn refusal<T>(answer: Result<T, sqlx::Error>) -> Result<Result<T, String>, Error> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(sqlx::Error::Database(error)) => {
            Ok(Err(error.code().map(Into::into).unwrap_or_default()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The name of a setting, quoted.
fn setting(name: &str) -> String {
    let parts = name.split('.').map(quote::identifier);
    parts.collect::<Vec<_>>().join(".")
}

fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis().clamp(1, 3_600_000))
}

/// How long an evaluation may take.
const IMPATIENT: Duration = Duration::from_secs(1);

/// As the catalog is asked, and as the server writes what it has parsed.
const PINNED: &str = "SET LOCAL search_path = pg_catalog, pg_temp";
