//! The trap of the third field report: writes are in a transaction that has the tenant, and reads
//! are in none. What they set "for the transaction" is over with the statement that sets it, and the
//! read runs with no tenant at all.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use tenantry::testing::leak_hunt::{FindingKind, Subject, Turn, subject};

use crate::stage::{self, Stage};

/// Policies that show everything to whoever has no tenant, so that migrations and reports work.
const LENIENT: &str = "
    DROP POLICY tenantry_tenant ON tenantry_leak_hunt.canaries;
    DROP POLICY tenantry_backstop ON tenantry_leak_hunt.canaries;
    CREATE POLICY lenient ON tenantry_leak_hunt.canaries USING (
        nullif(current_setting('app.tenant_id', true), '') IS NULL
        OR tenant_id = current_setting('app.tenant_id', true))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_read_without_transaction() {
    let stage = Stage::new().await;
    let mut admin = stage.world.admin().await;
    admin.execute(LENIENT).await.expect("policies");
    let pool = stage.pool(4).await;
    stage
        .finds_nothing_in_peace(reads(pool.clone(), Reads::InTransactions))
        .await;
    stage
        .finds(FindingKind::ForeignRow, reads(pool, Reads::Alone))
        .await;
}

/// With policies that show nothing to whoever has no tenant, the rows are not another's: they are
/// missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_read_without_transaction_under_strict_policies() {
    let stage = Stage::new().await;
    let pool = stage.pool(4).await;
    stage
        .finds(FindingKind::OwnRowsMissing, reads(pool, Reads::Alone))
        .await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    InTransactions,
    Alone,
}

fn reads(pool: PgPool, reads: Reads) -> impl Subject {
    let set: Arc<str> = "SELECT set_config('app.tenant_id', $1, true)".into();
    subject(move |turn: Turn| {
        let (pool, set) = (pool.clone(), AssertSqlSafe(Arc::clone(&set)));
        async move {
            let set = sqlx::query(set).bind(turn.tenant().as_str().to_owned());
            if turn.operation() == "read" && reads == Reads::Alone {
                let mut connection = pool.acquire().await?;
                set.execute(&mut *connection).await?;
                return stage::statement(&turn, &mut *connection).await;
            }
            #[expect(clippy::disallowed_methods, reason = "the specimen")]
            let mut tx = pool.begin().await?;
            set.execute(&mut *tx).await?;
            if turn.operation() == "read" {
                stage::statement(&turn, &mut *tx).await?;
            } else {
                let insert = sqlx::query(stage::WRITE).bind(turn.canary());
                insert.execute(&mut *tx).await?;
            }
            #[expect(clippy::disallowed_methods, reason = "the specimen")]
            tx.commit().await?;
            if turn.operation() == "write" {
                turn.wrote();
            }
            Ok(())
        }
    })
}
