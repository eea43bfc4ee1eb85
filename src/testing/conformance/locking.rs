//! Nobody's change is overwritten unseen.

use futures_util::FutureExt as _;

use super::{Bench, Check, Subject, Verdict, is_refused, must};
use crate::error::{Error, ErrorKind};
use crate::repository::Versioned as _;

pub(super) fn checks<S: Subject>() -> Vec<(&'static str, Check<S>)> {
    vec![
        ("update needs the version", |bench| update(bench).boxed()),
        ("delete needs the version", |bench| delete(bench).boxed()),
        ("upsert changes what is there", |bench| {
            upsert(bench).boxed()
        }),
        ("of two at once one succeeds", |bench| race(bench).boxed()),
    ]
}

async fn update<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let first = bench.row(bench.a, 1).await?;
    let mut tx = bench.a.begin().await?;
    let second = bench.update(&mut tx, &first).await?;
    tx.commit().await.map_err(Error::from)?;
    must(second.id() == first.id(), "an update changed the id")?;
    must(
        second.version() > first.version(),
        "an update did not raise the version",
    )?;
    bench
        .stays(
            bench.a,
            &second,
            "an update returned another row than there is",
        )
        .await?;

    let mut tx = bench.a.begin().await?;
    let stale = bench.update(&mut tx, &first).await;
    is_refused(
        stale,
        ErrorKind::StaleVersion,
        "an update of an old version was carried out",
    )?;
    // The transaction goes on.
    let third = bench.update(&mut tx, &second).await?;
    tx.commit().await.map_err(Error::from)?;
    bench
        .stays(
            bench.a,
            &third,
            "an update behind a refused one was not kept",
        )
        .await
}

async fn delete<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let first = bench.row(bench.a, 1).await?;
    let other = bench.row(bench.a, 2).await?;
    let mut tx = bench.a.begin().await?;
    let second = bench.update(&mut tx, &first).await?;
    let stale = bench.delete(&mut tx, &first).await;
    is_refused(
        stale,
        ErrorKind::StaleVersion,
        "a row was removed in an old version",
    )?;
    bench.delete(&mut tx, &second).await?;
    let again = bench.delete(&mut tx, &second).await;
    is_refused(again, ErrorKind::NotFound, "a row was removed twice")?;
    let gone = bench.update(&mut tx, &second).await;
    is_refused(gone, ErrorKind::NotFound, "a row that is gone was changed")?;
    tx.commit().await.map_err(Error::from)?;
    must(
        bench.find(bench.a, &second).await?.is_none(),
        "a row that was removed is there",
    )?;
    bench
        .stays(
            bench.a,
            &other,
            "another row than the one that was meant was removed",
        )
        .await
}

async fn upsert<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let repository = bench.subject.repository();
    let mut tx = bench.a.begin().await?;
    let first = repository.upsert(&mut tx, &bench.subject.draft(1)).await?;
    let second = repository.upsert(&mut tx, &bench.subject.again(1)).await?;
    tx.commit().await.map_err(Error::from)?;
    must(second.id() == first.id(), "an upsert made a second row")?;
    must(
        second.version() > first.version(),
        "an upsert that changed a row did not raise its version",
    )?;
    bench
        .stays(
            bench.a,
            &second,
            "an upsert returned another row than there is",
        )
        .await?;
    let rows = bench.rows(bench.a).await?;
    must(rows.len() == 1, "an upsert made a second row")
}

/// Two transactions change one row from the same version, at the same time.
async fn race<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let first = bench.row(bench.a, 1).await?;
    for _ in 0..5 {
        let first = bench.find(bench.a, &first).await?;
        let first = first.ok_or(super::Complaint::new("a row is gone"))?;
        let attempt = || async {
            let mut tx = bench.a.begin().await?;
            bench.update(&mut tx, &first).await?;
            tx.commit().await?;
            Ok::<(), Error>(())
        };
        let (one, other) = futures_util::future::join(attempt(), attempt()).await;
        let succeeded = usize::from(one.is_ok()) + usize::from(other.is_ok());
        must(succeeded < 2, "two changes from one version were both kept")?;
        must(succeeded > 0, "of two changes neither was kept")?;
    }
    Ok(())
}
