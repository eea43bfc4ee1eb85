//! What a pool is for.

use crate::directory::{Database, DatabaseKey, Placement, TenantRecord};
use crate::tenant::TenantId;

/// What a pool is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// A tenant's own database. One that has moved is another target.
    Own {
        tenant: TenantId,
        database: DatabaseKey,
        epoch: u64,
    },
    /// A database that tenants share.
    Shared(DatabaseKey),
    /// The database of dangerous access.
    Dangerous(DatabaseKey),
}

impl Target {
    pub(crate) fn of(tenant: &TenantId, record: &TenantRecord) -> Self {
        let database = record.placement().database().key();
        match record.placement() {
            Placement::Database { .. } => Self::Own {
                tenant: tenant.clone(),
                database,
                epoch: record.placement_epoch(),
            },
            Placement::Shared { .. } | Placement::Schema { .. } => Self::Shared(database),
        }
    }

    pub(crate) fn shared(database: &Database) -> Self {
        Self::Shared(database.key())
    }

    pub(crate) fn dangerous(database: &Database) -> Self {
        Self::Dangerous(database.key())
    }

    /// Whose it is alone.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Own { tenant, .. } => Some(tenant),
            Self::Shared(_) | Self::Dangerous(_) => None,
        }
    }
}
