//! What is done in a transaction is kept or undone as a whole.

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;

use super::{Bench, Check, Subject, Verdict, must};
use crate::error::Error;
use crate::repository::{PageRequest, Versioned as _};

pub(super) fn checks<S: Subject>() -> Vec<(&'static str, Check<S>)> {
    vec![
        (
            "a transaction sees what it has done, others later",
            |bench| seen(bench).boxed(),
        ),
        (
            "a transaction that is not committed leaves nothing",
            |bench| undone(bench).boxed(),
        ),
        ("a savepoint undoes what is behind it", |bench| {
            savepoint(bench).boxed()
        }),
        ("a stream may be left", |bench| left(bench).boxed()),
    ]
}

async fn seen<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let repository = bench.subject.repository();
    let mut tx = bench.a.begin().await?;
    let row = repository.insert(&mut tx, &bench.subject.draft(1)).await?;
    let row = bench.update(&mut tx, &row).await?;
    let found = repository.find((&mut tx).into(), &row.id()).await?;
    let page = repository
        .page((&mut tx).into(), &PageRequest::default())
        .await?;
    let first = repository
        .stream((&mut tx).into())
        .next()
        .await
        .transpose()?;
    must(
        found.as_ref() == Some(&row) && page.items == [row.clone()] && first.as_ref() == Some(&row),
        "a transaction does not see what it has done",
    )?;
    must(
        bench.find(bench.a, &row).await?.is_none(),
        "what is not committed is seen outside",
    )?;
    tx.commit().await.map_err(Error::from)?;
    bench
        .stays(bench.a, &row, "what was committed is not there")
        .await
}

async fn undone<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let before = bench.make(bench.a, 1..3).await?;
    let repository = bench.subject.repository();
    let drafts = [bench.subject.draft(4), bench.subject.draft(5)];
    for is_dropped in [false, true] {
        let mut tx = bench.a.begin().await?;
        repository.insert(&mut tx, &bench.subject.draft(3)).await?;
        repository.insert_many(&mut tx, &drafts).await?;
        bench.update(&mut tx, &before[0]).await?;
        repository.upsert(&mut tx, &bench.subject.again(1)).await?;
        bench.delete(&mut tx, &before[1]).await?;
        match is_dropped {
            false => tx.rollback().await?,
            true => drop(tx),
        }
        for row in &before {
            bench
                .stays(bench.a, row, "what was rolled back has changed a row")
                .await?;
        }
        let after = bench.rows(bench.a).await?;
        must(
            after.len() == before.len(),
            "what was rolled back has left a row",
        )?;
    }
    Ok(())
}

async fn savepoint<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let repository = bench.subject.repository();
    let mut tx = bench.a.begin().await?;
    let first = repository.insert(&mut tx, &bench.subject.draft(1)).await?;
    let mut kept = tx.savepoint().await?;
    let second = repository
        .insert(&mut kept, &bench.subject.draft(2))
        .await?;
    {
        let mut dropped = kept.savepoint().await?;
        repository
            .insert(&mut dropped, &bench.subject.draft(3))
            .await?;
        bench.update(&mut dropped, &first).await?;
    }
    kept.release().await?;
    let mut undone = tx.savepoint().await?;
    bench.delete(&mut undone, &second).await?;
    undone.rollback().await?;
    tx.commit().await.map_err(Error::from)?;
    for row in [&first, &second] {
        bench
            .stays(
                bench.a,
                row,
                "a savepoint undid more, or less, than what is behind it",
            )
            .await?;
    }
    let rows = bench.rows(bench.a).await?;
    must(
        rows.len() == 2,
        "a savepoint undid more, or less, than what is behind it",
    )
}

/// A stream that is dropped half-way harms nothing.
async fn left<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let made = bench.make(bench.a, 1..4).await?;
    let repository = bench.subject.repository();
    for _ in 0..3 {
        let first = repository.stream(bench.a.into()).next().await.transpose()?;
        must(
            first.is_some_and(|row| made.contains(&row)),
            "the stream has another row",
        )?;
    }
    must(
        bench.rows(bench.a).await?.len() == 3,
        "the stream has not all rows",
    )
}
