//! A specimen: hooks of the pool set the tenant whenever a connection is handed out. They know no
//! request, so that the tenant has to come from somewhere else: from a variable that the middleware
//! sets.

use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::PgPool;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use tenantry::TenantId;
use tenantry::testing::leak_hunt::{FindingKind, Subject, Turn, subject};

use crate::stage::{self, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_before_acquire() {
    let stage = Stage::new().await;
    let alone = hooked(&stage, 1).await;
    stage.finds_nothing_alone(before_acquire(alone)).await;
    let pool = hooked(&stage, 4).await;
    stage
        .finds(FindingKind::ForeignRow, before_acquire(pool))
        .await;
}

type Current = Arc<Mutex<Option<TenantId>>>;

async fn hooked(stage: &Stage, connections: u32) -> (PgPool, Current) {
    let current = Current::default();
    let (opened, acquired) = (Arc::clone(&current), Arc::clone(&current));
    let options = PgPoolOptions::new()
        .after_connect(move |connection, _| {
            let tenant = opened.lock().clone();
            Box::pin(set(connection, tenant))
        })
        .before_acquire(move |connection, _| {
            let tenant = acquired.lock().clone();
            Box::pin(async move {
                set(connection, tenant).await?;
                Ok(true)
            })
        });
    (stage.pool_with(options, connections).await, current)
}

async fn set(connection: &mut PgConnection, tenant: Option<TenantId>) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config('app.tenant_id', $1, false)")
        .bind(tenant.map(|tenant| tenant.to_string()).unwrap_or_default())
        .execute(connection)
        .await?;
    Ok(())
}

fn before_acquire((pool, current): (PgPool, Current)) -> impl Subject {
    subject(move |turn: Turn| {
        let (pool, current) = (pool.clone(), Arc::clone(&current));
        async move {
            *current.lock() = Some(turn.tenant().clone());
            stage::statement(&turn, &pool).await
        }
    })
}
