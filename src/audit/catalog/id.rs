//! What the catalog knows an object by.

use std::cmp::Ordering;

use serde::{Deserialize, Deserializer};
use sqlx::postgres::types::Oid;

/// An object identifier, which sqlx's own has no order for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub(in crate::audit) struct Id(pub(in crate::audit) Oid);

impl Id {
    /// `PUBLIC` in a list of grants, every role in a list of settings.
    pub(in crate::audit) const PUBLIC: Self = Self(Oid(0));
}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.0.cmp(&other.0.0)
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(|number| Self(Oid(number)))
    }
}
