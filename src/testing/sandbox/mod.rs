//! Tenants that are there for one test.

mod builder;
mod remains;

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::context::TenantContext;
use crate::directory::{Database, Placement, StaticDirectory, TenantRecord};
use crate::error::{Error, ErrorKind};
use crate::registry::TenantRegistry;
use crate::scope::TenantScope;
use crate::sql::{Installation, TenantType};
use crate::tenant::TenantId;

pub use builder::SandboxBuilder;

use builder::Recipe;
use remains::Remains;

/// Tenants for one test, which are gone at its end, with all that was committed for them.
///
/// Many tests at once, in one process or in several, each have a sandbox of their own: tenants with
/// ids that nobody else has, served by a registry of its own that logs in as a role of its own,
/// which is a member of the application role. So policies and privileges are those of the service.
///
/// There are three kinds:
///
/// | | what a tenant is | what goes at the end |
/// |---|---|---|
/// | [`exclusive`](SandboxBuilder::exclusive) | rows in a database that the test has to itself, as that of `#[sqlx::test]` | the role; the database is the test's |
/// | [`shared`](SandboxBuilder::shared) | rows in a database that tests share | the role, and the rows of its tenants in all tables that have the tenant column |
/// | [`databases`](SandboxBuilder::databases) | a database | the role, and the databases |
///
/// With `#[sqlx::test]`, whose pool is that of a superuser:
///
/// ```no_run
/// # use tenantry::{sql::Installation, testing::Sandbox};
/// # fn installation() -> Installation { Installation::new("app") }
/// #[sqlx::test]
/// async fn invoices_are_numbered(pool: sqlx::PgPool) -> Result<(), tenantry::Error> {
///     let sandbox = Sandbox::of(installation()).tables(["invoices"]).exclusive(&pool).await?;
///     let (acme, globex) = (sandbox.tenant().await?, sandbox.tenant().await?);
///     // ..
///     sandbox.close().await
/// }
/// ```
///
/// With plain `#[tokio::test]`, and a server in a `static`:
///
/// ```no_run
/// # use sqlx::PgConnection;
/// use tenantry::sql::{Installation, TenantType};
/// use tenantry::testing::{PostgresServer, Sandbox};
///
/// # async fn example(server: &PostgresServer) -> Result<(), Box<dyn std::error::Error>> {
/// let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Uuid);
/// // Migrated once, by whichever test came first.
/// let database = server.connect_options().database("tests");
/// let sandbox = Sandbox::of(installation).shared(&database).await?;
///
/// let acme = sandbox.tenant().await?;
/// sqlx::query("INSERT INTO invoices (number) VALUES ('1')").execute(&acme).await?;
/// sandbox.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// # What needs none
///
/// A test whose statements are all of one transaction does not commit it: `scope.begin()`, and
/// dropping what it returns, leaves nothing but sequences that moved on. A sandbox is for code that
/// commits by itself.
///
/// # Drop
///
/// As [`close`](Self::close), also while a test panics: the registry is closed, the connections of
/// its role are ended by the server, rows or databases are removed, then the role. This blocks, for
/// 10 seconds at most, because the process may be about to end; it needs no runtime. What could not
/// be removed is told by an event at WARN. A process that is killed leaves everything.
#[must_use = "its tenants are gone when it is dropped"]
pub struct Sandbox {
    registry: TenantRegistry,
    directory: StaticDirectory,
    place: Place,
    recipe: Arc<Recipe>,
    remains: Arc<Remains>,
}

/// Where its tenants live.
#[derive(Clone)]
enum Place {
    Shared(Database),
    /// On this server.
    Databases(Database),
}

impl Sandbox {
    /// A sandbox for what this installation describes.
    pub fn of(installation: Installation) -> SandboxBuilder {
        SandboxBuilder::new(installation)
    }

    /// The registry. It serves the tenants of this sandbox and no others.
    pub fn registry(&self) -> &TenantRegistry {
        &self.registry
    }

    /// A new tenant, without a user. For others, or for a user: the registry's
    /// [`scope`](TenantRegistry::scope) with a context of the same
    /// [`tenant`](TenantScope::tenant).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Database`] and [`ErrorKind::Installation`] if its database could not be made,
    /// where it has one; else as the registry's [`scope`](TenantRegistry::scope).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was made goes with the sandbox.
    pub async fn tenant(&self) -> Result<TenantScope, Error> {
        let tenant = new_id(self.recipe.installation.tenant_type())?;
        let placement = match &self.place {
            Place::Shared(database) => {
                self.remains.has_tenant(&tenant);
                Placement::Shared {
                    database: database.clone(),
                }
            }
            Place::Databases(server) => {
                let name = self.remains.has_database();
                let making = self.recipe.clone().database(
                    Arc::clone(&self.remains),
                    name.clone(),
                    tenant.clone(),
                );
                // To its end, also if nobody waits for it any more.
                let made = tokio::spawn(making).await;
                made.map_err(|error| interrupted().with_source(error))??;
                Placement::Database {
                    database: server.named(name),
                }
            }
        };
        self.directory
            .put(tenant.clone(), TenantRecord::new(placement));
        self.registry.scope(TenantContext::new(tenant)).await
    }

    /// Closes the registry and removes what the sandbox made. What the test still has of it, scopes
    /// and transactions, gets errors from then on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`], [`ErrorKind::Database`] or [`ErrorKind::ConnectionLost`]: something
    /// may be left.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the rest is done as by dropping the sandbox.
    pub async fn close(self) -> Result<(), Error> {
        self.registry.close();
        self.remains.clear().await
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.registry.close();
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("role", &self.remains.role())
            .finish_non_exhaustive()
    }
}

/// An id that no other test has.
fn new_id(kind: TenantType) -> Result<TenantId, Error> {
    match kind {
        TenantType::Uuid => Ok(Uuid::from_u128(fastrand::u128(..)).into()),
        // The column may be an integer.
        TenantType::BigInt => Ok(fastrand::u32(1_000_000_000..=i32::MAX.unsigned_abs()).into()),
        TenantType::Text => format!("sandbox-{:032x}", fastrand::u128(..)).parse(),
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Other, "the work on the sandbox was interrupted")
}
