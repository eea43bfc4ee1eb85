//! The side that reads.

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::QueryAs;

use super::{Page, PageRequest};
use crate::error::{Error, ErrorKind};
use crate::reader::Reader;

/// What is read of one kind of rows.
///
/// A method takes a [`Reader`], and so a scope, a read-only transaction or a transaction, in which
/// it sees what that has done so far. What is not of the reader's tenant does not exist.
///
/// It can be a trait object, and what it has beyond these methods belongs in a trait of your own
/// over it: `trait Cases: WriteRepository<Id = i64, Row = Case, Draft = NewCase> { .. }`.
///
/// ```
/// # use std::sync::Arc;
/// # use tenantry::repository::ReadRepository;
/// # use tenantry::{Error, TenantScope};
/// # struct Case;
/// struct Desk {
///     cases: Arc<dyn ReadRepository<Id = i64, Row = Case>>,
/// }
///
/// impl Desk {
///     async fn case(&self, scope: &TenantScope, id: i64) -> Result<Case, Error> {
///         self.cases.get(scope.into(), &id).await
///     }
/// }
/// ```
///
/// # Cancel safety
///
/// All methods, of any implementation in plain sqlx: as a statement on what the reader was made of.
#[async_trait]
pub trait ReadRepository: Send + Sync {
    /// What a row is known by.
    type Id: Send + Sync;
    /// A row.
    type Row: Send + Sync;

    /// The row of this id, if there is one.
    ///
    /// # Errors
    ///
    /// Those of a statement.
    async fn find(&self, reader: Reader<'_>, id: &Self::Id) -> Result<Option<Self::Row>, Error>;

    /// The row of this id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]: there is none, or it is another tenant's; nobody can tell which.
    /// And those of a statement.
    async fn get(&self, reader: Reader<'_>, id: &Self::Id) -> Result<Self::Row, Error> {
        let found = self.find(reader, id).await?;
        found.ok_or_else(not_found)
    }

    /// Some rows, and where they go on; see [`Pager`](super::Pager) for how.
    ///
    /// Whoever follows [`Page::next`] to the end gets each row that was there all along once,
    /// whatever is inserted and removed meanwhile, and none twice (one whose place in the order
    /// changes meanwhile is met in one of its places, in both, or in neither).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCursor`], [`ErrorKind::UnknownOrder`], and those of a statement.
    async fn page(
        &self,
        reader: Reader<'_>,
        request: &PageRequest,
    ) -> Result<Page<Self::Row>, Error>;

    /// All rows, one after the other, without keeping more than a few in memory.
    ///
    /// # Errors
    ///
    /// An item is an error of the statement, and then the last.
    fn stream<'r>(&'r self, reader: Reader<'r>) -> BoxStream<'r, Result<Self::Row, Error>>;
}

/// The rows of a query as a stream that keeps its reader: what most need for
/// [`ReadRepository::stream`].
pub fn stream_rows<'r, Row>(
    reader: Reader<'r>,
    query: QueryAs<'r, Postgres, Row, PgArguments>,
) -> BoxStream<'r, Result<Row, Error>>
where
    Row: for<'a> sqlx::FromRow<'a, PgRow> + Send + Unpin + 'r,
{
    Box::pin(async_stream::try_stream! {
        let mut reader = reader;
        let mut rows = query.fetch(&mut reader);
        while let Some(row) = rows.next().await {
            yield row?;
        }
    })
}

pub(crate) fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such row")
}
