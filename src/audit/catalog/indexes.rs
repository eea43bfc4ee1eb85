//! Indexes of tables with row-level security, and what keeps them from being used there.

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

/// A valid index of a table that has row-level security.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Index {
    pub(in crate::audit) relation: Id,
    /// With its schema, quoted where SQL needs it.
    pub(in crate::audit) display: String,
    /// 0 for an expression.
    pub(in crate::audit) columns: Vec<i16>,
    /// Functions of its expressions that are not leakproof.
    pub(in crate::audit) functions: Vec<String>,
    /// For each column its operator class with the type, if that has no operator that is leakproof.
    /// Those that are for LIKE are among them, whose `=` is.
    pub(in crate::audit) classes: Vec<Option<String>>,
}

/// The functions of an expression are read off its tree: what comes with the server is in no
/// dependency. A text that is made of another type (`COERCEVIAIO`) calls functions of the types.
pub(super) async fn indexes(connection: &mut PgConnection) -> Result<Vec<Index>, Error> {
    Ok(sqlx::query_as(
        "WITH class AS MATERIALIZED (SELECT o.oid, o.opcname || ' (' || format_type(o.opcintype, NULL) || ')' AS name \
             FROM pg_opclass AS o JOIN pg_amop AS a ON a.amopfamily = o.opcfamily AND a.amoppurpose = 's' AND a.amoplefttype = o.opcintype \
               JOIN pg_operator AS p ON p.oid = a.amopopr JOIN pg_proc AS f ON f.oid = p.oprcode GROUP BY o.oid \
               HAVING o.opcname ~ '(pattern|trgm)_ops$' OR NOT bool_or(f.proleakproof)) \
         SELECT i.indrelid AS relation, format('%I.%I', n.nspname, x.relname) AS display, \
           i.indkey[0:i.indnkeyatts - 1]::int2[] AS columns, \
           CASE WHEN i.indexprs IS NULL THEN '{}' ELSE \
             ARRAY(SELECT DISTINCT f.proname::text FROM regexp_matches(i.indexprs::text, ':(?:func|opfunc)id ([0-9]+)', 'g') AS m \
                 JOIN pg_proc AS f ON f.oid = m[1]::oid WHERE NOT f.proleakproof ORDER BY 1) \
             || CASE WHEN i.indexprs::text LIKE '%COERCEVIAIO%' THEN ARRAY['a cast to or from text'] ELSE '{}' END END AS functions, \
           ARRAY(SELECT class.name \
             FROM unnest(i.indclass[0:i.indnkeyatts - 1]::oid[]) WITH ORDINALITY AS u (oid, number) LEFT JOIN class USING (oid) \
             ORDER BY u.number) AS classes \
         FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_class AS c ON c.oid = i.indrelid \
           JOIN pg_namespace AS n ON n.oid = x.relnamespace \
         WHERE i.indisvalid AND c.relrowsecurity AND NOT c.relispartition \
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 2",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}
