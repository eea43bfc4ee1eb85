//! What is asked of a database before tenants are served from it.

mod dangerous;

use std::fmt::Write as _;

use sqlx::postgres::types::Oid;
use sqlx::{FromRow as _, PgConnection, Row as _};

use crate::error::{Error, ErrorKind};
use crate::settings::ContextSettings;
use crate::sql::{LAYOUT, Seal};

pub(crate) use dangerous::check_dangerous_role;

/// How many findings the message of an error names. A role that owns a thousand tables has one
/// fault and not a thousand.
const MOST_FINDINGS: usize = 50;

/// Refuses a role that can step out of the isolation, with every way it has to do so.
///
/// Asked as the role itself, on a connection that is in no transaction. What the role may do counts
/// as well as what it has: `SET ROLE` reaches every role it is a member of, whether or not it
/// inherits from it.
///
/// # Errors
///
/// [`ErrorKind::Preflight`], whose message holds the names of roles and tables, and the SQL that
/// mends it; [`ErrorKind::Database`] or [`ErrorKind::ConnectionLost`] if the server did not answer.
///
/// # Cancel safety
///
/// Nothing is changed. If the future is dropped, the connection has to be given up.
pub(crate) async fn check_role(connection: &mut PgConnection) -> Result<(), Error> {
    refuse(
        "the role of the connection can step out of the isolation:",
        &findings(connection, ROLE).await?,
    )
}

/// In the simple protocol, as all that is asked here: it is one message, of which no pooler makes
/// two that go to different sessions.
async fn findings(
    connection: &mut PgConnection,
    question: &'static str,
) -> Result<Vec<(String, String)>, Error> {
    let rows = sqlx::raw_sql(question).fetch_all(connection).await?;
    let findings = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    Ok(findings.collect::<Result<_, sqlx::Error>>()?)
}

/// An error with every finding, a problem and its remedy each, unless there are none.
fn refuse(heading: &str, findings: &[(String, String)]) -> Result<(), Error> {
    if findings.is_empty() {
        return Ok(());
    }
    let mut message = heading.to_owned();
    for (problem, remedy) in findings.iter().take(MOST_FINDINGS) {
        let _ = write!(message, "\n- {problem}; mend it with: {remedy}");
    }
    if let Some(more @ 1..) = findings.len().checked_sub(MOST_FINDINGS) {
        let _ = write!(message, "\n- and {more} more");
    }
    Err(Error::new(ErrorKind::Preflight, message))
}

/// What a database has installed, as far as a registry needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstalledScope {
    /// The type of the hidden argument.
    pub(crate) scope_oid: Oid,
    /// Whose database it is, if it belongs to one tenant.
    pub(crate) tenant: Option<String>,
    pub(crate) seal: Seal,
    /// `server_version_num`: 150018 for 15.18.
    pub(crate) server_version: u32,
    /// The number of the process that serves the connection.
    pub(crate) backend: i32,
    /// As whom the connection is logged in.
    pub(crate) role: String,
}

/// Compares what is installed with what this process is going to send.
///
/// # Errors
///
/// [`ErrorKind::Installation`] says what to run if the installation is missing, or cannot be read,
/// or does not take what this process sends; [`ErrorKind::Database`] or
/// [`ErrorKind::ConnectionLost`] if the server did not answer.
///
/// # Cancel safety
///
/// Nothing is changed. If the future is dropped, the connection has to be given up.
pub(crate) async fn check_installation(
    connection: &mut PgConnection,
    settings: &ContextSettings,
) -> Result<InstalledScope, Error> {
    // A statement cannot ask for a table that may not be there; that it fails is the answer.
    let row = sqlx::raw_sql(INSTALLED)
        .fetch_optional(connection)
        .await
        .map_err(unreadable)?
        .ok_or_else(|| refusal(MISSING))?;
    let installed = Installed::from_row(&row)?;
    let (Some(scope_oid), true) = (installed.scope, installed.has_checks) else {
        return Err(refusal(MISSING));
    };
    if LAYOUT > installed.layout {
        return Err(refusal(
            "the database was installed by an older release of tenantry: \
             run tenantry::sql::Installation::install on it with this release",
        ));
    }
    if LAYOUT < installed.oldest_layout {
        return Err(refusal(
            "the database was installed by a release of tenantry that no longer takes what this \
             one sends: upgrade this process",
        ));
    }
    if (settings.tenant(), settings.user())
        != (&*installed.tenant_setting, &*installed.user_setting)
    {
        return Err(refusal(
            "the database was installed with other names for the tenant or the user setting: \
             give this registry the settings it was installed with",
        ));
    }
    // Fewer are fine: the database may have been installed for the release that comes next.
    if !installed.further_settings.starts_with(settings.further()) {
        return Err(refusal(
            "the registry has further settings that the database does not know, or has in another \
             order: run tenantry::sql::Installation::install on it with the settings of the registry",
        ));
    }
    Ok(InstalledScope {
        scope_oid,
        tenant: installed.tenant,
        seal: installed.seal.as_deref().map_or(Seal::None, Seal::of),
        server_version: installed.server_version.unsigned_abs(),
        backend: installed.backend,
        role: installed.role,
    })
}

#[derive(Debug, sqlx::FromRow)]
struct Installed {
    scope: Option<Oid>,
    has_checks: bool,
    server_version: i32,
    backend: i32,
    role: String,
    layout: i32,
    oldest_layout: i32,
    tenant_setting: String,
    user_setting: String,
    further_settings: Vec<String>,
    tenant: Option<String>,
    seal: Option<String>,
}

fn unreadable(error: sqlx::Error) -> Error {
    let code = match &error {
        sqlx::Error::Database(database) => database.code(),
        _ => None,
    };
    match code.as_deref() {
        // No such table, no such schema, no such column (of an installation to come).
        Some("42P01" | "3F000" | "42703") => refusal(MISSING).with_source(error),
        Some("42501") => refusal(
            "the role of the connection may not read what tenantry installed: run \
             tenantry::sql::Installation::install on the database with this role as its \
             application role",
        )
        .with_source(error),
        _ => error.into(),
    }
}

const MISSING: &str = "the database has no installation of tenantry, or only a part of one: run \
     tenantry::sql::Installation::install on it, or its SQL in a migration";

fn refusal(message: &'static str) -> Error {
    Error::new(ErrorKind::Installation, message)
}

const INSTALLED: &str = "\
SELECT pg_catalog.to_regtype('tenantry.scope')::pg_catalog.oid AS scope,
  EXISTS (SELECT FROM pg_catalog.pg_constraint
    WHERE contypid = pg_catalog.to_regtype('tenantry.scope') AND conname = 'tenantry_3_context') AS has_checks,
  pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS server_version,
  pg_catalog.pg_backend_pid() AS backend, session_user::pg_catalog.text AS role,
  layout, oldest_layout, tenant_setting, user_setting, further_settings, tenant,
  -- Not there yet where a release before the seal has installed.
  pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(i), 'seal') AS seal
FROM tenantry.installation AS i";

/// Rows of (problem, remedy).
///
/// `reach` is every role the connection can act as; `entry` is the membership of its own role that
/// leads there, which is what has to be revoked. Privileges are read from the lists of grants, not
/// asked of `has_.._privilege`, which would not say who was granted them.
const ROLE: &str = "\
WITH RECURSIVE reach(oid, entry, self) AS (
  SELECT oid, NULL::pg_catalog.oid, oid FROM pg_catalog.pg_roles WHERE rolname IN (session_user, current_user)
  UNION
  SELECT m.roleid, coalesce(r.entry, m.roleid), r.self
  FROM pg_catalog.pg_auth_members AS m JOIN reach AS r ON m.member = r.oid),
roles AS ( -- each role once, by its shortest way
  SELECT DISTINCT ON (r.oid) r.oid, role.rolname, role.rolsuper, role.rolbypassrls, role.rolcreaterole,
    CASE WHEN r.entry IS NULL THEN '' ELSE pg_catalog.format(', a role that %I can become,', self.rolname) END AS how,
    CASE WHEN r.entry IS NOT NULL THEN pg_catalog.format('REVOKE %I FROM %I;', entry.rolname, self.rolname) END AS leave
  FROM reach AS r JOIN pg_catalog.pg_roles AS role ON role.oid = r.oid
  JOIN pg_catalog.pg_roles AS self ON self.oid = r.self
  LEFT JOIN pg_catalog.pg_roles AS entry ON entry.oid = r.entry
  ORDER BY r.oid, r.entry NULLS FIRST, r.self),
grantees AS (
  SELECT oid, pg_catalog.quote_ident(rolname) AS name, leave FROM roles UNION ALL SELECT 0, 'PUBLIC', NULL),
things AS (
  SELECT c.oid, c.relowner, c.relacl, c.relkind, c.relname, n.nspname,
    pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p')
    AND (c.relrowsecurity OR n.nspname = 'tenantry' OR EXISTS (
      SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid AND p.polname LIKE 'tenantry\\_%')))
SELECT pg_catalog.format('it logged in as %s and acts as %s, which RESET ROLE undoes',
    pg_catalog.quote_ident(session_user), pg_catalog.quote_ident(current_user)),
  pg_catalog.format('ALTER ROLE %I LOGIN; -- and log in as it', current_user)
WHERE session_user <> current_user
UNION ALL
SELECT pg_catalog.format('%I%s is a superuser', rolname, how),
  coalesce(leave, pg_catalog.format('ALTER ROLE %I NOSUPERUSER;', rolname))
FROM roles WHERE rolsuper
UNION ALL
SELECT pg_catalog.format('%I%s has BYPASSRLS', rolname, how),
  coalesce(leave, pg_catalog.format('ALTER ROLE %I NOBYPASSRLS;', rolname))
FROM roles WHERE rolbypassrls
UNION ALL
SELECT pg_catalog.format('%I%s has CREATEROLE and can grant itself any role that is no superuser', rolname, how),
  coalesce(leave, pg_catalog.format('ALTER ROLE %I NOCREATEROLE;', rolname))
FROM roles WHERE rolcreaterole AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000
UNION ALL
SELECT pg_catalog.format('%I%s owns the table %s and can undo what protects it', r.rolname, r.how, t.name),
  coalesce(leave, pg_catalog.format('ALTER TABLE %s OWNER TO a role that %I cannot become;', t.name, r.rolname))
FROM roles AS r JOIN things AS t ON t.relowner = r.oid
UNION ALL
SELECT pg_catalog.format('%I%s owns the schema tenantry', rolname, how),
  coalesce(leave, pg_catalog.format('ALTER SCHEMA tenantry OWNER TO a role that %I cannot become;', rolname))
FROM roles JOIN pg_catalog.pg_namespace ON nspowner = roles.oid AND nspname = 'tenantry'
UNION ALL
SELECT pg_catalog.format('%I%s owns the type tenantry.scope', rolname, how),
  coalesce(leave, pg_catalog.format('ALTER DOMAIN tenantry.scope OWNER TO a role that %I cannot become;', rolname))
FROM roles JOIN pg_catalog.pg_type AS t ON t.typowner = roles.oid AND t.typname = 'scope'
  JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace AND n.nspname = 'tenantry'
UNION ALL
SELECT pg_catalog.format('%I%s owns this database and can grant itself what it lacks', rolname, how),
  coalesce(leave, pg_catalog.format('ALTER DATABASE %I OWNER TO a role that %I cannot become;', datname, rolname))
FROM roles JOIN pg_catalog.pg_database ON datdba = roles.oid AND datname = pg_catalog.current_database()
UNION ALL
SELECT DISTINCT pg_catalog.format('%s holds TEMPORARY on this database: temporary tables outlive a transaction', g.name),
  pg_catalog.format('REVOKE TEMPORARY ON DATABASE %I FROM %s;', d.datname, g.name)
FROM pg_catalog.pg_database AS d
  CROSS JOIN pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) AS a
  JOIN grantees AS g ON g.oid = a.grantee
WHERE d.datname = pg_catalog.current_database() AND a.privilege_type = 'TEMPORARY'
UNION ALL
SELECT DISTINCT pg_catalog.format('%s may CREATE in the schema tenantry', g.name),
  pg_catalog.format('REVOKE CREATE ON SCHEMA tenantry FROM %s;', g.name)
FROM pg_catalog.pg_namespace AS n CROSS JOIN pg_catalog.aclexplode(n.nspacl) AS a
  JOIN grantees AS g ON g.oid = a.grantee
WHERE n.nspname = 'tenantry' AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
UNION ALL
SELECT pg_catalog.format('%s holds %s on %s', g.name, pg_catalog.string_agg(DISTINCT a.privilege_type, ', '), t.name),
  -- The role for dangerous access has its privilege by right: it is the way to that role that must go.
  coalesce(CASE WHEN t.relname = 'dangerous_access' THEN g.leave END, pg_catalog.format('REVOKE %s ON %s FROM %s;',
    pg_catalog.string_agg(DISTINCT a.privilege_type, ', '), t.name, g.name))
FROM things AS t CROSS JOIN LATERAL (
    SELECT t.relacl AS acl UNION ALL
    SELECT c.attacl FROM pg_catalog.pg_attribute AS c WHERE c.attrelid = t.oid AND c.attacl IS NOT NULL) AS l
  CROSS JOIN pg_catalog.aclexplode(l.acl) AS a JOIN grantees AS g ON g.oid = a.grantee
WHERE t.nspname = 'tenantry' AND a.grantee <> t.relowner
  AND (a.privilege_type <> 'SELECT' OR t.relname IN ('server_key', 'signing_keys'))
  -- The tables of roles are the tenants' own, under policies.
  AND NOT (t.relname IN ('members', 'roles', 'role_parents', 'role_permissions', 'member_roles')
    AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE') AND a.grantee <> 0)
GROUP BY g.name, g.leave, t.name, t.relname
UNION ALL
SELECT pg_catalog.format('the policy %I on %s reads settings that any statement can change, and the database is sealed',
    p.polname, t.name),
  'tenantry::sql::Installation::install or TenantTable::apply, as the owner of the table'
FROM things AS t JOIN pg_catalog.pg_policy AS p ON p.polrelid = t.oid
WHERE p.polname IN ('tenantry_backstop', 'tenantry_tenant')
  AND (SELECT pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(i), 'seal') FROM tenantry.installation AS i) = 'sealed'
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend AS d
    WHERE d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = p.oid
      AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
      AND d.refobjid = pg_catalog.to_regprocedure('tenantry.current_tenant()'))
UNION ALL
SELECT pg_catalog.format('%I%s may write every table, those of the schema tenantry too', rolname, how), leave
FROM roles WHERE rolname = 'pg_write_all_data' AND leave IS NOT NULL
  AND EXISTS (SELECT FROM things WHERE nspname = 'tenantry')
ORDER BY 1";

#[cfg(test)]
mod tests;
