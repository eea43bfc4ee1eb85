//! What is asked, and how the answer is judged.

use std::sync::Arc;

use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, PgExecutor, Postgres, SqlSafeStr as _, SqlStr};

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
    /// The same with values in the text, for the simple protocol.
    answer: String,
    pub(super) tenant_setting: String,
    pub(super) user_setting: String,
}

/// What the question was; the tenant, the user and the application's name in the session; a canary.
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
             current_setting('application_name'), canary FROM {table}",
            quote::literal(tenant),
            quote::literal(user),
        );
        Self {
            reading: format!("SELECT $1::text, {answer} ORDER BY id DESC LIMIT 8").into(),
            many: format!("SELECT $1::text, {answer}, generate_series(1, 30)").into(),
            write: format!("INSERT INTO {table} (canary) VALUES ($1) RETURNING canary").into(),
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

    /// Both in one text, a write first.
    pub(super) fn raw(&self, turn: &Turn) -> String {
        let (table, canary) = (Canaries::TABLE, quote::literal(turn.canary()));
        format!(
            "INSERT INTO {table} (canary) VALUES ({canary}); \
             SELECT {canary}, {} ORDER BY id DESC LIMIT 8",
            self.answer
        )
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
