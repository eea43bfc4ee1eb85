//! What a directory knows of one tenant.

use std::fmt;
use std::sync::Arc;

use super::Database;
use crate::error::{Error, ErrorKind};

/// What a directory knows of one tenant.
///
/// ```
/// use sqlx::postgres::PgConnectOptions;
/// use tenantry::{Database, Placement, TenantRecord, TenantState};
///
/// let server = Database::new(PgConnectOptions::new_without_pgpass().host("localhost"));
/// let record = TenantRecord::new(Placement::Database { database: server.named("shop_globex") })
///     .state(TenantState::Suspended);
/// assert_eq!(record.tenant_state(), TenantState::Suspended);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRecord {
    placement: Placement,
    state: TenantState,
    epoch: u64,
}

impl TenantRecord {
    /// An active tenant that lives here, with the epoch 0.
    pub fn new(placement: Placement) -> Self {
        Self {
            placement,
            state: TenantState::Active,
            epoch: 0,
        }
    }

    /// The same in another state.
    #[must_use]
    pub fn state(mut self, state: TenantState) -> Self {
        self.state = state;
        self
    }

    /// The same with another epoch: a number that is raised whenever the tenant's connections
    /// have to be given up, as after a move.
    #[must_use]
    pub fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }

    /// Where it lives.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether it may be served.
    pub fn tenant_state(&self) -> TenantState {
        self.state
    }

    /// How often its connections had to be given up.
    pub fn placement_epoch(&self) -> u64 {
        self.epoch
    }
}

/// Where a tenant lives. Repository code is the same for all, and a registry mixes them freely.
///
/// No `Display`, and a `Debug` without the options: they hold passwords.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// In one database with others, kept apart by row-level security.
    Shared {
        /// The database that they share.
        database: Database,
    },
    /// In a database of its own, which knows whose it is and refuses every other tenant's
    /// statements, see [`Installation::database_of`](crate::sql::Installation::database_of).
    Database {
        /// The tenant's database.
        database: Database,
    },
    /// In a schema of its own in a database with others, which every transaction puts first in
    /// its `search_path`.
    ///
    /// Names are resolved before any argument is looked at, so a single statement is a
    /// transaction of three messages here. And what keeps tenants apart is names: a statement
    /// that writes `other_schema.table` reaches it if the role may. Give each table its policies
    /// as well.
    Schema {
        /// The database with the schema in it.
        database: Database,
        /// The name of the schema, as it is stored, without quotes.
        schema: Arc<str>,
    },
}

impl Placement {
    pub(crate) fn database(&self) -> &Database {
        match self {
            Self::Shared { database }
            | Self::Database { database }
            | Self::Schema { database, .. } => database,
        }
    }
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared { .. } => "Shared",
            Self::Database { .. } => "Database",
            Self::Schema { .. } => "Schema",
        })
    }
}

/// Whether a tenant may be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TenantState {
    /// It may.
    #[default]
    Active,
    /// Not until somebody says so: [`ErrorKind::TenantSuspended`].
    Suspended,
    /// Not for now, it is on its way to another place: [`ErrorKind::TenantMoving`], which is
    /// worth another try later.
    Moving,
    /// Never again: [`ErrorKind::TenantDeleted`].
    Deleted,
}

impl TenantState {
    /// `Ok` for a tenant that may be served, and otherwise the error of its state.
    pub(crate) fn check(self) -> Result<(), Error> {
        Err(match self {
            Self::Active => return Ok(()),
            Self::Suspended => Error::new(
                ErrorKind::TenantSuspended,
                "the tenant is suspended: no statement of it is run until that is taken back",
            ),
            Self::Moving => Error::new(
                ErrorKind::TenantMoving,
                "the tenant is being moved to another place: try again in a moment",
            ),
            Self::Deleted => Error::new(ErrorKind::TenantDeleted, "the tenant has been deleted"),
        })
    }
}
