//! How a sandbox comes to be.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};

use super::remains::Remains;
use super::{Place, Sandbox, interrupted};
use crate::directory::{Database, StaticDirectory};
use crate::error::{Error, ErrorKind};
use crate::lease::PoolOptions;
use crate::quote;
use crate::registry::TenantRegistry;
use crate::sql::Installation;
use crate::tenant::TenantId;

type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What is run in each database that a sandbox makes.
type Prepare =
    dyn for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<(), BoxError>> + Send + Sync;

/// What a [`Sandbox`] is made from. Made by [`Sandbox::of`].
#[must_use = "a builder does nothing by itself: say where its tenants live"]
pub struct SandboxBuilder {
    recipe: Recipe,
    pool_options: Box<dyn Fn(PoolOptions) -> PoolOptions + Send + Sync>,
}

/// What a database of a sandbox is made by.
pub(super) struct Recipe {
    pub(super) installation: Installation,
    tables: Vec<String>,
    template: Option<String>,
    prepare: Option<Box<Prepare>>,
}

/// What is done in a database before a sandbox is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// The application role, what tenantry installs, policies.
    Install,
    /// The application role: databases are to come.
    Role,
    /// Nothing: it is ready.
    Nothing,
}

impl SandboxBuilder {
    pub(super) fn new(installation: Installation) -> Self {
        Self {
            recipe: Recipe {
                installation,
                tables: Vec::new(),
                template: None,
                prepare: None,
            },
            pool_options: Box::new(|options| options),
        }
    }

    /// Tables of tenants, which [`exclusive`](Self::exclusive) puts under row-level security.
    /// Default: none, the migrations have done it.
    pub fn tables(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.recipe.tables = names.into_iter().map(Into::into).collect();
        self
    }

    /// The database that [`databases`](Self::databases) copies for each tenant. Nobody may be
    /// connected to it. Default: the server's `template1`.
    pub fn template(mut self, database: impl Into<String>) -> Self {
        self.recipe.template = Some(database.into());
        self
    }

    /// What is run in each database that [`databases`](Self::databases) makes, when tenantry is
    /// installed there: migrations, and grants to the application role. Default: nothing.
    ///
    /// ```
    /// # use tenantry::sql::Installation;
    /// # use tenantry::testing::Sandbox;
    /// let sandbox = Sandbox::of(Installation::new("app")).prepare(|connection| {
    ///     Box::pin(async move {
    ///         sqlx::raw_sql("CREATE TABLE notes (body text); GRANT ALL ON notes TO app")
    ///             .execute(connection)
    ///             .await?;
    ///         Ok(())
    ///     })
    /// });
    /// # let _ = sandbox;
    /// ```
    pub fn prepare<F>(mut self, prepare: F) -> Self
    where
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<(), BoxError>>
            + Send
            + Sync
            + 'static,
    {
        self.recipe.prepare = Some(Box::new(prepare));
        self
    }

    /// The options of each pool of the registry. Default: 4 connections, otherwise those of
    /// [`PoolOptions`].
    pub fn pool_options(
        mut self,
        options: impl Fn(PoolOptions) -> PoolOptions + Send + Sync + 'static,
    ) -> Self {
        self.pool_options = Box::new(options);
        self
    }

    /// In the database of this pool, which the test has to itself: that of `#[sqlx::test]`.
    ///
    /// The application role is made if the server has none, installed is what is described, and
    /// [`tables`](Self::tables) are put under row-level security. At the end rows stay: the
    /// database goes with the test, and is worth a look where sqlx keeps it, which it does when
    /// the test has failed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Installation`] and [`ErrorKind::Database`]: the pool's role is not the
    /// superuser or the owner that this takes, or one of the tables is not there.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was made is removed.
    pub async fn exclusive(self, pool: &PgPool) -> Result<Sandbox, Error> {
        let options = pool.connect_options();
        self.open(&options, Before::Install, |database| {
            Place::Shared(database)
        })
        .await
    }

    /// In this database, which tests share: it is migrated already, has what tenantry installs, and
    /// tables are under row-level security. The options are those of a role that sees all rows and
    /// may make roles, mostly a superuser.
    ///
    /// At the end the rows of its tenants are deleted from all tables that have the tenant column,
    /// those of tenantry too; where triggers or foreign keys do not let that happen in any order,
    /// they are put aside, for which it takes a superuser. Rows of tables without the column go
    /// by their foreign keys or stay.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Installation`] if the role of the options does not see all rows;
    /// [`ErrorKind::Connect`] and [`ErrorKind::Database`] if the server refused something.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was made is removed.
    pub async fn shared(self, options: &PgConnectOptions) -> Result<Sandbox, Error> {
        self.open(options, Before::Nothing, Place::Shared).await
    }

    /// A database for each tenant, on this server. The options are those of a role that may make
    /// databases and roles, mostly a superuser.
    ///
    /// [`Sandbox::tenant`] then makes a database, of [`template`](Self::template), installs
    /// tenantry in it as in the database of this tenant, and runs [`prepare`](Self::prepare). That
    /// takes some tens of milliseconds; with a template that is migrated it takes little more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] and [`ErrorKind::Database`] if the server refused something.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was made is removed.
    pub async fn databases(self, options: &PgConnectOptions) -> Result<Sandbox, Error> {
        self.open(options, Before::Role, Place::Databases).await
    }

    async fn open(
        self,
        options: &PgConnectOptions,
        before: Before,
        place: fn(Database) -> Place,
    ) -> Result<Sandbox, Error> {
        let options = options.clone().disable_statement_logging();
        // To its end, also if nobody waits for it any more: only then is it known what to remove.
        tokio::spawn(self.make(options, before, place))
            .await
            .map_err(|error| interrupted().with_source(error))?
    }

    async fn make(
        self,
        options: PgConnectOptions,
        before: Before,
        place: fn(Database) -> Place,
    ) -> Result<Sandbox, Error> {
        let recipe = Arc::new(self.recipe);
        let column = (before == Before::Nothing)
            .then(|| recipe.installation.tenant_column_name().to_owned());
        let remains = Arc::new(Remains::new(options.clone(), column));
        let password = format!("{:032x}", fastrand::u128(..));
        let mut owner = options.connect().await?;
        recipe.before(&mut owner, before).await?;
        create_login(
            &mut owner,
            remains.role(),
            &password,
            recipe.installation.application_role(),
        )
        .await?;
        owner.close().await?;

        let login = options.username(remains.role()).password(&password);
        let directory = StaticDirectory::new();
        let adjust = self.pool_options;
        let registry = TenantRegistry::builder(directory.clone())
            .settings(recipe.installation.context_settings().clone())
            .pool_options(move |_, defaults| adjust(defaults.max_connections(4)))
            .build()
            .await?;
        Ok(Sandbox {
            registry,
            directory,
            place: place(login.into()),
            recipe,
            remains,
        })
    }
}

impl fmt::Debug for SandboxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxBuilder")
            .field("tables", &self.recipe.tables)
            .field("template", &self.recipe.template)
            .finish_non_exhaustive()
    }
}

impl Recipe {
    async fn before(&self, owner: &mut PgConnection, before: Before) -> Result<(), Error> {
        let role = self.installation.application_role();
        match before {
            Before::Nothing => return check_sees_all(owner).await,
            Before::Role => create_application_role(owner, role).await?,
            Before::Install => {
                create_application_role(owner, role).await?;
                self.installation.install(owner).await?;
                for table in &self.tables {
                    self.installation.table(table).apply(owner).await?;
                }
            }
        }
        Ok(())
    }

    /// Makes the database of a tenant, unless the sandbox is closed meanwhile.
    pub(super) async fn database(
        self: Arc<Self>,
        remains: Arc<Remains>,
        name: String,
        tenant: TenantId,
    ) -> Result<(), Error> {
        let made = self.make_database(remains.options(), &name, tenant).await;
        if remains.is_closing() {
            // Which may have looked for the database before it was there.
            remains.clear().await?;
        }
        made
    }

    async fn make_database(
        &self,
        options: &PgConnectOptions,
        name: &str,
        tenant: TenantId,
    ) -> Result<(), Error> {
        let mut owner = options.connect().await?;
        let mut create = format!("CREATE DATABASE {}", quote::identifier(name));
        if let Some(template) = &self.template {
            create += &format!(" TEMPLATE {}", quote::identifier(template));
        }
        create_database(&mut owner, &create).await?;
        owner.close().await?;

        let mut owner = options.clone().database(name).connect().await?;
        let installation = self.installation.clone().database_of(tenant);
        installation.install(&mut owner).await?;
        if let Some(prepare) = &self.prepare {
            prepare(&mut owner).await.map_err(|error| {
                let message = "what prepares a database of the sandbox has failed";
                Error::new(ErrorKind::Installation, message).with_source(error)
            })?;
        }
        owner.close().await?;
        Ok(())
    }
}

/// A template that somebody else is connected to cannot be copied, and who copies it is that for a
/// moment: autovacuum, or another test of a process that does not take turns with this one.
async fn create_database(owner: &mut PgConnection, create: &str) -> Result<(), Error> {
    let turn = format!("SELECT pg_catalog.pg_advisory_lock({LOCK})");
    run(owner, turn).await?;
    let mut tries = 0;
    loop {
        tries += 1;
        match run(owner, create.to_owned()).await {
            Err(error) if error.code().as_deref() == Some(OBJECT_IN_USE) && tries < MOST_TRIES => {
                tokio::time::sleep(PAUSE).await;
            }
            // The end of the connection is the end of the turn.
            outcome => return outcome,
        }
    }
}

/// "sandbox" in ASCII.
const LOCK: i64 = 0x73_616e_6462_6f78;
const OBJECT_IN_USE: &str = "55006";
const MOST_TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Rows under a forced policy are seen by those above policies only, and what is not seen is not
/// deleted.
async fn check_sees_all(owner: &mut PgConnection) -> Result<(), Error> {
    let sees_all: bool = sqlx::query_scalar(
        "SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    .fetch_one(owner)
    .await?;
    if sees_all {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Installation,
        "the sandbox could not delete the rows of its tenants: give it the options of a role that \
         sees all rows, a superuser or one with BYPASSRLS",
    ))
}

/// Another test may be at it: then it is there, too. Nobody logs in as this role.
async fn create_application_role(owner: &mut PgConnection, role: &str) -> Result<(), Error> {
    let script = format!(
        "DO $tenantry$ BEGIN
           IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {name}) THEN
             CREATE ROLE {role};
           END IF;
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
         END $tenantry$",
        name = quote::literal(role),
        role = quote::identifier(role),
    );
    run(owner, script).await
}

async fn create_login(
    owner: &mut PgConnection,
    role: &str,
    password: &str,
    application_role: &str,
) -> Result<(), Error> {
    let script = format!(
        "CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}",
        quote::identifier(role),
        quote::literal(password),
        quote::identifier(application_role),
    );
    run(owner, script).await
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}
