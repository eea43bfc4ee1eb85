//! Tables of the schema `tenantry` whose rows belong to tenants, and what writes them.
//!
//! The application role reads some of them, under a policy, and writes none: that is for functions
//! which run with the rights of their owner. These take the tenant from the context and never as
//! an argument, and find every name in the schema it is written with.

use super::installation::Installation;
use crate::quote;

/// What a function can refuse. `error::classify_database` knows the codes.
#[derive(Clone, Copy)]
pub(super) enum Complaint {
    NoTenant,
    Definition,
    OtherReset,
    NoSuchNumber,
}

impl Complaint {
    /// The plpgsql statement that raises it.
    pub(super) fn raise(self) -> String {
        let (code, message) = match self {
            Self::NoTenant => ("TN020", "there is no tenant in the context"),
            Self::Definition => ("TN021", "the number series is not defined as it should be"),
            Self::OtherReset => ("TN022", "the number series begins anew at other times"),
            Self::NoSuchNumber => ("TN023", "the number was not given out, or is void"),
        };
        format!("RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = '{message}';")
    }
}

/// What stands between `FUNCTION ..` and its `DECLARE`.
pub(super) const AS_OWNER: &str =
    "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$";

/// The tenant of the context as an expression; NULL where there is none. Of a sealed database it
/// is the one under the seal.
pub(super) const TENANT: &str = "tenantry.current_tenant()";

/// The user of the context, NULL where there is none.
pub(super) const USER: &str = "tenantry.current_user_id()";

/// Makes a table that nobody but its owner has a privilege on, whatever default privileges say.
/// `what` is TABLE or UNLOGGED TABLE, `after` is run once it is there.
pub(super) fn create(what: &str, name: &str, columns: &str, after: &str) -> String {
    format!(
        "  IF to_regclass('tenantry.{name}') IS NULL THEN
    CREATE {what} tenantry.{name} ({columns});
    {after}
    DECLARE
      grantee text;
    BEGIN
      FOR grantee IN
        SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.oid = 'tenantry.{name}'::regclass AND a.grantee <> c.relowner
      LOOP
        EXECUTE format('REVOKE ALL ON tenantry.{name} FROM %s', grantee);
      END LOOP;
    END;
  END IF;
  EXECUTE format('REVOKE ALL ON tenantry.{name} FROM PUBLIC, %I', app_role);
"
    )
}

/// Lets the application role read the rows of its tenant.
pub(super) fn readable(name: &str) -> String {
    // Compared with a sub-select, so that the context is read once a statement.
    let policy = format!("tenant = (SELECT {TENANT})");
    format!(
        "  ALTER TABLE tenantry.{name} ENABLE ROW LEVEL SECURITY;
  DROP POLICY IF EXISTS tenantry_tenant ON tenantry.{name};
  CREATE POLICY tenantry_tenant ON tenantry.{name} FOR SELECT TO PUBLIC USING ({policy});
  EXECUTE format('GRANT SELECT ON tenantry.{name} TO %I', app_role);
"
    )
}

/// Lets the application role, and nobody else, call a function. `arguments` are types.
pub(super) fn callable(name: &str, arguments: &str) -> String {
    let function = format!("FUNCTION tenantry.{name}({arguments})");
    format!(
        "  REVOKE ALL ON {function} FROM PUBLIC;
  EXECUTE format('GRANT EXECUTE ON {function} TO %I', app_role);
"
    )
}

/// What such a script begins with.
pub(super) fn declarations(installation: &Installation) -> String {
    format!(
        "  app_role constant text := {};\n",
        quote::literal(&installation.application_role)
    )
}

pub(super) fn check() -> String {
    use super::script::Refusal;
    format!(
        "  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = app_role) THEN
    {role_missing}
  END IF;
  -- It came after the table.
  IF to_regclass('tenantry.installation') IS NULL OR to_regprocedure('{TENANT}') IS NULL THEN
    {not_installed}
  END IF;
",
        role_missing = Refusal::RoleMissing.raise(),
        not_installed = Refusal::NotInstalled.raise(),
    )
}
