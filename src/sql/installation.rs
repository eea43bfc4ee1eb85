//! The schema `tenantry` of a database.

use std::borrow::Cow;

use sqlx::PgConnection;

use super::authorization::Authorization;
use super::column::{TenantColumn, TenantType};
use super::domain::{self, LAYOUT, OLDEST_LAYOUT};
use super::number_series::NumberSeriesTables;
use super::reference::ReferenceTable;
use super::script::{self, Refusal};
use super::seal::{self, Seal};
use super::table::TenantTable;
use super::trail::TrailTables;
use crate::error::{Error, ErrorKind};
use crate::quote;
use crate::settings::ContextSettings;
use crate::tenant::TenantId;

/// What a database needs before a registry can serve tenants from it.
///
/// It makes the schema `tenantry` with
///
/// - the domain `tenantry.scope`, the type of the argument that carries the context of each
///   statement. It is never dropped, so open connections and their prepared statements go on
///   working while a new release installs;
/// - the table `tenantry.installation`, one row that says what is installed. The application role
///   reads it and cannot write it;
/// - the table `tenantry.reference_tables`, which [`ReferenceTable`] fills;
/// - the functions `tenantry.current_tenant()`, `tenantry.current_user_id()` and
///   `tenantry.context_setting(text)`, which read the context, see [`sealed`](Self::sealed);
///
/// and revokes the privilege `TEMPORARY` on the database from `PUBLIC` and the application role: a
/// temporary table outlives its transaction on a pooled connection and can stand in front of a real
/// table. A role that needs temporary tables can be granted it by name, if tenants' statements
/// never run as that role.
///
/// # Examples
///
/// As text, for a migration of your own:
///
/// ```
/// use tenantry::ContextSettings;
/// use tenantry::sql::Installation;
///
/// # fn main() -> Result<(), tenantry::Error> {
/// let text = Installation::new("app")
///     .settings(ContextSettings::default().with("app.role")?)
///     .sql()?;
/// assert!(text.starts_with("DO $tenantry$"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an installation is only a description: run it with `install`, or take its `sql`"]
pub struct Installation {
    pub(super) application_role: String,
    pub(super) settings: ContextSettings,
    pub(super) column: TenantColumn,
    tenant: Option<TenantId>,
    pub(super) seal: Seal,
    may_unseal: bool,
}

impl Installation {
    /// An installation for the role that the service logs in as.
    ///
    /// Where several roles log in, name a group role that they are members of. It must exist before
    /// the script runs.
    pub fn new(application_role: impl Into<String>) -> Self {
        Self {
            application_role: application_role.into(),
            settings: ContextSettings::default(),
            column: TenantColumn {
                name: Cow::Borrowed("tenant_id"),
                kind: TenantType::Uuid,
            },
            tenant: None,
            seal: Seal::None,
            may_unseal: false,
        }
    }

    /// The settings that carry the context: those of the registry, which may lag behind by a few
    /// further ones.
    ///
    /// A later installation can append further settings. It cannot rename, drop or reorder any.
    pub fn settings(mut self, settings: ContextSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The tenant column of the tables: `tenant_id` of type `uuid`, unless said otherwise.
    pub fn tenant_column(mut self, name: impl Into<String>, kind: TenantType) -> Self {
        self.column = TenantColumn {
            name: Cow::Owned(name.into()),
            kind,
        };
        self
    }

    /// Says that the database belongs to one tenant. It then refuses every statement that comes
    /// with another one, before it reads a row.
    ///
    /// The tenant of a database can be named later, but never changed or taken back.
    pub fn database_of(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// Seals the context of transactions, so that no statement can change it, injected ones included:
    /// processes sign it with a [`SigningKey`](crate::SigningKey), the database verifies that and
    /// keeps it under a seal of its own, and policies read it with a function that verifies the seal.
    ///
    /// The database then takes contexts from registries with a
    /// [`signing_key`](crate::TenantRegistryBuilder::signing_key) that it
    /// [knows](Self::add_signing_key), and no others. The plain settings are set all the same, for
    /// triggers and functions of your own; what decides about isolation reads
    /// `tenantry.current_tenant()`, `tenantry.current_user_id()` and
    /// `tenantry.context_setting('app.role')` instead, which return text, or NULL without a context,
    /// and fail (SQLSTATE 28000) where somebody has tampered with it. They are there at every level,
    /// and read the plain settings where there is no seal. In a policy write
    /// `(SELECT tenantry.current_tenant()::uuid)`, so that it is verified once a statement.
    ///
    /// A database is sealed as a whole: the policies of tables that [`table`](Self::table) was applied
    /// to change with it, each under an `ACCESS EXCLUSIVE` lock. The way back is
    /// [`unseal`](Self::unseal).
    ///
    /// A database that is in use is sealed in steps, each of which can be taken back: install with
    /// [`prepare_seal`](Self::prepare_seal) and add the key; deploy processes that sign; install
    /// with this.
    pub fn sealed(mut self) -> Self {
        self.seal = Seal::Sealed;
        self
    }

    /// The step before [`sealed`](Self::sealed): the database verifies contexts that are signed, and
    /// takes others as well. Policies read the plain settings, so it protects nothing yet.
    pub fn prepare_seal(mut self) -> Self {
        self.seal = Seal::Prepared;
        self
    }

    /// Lets the installation take back what the database has of a seal: all of it, or with
    /// [`prepare_seal`](Self::prepare_seal) the last step. Without this such an installation is
    /// refused, so that nobody unseals a database who only forgot that it is sealed.
    ///
    /// Policies read the plain settings then. The key of the server and those of the processes stay.
    pub fn unseal(mut self) -> Self {
        self.may_unseal = true;
        self
    }

    /// A table whose rows belong to tenants. The name is read as SQL would: `app.invoices`, or
    /// `"Weird Name"` with its double quotes; without a schema the `search_path` finds it.
    pub fn table(&self, name: impl Into<String>) -> TenantTable {
        TenantTable::new(self.clone(), name.into())
    }

    /// A table that all tenants read and none writes. The name is read as by [`table`](Self::table).
    pub fn reference_table(&self, name: impl Into<String>) -> ReferenceTable {
        ReferenceTable::new(self.clone(), name.into())
    }

    /// The tables of members, roles and permissions, which an [`Authorizer`](crate::Authorizer)
    /// reads.
    pub fn authorization(&self) -> Authorization {
        Authorization::new(self.clone())
    }

    /// The counters behind a [`NumberSeries`](crate::NumberSeries).
    pub fn number_series(&self) -> NumberSeriesTables {
        NumberSeriesTables::new(self.clone())
    }

    /// The audit log behind a [`Trail`](crate::Trail).
    pub fn trail(&self) -> TrailTables {
        TrailTables::new(self.clone())
    }

    /// The script as text: one statement, to be run by the owner of the database.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if the application role or the tenant column cannot
    /// be written in SQL.
    pub fn sql(&self) -> Result<String, Error> {
        self.script(OLDEST_LAYOUT, LAYOUT)
    }

    /// Runs the script as the role of `connection`, which must own the database or be a superuser.
    ///
    /// Any number of processes may do so at once; they take turns under an advisory lock.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`] as for [`sql`](Self::sql);
    /// - [`ErrorKind::Installation`] if the database holds something that this installation would
    ///   break: a newer layout, other setting names, further settings that are not the first ones of
    ///   this list, another tenant, a seal. The message says what to do, and nothing was changed;
    /// - [`ErrorKind::Database`] if the server refused a statement, for want of a privilege for
    ///   example. Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// The script is one statement. If the future is dropped, the server carries it out as a whole
    /// or not at all; the connection has to be given up, because its answer is still under way.
    pub async fn install(&self, connection: &mut PgConnection) -> Result<(), Error> {
        script::run(connection, self.sql()?).await
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        check_role(&self.application_role)?;
        self.column.check()
    }

    fn script(&self, oldest_layout: i32, layout: i32) -> Result<String, Error> {
        self.check()?;
        let further = self
            .settings
            .further()
            .iter()
            .map(|name| quote::literal(name));
        let declarations = format!(
            "  app_role constant text := {role};
  tenant_setting constant text := {tenant_setting};
  user_setting constant text := {user_setting};
  further_settings constant text[] := ARRAY[{further}]::text[];
  database_tenant constant text := {tenant};
  recorded record;
",
            role = quote::literal(&self.application_role),
            tenant_setting = quote::literal(self.settings.tenant()),
            user_setting = quote::literal(self.settings.user()),
            further = further.collect::<Vec<_>>().join(", "),
            tenant = self.tenant.as_ref().map_or_else(
                || "NULL".to_owned(),
                |tenant| quote::literal(tenant.as_str())
            ),
        );
        let body = [
            self.tables(),
            self.comparison(layout),
            self.lowering(),
            seal::functions(&self.settings, self.seal),
            domain::checks(
                &self.settings,
                self.tenant.as_ref(),
                oldest_layout..=layout,
                self.seal,
            ),
            self.record(oldest_layout, layout),
            Self::privileges(),
            seal::conversion(&self.settings, self.seal),
        ];
        Ok(script::script(&declarations, &body.concat()))
    }

    fn tables(&self) -> String {
        format!(
            "  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = app_role) THEN
    {role_missing}
  END IF;
  IF to_regnamespace('tenantry') IS NULL THEN
    CREATE SCHEMA tenantry;
  END IF;
  IF to_regclass('tenantry.installation') IS NULL THEN
    CREATE TABLE tenantry.installation (
      only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
      layout integer NOT NULL,
      oldest_layout integer NOT NULL,
      version text NOT NULL,
      tenant_setting text NOT NULL,
      user_setting text NOT NULL,
      further_settings text[] NOT NULL,
      tenant text,
      seal text NOT NULL DEFAULT 'none',
      installed_at timestamptz NOT NULL DEFAULT statement_timestamp()
    );
  END IF;
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'tenantry.installation'::regclass AND attname = 'seal') THEN
    ALTER TABLE tenantry.installation ADD COLUMN seal text NOT NULL DEFAULT 'none';
  END IF;
  IF to_regclass('tenantry.reference_tables') IS NULL THEN
    CREATE TABLE tenantry.reference_tables (
      relation regclass PRIMARY KEY,
      declared_at timestamptz NOT NULL DEFAULT statement_timestamp()
    );
  END IF;
  IF to_regtype('tenantry.scope') IS NULL THEN
    CREATE DOMAIN tenantry.scope AS text[] NOT NULL;
  ELSIF NOT EXISTS (SELECT FROM pg_type WHERE oid = to_regtype('tenantry.scope')
                    AND typtype = 'd' AND typbasetype = 'text[]'::regtype) THEN
    {foreign_domain}
  END IF;
",
            role_missing = Refusal::RoleMissing.raise(),
            foreign_domain = Refusal::ForeignDomain.raise(),
        )
    }

    /// Refuses what would break processes that run with the installation there is.
    fn comparison(&self, layout: i32) -> String {
        format!(
            "  SELECT * INTO recorded FROM tenantry.installation;
  IF FOUND THEN
    IF recorded.layout > {layout} THEN
      {newer}
    END IF;
    IF (recorded.tenant_setting, recorded.user_setting) <> (tenant_setting, user_setting) THEN
      {renamed}
    END IF;
    IF recorded.further_settings <> further_settings[1:cardinality(recorded.further_settings)] THEN
      {not_appended}
    END IF;
    IF recorded.tenant <> database_tenant OR recorded.tenant IS NOT NULL AND database_tenant IS NULL THEN
      {tenant_changed}
    END IF;
  END IF;
",
            newer = Refusal::NewerLayout.raise(),
            renamed = Refusal::SettingRenamed.raise(),
            not_appended = Refusal::FurtherNotAppended.raise(),
            tenant_changed = Refusal::TenantChanged.raise(),
        )
    }

    /// Refuses to take a seal away that nobody said is to go.
    fn lowering(&self) -> String {
        let above = self.seal.above();
        match self.may_unseal || above.is_empty() {
            true => String::new(),
            false => format!(
                "  IF recorded.seal IN ({above}) THEN
    {taken}
  END IF;
",
                taken = Refusal::SealTaken.raise(),
            ),
        }
    }

    fn record(&self, oldest_layout: i32, layout: i32) -> String {
        format!(
            "  INSERT INTO tenantry.installation AS i
    (layout, oldest_layout, version, tenant_setting, user_setting, further_settings, tenant, seal)
    VALUES ({layout}, {oldest_layout}, {version},
            tenant_setting, user_setting, further_settings, database_tenant, '{seal}')
    ON CONFLICT (only_row) DO UPDATE SET
      layout = EXCLUDED.layout, oldest_layout = EXCLUDED.oldest_layout,
      version = EXCLUDED.version, further_settings = EXCLUDED.further_settings,
      tenant = EXCLUDED.tenant, seal = EXCLUDED.seal, installed_at = EXCLUDED.installed_at
    WHERE (i.layout, i.oldest_layout, i.version, i.further_settings, i.tenant, i.seal) IS DISTINCT FROM
      (EXCLUDED.layout, EXCLUDED.oldest_layout, EXCLUDED.version, EXCLUDED.further_settings, EXCLUDED.tenant, EXCLUDED.seal);
",
            version = quote::literal(env!("CARGO_PKG_VERSION")),
            seal = self.seal.name(),
        )
    }

    fn privileges() -> String {
        let holds_temporary = "EXISTS (
    SELECT FROM pg_database AS d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
    WHERE d.datname = current_database() AND a.privilege_type = 'TEMPORARY'
      AND a.grantee IN (0, (SELECT oid FROM pg_roles WHERE rolname = app_role)))";
        format!(
            "  EXECUTE format('REVOKE ALL ON SCHEMA tenantry FROM PUBLIC, %I', app_role);
  EXECUTE format('REVOKE ALL ON tenantry.installation, tenantry.reference_tables FROM PUBLIC, %I', app_role);
  EXECUTE format('GRANT USAGE ON SCHEMA tenantry TO %I', app_role);
  EXECUTE format('GRANT SELECT ON tenantry.installation, tenantry.reference_tables TO %I', app_role);
  -- Only where it is needed, so that a role which does not own the database can install again.
  IF {holds_temporary} THEN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC, %I', current_database(), app_role);
  END IF;
  IF {holds_temporary} THEN
    {kept}
  END IF;
",
            kept = Refusal::TemporaryKept.raise(),
        )
    }
}

/// What tests of users and audits are made from.
#[cfg(any(feature = "testing", feature = "audit"))]
impl Installation {
    pub(crate) fn application_role(&self) -> &str {
        &self.application_role
    }

    pub(crate) fn context_settings(&self) -> &ContextSettings {
        &self.settings
    }

    pub(crate) fn tenant_column_name(&self) -> &str {
        &self.column.name
    }

    #[cfg(feature = "testing")]
    pub(crate) fn tenant_type(&self) -> TenantType {
        self.column.kind
    }
}

/// Refuses what is no role to grant something to.
pub(super) fn check_role(name: &str) -> Result<(), Error> {
    quote::check_name(name)?;
    // Both are key words even in quotes: GRANT .. TO "public" means everybody.
    if matches!(name, "public" | "none") {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "the role that is granted something is one of its own, not PUBLIC",
        ));
    }
    Ok(())
}
