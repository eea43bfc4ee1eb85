//! A table whose rows belong to tenants.

use sqlx::PgConnection;

use super::advice::{self, Advice};
use super::installation::Installation;
use super::script::{self, Refusal};
use super::seal::Seal;
use crate::error::Error;
use crate::quote::{self, TableName};

/// A table under row level security; made by [`Installation::table`].
///
/// After [`apply`](Self::apply)
///
/// - the tenant column is there, is NOT NULL, and is filled from the context unless a statement
///   names it;
/// - row level security is on and forced, so it holds for the owner of the table too: a role that
///   loads or mends data for all tenants needs `BYPASSRLS`;
/// - the policy `tenantry_tenant` lets the application role see and write the rows of its context,
///   and no others. Without a context there are none;
/// - the policy `tenantry_backstop` is restrictive and for everyone: it holds whatever other
///   policies somebody adds;
/// - partitions and inheriting tables there are have the same policies, and no privileges: rows are
///   reached through the parent. Run it again after you have attached one;
/// - the application role may SELECT, INSERT, UPDATE and DELETE, and not TRUNCATE (which ignores
///   policies), nor create triggers on the table or references to it; `PUBLIC` may do nothing;
/// - sequences of serial columns may be used and not read, for they tell how much others write;
/// - an index begins with the tenant column. Where there is one already, the primary key for
///   example, none is made.
///
/// `USAGE` on the schema of the table is yours to grant.
///
/// In a [sealed](Installation::sealed) database the policies verify the seal of the context. The
/// default of the tenant column still reads the setting: it proposes, and the policies decide.
///
/// Policies compare with a sub-select, so that the server reads the context once a statement and
/// not once a row.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), tenantry::Error> {
/// let text = tenantry::sql::Installation::new("app").table("app.invoices").sql()?;
/// assert!(text.contains("FORCE ROW LEVEL SECURITY"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a table is only a description: run it with `apply`, or take its `sql`"]
pub struct TenantTable {
    installation: Installation,
    name: String,
}

impl TenantTable {
    pub(super) fn new(installation: Installation, name: String) -> Self {
        Self { installation, name }
    }

    /// The script as text: one statement, to be run by the owner of the table.
    ///
    /// It takes an `ACCESS EXCLUSIVE` lock for a moment; set a `lock_timeout` where statements on
    /// the table run for long. A large table is locked for as long as its index takes: build it with
    /// `CREATE INDEX CONCURRENTLY` beforehand and the script leaves it out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if a name cannot be written in
    /// SQL.
    pub fn sql(&self) -> Result<String, Error> {
        let (declarations, body) = self.parts()?;
        Ok(script::script(&declarations, &body))
    }

    /// The same as a block of a larger script.
    pub(super) fn block(&self) -> Result<String, Error> {
        let (declarations, body) = self.parts()?;
        Ok(format!("  DECLARE\n{declarations}  BEGIN\n{body}  END;\n"))
    }

    fn parts(&self) -> Result<(String, String), Error> {
        self.installation.check()?;
        let target = TableName::parse(&self.name)?;
        let declarations = format!(
            "{}{}  column_type oid;\n",
            declarations(&self.installation, &target),
            self.installation
                .column
                .declarations(&self.installation.settings, self.installation.seal),
        );
        let seal = self.installation.seal;
        let body = [check_target(), level(seal), column(), members(), grants()].concat();
        Ok((declarations, body))
    }

    /// Runs the script as the role of `connection`, which must own the table.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) as for [`sql`](Self::sql);
    /// - [`ErrorKind::Installation`](crate::ErrorKind::Installation) if the application role does
    ///   not exist, the tenant column has another type or a
    ///   collation in which different tenants are equal, rows have no tenant yet, or the database is
    ///   sealed and the installation is not, or the other way round. Nothing was changed;
    /// - [`ErrorKind::Database`](crate::ErrorKind::Database) if the server refused a statement,
    ///   because there is no such table for example. Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// As for [`Installation::install`]: all or nothing, and the connection has to be given up.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<(), Error> {
        script::run(connection, self.sql()?).await
    }

    /// What [`apply`](Self::apply) does not mend, because it takes a decision: each with the SQL.
    ///
    /// It only reads the catalog. An empty list says that none of [`AdviceRule`](super::AdviceRule)
    /// found anything, not that the table is safe in every respect.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) as for [`sql`](Self::sql);
    /// - [`ErrorKind::Installation`](crate::ErrorKind::Installation) if the table has no tenant
    ///   column;
    /// - [`ErrorKind::Database`](crate::ErrorKind::Database) if the server refused to answer,
    ///   because there is no such table for example.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed. If the future is dropped, the connection has to be given up.
    pub async fn advice(&self, connection: &mut PgConnection) -> Result<Vec<Advice>, Error> {
        let script = self.sql()?;
        let target = TableName::parse(&self.name)?;
        advice::of(connection, &target, &self.installation.column.name, &script).await
    }
}

/// What the scripts of both kinds of table begin with.
pub(super) fn declarations(installation: &Installation, target: &TableName) -> String {
    format!(
        "  target constant regclass := {};
  app_role constant text := {};
  member regclass;
  sequence record;
",
        quote::literal(&target.to_string()),
        quote::literal(&installation.application_role),
    )
}

pub(super) fn check_target() -> String {
    format!(
        "  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = app_role) THEN
    {role_missing}
  END IF;
  IF (SELECT relkind FROM pg_class WHERE oid = target) NOT IN ('r', 'p') THEN
    {not_a_table}
  END IF;
",
        role_missing = Refusal::RoleMissing.raise(),
        not_a_table = Refusal::NotATable.raise(),
    )
}

/// Policies of another level than the database's would let a forged context pass, or none. Whoever
/// owns the table need not be able to read what is installed.
fn level(seal: Seal) -> String {
    format!(
        "  IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'tenantry' AND has_schema_privilege(oid, 'USAGE')) THEN
    IF has_table_privilege(to_regclass('tenantry.installation'), 'SELECT') THEN
      IF {sealed} <> (SELECT coalesce(to_jsonb(i) ->> 'seal', 'none') = 'sealed' FROM tenantry.installation AS i) THEN
        {other_seal}
      END IF;
    END IF;
  END IF;
",
        sealed = seal.is_sealed(),
        other_seal = Refusal::OtherSeal.raise(),
    )
}

/// The table itself, its partitions and the tables that inherit from it.
pub(super) const MEMBERS: &str = "WITH RECURSIVE family(oid) AS (
      SELECT target::oid UNION
      SELECT inhrelid FROM pg_inherits JOIN family ON inhparent = family.oid)
    SELECT family.oid FROM family JOIN pg_class AS c ON c.oid = family.oid";

/// The sequences of serial (`a`) and identity (`i`) columns.
pub(super) const SEQUENCES: &str = "SELECT d.objid::regclass AS name, d.deptype AS kind
    FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = target AND d.deptype IN ('a', 'i')";

fn column() -> String {
    format!(
        "  SELECT atttypid INTO column_type FROM pg_attribute
    WHERE attrelid = target AND attname = tenant_column AND attnum > 0 AND NOT attisdropped;
  IF NOT FOUND THEN
    EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', target, tenant_column, tenant_type);
  ELSIF column_type <> ALL (tenant_types) THEN
    {column_type}
  ELSIF EXISTS (
    SELECT FROM pg_attribute AS a JOIN pg_collation AS l ON l.oid = a.attcollation
    WHERE a.attrelid = target AND a.attname = tenant_column AND NOT l.collisdeterministic) THEN
    {column_collation}
  END IF;
  BEGIN
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', target, tenant_column);
  EXCEPTION WHEN not_null_violation THEN
    {rows_without_tenant}
  END;
  EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', target, tenant_column, proposal);
  IF NOT EXISTS (
    SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = tenant_column
    WHERE i.indrelid = target AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL) THEN
    EXECUTE format('CREATE INDEX ON %s (%I)', target, tenant_column);
  END IF;
",
        column_type = Refusal::ColumnType.raise(),
        column_collation = Refusal::ColumnCollation.raise(),
        rows_without_tenant = Refusal::RowsWithoutTenant.raise(),
    )
}

fn members() -> String {
    // A foreign table can be a partition, and cannot have policies: it is left without privileges.
    format!(
        "  FOR member IN {MEMBERS} WHERE c.relkind IN ('r', 'p') LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', member);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', member);
    EXECUTE format('DROP POLICY IF EXISTS tenantry_backstop ON %s', member);
    EXECUTE format('CREATE POLICY tenantry_backstop ON %s AS RESTRICTIVE FOR ALL TO PUBLIC '
      'USING (%I = (SELECT %s)) WITH CHECK (%2$I = (SELECT %3$s))', member, tenant_column, tenant);
    EXECUTE format('DROP POLICY IF EXISTS tenantry_tenant ON %s', member);
    EXECUTE format('CREATE POLICY tenantry_tenant ON %s AS PERMISSIVE FOR ALL TO %I '
      'USING (%I = (SELECT %s)) WITH CHECK (%3$I = (SELECT %4$s))', member, app_role, tenant_column, tenant);
  END LOOP;
"
    )
}

fn grants() -> String {
    format!(
        "  FOR member IN {MEMBERS} LOOP
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %I', member, app_role);
  END LOOP;
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', target, app_role);
  FOR sequence IN {SEQUENCES} LOOP
    EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM PUBLIC, %I', sequence.name, app_role);
    IF sequence.kind = 'a' THEN -- an identity column asks for no privilege
      EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %I', sequence.name, app_role);
    END IF;
  END LOOP;
"
    )
}
