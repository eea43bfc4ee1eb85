//! What a double has to know of a table.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::context::TenantContext;
use crate::repository::Versioned;

/// What PostgreSQL would know of a table: how rows are made and changed, what of them is unique,
/// and how they are ordered. It knows nothing of tenants.
pub trait MemoryTable: Send + Sync + 'static {
    /// What a row is known by, and its place among rows that are otherwise ordered alike.
    type Id: Clone + Ord + Into<SortKey> + Send + Sync + 'static;
    /// A row.
    type Row: Versioned<Id = Self::Id> + Clone + Send + Sync + 'static;
    /// What a new row is made of.
    type Draft: Send + Sync + 'static;

    /// `INSERT`: the row of a draft, in its first version. `number` is one that no other row of
    /// this double has, from 1 on, for columns that are numbered by the database.
    fn insert(&self, context: &TenantContext, draft: &Self::Draft, number: i64) -> Self::Row;

    /// `UPDATE`: the old row with what of the new one is taken over, in the next version.
    fn update(&self, old: &Self::Row, new: &Self::Row) -> Self::Row;

    /// `ON CONFLICT .. DO UPDATE`: the old row with what of the draft is taken over, in the next
    /// version.
    fn upsert(&self, old: &Self::Row, draft: &Self::Draft) -> Self::Row;

    /// The names of the unique constraints, and their values in this row, within the tenant. The
    /// first is the one that an upsert goes by. Default: none but the id, under the name
    /// `primary_key`, so that upserts always insert.
    fn unique(&self, row: &Self::Row) -> Vec<(&'static str, Vec<SortKey>)> {
        let _ = row;
        Vec::new()
    }

    /// The names of the orders that pages can have; the first is that of a request which says
    /// none. Default: one, without a name.
    fn orders(&self) -> &[&'static str] {
        &[""]
    }

    /// What a row is ordered by in this order; the id comes behind it by itself.
    fn sort_key(&self, order: &str, row: &Self::Row) -> Vec<SortKey>;
}

/// A value that rows are ordered or told apart by. Texts are compared byte by byte, as in the
/// collation `C`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SortKey {
    /// `false` before `true`.
    Bool(bool),
    /// A number, or a time as a number.
    Number(i64),
    /// A text.
    Text(String),
    /// A UUID.
    Uuid([u8; 16]),
}

impl From<bool> for SortKey {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for SortKey {
    fn from(value: i32) -> Self {
        Self::Number(value.into())
    }
}

impl From<i64> for SortKey {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for SortKey {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for SortKey {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Uuid> for SortKey {
    fn from(value: Uuid) -> Self {
        Self::Uuid(value.into_bytes())
    }
}
