//! A pool that is not there yet.

use std::sync::Arc;

use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgExecutor, PgPool};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use super::databases::{Databases, STATEMENT, scope, sqlx_pool};
use super::support::rounds::{Bench, Ground, Limit, Way};
use super::support::runtime;

/// So many requests ask for the same tenant before there is a pool.
const REQUESTS: usize = 64;

struct Opening {
    runtime: Runtime,
    app: PgConnectOptions,
}

impl Ground for Opening {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

async fn ask(executor: impl PgExecutor<'_>) {
    sqlx::query(STATEMENT)
        .execute(executor)
        .await
        .expect("served");
}

async fn sqlx_opens(app: &PgConnectOptions) -> PgPool {
    let pool = sqlx_pool(10, true).connect_with(app.clone()).await;
    pool.expect("a pool")
}

async fn first_of_ours(ground: &'static Opening, _: u64) {
    let (_registry, scope) = scope(ground.app.clone(), |defaults| defaults).await;
    ask(&scope).await;
}

async fn first_of_sqlx(ground: &'static Opening, _: u64) {
    ask(&sqlx_opens(&ground.app).await).await;
}

async fn first_without_pool(ground: &'static Opening, _: u64) {
    let mut connection = ground.app.connect().await.expect("a connection");
    ask(&mut connection).await;
    let _ = connection.close().await;
}

/// All requests at once, each in a task.
async fn crowd<F>(request: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for done in join_all((0..REQUESTS).map(|_| tokio::spawn(request()))).await {
        done.expect("no request panics");
    }
}

/// The pool is opened when the registry is built, and the crowd waits for that.
async fn crowd_of_ours(ground: &'static Opening, _: u64) {
    let (_registry, scope) = scope(ground.app.clone(), |defaults| defaults).await;
    crowd(|| {
        let scope = scope.clone();
        async move { ask(&scope).await }
    })
    .await;
}

async fn crowd_of_sqlx(ground: &'static Opening, _: u64) {
    let opened = Arc::new(OnceCell::new());
    crowd(|| {
        let opened = Arc::clone(&opened);
        async move { ask(opened.get_or_init(|| sqlx_opens(&ground.app)).await).await }
    })
    .await;
}

/// Nobody sees that somebody else has begun to open.
async fn crowd_of_pools(ground: &'static Opening, _: u64) {
    crowd(|| async { ask(&sqlx_opens(&ground.app).await).await }).await;
}

pub fn compare(bench: &mut Bench, databases: &Databases) {
    let ground: &Opening = Box::leak(Box::new(Opening {
        runtime: runtime(2),
        app: databases.app(0).clone(),
    }));
    bench.compare(
        "a pool is opened, and a statement",
        3,
        &[
            Way::in_turn(ground, "tenantry", first_of_ours),
            Way::in_turn(ground, "sqlx, pool, defaults", first_of_sqlx),
            Way::in_turn(
                ground,
                "sqlx, connection without a pool",
                first_without_pool,
            ),
        ],
        &[Limit::none(1)],
    );
    bench.compare_slow(
        "64 first requests at once, up to 10 connections",
        &[
            Way::in_turn(ground, "tenantry", crowd_of_ours),
            Way::in_turn(ground, "sqlx, pool, opened by the first", crowd_of_sqlx),
            Way::in_turn(ground, "sqlx, pool, opened by each", crowd_of_pools),
        ],
        &[Limit::none(1), Limit::none(2)],
    );
}
