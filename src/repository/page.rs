//! A part of a list.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::error::{Error, ErrorKind};

/// Some rows of a list, and where it goes on.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Page<Row> {
    /// The rows, in order.
    pub items: Vec<Row>,
    /// For [`PageRequest::after`]. `None`: there was nothing behind these rows.
    pub next: Option<Cursor>,
}

impl<Row> Page<Row> {
    /// A page. For an implementation of your own without a [`Pager`](super::Pager).
    pub fn new(items: Vec<Row>, next: Option<Cursor>) -> Self {
        Self { items, next }
    }

    /// The same page with each row made into something else, such as what a client is shown.
    pub fn map<T>(self, change: impl FnMut(Row) -> T) -> Page<T> {
        Page {
            items: self.items.into_iter().map(change).collect(),
            next: self.next,
        }
    }
}

/// How many rows, and not which.
impl<Row> fmt::Debug for Page<Row> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("items", &self.items.len())
            .field("has_next", &self.next.is_some())
            .finish()
    }
}

/// Which part of a list is wanted, and how the list is ordered.
///
/// It can be read from the query string of a request, `?limit=20&order=name&direction=descending`
/// and later `&after=..`; all of it may be left out.
///
/// ```
/// use tenantry::repository::{Direction, PageRequest};
///
/// let request = PageRequest::default().limit(20).order("name").descending();
/// assert_eq!(request.rows(), 20);
/// assert_eq!(request.direction(), Direction::Descending);
/// assert_eq!(PageRequest::default().limit(1_000_000).rows(), PageRequest::MAX_ROWS);
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Cursor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<String>,
    direction: Direction,
}

/// In which direction a list is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Direction {
    /// The smallest first.
    #[default]
    #[serde(alias = "asc")]
    Ascending,
    /// The largest first.
    #[serde(alias = "desc")]
    Descending,
}

impl PageRequest {
    /// How many rows a page has where nothing is said.
    pub const DEFAULT_ROWS: u32 = 50;
    /// How many rows a page has at most.
    pub const MAX_ROWS: u32 = 500;

    /// At most so many rows. Default [`DEFAULT_ROWS`](Self::DEFAULT_ROWS), which 0 stands for as
    /// well; more than [`MAX_ROWS`](Self::MAX_ROWS) is as much as that.
    #[must_use]
    pub fn limit(mut self, rows: u32) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Only what comes behind the page that gave this cursor. Default: from the beginning.
    #[must_use]
    pub fn after(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.after = cursor.into();
        self
    }

    /// By what the list is ordered, in the repository's own words. Default: as the repository
    /// likes.
    #[must_use]
    pub fn order(mut self, order: impl Into<String>) -> Self {
        self.order = Some(order.into());
        self
    }

    /// In which direction. Default [`Direction::Ascending`].
    #[must_use]
    pub fn towards(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// The largest first.
    #[must_use]
    pub fn descending(self) -> Self {
        self.towards(Direction::Descending)
    }

    /// How many rows a page has at most, from 1 to [`MAX_ROWS`](Self::MAX_ROWS).
    pub fn rows(&self) -> u32 {
        match self.limit {
            None | Some(0) => Self::DEFAULT_ROWS,
            Some(rows) => rows.min(Self::MAX_ROWS),
        }
    }

    /// In which direction the list is read.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Behind what.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.after.as_ref()
    }

    /// The order's name, empty where nothing is said.
    pub(super) fn order_name(&self) -> &str {
        self.order.as_deref().unwrap_or_default()
    }

    /// Which of these orders is wanted; the first of them where nothing is said.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownOrder`]: none of them.
    pub fn order_among<'o>(&self, orders: &[&'o str]) -> Result<&'o str, Error> {
        let wanted = match &self.order {
            None => orders.first(),
            Some(wanted) => orders.iter().find(|order| *order == wanted),
        };
        wanted.copied().ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownOrder,
                "the list cannot be ordered by that",
            )
        })
    }
}

impl fmt::Debug for PageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageRequest")
            .field("rows", &self.rows())
            .field("has_cursor", &self.after.is_some())
            .field("has_order", &self.order.is_some())
            .field("direction", &self.direction)
            .finish()
    }
}
