//! What the server itself and its extensions offer.

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

/// A function of the server, or of an extension, that reaches past tables.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct ServerFunction {
    pub(in crate::audit) name: String,
    /// With its schema and the types of its arguments, as SQL has it.
    pub(in crate::audit) display: String,
    /// Who may call it.
    pub(in crate::audit) callers: Vec<Id>,
}

/// Large objects of one owner.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct LargeObjects {
    pub(in crate::audit) owner: Id,
    pub(in crate::audit) count: i64,
    /// Whether some may be read by everybody.
    pub(in crate::audit) public: bool,
}

/// The right to set a parameter that others may not set, since PostgreSQL 15.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct ParameterPrivilege {
    pub(in crate::audit) parameter: String,
    pub(in crate::audit) grantee: Id,
    pub(in crate::audit) privilege: String,
}

/// A view or a table of an extension that somebody may read.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct ExtensionView {
    pub(in crate::audit) display: String,
    pub(in crate::audit) extension: String,
    pub(in crate::audit) readers: Vec<Id>,
}

/// Those that rules ask about.
pub(super) async fn functions(connection: &mut PgConnection) -> Result<Vec<ServerFunction>, Error> {
    Ok(sqlx::query_as(
        "SELECT f.proname::text AS name, f.oid::regprocedure::text AS display, \
           ARRAY(SELECT DISTINCT grantee FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) \
             WHERE privilege_type = 'EXECUTE' AND grantee <> f.proowner) AS callers \
         FROM pg_proc AS f LEFT JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e' \
         WHERE (f.pronamespace = 'pg_catalog'::regnamespace OR d.objid IS NOT NULL) AND f.proname IN \
           ('pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_stat_file', 'lo_import', 'lo_export', \
            'lo_creat', 'lo_create', 'lo_from_bytea', 'lo_open', 'lo_get', 'lo_put', 'lo_unlink', \
            'pg_stat_get_activity', 'pg_cancel_backend', 'pg_terminate_backend', \
            'pgrowlocks', 'pgstattuple', 'pgstattuple_approx', 'pg_buffercache_pages', 'pg_stat_statements', \
            'pg_logical_slot_get_changes', 'pg_logical_slot_peek_changes', 'dblink_connect_u', \
            'adminpack', 'pg_file_write', 'pg_advisory_lock') \
         ORDER BY 2",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

pub(super) async fn large_objects(
    connection: &mut PgConnection,
) -> Result<Vec<LargeObjects>, Error> {
    Ok(sqlx::query_as(
        "SELECT lomowner AS owner, count(*) AS count, \
           coalesce(bool_or(EXISTS (SELECT FROM aclexplode(lomacl) WHERE grantee = 0)), false) AS public \
         FROM pg_largeobject_metadata GROUP BY lomowner",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

pub(super) async fn parameter_privileges(
    connection: &mut PgConnection,
    version: u32,
) -> Result<Vec<ParameterPrivilege>, Error> {
    if version < 150_000 {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as(
        "SELECT parname AS parameter, a.grantee, a.privilege_type AS privilege \
         FROM pg_parameter_acl CROSS JOIN LATERAL aclexplode(paracl) AS a ORDER BY 1, 3",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

/// Of extensions that tell of statements.
pub(super) async fn extension_views(
    connection: &mut PgConnection,
) -> Result<Vec<ExtensionView>, Error> {
    Ok(sqlx::query_as(
        "SELECT format('%I.%I', n.nspname, c.relname) AS display, x.extname::text AS extension, \
           ARRAY(SELECT DISTINCT grantee FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) \
             WHERE privilege_type = 'SELECT' AND grantee <> c.relowner) AS readers \
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
           JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' \
           JOIN pg_extension AS x ON x.oid = d.refobjid \
         WHERE x.extname IN ('pg_stat_statements', 'pg_buffercache', 'pg_stat_monitor', 'auto_explain') \
           AND c.relkind IN ('r', 'v', 'm') ORDER BY 1",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}
