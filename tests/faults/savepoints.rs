//! Savepoints: what was written before one and behind it.

use tenantry::{Error, TenantTx};

use crate::stage::Stage;
use crate::sweep::{Trial, silence, sweep};
use crate::transactions::write;

/// How a savepoint ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Released,
    RolledBack,
    Dropped,
    /// A statement failed behind it.
    Failed,
}

const ENDS: [End; 4] = [End::Released, End::RolledBack, End::Dropped, End::Failed];

/// A savepoint, what is written behind it, and its end; the statement behind that is the first to
/// go on.
async fn one(tx: &mut TenantTx, trial: &Trial<'_>, end: End) -> Result<(), Error> {
    let mut savepoint = tx.savepoint().await?;
    write(&mut savepoint, trial).await?;
    match end {
        End::Released => savepoint.release().await?,
        End::RolledBack => savepoint.rollback().await?,
        End::Dropped => drop(savepoint),
        End::Failed => {
            let refused = sqlx::query("INSERT INTO notes (body) VALUES (NULL)")
                .execute(&mut *savepoint)
                .await;
            let error = Error::from(refused.expect_err("refused"));
            if error.code().is_none() {
                return Err(error);
            }
            savepoint.rollback().await?;
        }
    }
    write(tx, trial).await?;
    Ok(())
}

/// With its COMMIT: all of it or nothing, and what was rolled back in it never.
async fn with_commit(trial: &Trial<'_>, end: End) {
    let a = trial.a().await;
    let mut tx = a.begin().await.expect("begun");
    write(&mut tx, trial).await.expect("written");
    trial.arm();
    let done = one(&mut tx, trial, end).await;
    let is_lost = done.is_err();
    let committed = tx.commit().await;
    trial.disarm().await;
    if let Err(error) = done {
        trial.is_lost(error);
    }
    if is_lost {
        let error = committed.as_ref().expect_err("lost");
        assert!(error.is_rolled_back(), "{trial}: {error:?}");
    }
    let written = if end == End::Released { 3 } else { 2 };
    trial.judge(committed, trial.kept().await, written).await;
}

#[tokio::test]
async fn savepoint() {
    let stage = Stage::new(false).await;
    for end in ENDS {
        let tally = sweep(&stage, async |trial| with_commit(trial, end).await).await;
        tally.unknown_was_unknown();
        assert!(tally.has_seen("rolled back"), "{end:?}: {tally:?}");
    }
}

#[tokio::test]
async fn savepoint_on_a_network_that_goes_silent() {
    let stage = Stage::new(false).await;
    for end in ENDS {
        silence(&stage, async |trial| with_commit(trial, end).await).await;
    }
}

/// What is thrown away in the message of COMMIT itself, a failure with it: the rest may be kept.
#[tokio::test]
async fn commit_behind_a_savepoint_that_was_dropped() {
    let stage = Stage::new(false).await;
    for fails in [false, true] {
        let tally = sweep(&stage, async |trial| {
            let a = trial.a().await;
            let mut tx = a.begin().await.expect("begun");
            write(&mut tx, trial).await.expect("written");
            let mut savepoint = tx.savepoint().await.expect("set");
            write(&mut savepoint, trial).await.expect("written");
            if fails {
                let refused = sqlx::query("INSERT INTO notes (body) VALUES (NULL)")
                    .execute(&mut *savepoint)
                    .await;
                refused.expect_err("refused");
            }
            drop(savepoint);
            trial.arm();
            let committed = tx.commit().await;
            trial.disarm().await;
            trial.judge(committed, trial.kept().await, 1).await;
        })
        .await;
        tally.unknown_was_unknown();
    }
}
