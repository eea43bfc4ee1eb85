//! Numbers that differ, and no more.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::SeriesNumber;
use super::definition;
use crate::error::{Error, ErrorKind};
use crate::scope::TenantScope;
use crate::tenant::TenantId;

/// Numbers that no two callers of a tenant get, in any process, and that nobody waits for: with
/// gaps, and not in order.
///
/// A process fetches a block of them in one statement and gives them out from memory. What it has
/// left when it ends, and what a transaction took that is rolled back, is never given out again.
///
/// Clones share their blocks. The name is its own: a [`NumberSeries`](crate::NumberSeries) that is
/// called the same counts apart.
///
/// ```no_run
/// # use tenantry::{Error, TenantScope, UniqueSeries};
/// # async fn example(scope: TenantScope) -> Result<(), Error> {
/// let tickets = UniqueSeries::new("ticket").prefix("T").width(6);
/// let ticket = tickets.next(&scope).await?; // before `begin`: it may need a connection
/// assert_eq!(ticket.as_str(), "T-000001");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a series gives numbers when it is asked, see `next`"]
pub struct UniqueSeries {
    name: String,
    prefix: String,
    width: u32,
    block: u32,
    blocks: Arc<Mutex<HashMap<TenantId, Arc<Stock>>>>,
}

/// What a tenant has left of its block.
#[derive(Default)]
struct Stock {
    left: Mutex<Range<i64>>,
    /// Held while the next block is fetched, so that one is and not many.
    fetching: AsyncMutex<()>,
}

/// Blocks of more tenants than this are not kept in memory: all are let go then.
const TENANTS: usize = 10_000;

impl UniqueSeries {
    /// A series by name, as in [`NumberSeries::new`](crate::NumberSeries::new).
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            prefix: String::new(),
            width: 1,
            block: 100,
            blocks: Arc::default(),
        }
    }

    /// As [`NumberSeries::prefix`](crate::NumberSeries::prefix).
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// As [`NumberSeries::width`](crate::NumberSeries::width).
    pub fn width(mut self, digits: u32) -> Self {
        self.width = digits;
        self
    }

    /// How many numbers are fetched at a time, 1 to 100,000. Default 100. More means fewer
    /// statements and wider gaps.
    pub fn block(mut self, numbers: u32) -> Self {
        self.block = numbers;
        self
    }

    /// A number that nobody else gets. Where the block is used up, one statement on `scope` fetches
    /// the next, for all who wait for it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`]: the series is not defined as it should be;
    /// - those of any statement on a scope.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: at worst a block is never given out.
    pub async fn next(&self, scope: &TenantScope) -> Result<SeriesNumber, Error> {
        self.check()?;
        let stock = self.stock(scope.tenant());
        if let Some(value) = stock.take() {
            return Ok(self.number(value));
        }
        let _one_at_a_time = stock.fetching.lock().await;
        if let Some(value) = stock.take() {
            return Ok(self.number(value));
        }
        let first: i64 = sqlx::query_scalar("SELECT tenantry.take_block($1, $2)")
            .bind(&self.name)
            .bind(self.block as i32)
            .fetch_one(scope)
            .await?;
        *stock.left.lock() = first + 1..first + i64::from(self.block);
        Ok(self.number(first))
    }

    fn check(&self) -> Result<(), Error> {
        definition::check_name(&self.name)?;
        definition::check_print(&self.prefix, self.width)?;
        if !(1..=100_000).contains(&self.block) {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                "a block of numbers has 1 to 100,000 of them",
            ));
        }
        Ok(())
    }

    fn stock(&self, tenant: &TenantId) -> Arc<Stock> {
        let mut blocks = self.blocks.lock();
        if let Some(stock) = blocks.get(tenant) {
            return Arc::clone(stock);
        }
        if blocks.len() >= TENANTS {
            blocks.clear();
        }
        Arc::clone(blocks.entry(tenant.clone()).or_default())
    }

    fn number(&self, value: i64) -> SeriesNumber {
        let text = definition::print(&self.prefix, self.width, value);
        SeriesNumber::new(value, String::new(), text)
    }
}

impl fmt::Debug for UniqueSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UniqueSeries")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Stock {
    fn take(&self) -> Option<i64> {
        self.left.lock().next()
    }
}
