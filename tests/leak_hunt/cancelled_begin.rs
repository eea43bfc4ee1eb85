//! The specimen of sqlx 0.9.0: a `begin` that is dropped when its message has been sent, and not
//! counted yet, gives its connection back inside the transaction, with the tenant in it
//! (<https://github.com/transact-rs/sqlx/issues/4385>). All that is right otherwise is right here:
//! every statement of a tenant is in a transaction that has its tenant.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgPool};
use tenantry::Error;
use tenantry::testing::leak_hunt::{FindingKind, Subject, Turn};

use crate::stage::{self, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_cancelled_begin() {
    let stage = Stage::new().await;
    let pool = stage.pool(4).await;
    stage
        .finds_nothing_in_peace(CancelledBegin(pool.clone()))
        .await;
    stage
        .finds(FindingKind::ForeignRow, CancelledBegin(pool))
        .await;
}

struct CancelledBegin(PgPool);

#[async_trait]
impl Subject for CancelledBegin {
    fn operations(&self) -> &[&'static str] {
        &["write", "read", "of nobody"]
    }

    async fn work(&self, turn: Turn) -> Result<(), Error> {
        if turn.operation() == "of nobody" {
            // A number for the front page, say. Without a tenant it shows nobody's rows.
            let rows: Vec<String> = sqlx::query_scalar(stage::READ).fetch_all(&self.0).await?;
            rows.iter().for_each(|row| turn.saw(row));
            return Ok(());
        }
        let begin = format!("BEGIN; SET LOCAL app.tenant_id = '{}'", turn.tenant());
        #[expect(clippy::disallowed_methods, reason = "the specimen")]
        let mut tx = self.0.begin_with(AssertSqlSafe(begin)).await?;
        if turn.operation() == "write" {
            let insert = sqlx::query(stage::WRITE).bind(turn.canary());
            insert.execute(&mut *tx).await?;
        } else {
            stage::statement(&turn, &mut *tx).await?;
        }
        #[expect(clippy::disallowed_methods, reason = "the specimen")]
        tx.commit().await?;
        if turn.operation() == "write" {
            turn.wrote();
        }
        Ok(())
    }
}
