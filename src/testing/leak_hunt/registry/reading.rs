//! What is asked, and how the answer is judged.

use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, PgExecutor, Postgres, Row as _, SqlSafeStr as _, SqlStr};

use super::super::canaries::Canaries;
use super::super::turn::Turn;
use crate::error::Error;
use crate::quote;
use crate::settings::ContextSettings;

/// The texts of the statements.
#[derive(Clone, Debug)]
pub(super) struct Statements {
    reading: Arc<str>,
    many: Arc<str>,
    write: Arc<str>,
    copying: String,
    /// The same with values in the text, for the simple protocol.
    answer: String,
    pub(super) tenant_setting: String,
    pub(super) user_setting: String,
}

/// What the question was; the tenant and the user in the session; what a turn may have left there, a
/// prepared statement or the application's name; a canary.
pub(super) type Seen = (
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
);

impl Statements {
    pub(super) fn new(settings: &ContextSettings) -> Self {
        let (tenant, user) = (settings.tenant(), settings.user());
        let table = Canaries::TABLE;
        let answer = format!(
            "current_setting({}, true), current_setting({}, true), \
             coalesce((SELECT max(name) FROM pg_prepared_statements WHERE from_sql), \
                      current_setting('application_name')), canary FROM {table}",
            quote::literal(tenant),
            quote::literal(user),
        );
        Self {
            reading: format!("SELECT $1::text, {answer} ORDER BY id DESC LIMIT 8").into(),
            many: format!("SELECT $1::text, {answer}, generate_series(1, 30)").into(),
            write: format!("INSERT INTO {table} (canary) VALUES ($1) RETURNING canary").into(),
            copying: format!("COPY (SELECT canary FROM {table} LIMIT 50) TO STDOUT"),
            answer,
            tenant_setting: tenant.to_owned(),
            user_setting: user.to_owned(),
        }
    }

    /// The newest rows of the tenant.
    pub(super) fn reading(&self) -> SqlStr {
        AssertSqlSafe(Arc::clone(&self.reading)).into_sql_str()
    }

    /// Each row thirty times.
    pub(super) fn many<'q>(&self, turn: &'q Turn) -> QueryAs<'q, Postgres, Seen, PgArguments> {
        sqlx::query_as(AssertSqlSafe(Arc::clone(&self.many))).bind(turn.canary())
    }

    /// As a stream of COPY.
    pub(super) fn copying(&self) -> &str {
        &self.copying
    }

    /// Both in one text, a write first.
    pub(super) fn raw(&self, turn: &Turn) -> String {
        let (table, canary) = (Canaries::TABLE, quote::literal(turn.canary()));
        let reading = self.reading_by_text(turn);
        format!("INSERT INTO {table} (canary) VALUES ({canary}); {reading}")
    }

    fn reading_by_text(&self, turn: &Turn) -> String {
        let (canary, answer) = (quote::literal(turn.canary()), &self.answer);
        format!("SELECT {canary}, {answer} ORDER BY id DESC LIMIT 8")
    }

    pub(super) async fn look<'e>(
        &self,
        turn: &Turn,
        executor: impl PgExecutor<'e>,
    ) -> Result<(), Error> {
        let rows: Vec<Seen> = sqlx::query_as(self.reading())
            .bind(turn.canary())
            .fetch_all(executor)
            .await?;
        Self::see_all(turn, &rows);
        Ok(())
    }

    pub(super) async fn look_by_text<'e>(
        &self,
        turn: &Turn,
        executor: impl PgExecutor<'e>,
    ) -> Result<(), Error> {
        let text = AssertSqlSafe(self.reading_by_text(turn));
        let rows = sqlx::raw_sql(text).fetch_all(executor).await?;
        let rows: Vec<Seen> = rows.iter().map(Self::of_text).collect::<Result<_, _>>()?;
        Self::see_all(turn, &rows);
        Ok(())
    }

    pub(super) async fn write<'e>(
        &self,
        turn: &Turn,
        executor: impl PgExecutor<'e>,
    ) -> Result<(), Error> {
        self.insert(turn, turn.canary(), executor).await
    }

    /// What is not to be committed.
    pub(super) async fn write_doomed<'e>(
        &self,
        turn: &Turn,
        executor: impl PgExecutor<'e>,
    ) -> Result<(), Error> {
        self.insert(turn, turn.doomed_canary(), executor).await
    }

    async fn insert<'e>(
        &self,
        turn: &Turn,
        canary: &str,
        executor: impl PgExecutor<'e>,
    ) -> Result<(), Error> {
        let answer: String = sqlx::query_scalar(AssertSqlSafe(Arc::clone(&self.write)))
            .bind(canary)
            .fetch_one(executor)
            .await?;
        turn.answered(match answer == canary {
            true => turn.canary(),
            false => &answer,
        });
        Ok(())
    }

    /// Of a row of the simple protocol, which knows no types.
    pub(super) fn of_text(row: &PgRow) -> Result<Seen, Error> {
        Ok((
            row.try_get_unchecked(0)?,
            row.try_get_unchecked(1)?,
            row.try_get_unchecked(2)?,
            row.try_get_unchecked(3)?,
            row.try_get_unchecked(4)?,
        ))
    }

    pub(super) fn see_all(turn: &Turn, rows: &[Seen]) {
        rows.iter().for_each(|seen| Self::see_around(turn, seen));
        turn.saw_all(rows.iter().map(|(_, _, _, _, canary)| canary));
    }

    pub(super) fn see(turn: &Turn, seen: &Seen) {
        Self::see_around(turn, seen);
        turn.saw(&seen.4);
    }

    fn see_around(turn: &Turn, (question, tenant, user, application, _): &Seen) {
        turn.answered(question);
        turn.saw(format!("{}/", tenant.as_deref().unwrap_or_default()));
        turn.saw(user.as_deref().unwrap_or_default());
        turn.found_on_session(application.as_deref().unwrap_or_default());
    }
}
