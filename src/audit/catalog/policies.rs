//! Policies, and as the server puts them together.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Policy {
    pub(in crate::audit) relation: Id,
    pub(in crate::audit) name: String,
    /// As `pg_policy.polcmd`.
    pub(in crate::audit) command: String,
    pub(in crate::audit) permissive: bool,
    /// Whom it is for; [`Id::PUBLIC`] among them is everybody.
    pub(in crate::audit) roles: Vec<Id>,
    pub(in crate::audit) using: Option<String>,
    pub(in crate::audit) check: Option<String>,
    /// The tables that it asks, but for its own.
    pub(in crate::audit) asks: Vec<Id>,
    /// The columns of its own table that it speaks of.
    pub(in crate::audit) columns: Vec<i16>,
}

/// A function without arguments that a policy calls.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Helper {
    /// As the server writes it in a policy.
    pub(in crate::audit) name: String,
    /// The name of the type that it returns, or of the type below where it is a domain.
    pub(in crate::audit) base_type: String,
    /// As `pg_type.typcategory`.
    pub(in crate::audit) category: String,
}

/// What somebody does with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) enum Command {
    Select,
    Insert,
    /// An UPDATE finds the row.
    Update,
    /// An UPDATE makes the row.
    UpdateTo,
    Delete,
}

impl Command {
    pub(in crate::audit) const ALL: [Self; 5] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::UpdateTo,
        Self::Delete,
    ];

    /// The privilege it takes.
    pub(in crate::audit) fn privilege(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update | Self::UpdateTo => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    pub(in crate::audit) fn writes(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateTo)
    }

    fn letter(self) -> &'static str {
        match self {
            Self::Select => "r",
            Self::Insert => "a",
            Self::Update | Self::UpdateTo => "w",
            Self::Delete => "d",
        }
    }

    /// What this policy has to say of it.
    pub(in crate::audit) fn expression(self, policy: &Policy) -> Option<&str> {
        if policy.command != "*" && policy.command != self.letter() {
            return None;
        }
        match self.writes() {
            true => policy.check.as_deref().or(policy.using.as_deref()),
            false => policy.using.as_deref(),
        }
    }
}

/// Of all tables.
pub(super) async fn policies(
    connection: &mut PgConnection,
) -> Result<BTreeMap<Id, Vec<Policy>>, Error> {
    let rows: Vec<Policy> = sqlx::query_as(
        "SELECT p.polrelid AS relation, p.polname::text AS name, p.polcmd::text AS command, p.polpermissive AS permissive, p.polroles AS roles, \
           pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS check, \
           coalesce(array_agg(DISTINCT d.refobjid) FILTER (WHERE d.refobjid <> p.polrelid), '{}') AS asks, \
           coalesce(array_agg(DISTINCT d.refobjsubid::int2) FILTER (WHERE d.refobjid = p.polrelid AND d.refobjsubid > 0), '{}') AS columns \
         FROM pg_policy AS p LEFT JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid \
           AND d.refclassid = 'pg_class'::regclass \
         GROUP BY p.oid ORDER BY p.polrelid, p.polname",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let mut policies: BTreeMap<Id, Vec<Policy>> = BTreeMap::new();
    for policy in rows {
        policies.entry(policy.relation).or_default().push(policy);
    }
    Ok(policies)
}

/// Of all policies.
pub(super) async fn helpers(connection: &mut PgConnection) -> Result<Vec<Helper>, Error> {
    Ok(sqlx::query_as(
        "WITH RECURSIVE domain AS (SELECT oid, typbasetype AS base FROM pg_type WHERE typtype = 'd' \
             UNION ALL SELECT d.oid, t.typbasetype FROM domain AS d JOIN pg_type AS t ON t.oid = d.base AND t.typtype = 'd'), \
           below AS (SELECT d.oid, t.typname, t.typcategory FROM domain AS d JOIN pg_type AS t ON t.oid = d.base AND t.typtype <> 'd') \
         SELECT DISTINCT format('%I.%I', n.nspname, f.proname) AS name, coalesce(base.typname, t.typname)::text AS base_type, \
           coalesce(base.typcategory, t.typcategory)::text AS category \
         FROM pg_depend AS d JOIN pg_proc AS f ON f.oid = d.refobjid JOIN pg_namespace AS n ON n.oid = f.pronamespace \
           JOIN pg_type AS t ON t.oid = f.prorettype LEFT JOIN below AS base ON base.oid = t.oid \
         WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass \
           AND f.pronargs = 0 AND NOT f.proretset AND n.nspname <> 'pg_catalog' ORDER BY 1",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}
