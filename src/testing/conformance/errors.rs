//! What goes wrong has its own kind, and changes nothing.

use futures_util::FutureExt as _;

use super::{Bench, Check, Subject, Verdict, is_refused, must};
use crate::error::{Error, ErrorKind};

pub(super) fn checks<S: Subject>() -> Vec<(&'static str, Check<S>)> {
    vec![
        ("what is not there is not found", |bench| {
            missing(bench).boxed()
        }),
        ("insert says which constraint is violated", |bench| {
            conflict(bench).boxed()
        }),
        ("insert_many makes all rows or none", |bench| {
            all_or_none(bench).boxed()
        }),
    ]
}

async fn missing<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let (repository, unknown) = (bench.subject.repository(), bench.subject.unknown());
    let found = repository.find(bench.a.into(), &unknown).await?;
    must(found.is_none(), "a row was found that does not exist")?;
    let got = repository.get(bench.a.into(), &unknown).await;
    is_refused(
        got,
        ErrorKind::NotFound,
        "a row was got that does not exist",
    )?;
    let mut tx = bench.a.begin().await?;
    let deleted = repository.delete(&mut tx, &unknown, 1).await;
    is_refused(
        deleted,
        ErrorKind::NotFound,
        "a row was removed that does not exist",
    )?;
    tx.commit().await.map_err(Error::from)?;
    Ok(())
}

async fn conflict<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let row = bench.row(bench.a, 1).await?;
    let (repository, draft) = (bench.subject.repository(), bench.subject.draft(1));
    let mut tx = bench.a.begin().await?;
    let done = repository.insert(&mut tx, &draft).await;
    let error = is_refused(done, ErrorKind::Conflict, "the same was inserted twice")?;
    must(
        error.constraint() == Some(bench.subject.constraint()),
        "a conflict has not the name of the constraint",
    )?;
    let after = repository
        .find((&mut tx).into(), &bench.subject.unknown())
        .await;
    is_refused(
        after,
        ErrorKind::TransactionAborted,
        "a transaction went on behind a conflict",
    )?;
    must(
        tx.commit().await.is_err(),
        "a transaction with a conflict was committed",
    )?;
    bench
        .stays(bench.a, &row, "a conflict changed the row that was there")
        .await?;

    let mut tx = bench.a.begin().await?;
    let mut savepoint = tx.savepoint().await?;
    let done = repository.insert(&mut savepoint, &draft).await;
    is_refused(done, ErrorKind::Conflict, "the same was inserted twice")?;
    savepoint.rollback().await?;
    let other = repository.insert(&mut tx, &bench.subject.draft(2)).await?;
    tx.commit().await.map_err(Error::from)?;
    bench
        .stays(
            bench.a,
            &other,
            "a transaction did not go on from a savepoint",
        )
        .await
}

async fn all_or_none<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let row = bench.row(bench.a, 2).await?;
    let drafts: Vec<_> = (1..4).map(|number| bench.subject.draft(number)).collect();
    let mut tx = bench.a.begin().await?;
    let mut savepoint = tx.savepoint().await?;
    let repository = bench.subject.repository();
    let done = repository.insert_many(&mut savepoint, &drafts).await;
    let error = is_refused(done, ErrorKind::Conflict, "the same was inserted twice")?;
    must(
        error.constraint() == Some(bench.subject.constraint()),
        "a conflict has not the name of the constraint",
    )?;
    savepoint.rollback().await?;
    let none = repository.insert_many(&mut tx, &[]).await?;
    must(none == 0, "insert_many of nothing made rows")?;
    tx.commit().await.map_err(Error::from)?;
    must(
        bench.rows(bench.a).await? == [row],
        "insert_many made some rows and not all",
    )
}
