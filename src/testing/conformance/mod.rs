//! What any implementation of the [repository traits](crate::repository) is put through.
//!
//! ```no_run
//! # use tenantry::TenantScope;
//! # use tenantry::testing::conformance::{self, Subject};
//! # async fn example(clients: impl Subject, a: TenantScope, b: TenantScope) {
//! conformance::check(&clients, &a, &b).await.assert();
//! # }
//! ```
//!
//! The scopes are of two tenants that have no rows of this kind, and of a registry that allows each
//! two connections at a time; for a double they are
//! [detached](super::detached_scope). What the checks make they take away again.

mod errors;
mod isolation;
mod locking;
mod pages;
mod report;
mod subject;
mod unit_of_work;

use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;

use crate::error::{Error, ErrorKind};
use crate::repository::Versioned as _;
use crate::scope::TenantScope;
use crate::tx::TenantTx;

pub use report::{Complaint, Report};
pub use subject::Subject;

use report::Verdict;

/// Puts an implementation to the test, with two tenants.
///
/// * Each method of the two traits reaches the rows of its tenant and no others.
/// * Pages have each row once, in one order, in both directions, whatever is inserted and removed
///   meanwhile; cursors of others are refused, as are broken ones; a page has at most
///   [`MAX_ROWS`](crate::repository::PageRequest::MAX_ROWS) rows.
/// * Nobody's change is overwritten unseen; two who change the same row at once do not both succeed.
/// * Errors are of the kinds that the traits name, a conflict with the constraint's name; what
///   failed has changed nothing.
/// * What is done in a transaction is kept or undone as a whole, and is seen by others afterwards.
///
/// It does not see what a single statement of its own makes of a `WHERE` that never matters to
/// another tenant's rows, such as a filter of yours: try methods of your own yourself.
///
/// # Cancel safety
///
/// Dropped, it leaves rows behind.
pub async fn check<S: Subject>(subject: &S, a: &TenantScope, b: &TenantScope) -> Report {
    let mut report = Report::default();
    let bench = Bench { subject, a, b };
    if a.tenant() == b.tenant() {
        report.add("the scopes", Complaint::new("they are of one tenant"));
        return report;
    }
    for scope in [a, b] {
        if !bench.rows(scope).await.is_ok_and(|rows| rows.is_empty()) {
            report.add("the start", Complaint::new("a tenant has rows already"));
            return report;
        }
    }
    for (name, check) in checks() {
        if let Err(complaint) = check(&bench).await {
            report.add(name, complaint);
        }
        for scope in [a, b] {
            if let Err(complaint) = bench.clear(scope).await {
                report.add(name, complaint);
                return report;
            }
        }
    }
    report
}

type Check<S> = for<'c> fn(&'c Bench<'c, S>) -> BoxFuture<'c, Verdict>;

/// All checks, by name.
fn checks<S: Subject>() -> Vec<(&'static str, Check<S>)> {
    let parts = [
        isolation::checks(),
        pages::checks(),
        locking::checks(),
        errors::checks(),
        unit_of_work::checks(),
    ];
    parts.into_iter().flatten().collect()
}

/// What a check has: the implementation and two tenants without rows.
struct Bench<'c, S> {
    subject: &'c S,
    a: &'c TenantScope,
    b: &'c TenantScope,
}

impl<S: Subject> Bench<'_, S> {
    /// All rows, by the stream.
    async fn rows(&self, scope: &TenantScope) -> Result<Vec<S::Row>, Error> {
        let rows = self.subject.repository().stream(scope.into());
        rows.try_collect().await
    }

    /// A committed row of this draft.
    async fn row(&self, scope: &TenantScope, number: u32) -> Result<S::Row, Error> {
        let draft = self.subject.draft(number);
        let mut tx = scope.begin().await?;
        let row = self.subject.repository().insert(&mut tx, &draft).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Committed rows of these drafts.
    async fn make(
        &self,
        scope: &TenantScope,
        numbers: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<S::Row>, Error> {
        let mut rows = Vec::new();
        for number in numbers {
            rows.push(self.row(scope, number).await?);
        }
        Ok(rows)
    }

    async fn find(&self, scope: &TenantScope, row: &S::Row) -> Result<Option<S::Row>, Error> {
        self.subject
            .repository()
            .find(scope.into(), &row.id())
            .await
    }

    /// That this row is there, as it is here.
    async fn stays(&self, scope: &TenantScope, row: &S::Row, rule: &'static str) -> Verdict {
        match self.find(scope, row).await? {
            Some(found) if found == *row => Ok(()),
            _ => Err(Complaint::new(rule)),
        }
    }

    async fn update(&self, tx: &mut TenantTx, row: &S::Row) -> Result<S::Row, Error> {
        let changed = self.subject.changed(row.clone());
        self.subject.repository().update(tx, &changed).await
    }

    async fn delete(&self, tx: &mut TenantTx, row: &S::Row) -> Result<(), Error> {
        let (id, version) = (row.id(), row.version());
        self.subject.repository().delete(tx, &id, version).await
    }

    /// Removes all rows of a tenant, in transactions that are small enough for any lock table.
    async fn clear(&self, scope: &TenantScope) -> Verdict {
        let rows = self.rows(scope).await?;
        let mut tx = scope.begin().await?;
        for row in rows {
            match self.delete(&mut tx, &row).await {
                Ok(()) => {}
                // A stream that gives more than it should is found out elsewhere.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        tx.commit().await.map_err(Error::from)?;
        Ok(())
    }
}

/// That something was refused, with an error of this kind.
fn is_refused<T>(
    done: Result<T, Error>,
    kind: ErrorKind,
    rule: &'static str,
) -> Result<Error, Complaint> {
    match done {
        Ok(_) => Err(Complaint::new(rule)),
        Err(error) if error.kind() == kind => Ok(error),
        Err(error) => Err(Complaint::new(rule).of(error.kind())),
    }
}

fn must(holds: bool, rule: &'static str) -> Verdict {
    match holds {
        true => Ok(()),
        false => Err(Complaint::new(rule)),
    }
}
