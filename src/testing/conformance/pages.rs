//! Pages have each row once, in one order.

use futures_util::FutureExt as _;

use super::{Bench, Check, Complaint, Subject, Verdict, is_refused, must};
use crate::error::{Error, ErrorKind};
use crate::repository::{Cursor, Direction, Page, PageRequest, Versioned as _};
use crate::scope::TenantScope;

pub(super) fn checks<S: Subject>() -> Vec<(&'static str, Check<S>)> {
    vec![
        ("pages have each row once", |bench| once(bench).boxed()),
        ("pages are stable under inserts and deletes", |bench| {
            stable(bench).boxed()
        }),
        ("pages have at most as many rows as they may", |bench| {
            limit(bench).boxed()
        }),
        ("cursors of others are refused", |bench| {
            others(bench).boxed()
        }),
        ("broken cursors are refused", |bench| broken(bench).boxed()),
    ]
}

/// Each order in each direction.
pub(super) fn requests<S: Subject>(subject: &S) -> Vec<PageRequest> {
    let named = subject.orders().iter();
    let mut orders = vec![PageRequest::default()];
    orders.extend(named.map(|order| PageRequest::default().order(*order)));
    let mut requests = Vec::new();
    for order in orders {
        requests.push(order.clone());
        requests.push(order.descending());
    }
    requests
}

/// From this request to the end.
pub(super) async fn pages<S: Subject>(
    bench: &Bench<'_, S>,
    scope: &TenantScope,
    mut request: PageRequest,
) -> Result<Vec<Vec<S::Row>>, Complaint> {
    let mut pages = Vec::new();
    loop {
        let page = page(bench, scope, &request).await?;
        must(
            page.items.len() <= request.rows() as usize,
            "a page has more rows than were asked for",
        )?;
        must(
            page.next.is_none() || !page.items.is_empty(),
            "a page without rows has a next one",
        )?;
        pages.push(page.items);
        must(pages.len() < 2_000, "the pages do not come to an end")?;
        match page.next {
            None => return Ok(pages),
            next => request = request.after(next),
        }
    }
}

async fn page<S: Subject>(
    bench: &Bench<'_, S>,
    scope: &TenantScope,
    request: &PageRequest,
) -> Result<Page<S::Row>, Error> {
    let repository = bench.subject.repository();
    repository.page(scope.into(), request).await
}

async fn once<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    // Not in order.
    let made = bench.make(bench.a, [4, 1, 9, 2, 8, 3, 7, 6, 5]).await?;
    for request in requests(bench.subject) {
        let whole = pages(bench, bench.a, request.clone()).await?.concat();
        must(
            made.iter()
                .all(|row| whole.iter().filter(|one| *one == row).count() == 1)
                && whole.len() == made.len(),
            "a row is not in the list, or not once",
        )?;
        for limit in 1..=10 {
            let parts = pages(bench, bench.a, request.clone().limit(limit)).await?;
            must(
                parts
                    .iter()
                    .rev()
                    .skip(1)
                    .all(|part| part.len() == limit as usize),
                "a page that is not the last has fewer rows than were asked for",
            )?;
            must(
                parts.concat() == whole,
                "the order depends on the size of the pages",
            )?;
            must(
                whole.len() % limit as usize != 0 || parts.len() == whole.len() / limit as usize,
                "a page that was the last said that there is another one",
            )?;
        }
        let turned = request.clone().towards(match request.direction() {
            Direction::Ascending => Direction::Descending,
            Direction::Descending => Direction::Ascending,
        });
        let mut turned = pages(bench, bench.a, turned).await?.concat();
        turned.reverse();
        must(
            turned == whole,
            "the other direction is not the other way round",
        )?;
    }
    Ok(())
}

/// While pages are read one by one, rows come and go everywhere, the one that a page ended with
/// among them.
async fn stable<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    for (round, request) in (0..).zip(requests(bench.subject)) {
        let from = 1_000 * round;
        let start = bench
            .make(bench.a, (from..from + 12).map(|number| number * 2))
            .await?;
        let mut removed = Vec::new();
        let mut seen: Vec<S::Row> = Vec::new();
        let mut request = request.limit(3);
        let mut inserted = (from..from + 12).map(|number| number * 2 + 1);
        loop {
            let page = page(bench, bench.a, &request).await?;
            let last = page.items.last().cloned();
            seen.extend(page.items);
            let Some(next) = page.next else { break };
            request = request.after(next);
            for number in inserted.by_ref().take(3) {
                bench.row(bench.a, number).await?;
            }
            if let Some(last) = last {
                let mut tx = bench.a.begin().await?;
                bench.delete(&mut tx, &last).await?;
                tx.commit().await.map_err(Error::from)?;
                removed.push(last.id());
            }
        }
        let times = |id: &S::Id| seen.iter().filter(|row| row.id() == *id).count();
        must(
            seen.iter().all(|row| times(&row.id()) == 1),
            "a row was on two pages",
        )?;
        must(
            start.iter().all(|row| times(&row.id()) == 1),
            "a row that was there all along was on no page",
        )?;
        bench.clear(bench.a).await?;
    }
    Ok(())
}

async fn limit<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    let many = PageRequest::MAX_ROWS + 1;
    let drafts: Vec<_> = (0..many)
        .map(|number| bench.subject.draft(number))
        .collect();
    let mut tx = bench.a.begin().await?;
    let count = bench
        .subject
        .repository()
        .insert_many(&mut tx, &drafts)
        .await?;
    tx.commit().await.map_err(Error::from)?;
    must(
        count == u64::from(many),
        "insert_many did not say how many rows it made",
    )?;
    let first = page(bench, bench.a, &PageRequest::default()).await?;
    must(
        first.items.len() == PageRequest::DEFAULT_ROWS as usize,
        "a page has not as many rows as it has where nothing is said",
    )?;
    let all = PageRequest::default().limit(u32::MAX);
    let pages = pages(bench, bench.a, all).await?;
    let lengths: Vec<usize> = pages.iter().map(Vec::len).collect();
    must(
        lengths == [PageRequest::MAX_ROWS as usize, 1],
        "a page has not as many rows as it has at most",
    )
}

async fn others<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    bench.make(bench.a, 1..4).await?;
    bench.make(bench.b, 1..4).await?;
    let requests = requests(bench.subject);
    for request in &requests {
        let first = page(bench, bench.a, &request.clone().limit(1)).await?;
        let cursor = first
            .next
            .ok_or(Complaint::new("a page is the last and is not"))?;
        let theirs = request.clone().after(cursor.clone());
        is_refused(
            page(bench, bench.b, &theirs).await,
            ErrorKind::InvalidCursor,
            "a cursor of another tenant was taken",
        )?;
        for other in requests.iter().filter(|other| *other != request) {
            let other = other.clone().after(cursor.clone());
            is_refused(
                page(bench, bench.a, &other).await,
                ErrorKind::InvalidCursor,
                "a cursor of another order was taken",
            )?;
        }
    }
    let unknown = PageRequest::default().order("no order has this name");
    is_refused(
        page(bench, bench.a, &unknown).await,
        ErrorKind::UnknownOrder,
        "an order that does not exist was taken",
    )?;
    Ok(())
}

/// Cut anywhere, and with any one character changed.
async fn broken<S: Subject>(bench: &Bench<'_, S>) -> Verdict {
    bench.make(bench.a, 1..3).await?;
    let request = PageRequest::default().limit(1);
    let first = page(bench, bench.a, &request).await?;
    let cursor = first
        .next
        .ok_or(Complaint::new("a page is the last and is not"))?;
    let text = cursor.to_string();
    let mut broken = Vec::new();
    for (at, old) in text.char_indices() {
        broken.push(text[..at].to_owned());
        let mut changed = text.clone();
        changed.replace_range(at..=at, if old == 'A' { "B" } else { "A" });
        broken.push(changed);
    }
    for text in broken {
        let page = match Cursor::parse(&text) {
            Ok(cursor) => page(bench, bench.a, &request.clone().after(cursor)).await,
            Err(error) => Err(error),
        };
        is_refused(page, ErrorKind::InvalidCursor, "a broken cursor was taken")?;
    }
    Ok(())
}
