//! Transactions, from their beginning to either end.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};
use tenantry::{CommitError, ContextSettings, Error, IsolationLevel, TenantTx, TxOptions};

use crate::stage::{Stage, answers, installed, label, options, wire};
use crate::sweep::{Trial, silence, sweep};

/// Writes the note of a trial.
pub async fn write(tx: &mut TenantTx, trial: &Trial<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO notes (body) VALUES ($1)")
        .bind(trial.body())
        .execute(tx)
        .await?;
    Ok(())
}

/// A connection is open, and a transaction on it has written the note of a trial.
async fn written(trial: &Trial<'_>) -> TenantTx {
    let a = trial.a().await;
    let mut tx = a.begin().await.expect("begun");
    write(&mut tx, trial).await.expect("written");
    tx
}

/// Always begun: on another connection where the first turns out dead.
async fn begins(trial: &Trial<'_>, options: &TxOptions) {
    let a = trial.a().await;
    drop(a.begin().await.expect("a connection is open"));
    a.begin()
        .await
        .expect("which is idle")
        .rollback()
        .await
        .expect("again");
    trial.arm();
    let begun = a.begin_with(options).await;
    trial.disarm().await;
    let mut tx = begun.expect("begun");
    match answers(&mut tx, "a").await {
        Ok(()) => tx.commit().await.expect("committed"),
        // Behind the last message of its beginning.
        Err(error) => {
            trial.is_lost(error);
            let error = tx.commit().await.expect_err("lost before");
            assert!(error.is_rolled_back(), "{trial}: {error:?}");
        }
    }
}

#[tokio::test]
async fn beginning() {
    let stage = Stage::new(false).await;
    let plain = TxOptions::default();
    let options = [
        plain.clone(),
        plain.isolation(IsolationLevel::Serializable).read_only(),
    ];
    for options in options {
        sweep(&stage, async |trial| begins(trial, &options).await).await;
    }
    let plain = TxOptions::default();
    silence(&stage, async |trial| begins(trial, &plain).await).await;
}

/// What is done in a transaction.
#[derive(Clone, Copy, Debug)]
enum Step {
    Answer,
    FetchOptional,
    RawSql,
    Prepare,
    Lock,
    Hatch,
}

impl Step {
    async fn take(self, tx: &mut TenantTx) -> Result<(), Error> {
        match self {
            Self::Answer => answers(tx, "a").await?,
            Self::FetchOptional => {
                let none = sqlx::query("SELECT 1 FROM notes WHERE body = 'of nobody'")
                    .fetch_optional(tx)
                    .await?;
                assert!(none.is_none());
            }
            Self::RawSql => {
                let rows = sqlx::raw_sql("SELECT 1; SELECT body FROM notes LIMIT 1")
                    .fetch_all(tx)
                    .await?;
                assert_eq!(rows.len(), 2);
            }
            Self::Prepare => {
                let sql = format!("SELECT body FROM notes /* {} */", label());
                tx.prepare(AssertSqlSafe(sql).into_sql_str()).await?;
            }
            Self::Lock => tx.advisory_lock("a lock").await?,
            Self::Hatch => {
                tx.dangerous_connection().await?;
            }
        }
        Ok(())
    }
}

const STEPS: [Step; 6] = [
    Step::Answer,
    Step::FetchOptional,
    Step::RawSql,
    Step::Prepare,
    Step::Lock,
    Step::Hatch,
];

/// A step that was lost has taken the transaction with it, and that is known.
async fn steps(trial: &Trial<'_>, step: Step) {
    let mut tx = written(trial).await;
    trial.arm();
    let done = step.take(&mut tx).await;
    trial.disarm().await;
    let is_lost = done.is_err();
    if let Err(error) = done {
        trial.is_lost(error);
    }
    let committed = tx.commit().await;
    if is_lost {
        let error = committed.as_ref().expect_err("lost");
        assert!(error.is_rolled_back(), "{trial}: {error:?}");
    }
    trial.judge(committed, trial.kept().await, 1).await;
}

#[tokio::test]
async fn statement_in_a_transaction() {
    let stage = Stage::new(false).await;
    for step in STEPS {
        sweep(&stage, async |trial| steps(trial, step).await).await;
        silence(&stage, async |trial| steps(trial, step).await).await;
    }
}

/// A transaction in which the server has refused something is rolled back, wherever the connection
/// is lost after that.
#[tokio::test]
async fn failure_in_a_transaction() {
    let stage = Stage::new(false).await;
    let tally = sweep(&stage, async |trial| {
        let mut tx = written(trial).await;
        trial.arm();
        let refused = sqlx::query("INSERT INTO notes (body) VALUES (NULL)")
            .execute(&mut tx)
            .await;
        let error = Error::from(refused.expect_err("refused"));
        let is_refused = error.code().as_deref() == Some("23502");
        let committed = tx.commit().await;
        trial.disarm().await;
        if !is_refused {
            trial.is_lost(error);
        }
        let error = committed.as_ref().expect_err("not committed");
        assert!(error.is_rolled_back(), "{trial}: {error:?}");
        trial.judge(committed, trial.kept().await, 1).await;
    })
    .await;
    tally.nothing_was_unknown();
}

/// `Ok` if it is there; "unknown" from COMMIT on until the answer.
async fn commits(trial: &Trial<'_>) {
    let tx = written(trial).await;
    trial.arm();
    let committed = tx.commit().await;
    trial.disarm().await;
    trial.judge(committed, trial.kept().await, 1).await;
}

#[tokio::test]
async fn commit() {
    let stage = Stage::new(false).await;
    let tally = sweep(&stage, async |trial| commits(trial).await).await;
    tally.unknown_was_unknown();
    assert!(!tally.has_seen("rolled back"), "{tally:?}");
    silence(&stage, async |trial| commits(trial).await).await;
}

/// The constraint is looked at by COMMIT and fails, so that nothing is kept at any point.
#[tokio::test]
async fn commit_that_the_server_refuses() {
    let stage = Stage::new(false).await;
    let tally = sweep(&stage, async |trial| {
        let mut tx = written(trial).await;
        for _ in 0..2 {
            sqlx::query("INSERT INTO onces (body) VALUES ($1)")
                .bind(trial.body())
                .execute(&mut tx)
                .await
                .expect("looked at later");
        }
        trial.arm();
        let committed = tx.commit().await;
        trial.disarm().await;
        assert!(committed.is_err(), "{trial}");
        let kept = trial.kept().await;
        assert_eq!(kept, 0, "{trial}");
        trial.judge(committed, kept, 1).await;
    })
    .await;
    assert!(tally.has_seen("rolled back"));
}

/// Through the hatch a commit asks first whether it is still the same transaction.
#[tokio::test]
async fn commit_after_the_hatch() {
    let stage = Stage::new(false).await;
    let tally = sweep(&stage, async |trial| {
        let mut tx = written(trial).await;
        let plain = tx.dangerous_connection().await.expect("the hatch");
        plain.execute("SELECT 1").await.expect("run");
        trial.arm();
        let committed = tx.commit().await;
        trial.disarm().await;
        trial.judge(committed, trial.kept().await, 1).await;
    })
    .await;
    tally.unknown_was_unknown();
}

async fn rolls_back(trial: &Trial<'_>) {
    let tx = written(trial).await;
    trial.arm();
    let rolled_back = tx.rollback().await;
    trial.disarm().await;
    if let Err(error) = rolled_back {
        trial.is_lost(error);
    }
    assert_eq!(trial.kept().await, 0, "{trial}");
}

#[tokio::test]
async fn rollback() {
    let stage = Stage::new(false).await;
    sweep(&stage, async |trial| rolls_back(trial).await).await;
    silence(&stage, async |trial| rolls_back(trial).await).await;
}

/// What brings a connection in order is cut: nobody else notices.
#[tokio::test]
async fn dropped() {
    // Nobody here is closed for taking his time.
    let (world, _) = installed().await;
    let wire = wire(&world.app).await;
    let app = wire.connect_options(&world.app);
    let patient = |defaults| options(defaults, false).abandoned_grace(Duration::from_secs(60));
    let registry = world
        .registry_of(app, ContextSettings::default(), patient)
        .await;
    let stage = Stage::of(world, wire, registry, false).await;
    for leaves_traces in [false, true] {
        sweep(&stage, async |trial| {
            let mut tx = written(trial).await;
            if leaves_traces {
                tx.execute("SET lock_timeout = '7s'").await.expect("set");
            }
            trial.arm();
            drop(tx);
            let begun = trial.a().await.begin().await;
            trial.disarm().await;
            drop(begun.expect("begun on this connection or another"));
            assert_eq!(trial.kept().await, 0, "{trial}");
        })
        .await;
    }
}

/// As a whole, with the repeating of what is worth it: done once, or not at all, or nobody knows.
#[tokio::test]
async fn whole_transaction() {
    let stage = Stage::new(false).await;
    let whole = async |trial: &Trial<'_>| {
        let a = trial.a().await;
        answers(&a, "a").await.expect("a connection is open");
        let body = trial.body();
        trial.arm();
        let done = a
            .transaction(TxOptions::default(), |tx| {
                let body = body.clone();
                Box::pin(async move {
                    for _ in 0..2 {
                        sqlx::query("INSERT INTO notes (body) VALUES ($1)")
                            .bind(&body)
                            .execute(&mut *tx)
                            .await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .await;
        trial.disarm().await;
        let committed = done.map_err(|error| match error.is_outcome_unknown() {
            true => CommitError::OutcomeUnknown(lost(&error)),
            false => CommitError::RolledBack(error),
        });
        trial.judge(committed, trial.kept().await, 2).await;
    };
    let tally = sweep(&stage, whole).await;
    tally.unknown_was_unknown();
    assert!(tally.has_seen("rolled back"), "{tally:?}");
    silence(&stage, whole).await;
}

/// What is beneath an unknown outcome.
pub fn lost(error: &Error) -> Error {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(CommitError::OutcomeUnknown(error)) = error.downcast_ref() {
            return error.clone();
        }
        source = error.source();
    }
    panic!("{error:?} is not of a commit")
}
