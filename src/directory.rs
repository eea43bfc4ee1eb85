//! Where a tenant lives.

use std::collections::HashMap;
use std::fmt;

use sqlx::postgres::PgConnectOptions;

use crate::tenant::TenantId;

/// Which tenants there are and where each of them lives, known when the service starts.
///
/// Two placements, mixed freely: tenants that *share* one database, kept apart by row-level
/// security, and tenants with a *database of their own*, which knows whose it is and refuses
/// every other tenant's statements.
///
/// ```
/// use sqlx::postgres::PgConnectOptions;
/// use tenantry::{StaticDirectory, TenantId};
///
/// let server = PgConnectOptions::new_without_pgpass().host("localhost").username("app");
/// let hawaiian: TenantId = "hawaiian".parse()?;
/// let directory = StaticDirectory::new()
///     .shared(server.clone().database("app"), ["united".parse()?, "delta".parse()?])
///     .database(hawaiian, server.database("app_hawaiian"));
/// # let _ = directory;
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct StaticDirectory {
    pub(crate) shared: Option<PgConnectOptions>,
    pub(crate) placements: HashMap<TenantId, Placement>,
    pub(crate) others_share: bool,
}

/// Where one tenant lives.
#[derive(Clone)]
pub(crate) enum Placement {
    Shared,
    Database(Box<PgConnectOptions>),
}

impl StaticDirectory {
    /// A directory of nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// These tenants share this database. Called again, it adds tenants and replaces the database.
    #[must_use]
    pub fn shared(
        mut self,
        options: PgConnectOptions,
        tenants: impl IntoIterator<Item = TenantId>,
    ) -> Self {
        self.shared = Some(options);
        self.placements.extend(
            tenants
                .into_iter()
                .map(|tenant| (tenant, Placement::Shared)),
        );
        self
    }

    /// Every tenant that is not named otherwise shares this database. For services that learn
    /// their tenants from a source they trust, such as a verified token; a tenant that does not
    /// exist then sees no rows instead of getting an error.
    #[must_use]
    pub fn shared_by_all(mut self, options: PgConnectOptions) -> Self {
        self.shared = Some(options);
        self.others_share = true;
        self
    }

    /// This tenant has this database to itself. The database must have been told so, by
    /// [`Installation::database_of`](crate::sql::Installation::database_of).
    #[must_use]
    pub fn database(mut self, tenant: TenantId, options: PgConnectOptions) -> Self {
        self.placements
            .insert(tenant, Placement::Database(Box::new(options)));
        self
    }
}

/// Shows the tenants and none of the options, which hold passwords.
impl fmt::Debug for StaticDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |placement: &Placement| match placement {
            Placement::Shared => "shared",
            Placement::Database(_) => "database",
        };
        f.debug_struct("StaticDirectory")
            .field("others_share", &self.others_share)
            .field(
                "tenants",
                &self
                    .placements
                    .iter()
                    .map(|(tenant, placement)| (tenant.as_str(), kind(placement)))
                    .collect::<Vec<_>>(),
            )
            .finish()
    }
}
