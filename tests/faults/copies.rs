//! COPY, whose data goes past what the driver counts.

use futures_util::StreamExt as _;
use tenantry::{Error, TenantTx};

use crate::stage::{Stage, label};
use crate::sweep::{Trial, silence, sweep};

const COUNT: &str = "SELECT count(*), 'a' FROM plain WHERE body = $1";

async fn copy_in(tx: &mut TenantTx, body: &str) -> Result<u64, Error> {
    let mut copy = tx.copy_in_raw("COPY plain FROM STDIN").await?;
    copy.send(format!("{body}\n{body}").as_bytes()).await?;
    copy.send(format!("\n{body}\n").as_bytes()).await?;
    copy.finish().await
}

async fn copies_in(trial: &Trial<'_>) {
    let a = trial.a().await;
    let mut tx = a.begin().await.expect("begun");
    trial.arm();
    let copied = copy_in(&mut tx, &trial.body()).await;
    let is_lost = copied.is_err();
    let committed = tx.commit().await;
    trial.disarm().await;
    match copied {
        Ok(rows) => assert_eq!(rows, 3, "{trial}"),
        Err(error) => trial.is_lost(error),
    }
    if is_lost {
        let error = committed.as_ref().expect_err("lost");
        assert!(error.is_rolled_back(), "{trial}: {error:?}");
    }
    trial.judge(committed, trial.kept_in(COUNT).await, 3).await;
}

#[tokio::test]
async fn in_and_commit() {
    let stage = Stage::new(false).await;
    let tally = sweep(&stage, async |trial| copies_in(trial).await).await;
    tally.unknown_was_unknown();
    silence(&stage, async |trial| copies_in(trial).await).await;
}

/// Given up, or refused for its data: the transaction has failed, and nothing of it is kept.
#[tokio::test]
async fn in_that_comes_to_nothing() {
    let stage = Stage::new(false).await;
    for is_refused in [false, true] {
        let tally = sweep(&stage, async |trial| {
            let a = trial.a().await;
            let mut tx = a.begin().await.expect("begun");
            trial.arm();
            let ended = async {
                let mut copy = tx.copy_in_raw("COPY plain FROM STDIN").await?;
                copy.send(trial.body().as_bytes()).await?;
                match is_refused {
                    true => {
                        copy.send(b"\ttoo many columns\n").await?;
                        copy.finish().await.map(drop)
                    }
                    false => copy.abort().await,
                }
            }
            .await;
            let committed = tx.commit().await;
            trial.disarm().await;
            if let Err(error) = ended
                && error.code().as_deref() != Some("22P04")
            {
                trial.is_lost(error);
            }
            let error = committed.expect_err("failed");
            assert!(error.is_rolled_back(), "{trial}: {error:?}");
            assert_eq!(trial.kept_in(COUNT).await, 0, "{trial}");
        })
        .await;
        assert!(tally.faults > 0);
    }
}

async fn copies_out(trial: &Trial<'_>) {
    let a = trial.a().await;
    let mut tx = a.begin().await.expect("begun");
    let question = label();
    let copy = format!(
        "COPY (SELECT '{question} ' || body FROM notes \
               WHERE body LIKE 'a%note of%' ORDER BY id) TO STDOUT"
    );
    trial.arm();
    let mut data = Vec::new();
    let copied = async {
        let mut chunks = tx.copy_out_raw(&copy).await?;
        while let Some(chunk) = chunks.next().await {
            data.extend_from_slice(&chunk?);
        }
        Ok::<_, Error>(())
    }
    .await;
    trial.disarm().await;
    let expected = ["a note of a", "a second note of a", "a third note of a"]
        .map(|body| format!("{question} {body}\n"))
        .concat();
    match copied {
        Ok(()) => assert_eq!(data, expected.as_bytes(), "{trial}"),
        Err(error) => {
            trial.is_lost(error);
            assert!(expected.as_bytes().starts_with(&data), "{trial}");
            let error = tx.commit().await.expect_err("lost");
            assert!(error.is_rolled_back(), "{trial}: {error:?}");
        }
    }
}

#[tokio::test]
async fn out() {
    let stage = Stage::new(false).await;
    sweep(&stage, async |trial| copies_out(trial).await).await;
    silence(&stage, async |trial| copies_out(trial).await).await;
}
