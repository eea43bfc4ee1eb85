//! A connection that is being opened: it is open, or it is said that it could not be opened, and
//! not that anything were wrong with the database or the role.

use tenantry::{Error, ErrorKind, StaticDirectory, TenantRegistry};

use crate::dangerous::wait;
use crate::stage::{Stage, answers, options};
use crate::support::scope;
use crate::sweep::{Trial, sweep_by};

/// So many bytes make an opening that each of them would take hours.
pub const BYTES: usize = 41;

fn is_of_an_opening(trial: &Trial<'_>, error: &Error) {
    assert!(trial.was_hit(), "{trial}: {error:?}");
    let kinds = [ErrorKind::Connect, ErrorKind::ConnectionLost];
    assert!(kinds.contains(&error.kind()), "{trial}: {error:?}");
    assert!(error.is_retryable(), "{trial}: {error:?}");
}

/// The first of a registry, whose role is looked at too.
#[tokio::test]
async fn first_of_a_pool() {
    let stage = Stage::new(false).await;
    sweep_by(&stage, BYTES, async |trial| {
        let registry = async || {
            let app = trial.stage.wire.connect_options(&trial.stage.world.app);
            TenantRegistry::builder(StaticDirectory::new().shared_by_all(app))
                .pool_options(|_, defaults| options(defaults, false))
                .build()
                .await
        };
        trial.arm_each();
        let built = registry().await;
        trial.disarm().await;
        let registry = match built {
            Ok(registry) => registry,
            Err(error) => {
                is_of_an_opening(trial, &error);
                registry().await.expect("another time")
            }
        };
        let a = scope(&registry, "a").await;
        let mut tx = a.begin().await.expect("begun, if need be on another one");
        answers(&mut tx, "a").await.expect("answered");
    })
    .await;
}

/// One that takes the place of one that broke.
#[tokio::test]
async fn next_of_a_pool() {
    let stage = Stage::new(false).await;
    sweep_by(&stage, BYTES, async |trial| {
        let a = trial.a().await;
        answers(&a, "a").await.expect("a connection is open");
        stage.wire.cut();
        stage.wire.parted().await;
        trial.arm_each();
        let begun = a.begin().await;
        trial.disarm().await;
        let Err(error) = begun else { return };
        is_of_an_opening(trial, &error);
        wait(trial, error).await;
        // A failure to open is kept for a moment, and no longer.
        for _ in 0..100 {
            match a.begin().await {
                Ok(_) => return,
                Err(error) => wait(trial, error).await,
            }
        }
        panic!("{trial}: never again");
    })
    .await;
}
