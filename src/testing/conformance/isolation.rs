//! Each method reaches the rows of its tenant and no others.

use futures_util::FutureExt as _;

use super::{Bench, Check, Subject, Verdict, is_refused, must};
use crate::error::{Error, ErrorKind};
use crate::repository::{PageRequest, Versioned as _};
use crate::scope::TenantScope;

pub(super) fn checks<S: Subject>() -> Vec<(&'static str, Check<S>)> {
    vec![
        ("find keeps tenants apart", |bench| find(bench).boxed()),
        ("get keeps tenants apart", |bench| get(bench).boxed()),
        ("page keeps tenants apart", |bench| page(bench).boxed()),
        ("stream keeps tenants apart", |bench| stream(bench).boxed()),
        ("insert keeps tenants apart", |bench| insert(bench).boxed()),
        ("insert_many keeps tenants apart", |bench| {
            insert_many(bench).boxed()
        }),
        ("update keeps tenants apart", |bench| update(bench).boxed()),
        ("upsert keeps tenants apart", |bench| upsert(bench).boxed()),
        ("delete keeps tenants apart", |bench| delete(bench).boxed()),
    ]
}

async fn find<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let row = bench.row(bench.a, 1).await?;
    let theirs = "another tenant's row was found";
    must(bench.find(bench.b, &row).await?.is_none(), theirs)?;
    let repository = bench.subject.repository();
    let mut tx = bench.b.begin().await?;
    let found = repository.find((&mut tx).into(), &row.id()).await?;
    must(found.is_none(), theirs)?;
    tx.rollback().await?;
    let mut tx = bench.b.begin_read_only().await?;
    let found = repository.find((&mut tx).into(), &row.id()).await?;
    must(found.is_none(), theirs)?;
    tx.rollback().await?;
    bench
        .stays(bench.a, &row, "the tenant's own row was not found")
        .await
}

async fn get<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let row = bench.row(bench.a, 1).await?;
    let repository = bench.subject.repository();
    let theirs = repository.get(bench.b.into(), &row.id()).await;
    is_refused(theirs, ErrorKind::NotFound, "another tenant's row was got")?;
    let own = repository.get(bench.a.into(), &row.id()).await?;
    must(own == row, "the tenant's own row was not got as it is")
}

/// The first page, and those behind it: they are made by different statements.
async fn page<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    // In each other's gaps, so that what is behind a place is of both.
    let of_a = bench.make(bench.a, [1, 3, 5, 7, 9]).await?;
    let of_b = bench.make(bench.b, [2, 4, 6, 8]).await?;
    for request in super::pages::requests(bench.subject) {
        for (scope, own) in [(bench.a, &of_a), (bench.b, &of_b)] {
            for limit in [1, 2, PageRequest::MAX_ROWS] {
                let request = request.clone().limit(limit);
                let pages = super::pages::pages(bench, scope, request).await?;
                let rows: Vec<_> = pages.into_iter().flatten().collect();
                must(
                    rows.iter().all(|row| own.contains(row)),
                    "a page has another tenant's row",
                )?;
                must(
                    own.iter().all(|row| rows.contains(row)),
                    "the pages lack a row of the tenant",
                )?;
            }
        }
    }
    Ok(())
}

async fn stream<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let of_a = bench.make(bench.a, 1..4).await?;
    let of_b = bench.make(bench.b, 4..6).await?;
    are_the_rows(bench, bench.a, &of_a).await?;
    are_the_rows(bench, bench.b, &of_b).await
}

/// What one tenant inserts is there for it, and not for the other one, in either order; and the
/// same draft is free for both.
async fn insert<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    for scope in [bench.a, bench.b, bench.a] {
        let other = if std::ptr::eq(scope, bench.a) {
            bench.b
        } else {
            bench.a
        };
        let (before, others) = (bench.rows(scope).await?, bench.rows(other).await?);
        let number = 1 + before.len() as u32;
        let row = bench.row(scope, number).await?;
        bench
            .stays(scope, &row, "what was inserted is not there for its tenant")
            .await?;
        must(
            bench.rows(scope).await?.len() == before.len() + 1,
            "what was inserted is not among the rows of its tenant",
        )?;
        must(
            same(&bench.rows(other).await?, &others),
            "an insert changed what another tenant sees",
        )?;
    }
    Ok(())
}

async fn insert_many<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    for (scope, other, first) in [
        (bench.a, bench.b, 1),
        (bench.b, bench.a, 1),
        (bench.a, bench.b, 4),
    ] {
        let (before, others) = (bench.rows(scope).await?, bench.rows(other).await?);
        let drafts: Vec<_> = (first..first + 3)
            .map(|number| bench.subject.draft(number))
            .collect();
        let mut tx = scope.begin().await?;
        let count = bench
            .subject
            .repository()
            .insert_many(&mut tx, &drafts)
            .await?;
        tx.commit().await.map_err(Error::from)?;
        must(count == 3, "insert_many did not say how many rows it made")?;
        must(
            bench.rows(scope).await?.len() == before.len() + 3,
            "what was inserted is not there for its tenant",
        )?;
        must(
            same(&bench.rows(other).await?, &others),
            "insert_many changed what another tenant sees",
        )?;
    }
    Ok(())
}

async fn update<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let row = bench.row(bench.a, 1).await?;
    let mut tx = bench.b.begin().await?;
    let done = bench.update(&mut tx, &row).await;
    tx.commit().await.map_err(Error::from)?;
    bench
        .stays(bench.a, &row, "another tenant's row was changed")
        .await?;
    is_refused(
        done,
        ErrorKind::NotFound,
        "another tenant's row was taken for one to change",
    )?;
    Ok(())
}

async fn upsert<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let row = bench.row(bench.a, 1).await?;
    let again = bench.subject.again(1);
    let mut tx = bench.b.begin().await?;
    let own = bench.subject.repository().upsert(&mut tx, &again).await?;
    tx.commit().await.map_err(Error::from)?;
    bench
        .stays(bench.a, &row, "another tenant's row was changed")
        .await?;
    bench
        .stays(
            bench.b,
            &own,
            "what was upserted is not there for its tenant",
        )
        .await?;
    are_the_rows(bench, bench.a, &[row]).await?;
    are_the_rows(bench, bench.b, &[own]).await
}

async fn delete<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let row = bench.row(bench.a, 1).await?;
    let mut tx = bench.b.begin().await?;
    let done = bench.delete(&mut tx, &row).await;
    tx.commit().await.map_err(Error::from)?;
    bench
        .stays(bench.a, &row, "another tenant's row was removed")
        .await?;
    is_refused(
        done,
        ErrorKind::NotFound,
        "another tenant's row was taken for one to remove",
    )?;
    Ok(())
}

/// Whether these are the same rows, in whatever order.
fn same<Row: PartialEq>(some: &[Row], others: &[Row]) -> bool {
    some.len() == others.len() && some.iter().all(|row| others.contains(row))
}

/// That the stream has these rows and no others.
async fn are_the_rows<S: Subject>(
    bench: &Bench<'_, S>,
    scope: &TenantScope,
    expected: &[S::Row],
) -> Verdict {
    let rows = bench.rows(scope).await?;
    must(
        rows.iter().all(|row| expected.contains(row)),
        "the stream has a row that is not the tenant's",
    )?;
    must(
        rows.len() == expected.len(),
        "the stream has not each row of the tenant once",
    )
}
