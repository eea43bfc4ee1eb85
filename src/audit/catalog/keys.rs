//! Unique and exclusion constraints, unique indexes, and foreign keys.

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

/// A unique index, with the constraint that it is for.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Unique {
    pub(in crate::audit) relation: Id,
    /// Of the constraint, or else of the index with its schema. Quoted where SQL needs it.
    pub(in crate::audit) display: String,
    /// 0 for an expression.
    pub(in crate::audit) columns: Vec<i16>,
    /// As `pg_constraint.contype`; `i` for an index that is for none.
    pub(in crate::audit) kind: String,
    /// Only of some rows.
    pub(in crate::audit) partial: bool,
    /// Whether a foreign key rests on it.
    pub(in crate::audit) referenced: bool,
    /// Where more belongs to it than columns, as SQL would make it. To ask it of each takes as long as
    /// all else that is asked of keys.
    pub(in crate::audit) definition: Option<String>,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct ForeignKey {
    pub(in crate::audit) relation: Id,
    /// Quoted where SQL needs it.
    pub(in crate::audit) display: String,
    pub(in crate::audit) columns: Vec<i16>,
    pub(in crate::audit) referenced: Id,
    pub(in crate::audit) referenced_columns: Vec<i16>,
    /// As `pg_constraint.confdeltype`.
    pub(in crate::audit) on_delete: String,
    /// As `pg_constraint.confupdtype`.
    pub(in crate::audit) on_update: String,
}

/// Those of partitions are their parents'.
pub(super) async fn uniques(connection: &mut PgConnection) -> Result<Vec<Unique>, Error> {
    Ok(sqlx::query_as(
        "SELECT i.indrelid AS relation, coalesce(quote_ident(k.conname), format('%I.%I', n.nspname, x.relname)) AS display, \
           i.indkey[0:i.indnkeyatts - 1]::int2[] AS columns, coalesce(k.contype::text, 'i') AS kind, \
           i.indpred IS NOT NULL AS partial, \
           i.indexrelid IN (SELECT conindid FROM pg_constraint WHERE contype = 'f') AS referenced, \
           CASE WHEN i.indisexclusion OR i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR NOT i.indimmediate \
               OR i.indnatts > i.indnkeyatts OR coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) \
             THEN coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(x.oid)) END AS definition \
         FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_class AS c ON c.oid = i.indrelid \
           JOIN pg_namespace AS n ON n.oid = x.relnamespace \
           LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x') \
         WHERE (i.indisunique OR i.indisexclusion) AND NOT c.relispartition \
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

pub(super) async fn foreign_keys(connection: &mut PgConnection) -> Result<Vec<ForeignKey>, Error> {
    Ok(sqlx::query_as(
        "SELECT k.conrelid AS relation, quote_ident(k.conname) AS display, k.conkey AS columns, k.confrelid AS referenced, \
           k.confkey AS referenced_columns, k.confdeltype::text AS on_delete, k.confupdtype::text AS on_update \
         FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace \
         WHERE k.contype = 'f' AND k.conparentid = 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}
