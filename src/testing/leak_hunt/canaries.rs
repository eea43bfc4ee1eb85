//! The tables that canaries are written to, and the look at what is in them.

use std::fmt;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection};

use super::canary;
use crate::error::{Error, ErrorKind};
use crate::sql::Installation;
use crate::tenant::TenantId;

/// The tables [`Canaries::TABLE`], one in each database that a hunt reaches, with the column
/// `canary`; and a role that sees all of their rows.
///
/// A [`LeakHunt`](super::LeakHunt) that is given them takes all rows out of them, and puts in one
/// for each tenant. While it goes on, and at its end, it looks with that role's eyes at what was
/// written: for whom, and whether what was confirmed is there.
///
/// ```no_run
/// # use sqlx::postgres::PgConnectOptions;
/// # use tenantry::sql::Installation;
/// # use tenantry::testing::leak_hunt::Canaries;
/// # async fn example(installation: Installation, admin: PgConnectOptions) -> Result<(), tenantry::Error> {
/// let canaries = Canaries::new(&installation)
///     .shared(admin.clone().database("app"))
///     .database_of("acme".parse()?, admin.database("app_acme"));
/// canaries.install().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Canaries {
    role: String,
    column: String,
    column_type: &'static str,
    installation: Installation,
    homes: Vec<Home>,
}

/// A database.
#[derive(Clone)]
struct Home {
    admin: PgConnectOptions,
    /// Whose it is, if it is one tenant's.
    tenant: Option<TenantId>,
}

impl Canaries {
    /// The name of the tables.
    pub const TABLE: &str = "tenantry_leak_hunt.canaries";

    /// In databases that are installed like this: for this role of the application, with this
    /// tenant column where tenants share.
    pub fn new(installation: &Installation) -> Self {
        Self {
            role: installation.application_role().to_owned(),
            column: installation.tenant_column_name().to_owned(),
            column_type: installation.tenant_type().sql(),
            installation: installation.clone(),
            homes: Vec::new(),
        }
    }

    /// In a database that is shared by all tenants who have none of their own. `admin` is a role
    /// that policies do not hold, a superuser or one with BYPASSRLS; to see what sessions are left
    /// in a transaction it has to be a superuser or a member of `pg_read_all_stats`.
    #[must_use]
    pub fn shared(self, admin: PgConnectOptions) -> Self {
        self.home(admin, None)
    }

    /// In this tenant's own database, where the table has no tenant column and no policies: all that
    /// keeps others out is that nobody leads them there.
    #[must_use]
    pub fn database_of(self, tenant: TenantId, admin: PgConnectOptions) -> Self {
        self.home(admin, Some(tenant))
    }

    fn home(mut self, admin: PgConnectOptions, tenant: Option<TenantId>) -> Self {
        let admin = admin.disable_statement_logging();
        self.homes.push(Home { admin, tenant });
        self
    }

    /// Makes the tables where they are missing, in databases where the
    /// [`Installation`](crate::sql::Installation) is installed already. Also from a migration of your
    /// own tests, at each start.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`], [`ErrorKind::Database`], and those of
    /// [`TenantTable::apply`](crate::sql::TenantTable::apply).
    ///
    /// # Cancel safety
    ///
    /// Some of the tables may have been made. Calling it again makes the others.
    pub async fn install(&self) -> Result<(), Error> {
        for home in &self.homes {
            let mut connection = connect(&home.admin).await?;
            let sql = self.sql(home)?;
            connection.execute(AssertSqlSafe(sql)).await?;
            if home.tenant.is_none() {
                let table = self.installation.table(Self::TABLE);
                table.apply(&mut connection).await?;
            }
        }
        Ok(())
    }

    fn sql(&self, home: &Home) -> Result<String, Error> {
        let (table, role) = (Self::TABLE, crate::quote::identifier(&self.role));
        let (column, key, privileges) = match &home.tenant {
            None => {
                let column = crate::quote::identifier(&self.column);
                let definition = format!("{column} {} NOT NULL, ", self.column_type);
                (definition, format!("{column}, id"), String::new())
            }
            Some(_) => {
                let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}; ");
                (String::new(), "id".to_owned(), grant)
            }
        };
        Ok(format!(
            "CREATE SCHEMA IF NOT EXISTS tenantry_leak_hunt; \
             GRANT USAGE ON SCHEMA tenantry_leak_hunt TO {role}; \
             CREATE TABLE IF NOT EXISTS {table} ({column}id bigint GENERATED ALWAYS AS IDENTITY, \
               canary text NOT NULL, PRIMARY KEY ({key})); \
             {privileges}"
        ))
    }

    pub(super) fn look(&self) -> Look {
        let canaries = self.clone();
        let connections = canaries.homes.iter().map(|_| None).collect();
        Look {
            canaries,
            connections,
        }
    }
}

/// Shows no options, which hold passwords.
impl fmt::Debug for Canaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canaries")
            .field("databases", &self.homes.len())
            .finish_non_exhaustive()
    }
}

/// The eyes of the role that sees all rows.
pub(super) struct Look {
    canaries: Canaries,
    connections: Vec<Option<PgConnection>>,
}

/// A row: its number, whose the table says that it is, and what it says itself.
type Row = (i64, Option<String>, String);

impl Look {
    /// Takes all rows away, and puts one in for each tenant.
    pub(super) async fn begin(&mut self, tenants: &[TenantId]) -> Result<(), Error> {
        let with_their_own: Vec<_> = self
            .canaries
            .homes
            .iter()
            .map(|home| home.tenant.clone())
            .collect();
        for (at, tenant) in with_their_own.iter().enumerate() {
            let clear = format!("DELETE FROM {}", Canaries::TABLE);
            self.connection(at)
                .await?
                .execute(AssertSqlSafe(clear))
                .await?;
            match tenant {
                Some(tenant) => self.put(at, tenant).await?,
                None => {
                    for tenant in tenants {
                        if !with_their_own.contains(&Some(tenant.clone())) {
                            self.put(at, tenant).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn put(&mut self, at: usize, tenant: &TenantId) -> Result<(), Error> {
        let (table, canary) = (Canaries::TABLE, canary::standing(tenant));
        let is_shared = self.canaries.homes[at].tenant.is_none();
        let sql = match is_shared {
            true => format!(
                "INSERT INTO {table} (canary, {}) VALUES ($1, $2::text::{})",
                crate::quote::identifier(&self.canaries.column),
                self.canaries.column_type
            ),
            false => format!("INSERT INTO {table} (canary) VALUES ($1)"),
        };
        let mut insert = sqlx::query(AssertSqlSafe(sql)).bind(canary);
        if is_shared {
            insert = insert.bind(tenant.as_str());
        }
        insert.execute(self.connection(at).await?).await?;
        Ok(())
    }

    /// Shows each row, with whose it is by the table it stands in, and takes it away when it was
    /// seen; the standing ones are left.
    pub(super) async fn sweep(&mut self, mut sees: impl FnMut(&str, &str)) -> Result<(), Error> {
        for at in 0..self.connections.len() {
            let done = self.sweep_one(at, &mut sees).await;
            if done.is_err() {
                self.connections[at] = None;
            }
            done?;
        }
        Ok(())
    }

    async fn sweep_one(
        &mut self,
        at: usize,
        sees: &mut impl FnMut(&str, &str),
    ) -> Result<(), Error> {
        let tenant = self.canaries.homes[at].tenant.clone();
        let whose = match tenant {
            Some(_) => "NULL".to_owned(),
            None => format!("{}::text", crate::quote::identifier(&self.canaries.column)),
        };
        let (table, standing) = (Canaries::TABLE, canary::STANDING);
        let select = format!("SELECT id, {whose}, canary FROM {table}");
        let connection = self.connection(at).await?;
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(select))
            .fetch_all(&mut *connection)
            .await?;
        let mut seen = Vec::new();
        for (id, whose, canary) in rows {
            let whose = tenant
                .as_ref()
                .map(|tenant| tenant.as_str().to_owned())
                .or(whose);
            sees(whose.as_deref().unwrap_or("nobody"), &canary);
            if !canary.ends_with(&format!("/{standing}")) {
                seen.push(id);
            }
        }
        // Not in the same statement: an answer that is lost on its way would take rows with it.
        if !seen.is_empty() {
            let delete = format!("DELETE FROM {table} WHERE id = ANY($1)");
            let delete = sqlx::query(AssertSqlSafe(delete)).bind(seen);
            delete.execute(connection).await?;
        }
        Ok(())
    }

    /// How many sessions of others sit in a transaction in which nothing runs.
    pub(super) async fn idle_in_transaction(&mut self) -> Result<i64, Error> {
        let mut idle = 0;
        for at in 0..self.connections.len() {
            let count: Result<i64, sqlx::Error> = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND usename <> current_user \
                   AND state LIKE 'idle in transaction%'",
            )
            .fetch_one(self.connection(at).await?)
            .await;
            match count {
                Ok(count) => idle += count,
                Err(error) => {
                    self.connections[at] = None;
                    return Err(error.into());
                }
            }
        }
        Ok(idle)
    }

    async fn connection(&mut self, at: usize) -> Result<&mut PgConnection, Error> {
        let place = &mut self.connections[at];
        if place.is_none() {
            let mut connection = connect(&self.canaries.homes[at].admin).await?;
            // A role that policies hold gets an error then, and not a part of the rows.
            connection.execute("SET row_security = off").await?;
            *place = Some(connection);
        }
        place
            .as_mut()
            .ok_or_else(|| Error::new(ErrorKind::Connect, NOT_REACHED))
    }
}

const NOT_REACHED: &str = "the database of the canaries could not be reached";

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    let connected = options.connect().await;
    connected.map_err(|error| Error::new(ErrorKind::Connect, NOT_REACHED).with_source(error))
}
