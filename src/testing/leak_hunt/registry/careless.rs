//! Code that changes the session and tells nobody.

use sqlx::{AssertSqlSafe, Executor as _};

use super::super::turn::Turn;
use super::Work;
use super::transactions::must_be_refused;
use crate::error::{Error, ErrorKind};
use crate::quote;

impl Work<'_> {
    /// Changes the session, looks at its own rows, and leaves.
    pub(super) async fn careless(&self, turn: &Turn) -> Result<(), Error> {
        let (text, is_refused) = self.carelessness(turn);
        let alone = sqlx::query(AssertSqlSafe(text.clone()))
            .execute(&self.scope)
            .await;
        // A scope refuses what leaves a trace, but for a function that it cannot look into.
        must_be_refused(alone, ErrorKind::StatementRefused)?;
        let mut tx = self.scope.begin().await?;
        let done = match turn.random() & 1 {
            0 => sqlx::query(AssertSqlSafe(text)).execute(&mut tx).await,
            _ => sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut tx).await,
        };
        match is_refused {
            true => must_be_refused(done, ErrorKind::StatementRefused)?,
            false => drop(done?),
        }
        self.statements.look(turn, &mut tx).await?;
        match turn.random() & 2 {
            0 => Ok(tx.commit().await?),
            _ => Ok(drop(tx)),
        }
    }

    /// A text, and whether a transaction refuses it as well.
    fn carelessness(&self, turn: &Turn) -> (String, bool) {
        let (tenant_setting, user_setting) = (
            &self.statements.tenant_setting,
            &self.statements.user_setting,
        );
        let other = quote::literal(turn.another_tenant().as_str());
        let others_user = quote::literal(&format!("{}/a user", turn.another_tenant()));
        let trace = quote::literal(turn.canary());
        let set_config = |name: &str, value: &str| {
            format!("set_config({}, {value}, false)", quote::literal(name))
        };
        match (turn.random() >> 8) % 8 {
            0 => (format!("SET {tenant_setting} = {other}"), true),
            1 => (format!("SET SESSION {user_setting} TO {others_user}"), true),
            2 => (
                format!("SELECT {}", set_config(tenant_setting, &other)),
                false,
            ),
            3 => (
                format!("SELECT {}", set_config(user_setting, &others_user)),
                false,
            ),
            // Out of sight of whoever reads the text alone.
            4 => {
                let perform = format!("PERFORM {};", set_config(tenant_setting, &other));
                (
                    format!("DO $careless$ BEGIN {perform} END $careless$"),
                    false,
                )
            }
            5 => (format!("SET application_name = {trace}"), false),
            6 => (
                format!("SELECT {}", set_config("application_name", &trace)),
                false,
            ),
            _ => ("SELECT pg_advisory_lock(4711)".to_owned(), false),
        }
    }

    /// Through the connection itself, which nobody looks at.
    pub(super) async fn hatch(&self, turn: &Turn) -> Result<(), Error> {
        let mut tx = self.scope.begin().await?;
        let setting = match turn.random() & 4 {
            0 => &self.statements.tenant_setting,
            _ => &self.statements.user_setting,
        };
        let text = format!(
            "SET {setting} = {}; SET application_name = {}",
            quote::literal(&format!("{}/a user", turn.another_tenant())),
            quote::literal(turn.canary()),
        );
        tx.dangerous_connection()
            .await?
            .execute(AssertSqlSafe(text))
            .await?;
        self.statements.write(turn, &mut tx).await?;
        self.statements.look(turn, &mut tx).await?;
        match turn.random() & 2 {
            0 => tx.commit().await?,
            _ => return Ok(drop(tx)),
        }
        turn.wrote();
        Ok(())
    }
}
