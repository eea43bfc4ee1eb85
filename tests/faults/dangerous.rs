//! Access to all tenants: what was done is on record, or was not done.

use sqlx::{AssertSqlSafe, Executor as _};
use tenantry::sql::DangerousAccess;
use tenantry::{Error, StaticDirectory, TenantRegistry};

use crate::openings::BYTES;
use crate::stage::{Stage, installed, options, wire};
use crate::sweep::{Trial, silence, sweep, sweep_by};

async fn stage() -> Stage {
    let (world, _) = installed().await;
    let mut admin = world.admin().await;
    let role = format!(
        "danger_{}",
        world.admin.get_database().expect("a database has a name")
    );
    admin
        .execute(AssertSqlSafe(format!(
            "CREATE ROLE {role} LOGIN BYPASSRLS IN ROLE app"
        )))
        .await
        .expect("a role");
    DangerousAccess::new(&*role)
        .install(&mut admin)
        .await
        .expect("installed");
    let wire = wire(&world.app).await;
    let app = wire.connect_options(&world.app);
    let dangerous = app.clone().username(&role);
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(app))
        .pool_options(|_, defaults| options(defaults, false))
        .dangerous(dangerous)
        .build()
        .await
        .expect("a registry");
    Stage::of(world, wire, registry, false).await
}

/// How many rows of the record are of this trial.
async fn recorded(trial: &Trial<'_>) -> i64 {
    trial
        .kept_in("SELECT count(*), 'a' FROM tenantry.dangerous_access WHERE reason = $1")
        .await
}

/// Its connection is opened each time, which is another matter: what is swept is what comes then.
async fn all_of_it(trial: &Trial<'_>) {
    let dangerous = trial.stage.registry.dangerous().expect("configured");
    let mut tx = dangerous
        .begin("somebody", &trial.body())
        .await
        .expect("begun");
    trial.arm();
    let written = sqlx::query("INSERT INTO notes (tenant_id, body) VALUES ('a', $1)")
        .bind(trial.body())
        .execute(&mut tx)
        .await;
    let is_lost = written.is_err();
    let committed = tx.commit().await;
    trial.disarm().await;
    if let Err(error) = written {
        trial.is_lost(error);
        let error = committed.as_ref().expect_err("lost");
        assert!(error.is_rolled_back(), "{trial}: {error:?}");
    }
    let kept = trial.kept().await;
    assert_eq!(
        recorded(trial).await,
        kept,
        "{trial}: lost before: {is_lost}"
    );
    trial.judge(committed, kept, 1).await;
}

#[tokio::test]
async fn statement_and_commit() {
    let stage = stage().await;
    let tally = sweep(&stage, async |trial| all_of_it(trial).await).await;
    tally.unknown_was_unknown();
    silence(&stage, async |trial| all_of_it(trial).await).await;
}

/// From the opening of its connection to the answer: begun, or not and nothing is on record.
#[tokio::test]
async fn beginning() {
    let stage = stage().await;
    sweep_by(&stage, BYTES, async |trial| {
        let dangerous = trial.stage.registry.dangerous().expect("configured");
        trial.arm();
        let begun = dangerous.begin("somebody", &trial.body()).await;
        trial.disarm().await;
        match begun {
            Ok(tx) => match tx.commit().await {
                Ok(()) => assert_eq!(recorded(trial).await, 1, "{trial}"),
                Err(error) => {
                    assert!(trial.was_hit(), "{trial}: {error:?}");
                    assert_eq!(recorded(trial).await, 0, "{trial}");
                }
            },
            Err(error) => {
                assert!(trial.was_hit(), "{trial}: {error:?}");
                assert!(error.is_retryable(), "{trial}: {error:?}");
                assert_eq!(recorded(trial).await, 0, "{trial}");
                served_again(trial).await;
            }
        }
    })
    .await;
}

/// A failure to open is kept for a moment, and no longer.
async fn served_again(trial: &Trial<'_>) {
    let dangerous = trial.stage.registry.dangerous().expect("configured");
    for _ in 0..100 {
        match dangerous.begin("somebody", "to see").await {
            Ok(tx) => return tx.rollback().await.expect("rolled back"),
            Err(error) => wait(trial, error).await,
        }
    }
    panic!("{trial}: never again");
}

/// As long as the error says.
pub async fn wait(trial: &Trial<'_>, error: Error) {
    assert!(error.is_retryable(), "{trial}: {error:?}");
    let pause = error.retry_after().unwrap_or_default();
    tokio::time::sleep(pause).await;
}
