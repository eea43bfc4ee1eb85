//! Work over all tenants.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::TenantRegistry;
use crate::context::TenantContext;
use crate::error::Error;
use crate::scope::TenantScope;
use crate::slots::Purpose;
use crate::tenant::TenantId;

/// How many tenants are read from the directory at a time.
const PAGE: usize = 256;

/// How [`TenantRegistry::for_each_tenant`] goes about it.
///
/// ```
/// use tenantry::ForEachTenant;
///
/// let options = ForEachTenant::default().concurrency(8).stop_after_failures(3);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing by themselves, use `for_each_tenant`"]
pub struct ForEachTenant {
    concurrency: usize,
    after: Option<TenantId>,
    stop_after: Option<usize>,
}

impl Default for ForEachTenant {
    fn default() -> Self {
        Self {
            concurrency: 4,
            after: None,
            stop_after: None,
        }
    }
}

impl ForEachTenant {
    /// How many tenants are worked on at a time. Default 4, at least 1, and never more than a
    /// quarter of [`LazyPools::max_pools`](crate::LazyPools::max_pools) or than what a
    /// [`ConnectionBudget`](crate::ConnectionBudget) gives one tenant: the rest belongs to
    /// requests.
    pub fn concurrency(mut self, tenants: usize) -> Self {
        self.concurrency = tenants.max(1);
        self
    }

    /// Begins behind this tenant, in the order of their ids: where an earlier run stopped, see
    /// [`ForEachReport::resume_after`].
    pub fn after(mut self, tenant: TenantId) -> Self {
        self.after = Some(tenant);
        self
    }

    /// Begins no more tenants when so many have failed. Default: goes on to the end.
    pub fn stop_after_failures(mut self, failures: usize) -> Self {
        self.stop_after = Some(failures.max(1));
        self
    }
}

/// What became of each tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct ForEachReport<T, E> {
    /// What the work returned, for each tenant that it was done for.
    pub done: BTreeMap<TenantId, T>,
    /// Why it was not done, for each tenant for which it failed.
    pub failed: BTreeMap<TenantId, ForEachError<E>>,
    /// The last tenant up to which every one was done or failed: [`ForEachTenant::after`] goes on
    /// behind it. `None` if that is nobody.
    pub resume_after: Option<TenantId>,
    /// Why it ended before all tenants were met, if it did: too many failures, or a directory that
    /// could not tell who comes next.
    pub stopped: Option<Stopped>,
}

/// Why work over all tenants ended early.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stopped {
    /// As many failed as [`ForEachTenant::stop_after_failures`] allows.
    Failures,
    /// The directory could not say who comes next.
    Directory(Error),
}

/// Why the work was not done for a tenant.
#[derive(Debug)]
#[non_exhaustive]
pub enum ForEachError<E> {
    /// The work returned an error.
    Work(E),
    /// The work panicked.
    Panicked,
    /// The tenant could not be bound.
    Scope(Error),
}

impl<E> fmt::Display for ForEachError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Work(_) => "the work failed for this tenant",
            Self::Panicked => "the work panicked for this tenant",
            Self::Scope(_) => "the tenant could not be bound",
        })
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ForEachError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Work(error) => Some(error),
            Self::Panicked => None,
            Self::Scope(error) => Some(error),
        }
    }
}

impl TenantRegistry {
    /// Does `work` for every active tenant of the directory, a few at a time, in the order of
    /// their ids, and says what became of each.
    ///
    /// It does not get in the way of requests: it uses at most its share of pools and connections,
    /// closes a pool that it had to open as soon as it is done with it, and does not count as a use
    /// of the others, so that those of the busy tenants stay.
    ///
    /// A tenant that came while it ran may be missed, and one that left may be met: its scope says
    /// so then.
    ///
    /// ```no_run
    /// # use tenantry::{Error, ForEachTenant, TenantRegistry};
    /// # async fn example(registry: TenantRegistry) {
    /// let report = registry
    ///     .for_each_tenant(ForEachTenant::default().concurrency(8), |scope| async move {
    ///         let deleted = sqlx::query("DELETE FROM sessions WHERE expires < now()")
    ///             .execute(&scope)
    ///             .await?;
    ///         Ok::<_, Error>(deleted.rows_affected())
    ///     })
    ///     .await;
    /// for (tenant, error) in &report.failed {
    ///     eprintln!("{tenant}: {error}");
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped, the work that is under way is dropped with it, and there is no report: let the work
    /// itself keep a record if it has to be resumed.
    pub async fn for_each_tenant<T, E, F, W>(
        &self,
        options: ForEachTenant,
        work: W,
    ) -> ForEachReport<T, E>
    where
        W: Fn(TenantScope) -> F,
        F: Future<Output = Result<T, E>>,
    {
        let mut report = ForEachReport {
            done: BTreeMap::new(),
            failed: BTreeMap::new(),
            resume_after: None,
            stopped: None,
        };
        let concurrency = options.concurrency.min(self.share_of_jobs());
        let mut next = Next {
            registry: self,
            after: options.after,
            page: VecDeque::new(),
        };
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < concurrency && report.stopped.is_none() {
                match next.tenant().await {
                    Ok(Some(tenant)) => {
                        under_way.push(self.work_for(tenant, &work));
                    }
                    Ok(None) => break,
                    Err(error) => report.stopped = Some(Stopped::Directory(error)),
                }
            }
            let Some((tenant, outcome)) = under_way.next().await else {
                // Nothing that was begun is left undone.
                report.resume_after = next.after;
                return report;
            };
            match outcome {
                Ok(value) => {
                    report.done.insert(tenant, value);
                }
                Err(error) => {
                    report.failed.insert(tenant, error);
                }
            }
            let failures = report.failed.len();
            if options.stop_after.is_some_and(|most| failures >= most) && report.stopped.is_none() {
                report.stopped = Some(Stopped::Failures);
            }
        }
    }

    async fn work_for<T, E, F>(
        &self,
        tenant: TenantId,
        work: &impl Fn(TenantScope) -> F,
    ) -> (TenantId, Result<T, ForEachError<E>>)
    where
        F: Future<Output = Result<T, E>>,
    {
        let outcome = async {
            self.slots
                .check(&tenant)
                .await
                .map_err(ForEachError::Scope)?;
            let scope = self
                .bind(TenantContext::new(tenant.clone()), Purpose::Background)
                .map_err(ForEachError::Scope)?;
            // A panic is that tenant's failure and not everybody's. What `work` shares between
            // tenants is its own to keep in order.
            let worked = AssertUnwindSafe(async { work(scope).await }).catch_unwind();
            match worked.await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) => Err(ForEachError::Work(error)),
                Err(_) => Err(ForEachError::Panicked),
            }
        };
        let outcome = outcome.await;
        self.slots.job_is_done_with(&tenant);
        if outcome.is_err() {
            tracing::debug!(%tenant, "work over all tenants failed for this one");
        }
        (tenant, outcome)
    }

    /// How many tenants jobs may work on at a time.
    fn share_of_jobs(&self) -> usize {
        let pools = self.slots.pools().max().map(|max| max / 4);
        let connections = self.slots.servers().share();
        pools
            .into_iter()
            .chain(connections)
            .min()
            .map_or(usize::MAX, |share| share.max(1))
    }
}

/// The tenants of a directory, one after the other.
struct Next<'a> {
    registry: &'a TenantRegistry,
    after: Option<TenantId>,
    page: VecDeque<TenantId>,
}

impl Next<'_> {
    async fn tenant(&mut self) -> Result<Option<TenantId>, Error> {
        if self.page.is_empty() {
            let directory = self.registry.slots.directory();
            self.page = directory.list(self.after.as_ref(), PAGE).await?.into();
        }
        let next = self.page.pop_front();
        if next.is_some() {
            self.after = next.clone();
        }
        Ok(next)
    }
}
