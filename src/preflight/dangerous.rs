//! What is asked of the role for dangerous access.

use sqlx::{PgConnection, Row as _};

use super::{findings, refuse};
use crate::error::{Error, ErrorKind};

/// Refuses a role that cannot write its record, or could do away with it.
///
/// Asked as the role itself, after [`check_installation`](super::check_installation) has shown
/// that it may look into the schema.
///
/// # Errors
///
/// [`ErrorKind::Installation`] if the table of the record is missing or the role may not write to
/// it; [`ErrorKind::Preflight`], as from [`check_role`](super::check_role), if it may do more than
/// that; [`ErrorKind::Database`] or [`ErrorKind::ConnectionLost`] if the server did not answer.
///
/// # Cancel safety
///
/// Nothing is changed. If the future is dropped, the connection has to be given up.
pub(crate) async fn check_dangerous_role(connection: &mut PgConnection) -> Result<(), Error> {
    let row = sqlx::raw_sql(MAY_WRITE).fetch_one(&mut *connection).await?;
    if !row.try_get::<bool, _>(0)? {
        return Err(Error::new(
            ErrorKind::Installation,
            "the database has no record of dangerous access, or the role may not write to it: \
             run tenantry::sql::DangerousAccess::install on it for this role",
        ));
    }
    refuse(
        "the role for dangerous access can do away with the record of it:",
        &findings(connection, ROLE).await?,
    )
}

/// `has_column_privilege` answers NULL where there is no such table.
const MAY_WRITE: &str = "\
SELECT coalesce(pg_catalog.bool_and(pg_catalog.has_column_privilege(session_user, t.oid, c, 'INSERT')), false)
FROM pg_catalog.unnest(ARRAY['actor', 'reason']) AS c, pg_catalog.pg_class AS t
WHERE t.oid = pg_catalog.to_regclass('tenantry.dangerous_access')";

/// Rows of (problem, remedy). `roles` is every role the connection can act as.
///
/// That somebody may read the record is left alone: whoever owns the database may want it.
const ROLE: &str = "\
WITH RECURSIVE roles(oid) AS (
  SELECT oid FROM pg_catalog.pg_roles WHERE rolname IN (session_user, current_user)
  UNION
  SELECT m.roleid FROM pg_catalog.pg_auth_members AS m JOIN roles AS r ON m.member = r.oid),
named AS (
  SELECT r.*, CASE WHEN r.rolname <> session_user
    THEN pg_catalog.format(', a role that %I can become,', session_user) ELSE '' END AS how
  FROM pg_catalog.pg_roles AS r JOIN roles USING (oid)),
record AS (
  SELECT * FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass('tenantry.dangerous_access')),
grants AS (
  SELECT a.grantee, a.privilege_type, NULL AS attname
  FROM record, pg_catalog.aclexplode(relacl) AS a WHERE a.grantee <> relowner
  UNION ALL
  SELECT a.grantee, a.privilege_type, c.attname
  FROM record JOIN pg_catalog.pg_attribute AS c ON c.attrelid = record.oid, pg_catalog.aclexplode(c.attacl) AS a
  WHERE a.grantee <> relowner)
SELECT pg_catalog.format('%I%s is a superuser', rolname, how),
  pg_catalog.format('CREATE ROLE another LOGIN BYPASSRLS; -- for %I', session_user)
FROM named WHERE rolsuper
UNION ALL
SELECT pg_catalog.format('%I%s has CREATEROLE and can grant itself any role that is no superuser', rolname, how),
  pg_catalog.format('ALTER ROLE %I NOCREATEROLE;', rolname)
FROM named WHERE rolcreaterole AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000
UNION ALL
SELECT pg_catalog.format('%I%s owns the table tenantry.dangerous_access', rolname, how),
  pg_catalog.format('ALTER TABLE tenantry.dangerous_access OWNER TO a role that %I cannot become;', session_user)
FROM named JOIN record ON relowner = named.oid
UNION ALL
SELECT pg_catalog.format('%I%s owns the schema tenantry', rolname, how),
  pg_catalog.format('ALTER SCHEMA tenantry OWNER TO a role that %I cannot become;', session_user)
FROM named JOIN pg_catalog.pg_namespace AS n ON n.nspowner = named.oid AND n.nspname = 'tenantry'
UNION ALL
SELECT pg_catalog.format('%I%s may write every table', rolname, how),
  pg_catalog.format('REVOKE pg_write_all_data FROM %I;', session_user)
FROM named WHERE rolname = 'pg_write_all_data'
UNION ALL
SELECT pg_catalog.format('%s holds %s on tenantry.dangerous_access', g.name, a.held),
  pg_catalog.format('REVOKE %s ON tenantry.dangerous_access FROM %s; -- and install DangerousAccess again', a.held, g.name)
FROM (
  SELECT grantee, pg_catalog.string_agg(DISTINCT privilege_type, ', ') AS held FROM grants
  WHERE privilege_type <> 'SELECT'
    AND (privilege_type <> 'INSERT' OR attname IS NULL OR attname NOT IN ('actor', 'reason'))
  GROUP BY grantee) AS a
JOIN (
  SELECT oid, pg_catalog.quote_ident(rolname) AS name FROM named UNION ALL SELECT 0, 'PUBLIC') AS g ON g.oid = a.grantee
ORDER BY 1";
