//! What is put to the test.

use crate::repository::{Versioned, WriteRepository};

/// An implementation, and rows to try it with.
pub trait Subject: Send + Sync {
    /// What a row is known by.
    type Id: PartialEq + Send + Sync;
    /// A row. Two are equal if nothing about them differs.
    type Row: Versioned<Id = Self::Id> + Clone + PartialEq + Send + Sync;
    /// What a new row is made of.
    type Draft: Send + Sync;

    /// The implementation.
    fn repository(
        &self,
    ) -> &dyn WriteRepository<Id = Self::Id, Row = Self::Row, Draft = Self::Draft>;

    /// A draft. The same number makes the same draft, different numbers ones that do not
    /// contradict each other. A few numbers in a row should be alike in what lists are ordered by,
    /// so that ties are seen; `number / 3`, say.
    fn draft(&self, number: u32) -> Self::Draft;

    /// A draft with another content than that of this number, and the same unique value, by which
    /// an upsert finds the row that there is.
    fn again(&self, number: u32) -> Self::Draft;

    /// The row with another content that an update keeps, in the same version and with the same
    /// unique value.
    fn changed(&self, row: Self::Row) -> Self::Row;

    /// An id that no row has.
    fn unknown(&self) -> Self::Id;

    /// The name of the constraint that the same draft violates the second time.
    fn constraint(&self) -> &str;

    /// The names of the orders that pages can have beside that of a request which says none.
    fn orders(&self) -> &[&str] {
        &[]
    }
}
