//! The record of access to the rows of all tenants.

use sqlx::PgConnection;

use super::installation;
use super::script::{self, Refusal};
use crate::error::Error;
use crate::quote;

/// What a database needs before
/// [`TenantRegistry::dangerous`](crate::TenantRegistry::dangerous) can be used in it.
///
/// It makes the table `tenantry.dangerous_access`, a row for each transaction that was committed:
///
/// | column | |
/// |---|---|
/// | `id` | counts; a gap is a transaction that was rolled back |
/// | `at` | when it began, by the server's clock |
/// | `role` | as whom the connection was logged in |
/// | `actor`, `reason` | what was said to [`DangerousRegistry::begin`](crate::DangerousRegistry::begin) |
/// | `transaction` | its number, `pg_current_xact_id()`, which the events at WARN have too |
///
/// The role may insert into `actor` and `reason`, all else is the server's word. It can neither read
/// rows nor change nor remove them; it can add more. When the table is made, nobody else is given
/// anything, whatever default privileges say: grant SELECT to whoever watches. Rows are kept until
/// the owner removes them.
///
/// # Examples
///
/// ```no_run
/// use sqlx::{Connection as _, Executor as _};
/// use tenantry::sql::DangerousAccess;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut superuser = sqlx::PgConnection::connect("postgres://postgres@localhost/shop").await?;
/// // A member of `app` has its privileges on tables; policies do not hold this one.
/// superuser.execute("CREATE ROLE support LOGIN BYPASSRLS IN ROLE app").await?;
/// DangerousAccess::new("support").install(&mut superuser).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is only a description: run it with `install`, or take its `sql`"]
pub struct DangerousAccess {
    role: String,
}

impl DangerousAccess {
    /// The record, and the role that writes it. The role must exist before the script runs, and be
    /// neither a superuser nor able to become the owner of the record. Run it once for each role,
    /// if there are several.
    pub fn new(role: impl Into<String>) -> Self {
        Self { role: role.into() }
    }

    /// The script as text: one statement, to be run by a role that has run the
    /// [`Installation`](super::Installation).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if the role cannot be written
    /// in SQL.
    pub fn sql(&self) -> Result<String, Error> {
        installation::check_role(&self.role)?;
        let declarations = format!(
            "  dangerous_role constant text := {};
  grantee text;
",
            quote::literal(&self.role)
        );
        Ok(script::script(
            &declarations,
            &[table(), privileges()].concat(),
        ))
    }

    /// Runs the script. Running it again mends the privileges of the role and leaves the rows, and
    /// what others were granted, alone.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) as for [`sql`](Self::sql);
    /// - [`ErrorKind::Installation`](crate::ErrorKind::Installation) if the database has no
    ///   installation, the role does not exist, or it could do away with the record. Nothing was
    ///   changed;
    /// - [`ErrorKind::Database`](crate::ErrorKind::Database) if the server refused a statement.
    ///   Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// As for [`Installation::install`](super::Installation::install): all or nothing, and the
    /// connection has to be given up.
    pub async fn install(&self, connection: &mut PgConnection) -> Result<(), Error> {
        script::run(connection, self.sql()?).await
    }
}

/// `session_user`, which SET ROLE does not change, and `clock_timestamp()`, which is not that of a
/// transaction that somebody began long before.
fn table() -> String {
    format!(
        "  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = dangerous_role) THEN
    {role_missing}
  END IF;
  IF to_regclass('tenantry.installation') IS NULL THEN
    {not_installed}
  END IF;
  IF to_regclass('tenantry.dangerous_access') IS NULL THEN
    CREATE TABLE tenantry.dangerous_access (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      at timestamptz NOT NULL DEFAULT clock_timestamp(),
      role text NOT NULL DEFAULT session_user,
      actor text NOT NULL,
      reason text NOT NULL,
      transaction xid8 NOT NULL DEFAULT pg_current_xact_id()
    );
    -- Default privileges may have given it away.
    FOR grantee IN
      SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
      FROM pg_class AS c, aclexplode(c.relacl) AS a
      WHERE c.oid = 'tenantry.dangerous_access'::regclass AND a.grantee <> c.relowner
    LOOP
      EXECUTE format('REVOKE ALL ON tenantry.dangerous_access FROM %s', grantee);
    END LOOP;
  END IF;
",
        role_missing = Refusal::DangerousRoleMissing.raise(),
        not_installed = Refusal::NotInstalled.raise(),
    )
}

/// A superuser is a member of every role.
fn privileges() -> String {
    format!(
        "  IF EXISTS (
    SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = 'tenantry.dangerous_access'::regclass
      AND (pg_has_role(dangerous_role, c.relowner, 'MEMBER') OR pg_has_role(dangerous_role, n.nspowner, 'MEMBER'))) THEN
    {owner}
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA tenantry TO %I', dangerous_role);
  EXECUTE format('GRANT SELECT ON tenantry.installation TO %I', dangerous_role);
  EXECUTE format('REVOKE ALL ON tenantry.dangerous_access FROM PUBLIC, %I', dangerous_role);
  EXECUTE format('GRANT INSERT (actor, reason) ON tenantry.dangerous_access TO %I', dangerous_role);
",
        owner = Refusal::DangerousRoleOwns.raise(),
    )
}
