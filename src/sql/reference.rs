//! A table that all tenants read.

use sqlx::PgConnection;

use super::installation::Installation;
use super::script::{self, Refusal};
use super::table::{self, MEMBERS, SEQUENCES};
use crate::error::Error;
use crate::quote::TableName;

/// A table without tenants, such as a list of countries; made by
/// [`Installation::reference_table`].
///
/// After [`apply`](Self::apply) the application role may read it and do nothing else with it,
/// `PUBLIC` may do nothing, and `tenantry.reference_tables` says that this is meant: what tenants
/// can reach and neither has a tenant column nor stands there is a mistake.
#[derive(Clone, Debug)]
#[must_use = "a table is only a description: run it with `apply`, or take its `sql`"]
pub struct ReferenceTable {
    installation: Installation,
    name: String,
}

impl ReferenceTable {
    pub(super) fn new(installation: Installation, name: String) -> Self {
        Self { installation, name }
    }

    /// The script as text: one statement, to be run by a role that owns the table and has run the
    /// [`Installation`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if a name cannot be written in
    /// SQL.
    pub fn sql(&self) -> Result<String, Error> {
        self.installation.check()?;
        let target = TableName::parse(&self.name)?;
        let body = format!(
            "  IF to_regclass('tenantry.reference_tables') IS NULL THEN
    {not_installed}
  END IF;
  FOR member IN {MEMBERS} LOOP
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %I', member, app_role);
  END LOOP;
  EXECUTE format('GRANT SELECT ON %s TO %I', target, app_role);
  FOR sequence IN {SEQUENCES} LOOP
    EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM PUBLIC, %I', sequence.name, app_role);
  END LOOP;
  INSERT INTO tenantry.reference_tables (relation) VALUES (target) ON CONFLICT DO NOTHING;
",
            not_installed = Refusal::NotInstalled.raise(),
        );
        Ok(script::script(
            &table::declarations(&self.installation, &target),
            &[table::check_target(), body].concat(),
        ))
    }

    /// Runs the script.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) as for [`sql`](Self::sql);
    /// - [`ErrorKind::Installation`](crate::ErrorKind::Installation) if the database has no
    ///   installation, or the application role does not exist. Nothing was changed;
    /// - [`ErrorKind::Database`](crate::ErrorKind::Database) if the server refused a statement.
    ///   Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// As for [`Installation::install`]: all or nothing, and the connection has to be given up.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<(), Error> {
        script::run(connection, self.sql()?).await
    }
}
