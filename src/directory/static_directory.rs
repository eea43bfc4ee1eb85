//! A directory in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use parking_lot::RwLock;
use tokio::sync::broadcast;

use super::{Database, DirectoryChange, Placement, TenantDirectory, TenantRecord, TenantState};
use crate::error::Error;
use crate::tenant::TenantId;

/// Which tenants there are and where each of them lives, known to the process itself.
///
/// All placements can be mixed: tenants that *share* one database, kept apart by row-level
/// security; tenants with a *database of their own*, which knows whose it is and refuses every
/// other tenant's statements; tenants with a *schema of their own*.
///
/// Clones share what they know: keep one to [`set_state`](Self::set_state) or
/// [`put`](Self::put) while a registry runs on it, and the registry heeds it at the next statement.
///
/// ```
/// use sqlx::postgres::PgConnectOptions;
/// use tenantry::{Database, StaticDirectory, TenantId};
///
/// let server = PgConnectOptions::new_without_pgpass().host("localhost").username("app");
/// let hawaiian: TenantId = "hawaiian".parse()?;
/// let directory = StaticDirectory::new()
///     .shared(server.clone().database("app"), ["united".parse()?, "delta".parse()?])
///     .database(hawaiian, server.clone().database("app_hawaiian"))
///     .databases(Database::new(server), [("alaska".parse()?, "app_alaska")]);
/// # let _ = directory;
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone)]
pub struct StaticDirectory(Arc<Inner>);

struct Inner {
    known: RwLock<Known>,
    changes: broadcast::Sender<DirectoryChange>,
}

#[derive(Default)]
struct Known {
    records: BTreeMap<TenantId, TenantRecord>,
    /// Where every tenant lives that is not named.
    others: Option<Database>,
}

impl StaticDirectory {
    /// A directory of nobody.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            known: RwLock::default(),
            // Who falls behind by more than this re-reads all.
            changes: broadcast::Sender::new(256),
        }))
    }

    /// These tenants share this database.
    #[must_use]
    pub fn shared(
        self,
        database: impl Into<Database>,
        tenants: impl IntoIterator<Item = TenantId>,
    ) -> Self {
        let database = database.into();
        for tenant in tenants {
            let database = database.clone();
            self.insert(tenant, TenantRecord::new(Placement::Shared { database }));
        }
        self
    }

    /// Every tenant that is not named otherwise shares this database. For services that learn
    /// their tenants from a source they trust, such as a verified token; a tenant that does not
    /// exist then sees no rows instead of getting an error.
    #[must_use]
    pub fn shared_by_all(self, database: impl Into<Database>) -> Self {
        self.0.known.write().others = Some(database.into());
        self
    }

    /// This tenant has this database to itself. The database must have been told so, by
    /// [`Installation::database_of`](crate::sql::Installation::database_of).
    #[must_use]
    pub fn database(self, tenant: TenantId, database: impl Into<Database>) -> Self {
        let database = database.into();
        self.insert(tenant, TenantRecord::new(Placement::Database { database }));
        self
    }

    /// Each of these tenants has a database to itself, all on one server. As
    /// [`database`](Self::database), for many: they share what is the same for all.
    #[must_use]
    pub fn databases<N: Into<Arc<str>>>(
        self,
        server: impl Into<Database>,
        tenants: impl IntoIterator<Item = (TenantId, N)>,
    ) -> Self {
        let server = server.into();
        for (tenant, name) in tenants {
            let database = server.named(name);
            self.insert(tenant, TenantRecord::new(Placement::Database { database }));
        }
        self
    }

    /// Each of these tenants has a schema of this database to itself.
    #[must_use]
    pub fn schemas<N: Into<Arc<str>>>(
        self,
        database: impl Into<Database>,
        tenants: impl IntoIterator<Item = (TenantId, N)>,
    ) -> Self {
        let database = database.into();
        for (tenant, schema) in tenants {
            let (database, schema) = (database.clone(), schema.into());
            let placement = Placement::Schema { database, schema };
            self.insert(tenant, TenantRecord::new(placement));
        }
        self
    }

    /// What is known of this tenant from now on.
    pub fn put(&self, tenant: TenantId, record: TenantRecord) {
        self.insert(tenant.clone(), record);
        self.tell(tenant);
    }

    /// In which state this tenant is from now on. `false` if it is not known by name.
    pub fn set_state(&self, tenant: &TenantId, state: TenantState) -> bool {
        {
            let mut known = self.0.known.write();
            let Some(record) = known.records.get_mut(tenant) else {
                return false;
            };
            *record = record.clone().state(state);
        }
        self.tell(tenant.clone());
        true
    }

    fn insert(&self, tenant: TenantId, record: TenantRecord) {
        self.0.known.write().records.insert(tenant, record);
    }

    fn tell(&self, tenant: TenantId) {
        // Nobody may be listening.
        let _ = self.0.changes.send(DirectoryChange::Tenant(tenant));
    }
}

#[async_trait]
impl TenantDirectory for StaticDirectory {
    async fn find(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Error> {
        let known = self.0.known.read();
        let others = || {
            let database = known.others.clone()?;
            Some(TenantRecord::new(Placement::Shared { database }))
        };
        Ok(known.records.get(tenant).cloned().or_else(others))
    }

    async fn list(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, Error> {
        let known = self.0.known.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let active = known
            .records
            .range::<TenantId, _>((from, Bound::Unbounded))
            .filter(|(_, record)| record.tenant_state() == TenantState::Active);
        Ok(active.take(limit).map(|(id, _)| id.clone()).collect())
    }

    fn changes(&self) -> BoxStream<'static, DirectoryChange> {
        super::changes_of(self.0.changes.subscribe())
    }

    fn shared_by_others(&self) -> Option<Database> {
        self.0.known.read().others.clone()
    }
}

impl Default for StaticDirectory {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows the tenants and none of the options, which hold passwords.
impl fmt::Debug for StaticDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.known.read();
        let tenants = known
            .records
            .iter()
            .map(|(tenant, record)| (tenant.as_str(), record.placement(), record.tenant_state()));
        f.debug_struct("StaticDirectory")
            .field("others_share", &known.others.is_some())
            .field("tenants", &tenants.collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    fn database(name: &str) -> Database {
        let server = PgConnectOptions::new_without_pgpass().host("db-secret.invalid");
        Database::new(server.password("hunter2-secret")).named(name)
    }

    fn tenant(id: &str) -> TenantId {
        id.parse().expect("a tenant id")
    }

    async fn find(directory: &StaticDirectory, id: &str) -> Option<TenantRecord> {
        directory.find(&tenant(id)).await.expect("an answer")
    }

    /// What has been told by now.
    fn told(changes: &mut BoxStream<'static, DirectoryChange>) -> Option<DirectoryChange> {
        changes.next().now_or_never().expect("it was told")
    }

    #[tokio::test]
    async fn what_is_put_is_found_listed_and_told() {
        let directory = StaticDirectory::new()
            .shared(database("app"), [tenant("a"), tenant("c")])
            .databases(database("x"), [(tenant("B"), "app_b")])
            .schemas(database("app"), [(tenant("d"), "tenant_d")]);
        let mut changes = directory.changes();
        let found = find(&directory, "B").await.expect("B");
        assert!(
            matches!(found.placement(), Placement::Database { database } if database.name() == "app_b")
        );
        let found = find(&directory, "d").await.expect("d");
        assert!(
            matches!(found.placement(), Placement::Schema { schema, .. } if &**schema == "tenant_d")
        );
        assert_eq!(find(&directory, "e").await, None);

        let clone = directory.clone();
        let record = TenantRecord::new(Placement::Shared {
            database: database("new"),
        })
        .epoch(1);
        clone.put(tenant("e"), record.clone());
        assert!(clone.set_state(&tenant("a"), TenantState::Suspended));
        assert!(!clone.set_state(&tenant("nobody"), TenantState::Suspended));
        assert_eq!(find(&directory, "e").await, Some(record));
        let a = find(&directory, "a").await.expect("a");
        assert_eq!(a.tenant_state(), TenantState::Suspended);
        assert!(
            matches!(a.placement(), Placement::Shared { database } if database.name() == "app")
        );
        assert_eq!(
            told(&mut changes),
            Some(DirectoryChange::Tenant(tenant("e")))
        );
        assert_eq!(
            told(&mut changes),
            Some(DirectoryChange::Tenant(tenant("a")))
        );

        let active = directory.list(None, 9).await.expect("a list");
        assert_eq!(active, ["B", "c", "d", "e"].map(tenant));
        let behind = directory.list(Some(&tenant("B")), 2).await.expect("a list");
        assert_eq!(behind, ["c", "d"].map(tenant));

        drop((directory, clone));
        assert_eq!(told(&mut changes), None);
    }

    #[tokio::test]
    async fn whoever_is_not_named_lives_with_the_others() {
        let directory = StaticDirectory::new()
            .database(tenant("a"), database("app_a"))
            .shared_by_all(database("app"));
        let anybody = find(&directory, "anybody").await.expect("anybody");
        assert!(
            matches!(anybody.placement(), Placement::Shared { database } if database.name() == "app")
        );
        assert!(!directory.set_state(&tenant("anybody"), TenantState::Suspended));
        let listed = directory.list(None, 9).await.expect("a list");
        assert_eq!(listed, [tenant("a")]);
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_that_anything_may_be_different() {
        let directory = StaticDirectory::new().shared(database("app"), [tenant("a")]);
        let mut changes = directory.changes();
        for _ in 0..300 {
            directory.set_state(&tenant("a"), TenantState::Moving);
        }
        assert_eq!(told(&mut changes), Some(DirectoryChange::All));
        assert_eq!(
            told(&mut changes),
            Some(DirectoryChange::Tenant(tenant("a")))
        );
    }

    #[test]
    fn nothing_secret_is_shown() {
        let directory = StaticDirectory::new()
            .shared(database("app"), [tenant("a")])
            .shared_by_all(database("app"));
        let shown = format!("{directory:?}");
        assert!(shown.contains("\"a\""), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
