//! Roles, memberships, and the database itself.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::id::Id;
use super::relations::Grant;
use crate::error::Error;

#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Role {
    pub(in crate::audit) oid: Id,
    pub(in crate::audit) name: String,
    /// Quoted where SQL needs it.
    pub(in crate::audit) display: String,
    pub(in crate::audit) superuser: bool,
    pub(in crate::audit) bypass_rls: bool,
    pub(in crate::audit) create_role: bool,
    pub(in crate::audit) replication: bool,
    pub(in crate::audit) can_login: bool,
    /// `name=value`, of this role in this database and in all.
    pub(in crate::audit) settings: Vec<String>,
}

/// That `member` is a member of `role`.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Membership {
    pub(in crate::audit) role: Id,
    pub(in crate::audit) member: Id,
    /// Whether the member has the role's privileges, may `SET ROLE` to it, or may grant itself
    /// either. Up to PostgreSQL 15 every membership lets the member `SET ROLE`.
    pub(in crate::audit) usable: bool,
    /// Whether the member can be the role as it is.
    pub(in crate::audit) may_set: bool,
    /// Whether the member has the privileges of the role without becoming it, so that policies for
    /// the role are for the member too.
    pub(in crate::audit) inherits: bool,
}

#[derive(Clone, Debug)]
pub(in crate::audit) struct Database {
    pub(in crate::audit) version: u32,
    /// Quoted where SQL needs it.
    pub(in crate::audit) display: String,
    pub(in crate::audit) owner: Id,
    pub(in crate::audit) grants: Vec<Grant>,
    pub(in crate::audit) max_prepared_transactions: i32,
}

#[derive(sqlx::FromRow)]
struct DatabaseRow {
    version: i32,
    display: String,
    owner: Id,
    max_prepared_transactions: i32,
    grants: sqlx::types::Json<Vec<Grant>>,
}

pub(super) async fn database(connection: &mut PgConnection) -> Result<Database, Error> {
    let row: DatabaseRow = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int4 AS version, \
           quote_ident(datname) AS display, datdba AS owner, \
           current_setting('max_prepared_transactions')::int4 AS max_prepared_transactions, \
           (SELECT coalesce(jsonb_agg(jsonb_build_object('grantee', grantee::int8, 'privilege', privilege_type)), '[]') \
            FROM aclexplode(coalesce(datacl, acldefault('d', datdba)))) AS grants \
         FROM pg_database WHERE datname = current_database()",
    )
    .persistent(false)
    .fetch_one(connection)
    .await?;
    Ok(Database {
        version: u32::try_from(row.version).unwrap_or(0),
        display: row.display,
        owner: row.owner,
        grants: row.grants.0,
        max_prepared_transactions: row.max_prepared_transactions,
    })
}

pub(super) async fn roles(connection: &mut PgConnection) -> Result<BTreeMap<Id, Role>, Error> {
    let roles: Vec<Role> = sqlx::query_as(
        "SELECT r.oid, r.rolname::text AS name, quote_ident(r.rolname) AS display, r.rolsuper AS superuser, \
           r.rolbypassrls AS bypass_rls, r.rolcreaterole AS create_role, r.rolreplication AS replication, \
           r.rolcanlogin AS can_login, \
           coalesce((SELECT array_agg(setting) FROM pg_db_role_setting AS s, unnest(s.setconfig) AS setting \
             WHERE s.setrole IN (r.oid, 0) AND s.setdatabase IN (0, \
               (SELECT oid FROM pg_database WHERE datname = current_database()))), '{}') AS settings \
         FROM pg_roles AS r",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    Ok(roles.into_iter().map(|role| (role.oid, role)).collect())
}

/// The columns that PostgreSQL 16 added are read by way of JSON, so that one text is for all.
pub(super) async fn memberships(connection: &mut PgConnection) -> Result<Vec<Membership>, Error> {
    Ok(sqlx::query_as(
        "SELECT roleid AS role, member, coalesce((to_jsonb(m)->>'set_option')::bool, true) \
           OR coalesce((to_jsonb(m)->>'inherit_option')::bool, false) OR admin_option AS usable, \
           coalesce((to_jsonb(m)->>'set_option')::bool, true) AS may_set, \
           coalesce((to_jsonb(m)->>'inherit_option')::bool, r.rolinherit) AS inherits \
         FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}
