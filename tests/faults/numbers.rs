//! Numbers of a series: no gap and no duplicate, wherever the connection was lost. Entries of the
//! trail: there if their transaction is, and the chain holds.

use sqlx::Executor as _;
use tenantry::{CommitError, Error, NumberSeries, Trail, TrailEntry};

use crate::stage::{Stage, installed};
use crate::sweep::{Trial, silence, sweep};
use crate::transactions::write;

fn invoices() -> NumberSeries {
    NumberSeries::new("invoice").prefix("INV").width(5)
}

async fn stage() -> Stage {
    let (world, installation) = installed().await;
    let mut admin = world.admin().await;
    installation
        .number_series()
        .apply(&mut admin)
        .await
        .expect("applied");
    admin
        .execute("CREATE TABLE invoices (tenant_id text NOT NULL, number text NOT NULL UNIQUE)")
        .await
        .expect("a table");
    installation
        .table("invoices")
        .apply(&mut admin)
        .await
        .expect("policies");
    installation
        .trail()
        .apply(&mut admin)
        .await
        .expect("applied");
    Stage::over(world, false).await
}

/// The numbers that were kept are those from 1 on, without a gap, and how many they are.
async fn kept(trial: &Trial<'_>) -> i64 {
    let mut admin = trial.stage.admin.lock().await;
    let numbers: Vec<String> = sqlx::query_scalar("SELECT number FROM invoices ORDER BY number")
        .fetch_all(&mut *admin)
        .await
        .expect("rows");
    for (at, number) in numbers.iter().enumerate() {
        assert_eq!(*number, format!("INV-{:05}", at + 1), "{trial}");
    }
    numbers.len() as i64
}

async fn takes(trial: &Trial<'_>) {
    let a = trial.a().await;
    let before = kept(trial).await;
    let mut tx = a.begin().await.expect("begun");
    trial.arm();
    let taken = async {
        let number = invoices().next(&mut tx).await?;
        sqlx::query("INSERT INTO invoices (number) VALUES ($1)")
            .bind(number.as_str())
            .execute(&mut tx)
            .await?;
        Ok::<_, Error>(())
    }
    .await;
    let is_lost = taken.is_err();
    let committed = tx.commit().await;
    trial.disarm().await;
    if let Err(error) = taken {
        trial.is_lost(error);
    }
    assert!(
        !is_lost || matches!(committed, Err(CommitError::RolledBack(_))),
        "{trial}"
    );
    trial.judge(committed, kept(trial).await - before, 1).await;
}

#[tokio::test]
async fn taken_and_committed() {
    let stage = stage().await;
    let tally = sweep(&stage, async |trial| takes(trial).await).await;
    tally.unknown_was_unknown();
    silence(&stage, async |trial| takes(trial).await).await;
}

/// By the statement that is a transaction by itself.
#[tokio::test]
async fn taken_by_the_statement_that_writes() {
    let stage = stage().await;
    sweep(&stage, async |trial| {
        let a = trial.a().await;
        drop(a.begin().await.expect("a connection is open"));
        let before = kept(trial).await;
        let insert = "INSERT INTO invoices (number) VALUES (tenantry.next_number($1)) \
                      RETURNING number";
        drop(a.begin().await.expect("a connection is idle"));
        a.begin()
            .await
            .expect("begun")
            .rollback()
            .await
            .expect("idle");
        trial.arm();
        let number = sqlx::query_scalar::<_, String>(insert)
            .bind(invoices())
            .fetch_one(&a)
            .await;
        trial.disarm().await;
        let after = kept(trial).await;
        match number {
            Ok(number) => assert_eq!(number, format!("INV-{after:05}"), "{trial}"),
            Err(error) => {
                trial.is_lost(error);
                assert!((before..=before + 1).contains(&after), "{trial}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn entry_of_the_trail() {
    let stage = stage().await;
    let tally = sweep(&stage, async |trial| {
        let a = trial.a().await;
        let mut tx = a.begin().await.expect("begun");
        write(&mut tx, trial).await.expect("written");
        trial.arm();
        let entry = TrailEntry::new("note.write").object("note", trial.body());
        let recorded = Trail::record(&mut tx, &entry).await;
        let is_lost = recorded.is_err();
        let committed = tx.commit().await;
        trial.disarm().await;
        if let Err(error) = recorded {
            trial.is_lost(error);
        }
        assert!(
            !is_lost || matches!(committed, Err(CommitError::RolledBack(_))),
            "{trial}"
        );
        let kept = trial.kept().await;
        let entries = "SELECT count(*), min(tenant) FROM tenantry.trail WHERE object_id = $1";
        assert_eq!(trial.kept_in(entries).await, kept, "{trial}");
        trial.judge(committed, kept, 1).await;
    })
    .await;
    tally.unknown_was_unknown();
    let a = stage.scope("a").await;
    let verified = Trail::verify((&a).into()).await.expect("read");
    assert!(verified.is_sound(), "{verified:?}");
}
