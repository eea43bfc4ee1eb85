//! Tenants with a schema of their own, whose single statements are transactions, and tenants with
//! a database of their own.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tenantry::{CommitError, Error, LazyPools, StaticDirectory, TenantRegistry};

use crate::stage::{Stage, installed, label, options, wire};
use crate::support::tenant;
use crate::sweep::{Trial, silence, sweep};
use crate::transactions::lost;

/// `a` has a schema of its own; `b` is among others.
async fn stage() -> Stage {
    let (world, _) = installed().await;
    let mut admin = world.admin().await;
    admin
        .execute(AssertSqlSafe(
            "CREATE SCHEMA home_a; CREATE TABLE home_a.papers (body text NOT NULL); \
             GRANT USAGE ON SCHEMA home_a TO app; GRANT ALL ON home_a.papers TO app",
        ))
        .await
        .expect("a schema");
    admin.close().await.expect("closed");
    let wire = wire(&world.app).await;
    let app = wire.connect_options(&world.app);
    let directory = StaticDirectory::new()
        .shared(app.clone(), [tenant("b")])
        .schemas(app, [(tenant("a"), "home_a")]);
    let registry = TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .pool_options(|_, defaults| options(defaults, false))
        .build()
        .await
        .expect("a registry");
    Stage::of(world, wire, registry, false).await
}

/// The statement's own COMMIT has an outcome that may be unknown; before it nothing is kept.
async fn writes(trial: &Trial<'_>, is_new: bool) {
    let a = trial.a().await;
    let mut sql = "INSERT INTO papers (body) VALUES ($1) RETURNING body".to_owned();
    if is_new {
        sql = format!("{sql} /* {} */", label());
    } else {
        sqlx::query(AssertSqlSafe(&*sql))
            .bind("written before")
            .execute(&a)
            .await
            .expect("written");
    }
    drop(a.begin().await.expect("a connection is open"));
    a.begin()
        .await
        .expect("begun")
        .rollback()
        .await
        .expect("idle");
    trial.arm();
    let written = sqlx::query_scalar::<_, String>(AssertSqlSafe(&*sql))
        .bind(trial.body())
        .fetch_one(&a)
        .await
        .map_err(Error::from);
    trial.disarm().await;
    let kept = trial
        .kept_in("SELECT count(*), 'a' FROM home_a.papers WHERE body = $1")
        .await;
    let committed = match written {
        Ok(said) => {
            assert_eq!(said, trial.body(), "{trial}");
            Ok(())
        }
        Err(error) if error.is_outcome_unknown() => Err(CommitError::OutcomeUnknown(lost(&error))),
        Err(error) => Err(CommitError::RolledBack(error)),
    };
    trial.judge(committed, kept, 1).await;
}

#[tokio::test]
async fn schema_of_its_own() {
    let stage = stage().await;
    for is_new in [false, true] {
        let tally = sweep(&stage, async |trial| writes(trial, is_new).await).await;
        tally.unknown_was_unknown();
        assert!(tally.has_seen("rolled back"), "{tally:?}");
    }
    silence(&stage, async |trial| writes(trial, false).await).await;
}
