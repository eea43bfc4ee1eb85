//! Views and rules: what they read and write in the name of their owners.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

/// A rule that is no view.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Rewrite {
    pub(in crate::audit) relation: Id,
    /// Quoted where SQL needs it.
    pub(in crate::audit) display: String,
    /// What it reads or writes, but for its own relation.
    pub(in crate::audit) others: Vec<Id>,
}

/// What each view and materialized view reads, by the view.
pub(super) async fn views(connection: &mut PgConnection) -> Result<BTreeMap<Id, Vec<Id>>, Error> {
    let rows: Vec<(Id, Vec<Id>)> = sqlx::query_as(
        "SELECT w.ev_class, array_agg(DISTINCT d.refobjid) FROM pg_rewrite AS w \
           JOIN pg_class AS c ON c.oid = w.ev_class JOIN pg_namespace AS n ON n.oid = c.relnamespace \
           JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid \
             AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class \
         WHERE w.ev_type = '1' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
         GROUP BY w.ev_class",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

pub(super) async fn rewrites(connection: &mut PgConnection) -> Result<Vec<Rewrite>, Error> {
    Ok(sqlx::query_as(
        "SELECT w.ev_class AS relation, quote_ident(w.rulename) AS display, \
           coalesce(array_agg(DISTINCT d.refobjid) FILTER (WHERE d.refobjid <> w.ev_class), '{}') AS others \
         FROM pg_rewrite AS w JOIN pg_class AS c ON c.oid = w.ev_class JOIN pg_namespace AS n ON n.oid = c.relnamespace \
           LEFT JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass \
         WHERE w.ev_type <> '1' AND w.ev_enabled <> 'D' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
         GROUP BY w.oid ORDER BY 1, 2",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

/// The definition of a view, as the server writes it.
pub(super) async fn definitions(
    connection: &mut PgConnection,
) -> Result<BTreeMap<Id, String>, Error> {
    let rows: Vec<(Id, String)> = sqlx::query_as(
        "SELECT c.oid, pg_get_viewdef(c.oid) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'v' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}
