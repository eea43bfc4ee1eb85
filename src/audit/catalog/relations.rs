//! Schemas, tables, views, sequences, their columns, and who may do what with them.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::id::Id;
use crate::error::Error;

/// A privilege that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in crate::audit) struct Grant {
    pub(in crate::audit) grantee: Id,
    pub(in crate::audit) privilege: String,
    /// Of one column only.
    #[serde(default)]
    pub(in crate::audit) column: Option<String>,
}

#[derive(Clone, Debug)]
pub(in crate::audit) struct Schema {
    pub(in crate::audit) name: String,
    /// Quoted where SQL needs it.
    pub(in crate::audit) display: String,
    pub(in crate::audit) owner: Id,
    pub(in crate::audit) grants: Vec<Grant>,
}

/// As `pg_class.relkind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum Kind {
    Table,
    PartitionedTable,
    View,
    MaterializedView,
    ForeignTable,
    Sequence,
}

impl Kind {
    fn of(relkind: &str) -> Option<Self> {
        match relkind {
            "r" => Some(Self::Table),
            "p" => Some(Self::PartitionedTable),
            "v" => Some(Self::View),
            "m" => Some(Self::MaterializedView),
            "f" => Some(Self::ForeignTable),
            "S" => Some(Self::Sequence),
            _ => None,
        }
    }

    /// What row-level security can be enabled on.
    pub(in crate::audit) fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::PartitionedTable)
    }

    /// What has rows, of its own or of others.
    pub(in crate::audit) fn has_rows(self) -> bool {
        self != Self::Sequence
    }
}

#[derive(Clone, Debug)]
pub(in crate::audit) struct Relation {
    pub(in crate::audit) oid: Id,
    pub(in crate::audit) schema: Id,
    /// With its schema, quoted where SQL needs it.
    pub(in crate::audit) display: String,
    /// Without its schema and its quotes.
    pub(in crate::audit) name: String,
    pub(in crate::audit) kind: Kind,
    pub(in crate::audit) owner: Id,
    pub(in crate::audit) row_security: bool,
    pub(in crate::audit) forced: bool,
    pub(in crate::audit) grants: Vec<Grant>,
    /// What it is a partition or an inheritance child of.
    pub(in crate::audit) parents: Vec<Id>,
    pub(in crate::audit) of_extension: bool,
    /// As `pg_class.reloptions`.
    pub(in crate::audit) options: Vec<String>,
    pub(in crate::audit) columns: Vec<Column>,
    /// The CHECKs of one column each.
    pub(in crate::audit) checks: Vec<String>,
}

impl Relation {
    pub(in crate::audit) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether an option that is on or off is on.
    pub(in crate::audit) fn has_option(&self, name: &str) -> bool {
        self.options.iter().any(|option| {
            option.split_once('=').is_some_and(|(option, value)| {
                option == name && matches!(value, "true" | "on" | "yes" | "1")
            })
        })
    }
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Column {
    pub(in crate::audit) relation: Id,
    pub(in crate::audit) number: i16,
    pub(in crate::audit) name: String,
    /// Quoted where SQL needs it.
    pub(in crate::audit) display: String,
    /// As SQL has it: `character varying(20)`.
    pub(in crate::audit) type_name: String,
    /// The name of the type, or of the type at the bottom where it is a domain.
    pub(in crate::audit) base_type: String,
    /// As `pg_type.typcategory`.
    pub(in crate::audit) category: String,
    pub(in crate::audit) not_null: bool,
    /// The CHECKs of its type, if that is a domain.
    pub(in crate::audit) domain_checks: String,
    /// Whether its values are counted up: an identity, or the default of a sequence.
    pub(in crate::audit) is_counted: bool,
    /// Whether it is made of others.
    pub(in crate::audit) is_generated: bool,
    pub(in crate::audit) has_default: bool,
    /// The first label, of an enum.
    pub(in crate::audit) label: Option<String>,
}

/// What will be granted on objects that are made later.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct DefaultPrivilege {
    /// As `pg_default_acl.defaclobjtype`.
    pub(in crate::audit) kind: String,
    /// Who makes them.
    pub(in crate::audit) maker: Id,
    /// In which schema; in all of them where there is none. Quoted where SQL needs it.
    pub(in crate::audit) schema: Option<String>,
    pub(in crate::audit) grantee: Id,
    pub(in crate::audit) privilege: String,
}

#[derive(sqlx::FromRow)]
struct SchemaRow {
    oid: Id,
    name: String,
    display: String,
    owner: Id,
    grants: Json<Vec<Grant>>,
}

/// All but the server's own.
pub(super) async fn schemas(connection: &mut PgConnection) -> Result<BTreeMap<Id, Schema>, Error> {
    let rows: Vec<SchemaRow> = sqlx::query_as(
        "SELECT oid, nspname::text AS name, quote_ident(nspname) AS display, nspowner AS owner, \
           (SELECT coalesce(jsonb_agg(jsonb_build_object('grantee', grantee::int8, 'privilege', privilege_type)), '[]') \
            FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner)))) AS grants \
         FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let schema = |row: SchemaRow| {
        let schema = Schema {
            name: row.name,
            display: row.display,
            owner: row.owner,
            grants: row.grants.0,
        };
        (row.oid, schema)
    };
    Ok(rows.into_iter().map(schema).collect())
}

#[derive(sqlx::FromRow)]
struct RelationRow {
    oid: Id,
    schema: Id,
    display: String,
    name: String,
    kind: String,
    owner: Id,
    row_security: bool,
    forced: bool,
    grants: Json<Vec<Grant>>,
    parents: Vec<Id>,
    of_extension: bool,
    options: Vec<String>,
}

/// In all schemas but the server's own.
pub(super) async fn relations(
    connection: &mut PgConnection,
) -> Result<BTreeMap<Id, Relation>, Error> {
    let rows: Vec<RelationRow> = sqlx::query_as(
        "WITH own AS (SELECT c.*, n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')), \
           held AS (SELECT own.oid, a.grantee, a.privilege_type, NULL AS attname FROM own \
               CROSS JOIN LATERAL aclexplode(coalesce(own.relacl, \
                 acldefault((CASE own.relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\", own.relowner))) AS a \
             UNION ALL \
             SELECT t.attrelid, a.grantee, a.privilege_type, t.attname FROM pg_attribute AS t JOIN own ON own.oid = t.attrelid \
               CROSS JOIN LATERAL aclexplode(t.attacl) AS a WHERE t.attacl IS NOT NULL AND NOT t.attisdropped), \
           lists AS (SELECT oid, jsonb_agg(jsonb_build_object('grantee', grantee::int8, 'privilege', privilege_type, 'column', attname)) AS grants \
             FROM held GROUP BY oid), \
           above AS (SELECT inhrelid, array_agg(inhparent) AS parents FROM pg_inherits GROUP BY inhrelid), \
           extended AS (SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e') \
         SELECT own.oid, own.relnamespace AS schema, format('%I.%I', own.nspname, own.relname) AS display, own.relname::text AS name, \
           own.relkind::text AS kind, own.relowner AS owner, own.relrowsecurity AS row_security, own.relforcerowsecurity AS forced, \
           coalesce(lists.grants, '[]') AS grants, coalesce(above.parents, '{}') AS parents, \
           extended.objid IS NOT NULL AS of_extension, coalesce(own.reloptions, '{}') AS options \
         FROM own LEFT JOIN lists USING (oid) LEFT JOIN above ON above.inhrelid = own.oid LEFT JOIN extended ON extended.objid = own.oid",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let relation = |row: RelationRow| {
        let relation = Relation {
            oid: row.oid,
            schema: row.schema,
            display: row.display,
            name: row.name,
            kind: Kind::of(&row.kind)?,
            owner: row.owner,
            row_security: row.row_security,
            forced: row.forced,
            grants: row.grants.0,
            parents: row.parents,
            of_extension: row.of_extension,
            options: row.options,
            columns: Vec::new(),
            checks: Vec::new(),
        };
        Some((row.oid, relation))
    };
    Ok(rows.into_iter().filter_map(relation).collect())
}

/// Those of all relations, in their order.
pub(super) async fn columns(connection: &mut PgConnection) -> Result<Vec<Column>, Error> {
    Ok(sqlx::query_as(
        "WITH RECURSIVE domain AS (SELECT oid, typbasetype AS base FROM pg_type WHERE typtype = 'd' \
             UNION ALL SELECT d.oid, t.typbasetype FROM domain AS d JOIN pg_type AS t ON t.oid = d.base AND t.typtype = 'd'), \
           below AS (SELECT d.oid, t.typname, t.typcategory FROM domain AS d JOIN pg_type AS t ON t.oid = d.base AND t.typtype <> 'd'), \
           of_domain AS (SELECT oid, oid AS level FROM pg_type WHERE typtype = 'd' UNION SELECT oid, base FROM domain), \
           checked AS (SELECT of_domain.oid, string_agg(pg_get_constraintdef(k.oid), ' ') AS checks \
             FROM of_domain JOIN pg_constraint AS k ON k.contypid = of_domain.level AND k.contype = 'c' GROUP BY of_domain.oid) \
         SELECT a.attrelid AS relation, a.attnum AS number, a.attname::text AS name, quote_ident(a.attname) AS display, \
           format_type(a.atttypid, a.atttypmod) AS type_name, coalesce(base.typname, t.typname)::text AS base_type, \
           coalesce(base.typcategory, t.typcategory)::text AS category, a.attnotnull AS not_null, \
           coalesce(checked.checks, '') AS domain_checks, \
           a.attidentity <> '' OR a.atthasdef AND EXISTS (SELECT FROM pg_attrdef AS f WHERE f.adrelid = a.attrelid \
             AND f.adnum = a.attnum AND pg_get_expr(f.adbin, f.adrelid) LIKE 'nextval(%') AS is_counted, \
           a.attgenerated <> '' AS is_generated, a.atthasdef AS has_default, \
           (SELECT e.enumlabel::text FROM pg_enum AS e WHERE e.enumtypid = coalesce(base.oid, t.oid) \
             ORDER BY e.enumsortorder LIMIT 1) AS label \
         FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
           JOIN pg_type AS t ON t.oid = a.atttypid LEFT JOIN below AS base ON base.oid = t.oid LEFT JOIN checked ON checked.oid = t.oid \
         WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
           AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

pub(super) async fn default_privileges(
    connection: &mut PgConnection,
) -> Result<Vec<DefaultPrivilege>, Error> {
    Ok(sqlx::query_as(
        "SELECT d.defaclobjtype::text AS kind, d.defaclrole AS maker, (SELECT quote_ident(nspname) FROM pg_namespace WHERE oid = d.defaclnamespace) AS schema, \
           a.grantee, a.privilege_type AS privilege \
         FROM pg_default_acl AS d CROSS JOIN LATERAL aclexplode(d.defaclacl) AS a \
         WHERE a.grantee <> d.defaclrole ORDER BY d.oid, a.grantee, a.privilege_type",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

/// The CHECKs of one column each, with their tables.
pub(super) async fn checks(connection: &mut PgConnection) -> Result<Vec<(Id, String)>, Error> {
    Ok(sqlx::query_as(
        "SELECT c.conrelid, pg_get_expr(c.conbin, c.conrelid) FROM pg_constraint AS c \
           JOIN pg_namespace AS n ON n.oid = c.connamespace \
         WHERE c.contype = 'c' AND c.conrelid <> 0 AND cardinality(c.conkey) = 1 AND c.convalidated \
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}
