//! What the catalog says. Asked with nothing but `pg_catalog` in the search path.
//!
//! Privileges are read from the lists of grants, not asked of `has_.._privilege`, which is true of
//! everything for a superuser. A role can do what any role can that it is a member of: `SET ROLE`
//! reaches them, whether or not it inherits.

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use crate::error::Error;

/// A relation that the application role can reach.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Relation {
    pub(super) oid: Oid,
    /// With its schema, quoted where needed.
    pub(super) name: String,
    pub(super) schema: String,
    pub(super) table: String,
    /// As `pg_class.relkind`.
    pub(super) kind: String,
    pub(super) row_security: bool,
    pub(super) forced: bool,
    /// Whether the application role is, or can become, its owner.
    pub(super) owned: bool,
    pub(super) owner: String,
    /// Of the application role or one it can become.
    pub(super) privileges: Vec<String>,
    /// Of everybody.
    pub(super) public: Vec<String>,
    pub(super) has_rules: bool,
}

/// A column of a table that plays a part in what is tried.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Column {
    pub(super) relation: Oid,
    pub(super) name: String,
    /// The name of its type, or of the type below where it is a domain.
    pub(super) type_name: String,
    /// As `pg_type.typcategory`.
    pub(super) category: String,
    pub(super) not_null: bool,
    /// Whether a policy of the table speaks of it.
    pub(super) in_policy: bool,
    /// Whether an INSERT has to name it: it has no default, or one that counts a sequence up.
    pub(super) needed: bool,
    /// The first label, of an enum.
    pub(super) label: Option<String>,
}

/// A policy that holds for a role.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Policy {
    pub(super) relation: Oid,
    pub(super) role: String,
    pub(super) name: String,
    /// As `pg_policy.polcmd`.
    pub(super) command: String,
    pub(super) permissive: bool,
    pub(super) using: Option<String>,
    pub(super) check: Option<String>,
}

/// A relation that a view reads with the rights of its owner.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Seen {
    pub(super) view: Oid,
    pub(super) relation: Oid,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) row_security: bool,
    pub(super) has_column: bool,
    pub(super) owner: String,
    /// Whether that owner is above the relation's policies.
    pub(super) bypasses: bool,
}

/// Rows of (rule, object, problem, remedy).
pub(super) type Complaints = Vec<(String, String, String, String)>;

/// What a name means, of a relation or of a function with its arguments.
pub(super) async fn resolve(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Oid>, Error> {
    let sql = match name.contains('(') {
        true => "SELECT to_regprocedure($1)::oid",
        false => "SELECT to_regclass($1)::oid",
    };
    Ok(sqlx::query_scalar(sql)
        .bind(name)
        .persistent(false)
        .fetch_one(connection)
        .await?)
}

/// What is wrong with the roles themselves.
pub(super) async fn roles(
    connection: &mut PgConnection,
    roles: &[String],
) -> Result<Complaints, Error> {
    complaints(connection, &[REACH, ROLES].concat(), roles).await
}

/// Functions that go round the policies, with the function itself in front.
pub(super) async fn functions(
    connection: &mut PgConnection,
    roles: &[String],
    own: &[Oid],
) -> Result<Vec<(Oid, String, String, String)>, Error> {
    Ok(
        sqlx::query_as(sqlx::AssertSqlSafe([REACH, FUNCTIONS].concat()))
            .bind(roles)
            .bind(own)
            .persistent(false)
            .fetch_all(connection)
            .await?,
    )
}

/// All relations that can be reached, but for the server's own and those of extensions, and
/// `others`, which can be reached in other ways.
pub(super) async fn relations(
    connection: &mut PgConnection,
    roles: &[String],
    others: &[Oid],
) -> Result<Vec<Relation>, Error> {
    Ok(
        sqlx::query_as(sqlx::AssertSqlSafe([REACH, RELATIONS].concat()))
            .bind(roles)
            .bind(others)
            .persistent(false)
            .fetch_all(connection)
            .await?,
    )
}

pub(super) async fn columns(
    connection: &mut PgConnection,
    relations: &[Oid],
) -> Result<Vec<Column>, Error> {
    Ok(sqlx::query_as(COLUMNS)
        .bind(relations)
        .persistent(false)
        .fetch_all(connection)
        .await?)
}

/// The policies of these tables, for each role that the application role can be, and for each of
/// `owners`: they apply to a role that has the rights of one they are for.
pub(super) async fn policies(
    connection: &mut PgConnection,
    roles: &[String],
    relations: &[Oid],
    owners: &[String],
) -> Result<Vec<Policy>, Error> {
    Ok(
        sqlx::query_as(sqlx::AssertSqlSafe([REACH, POLICIES].concat()))
            .bind(roles)
            .bind(relations)
            .bind(owners)
            .persistent(false)
            .fetch_all(connection)
            .await?,
    )
}

/// The roles that the application role can be, itself first, without those above policies.
pub(super) async fn reachable_roles(
    connection: &mut PgConnection,
    roles: &[String],
) -> Result<Vec<String>, Error> {
    let sql = [
        REACH,
        "SELECT r.rolname::text FROM (SELECT DISTINCT oid FROM reach) AS d JOIN pg_roles AS r USING (oid) \
         WHERE NOT r.rolsuper AND NOT r.rolbypassrls ORDER BY r.rolname <> ALL ($1), 1",
    ];
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql.concat()))
        .bind(roles)
        .persistent(false)
        .fetch_all(connection)
        .await?)
}

/// What the views among these show with the rights of others.
pub(super) async fn seen_through_views(
    connection: &mut PgConnection,
    views: &[Oid],
    column: &str,
) -> Result<Vec<Seen>, Error> {
    Ok(sqlx::query_as(VIEWS)
        .bind(views)
        .bind(column)
        .persistent(false)
        .fetch_all(connection)
        .await?)
}

/// Whose database it is, if it is one tenant's.
pub(super) async fn database_of(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    match is_there(connection, "tenantry.installation").await? {
        true => Ok(
            sqlx::query_scalar("SELECT tenant FROM tenantry.installation")
                .persistent(false)
                .fetch_optional(connection)
                .await?
                .flatten(),
        ),
        false => Ok(None),
    }
}

pub(super) async fn reference_tables(connection: &mut PgConnection) -> Result<Vec<Oid>, Error> {
    match is_there(connection, "tenantry.reference_tables").await? {
        true => Ok(
            sqlx::query_scalar("SELECT relation::oid FROM tenantry.reference_tables")
                .persistent(false)
                .fetch_all(connection)
                .await?,
        ),
        false => Ok(Vec::new()),
    }
}

/// Whether there is such a table, and the pool's role may read it.
async fn is_there(connection: &mut PgConnection, table: &str) -> Result<bool, Error> {
    let there: Option<bool> = sqlx::query_scalar(
        "SELECT has_table_privilege(to_regclass($1), 'SELECT') \
           AND has_schema_privilege('tenantry', 'USAGE') WHERE to_regclass($1) IS NOT NULL",
    )
    .bind(table)
    .persistent(false)
    .fetch_optional(connection)
    .await?;
    Ok(there.unwrap_or(false))
}

/// The CHECKs of a table that speak of no column but this.
pub(super) async fn checks(
    connection: &mut PgConnection,
    relation: Oid,
    column: &str,
) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conrelid = $1 AND contype = 'c' \
           AND conkey = (SELECT ARRAY[attnum] FROM pg_attribute WHERE attrelid = $1 AND attname = $2)",
    )
    .bind(relation)
    .bind(column)
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

async fn complaints(
    connection: &mut PgConnection,
    sql: &str,
    roles: &[String],
) -> Result<Complaints, Error> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(roles)
        .persistent(false)
        .fetch_all(connection)
        .await?)
}

/// $1 are the roles that tenants are served as. `reach` is every role these can become, and `entry`
/// the membership that leads there.
const REACH: &str = "\
WITH RECURSIVE reach(oid, entry, self) AS (
  SELECT oid, NULL::oid, oid FROM pg_roles WHERE rolname = ANY ($1)
  UNION
  SELECT m.roleid, coalesce(r.entry, m.roleid), r.self FROM pg_auth_members AS m JOIN reach AS r ON m.member = r.oid),
grantees AS (SELECT DISTINCT oid FROM reach UNION ALL SELECT 0),
roles AS ( -- each role once, by its shortest way
  SELECT DISTINCT ON (r.oid) r.oid, role.rolname, role.rolsuper, role.rolbypassrls, role.rolcreaterole, role.rolreplication,
    quote_ident(self.rolname) AS self,
    CASE WHEN r.entry IS NULL THEN '' ELSE format('can become %I, which ', role.rolname) END AS how,
    CASE WHEN r.entry IS NOT NULL THEN format('REVOKE %I FROM %I;', entry.rolname, self.rolname) END AS leave
  FROM reach AS r JOIN pg_roles AS role ON role.oid = r.oid JOIN pg_roles AS self ON self.oid = r.self
  LEFT JOIN pg_roles AS entry ON entry.oid = r.entry
  ORDER BY r.oid, r.entry NULLS FIRST, r.self),
everywhere AS ( -- privileges that a role has on all there is
  SELECT CASE rolname WHEN 'pg_read_all_data' THEN ARRAY['SELECT'] ELSE ARRAY['INSERT', 'UPDATE', 'DELETE'] END AS held
  FROM roles WHERE rolname IN ('pg_read_all_data', 'pg_write_all_data')),
schemas AS (
  SELECT n.oid, n.nspname FROM pg_namespace AS n
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND (EXISTS (SELECT FROM everywhere) OR EXISTS (
    SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a JOIN grantees AS g ON g.oid = a.grantee
    WHERE a.privilege_type = 'USAGE')))
";

const ROLES: &str = "\
SELECT 'bypasses', self, how || 'is a superuser', coalesce(leave, format('ALTER ROLE %s NOSUPERUSER;', self)) FROM roles WHERE rolsuper
UNION ALL
SELECT 'bypasses', self, how || 'has BYPASSRLS', coalesce(leave, format('ALTER ROLE %s NOBYPASSRLS;', self)) FROM roles WHERE rolbypassrls
UNION ALL
SELECT 'bypasses', self, how || 'has CREATEROLE and can grant itself any role that is no superuser',
  coalesce(leave, format('ALTER ROLE %s NOCREATEROLE;', self))
FROM roles WHERE rolcreaterole AND current_setting('server_version_num')::int4 < 160000
UNION ALL
SELECT 'bypasses', self, how || 'has REPLICATION and can read all that is written',
  coalesce(leave, format('ALTER ROLE %s NOREPLICATION;', self)) FROM roles WHERE rolreplication
UNION ALL
SELECT 'bypasses', self, how || 'reaches the files of the server', leave FROM roles
WHERE rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
UNION ALL
SELECT 'owns', self, how || 'owns this database', coalesce(leave, format('ALTER DATABASE %I OWNER TO another role;', datname))
FROM roles JOIN pg_database ON datdba = roles.oid AND datname = current_database()
UNION ALL
SELECT 'owns', self, format('%sowns the schema %I', how, n.nspname), coalesce(leave, format('ALTER SCHEMA %I OWNER TO another role;', n.nspname))
FROM roles JOIN pg_namespace AS n ON n.nspowner = roles.oid AND n.nspname !~ '^pg_'
UNION ALL
SELECT 'owns', self, format('%sowns the type %I.%I', how, n.nspname, t.typname),
  coalesce(leave, format('ALTER DOMAIN %I.%I OWNER TO another role;', n.nspname, t.typname))
FROM roles JOIN pg_type AS t ON t.typowner = roles.oid AND t.typtype = 'd' JOIN pg_namespace AS n ON n.oid = t.typnamespace
WHERE n.nspname = 'tenantry'
UNION ALL
SELECT DISTINCT 'privilege', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
  'may make temporary tables, which outlive a transaction and stand in front of real ones',
  format('REVOKE TEMPORARY ON DATABASE %I FROM %s;', d.datname,
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
FROM pg_database AS d CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a JOIN grantees AS g ON g.oid = a.grantee
WHERE d.datname = current_database() AND a.privilege_type = 'TEMPORARY' AND a.grantee <> d.datdba
ORDER BY 1, 2, 3";

/// $2 are further relations.
const RELATIONS: &str = ", grants AS (
  SELECT c.oid, a.grantee, a.privilege_type
  FROM pg_class AS c JOIN schemas AS s ON s.oid = c.relnamespace
  CROSS JOIN LATERAL (
    SELECT coalesce(c.relacl, acldefault('r', c.relowner)) AS acl
    UNION ALL
    SELECT attacl FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL AND NOT attisdropped) AS l
  CROSS JOIN LATERAL aclexplode(l.acl) AS a JOIN grantees AS g ON g.oid = a.grantee
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  UNION ALL
  SELECT c.oid, 1, p FROM pg_class AS c JOIN schemas AS s ON s.oid = c.relnamespace, everywhere AS e, unnest(e.held) AS p
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')),
held AS (
  SELECT oid, array_agg(DISTINCT privilege_type) AS privileges,
    coalesce(array_agg(DISTINCT privilege_type) FILTER (WHERE grantee = 0), '{}') AS public
  FROM grants GROUP BY oid)
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, n.nspname::text AS schema, c.relname::text AS table,
  c.relkind::text AS kind, c.relrowsecurity AS row_security, c.relforcerowsecurity AS forced,
  EXISTS (SELECT FROM reach WHERE reach.oid = c.relowner) AS owned, quote_ident(pg_get_userbyid(c.relowner)) AS owner,
  coalesce(h.privileges, '{}') AS privileges, coalesce(h.public, '{}') AS public,
  EXISTS (SELECT FROM pg_rewrite AS w WHERE w.ev_class = c.oid AND w.ev_type <> '1' AND w.ev_enabled <> 'D') AS has_rules
FROM pg_class AS c LEFT JOIN held AS h ON h.oid = c.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE (h.oid IS NOT NULL OR c.oid = ANY ($2)) AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 2";

/// $1 are tables.
const COLUMNS: &str = "\
SELECT a.attrelid AS relation, a.attname::text AS name, base.typname::text AS type_name, base.typcategory::text AS category,
  a.attnotnull AS not_null,
  EXISTS (SELECT FROM pg_policy AS p JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
    WHERE p.polrelid = a.attrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum) AS in_policy,
  a.attgenerated = '' AND (a.attidentity <> '' OR a.attnotnull AND NOT a.atthasdef
    OR coalesce(pg_get_expr(f.adbin, f.adrelid) LIKE '%nextval(%', false)) AS needed,
  (SELECT e.enumlabel::text FROM pg_enum AS e WHERE e.enumtypid = base.oid ORDER BY e.enumsortorder LIMIT 1) AS label
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
JOIN pg_type AS base ON base.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
LEFT JOIN pg_attrdef AS f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

/// $2 are tables, $3 further roles.
const POLICIES: &str = "\
SELECT p.polrelid AS relation, r.rolname::text AS role, p.polname::text AS name, p.polcmd::text AS command,
  p.polpermissive AS permissive, pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS check
FROM pg_policy AS p CROSS JOIN (
  SELECT role.oid, role.rolname FROM pg_roles AS role
  WHERE role.oid IN (SELECT oid FROM reach) OR role.rolname = ANY ($3)) AS r
WHERE p.polrelid = ANY ($2)
  AND EXISTS (SELECT FROM unnest(p.polroles) AS target WHERE target = 0 OR pg_has_role(r.oid, target, 'USAGE'))
ORDER BY p.polrelid, r.rolname, p.polname";

/// $1 are views, $2 is the tenant column. A view reads with the rights of its owner, and what it
/// reads a view of, unless that one runs with the rights of whoever asks.
const VIEWS: &str = "\
WITH RECURSIVE views AS (
  SELECT c.oid, c.relowner,
    coalesce((SELECT bool_or(o.option_value IN ('true', 'on', '1', 'yes')) FROM pg_options_to_table(c.reloptions) AS o
      WHERE o.option_name = 'security_invoker'), false) AS invoker
  FROM pg_class AS c WHERE c.relkind = 'v'),
reads AS (
  SELECT DISTINCT r.ev_class AS view, d.refobjid AS relation
  FROM pg_rewrite AS r JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class),
seen(view, who, relation) AS (
  SELECT v.oid, CASE WHEN NOT v.invoker THEN v.relowner END, reads.relation
  FROM views AS v JOIN reads ON reads.view = v.oid WHERE v.oid = ANY ($1)
  UNION
  SELECT s.view, CASE WHEN v.invoker THEN s.who ELSE v.relowner END, reads.relation
  FROM seen AS s JOIN views AS v ON v.oid = s.relation JOIN reads ON reads.view = v.oid)
SELECT s.view, s.relation, format('%I.%I', n.nspname, c.relname) AS name, c.relkind::text AS kind, c.relrowsecurity AS row_security,
  EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped) AS has_column,
  w.rolname::text AS owner, w.rolsuper OR w.rolbypassrls OR c.relowner = w.oid AND NOT c.relforcerowsecurity AS bypasses
FROM seen AS s JOIN pg_class AS c ON c.oid = s.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_roles AS w ON w.oid = s.who
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 3";

/// $2 are tables of tenants which are not forced by right.
const FUNCTIONS: &str = ", callable AS (
  SELECT f.oid, format('%I.%I(%s)', s.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS name,
    f.proowner, f.proleakproof, f.prosecdef, f.prorettype,
    (SELECT substr(setting, 13) FROM unnest(f.proconfig) AS setting WHERE setting LIKE 'search_path=%') AS path,
    owner.rolsuper OR owner.rolbypassrls AS above, quote_ident(owner.rolname) AS owner
  FROM pg_proc AS f JOIN schemas AS s ON s.oid = f.pronamespace JOIN pg_roles AS owner ON owner.oid = f.proowner
  WHERE EXISTS (
      SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS a JOIN grantees AS g ON g.oid = a.grantee
      WHERE a.privilege_type = 'EXECUTE')
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e'))
SELECT oid, name, format('runs with the rights of %s, who is above policies', owner),
  format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC; or ALTER FUNCTION %1$s SECURITY INVOKER; or list it as reviewed', name)
FROM callable AS f
WHERE prosecdef AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND (above OR EXISTS (
  SELECT FROM pg_class AS c WHERE c.relowner = f.proowner AND c.relrowsecurity AND NOT c.relforcerowsecurity AND c.oid <> ALL ($2)))
UNION ALL
SELECT oid, name, 'runs with the rights of its owner and finds names by the search path of whoever calls it',
  format('ALTER FUNCTION %s SET search_path = pg_catalog, its schema, pg_temp;', name)
FROM callable
WHERE prosecdef AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND path IS NULL
UNION ALL
SELECT oid, name, 'is LEAKPROOF by somebody''s word, and is shown rows before policies are asked',
  format('ALTER FUNCTION %s NOT LEAKPROOF;', name)
FROM callable WHERE proleakproof
ORDER BY 2, 3";
