//! The specimen of the third field report: the tenant is a setting of the session, and sessions come
//! from a pool. The statement that follows runs on whichever connection is free then.

use sqlx::PgPool;
use tenantry::testing::leak_hunt::{FindingKind, Subject, Turn, subject};

use crate::stage::{self, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_session_setting() {
    let stage = Stage::new().await;
    let alone = stage.pool(1).await;
    stage.finds_nothing_alone(session_setting(alone)).await;
    let pool = stage.pool(4).await;
    stage
        .finds(FindingKind::ForeignRow, session_setting(pool))
        .await;
}

/// With one connection too, where two tenants take turns at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_session_setting_with_one_connection() {
    let stage = Stage::new().await;
    let pool = stage.pool(1).await;
    stage
        .finds(FindingKind::ForeignRow, session_setting(pool))
        .await;
}

fn session_setting(pool: PgPool) -> impl Subject {
    subject(move |turn: Turn| {
        let pool = pool.clone();
        async move {
            sqlx::query("SELECT set_config('app.tenant_id', $1, false)")
                .bind(turn.tenant().as_str())
                .execute(&pool)
                .await?;
            stage::statement(&turn, &pool).await
        }
    })
}
