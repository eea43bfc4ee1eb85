//! What a tenant table has that its owner should think about.

use std::fmt;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::{Error, ErrorKind};
use crate::quote::{self, TableName};

/// One piece of advice on a tenant table, with the SQL that follows it.
///
/// `Display` is all of it, for a terminal of the people who own the tables. A new partition is
/// mended by the whole script of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    rule: AdviceRule,
    object: String,
    sql: String,
}

/// What [`Advice`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdviceRule {
    /// A unique key without the tenant column: a tenant that inserts a value learns whether another
    /// one has it, and can take it away from the others.
    KeyWithoutTenant,
    /// The same for a key of nothing but uuids and identity columns, whose values nobody guesses or
    /// chooses. It tells next to nothing, and still no foreign key can be told apart by tenant
    /// without a key that has the tenant column.
    SurrogateKeyWithoutTenant,
    /// A foreign key between tables of tenants that does not include the tenant column. Foreign keys
    /// ignore policies: a row can hang on another tenant's row, learn that it is there, and go with
    /// it when it is deleted.
    ForeignKeyWithoutTenant,
    /// No index begins with the tenant column: each statement reads the rows of all tenants.
    NoTenantIndex,
    /// The tenant column takes the empty string, which is no tenant: such rows are seen by none.
    EmptyTenant,
    /// The tenant column has a collation in which different texts are equal, so that two tenants may
    /// be taken for one.
    NondeterministicCollation,
    /// A partition or an inheriting table that came after [`apply`](super::TenantTable::apply): who
    /// names it directly gets round the policies of its parent.
    UncoveredPartition,
}

impl Advice {
    /// What it is about.
    pub fn rule(&self) -> AdviceRule {
        self.rule
    }

    /// The name of the constraint, index, table or column.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The statements that mend it. Read them before you run them: a key that other tables refer to
    /// cannot be dropped before those references are. PostgreSQL 14 has no `ON DELETE SET NULL` of
    /// some of the columns: there a foreign key that had one comes back without, as a comment in the
    /// SQL says.
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.object, self.rule.problem(), self.sql)
    }
}

impl AdviceRule {
    fn problem(self) -> &'static str {
        match self {
            Self::KeyWithoutTenant => "is unique across tenants and tells what others have",
            Self::SurrogateKeyWithoutTenant => "is unique across tenants, if only by ids",
            Self::ForeignKeyWithoutTenant => "can refer to a row of another tenant",
            Self::NoTenantIndex => "has no index that begins with the tenant column",
            Self::EmptyTenant => "takes the empty string for a tenant",
            Self::NondeterministicCollation => "takes different texts for the same tenant",
            Self::UncoveredPartition => "does not have the policies of its parent",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "key" => Self::KeyWithoutTenant,
            "surrogate key" => Self::SurrogateKeyWithoutTenant,
            "foreign key" => Self::ForeignKeyWithoutTenant,
            "index" => Self::NoTenantIndex,
            "collation" => Self::NondeterministicCollation,
            "partition" => Self::UncoveredPartition,
            _ => return None,
        })
    }
}

/// The advice on `target`, whose script is `script`.
pub(super) async fn of(
    connection: &mut PgConnection,
    target: &TableName,
    tenant_column: &str,
    script: &str,
) -> Result<Vec<Advice>, Error> {
    let column: Option<(i16, bool)> = sqlx::query_as(COLUMN)
        .bind(target.to_string())
        .bind(tenant_column)
        .persistent(false)
        .fetch_optional(&mut *connection)
        .await?;
    let Some((number, is_text)) = column else {
        return Err(Error::new(
            ErrorKind::Installation,
            "the table has no tenant column: apply the installation to it first",
        ));
    };
    let rows: Vec<(String, String, Option<String>)> = sqlx::query_as(FINDINGS)
        .bind(target.to_string())
        .bind(number)
        .persistent(false)
        .fetch_all(&mut *connection)
        .await?;
    let mut advice = Vec::with_capacity(rows.len());
    for (rule, object, sql) in rows {
        if let Some(rule) = AdviceRule::from_name(&rule) {
            // What a rule gives no SQL for is mended by the table's own script.
            advice.push(Advice {
                rule,
                object,
                sql: sql.unwrap_or_else(|| script.to_owned()),
            });
        }
    }
    if is_text && takes_empty_text(connection, target, tenant_column, number).await? {
        let column = quote::identifier(tenant_column);
        advice.push(Advice {
            rule: AdviceRule::EmptyTenant,
            object: format!("{target}.{column}"),
            sql: format!("ALTER TABLE {target} ADD CHECK ({column} <> '');"),
        });
    }
    Ok(advice)
}

/// Whether '' passes the CHECKs of the tenant column. It asks the CHECKs themselves, because there
/// are many ways to write one.
async fn takes_empty_text(
    connection: &mut PgConnection,
    target: &TableName,
    tenant_column: &str,
    number: i16,
) -> Result<bool, Error> {
    let checks: Vec<String> = sqlx::query_scalar(CHECKS)
        .bind(target.to_string())
        .bind(number)
        .persistent(false)
        .fetch_all(&mut *connection)
        .await?;
    if checks.is_empty() {
        return Ok(true);
    }
    let passes = checks.iter().map(|check| format!("({check}) IS NOT FALSE"));
    let question = format!(
        "SELECT {} FROM (SELECT ''::text) AS t({})",
        passes.collect::<Vec<_>>().join(" AND "),
        quote::identifier(tenant_column),
    );
    let query = sqlx::query_scalar(AssertSqlSafe(question)).persistent(false);
    Ok(query.fetch_one(connection).await?)
}

const COLUMN: &str = "\
SELECT a.attnum, t.typcategory = 'S'
FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = $1::text::regclass AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";

/// The CHECKs that speak of the tenant column alone.
const CHECKS: &str = "\
SELECT pg_catalog.pg_get_expr(conbin, conrelid) FROM pg_catalog.pg_constraint
WHERE conrelid = $1::text::regclass AND contype = 'c' AND conkey = ARRAY[$2::int2]";

/// Rows of (rule, object, SQL). $1 is the table, $2 the number of its tenant column.
const FINDINGS: &str = "\
WITH RECURSIVE given AS (
  SELECT c.oid AS target, c.oid::regclass::text AS name, a.attnum AS own_number,
    a.attname AS own_name, quote_ident(a.attname) AS own, a.attcollation, a.atttypid, a.atttypmod
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
  WHERE c.oid = $1::text::regclass AND a.attnum = $2),
family(oid) AS (
  SELECT target FROM given UNION
  SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN family AS f ON i.inhparent = f.oid),
keys AS (
  SELECT i.indexrelid, i.indexrelid::regclass::text AS index, k.oid AS constraint_oid,
    quote_ident(k.conname) AS named, k.contype,
    coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(i.indexrelid)) AS definition,
    NOT EXISTS (
      SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS key(number)
      LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = key.number AND key.number <> 0
      WHERE a.atttypid IS DISTINCT FROM 'uuid'::regtype AND coalesce(a.attidentity, '') = '') AS surrogate
  FROM given, pg_catalog.pg_index AS i
  LEFT JOIN pg_catalog.pg_constraint AS k
    ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
  WHERE i.indrelid = given.target AND (i.indisunique OR i.indisexclusion)
    AND given.own_number <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1])),
opened AS ( -- where the list of key columns begins
  SELECT *, strpos(definition, '(') AS opening FROM keys WHERE constraint_oid IS NOT NULL
  UNION ALL
  SELECT *, strpos(definition, ' USING ')
    + strpos(substr(definition, strpos(definition, ' USING ') + 1), '(') FROM keys WHERE constraint_oid IS NULL),
links AS (
  SELECT k.*, theirs.attname AS their_name, quote_ident(theirs.attname) AS their,
    pairs.ours, pairs.others, pairs.other_numbers,
    pg_catalog.current_setting('server_version_num')::int4 >= 150000 AS lists -- ON DELETE SET NULL (..)
  FROM given JOIN pg_catalog.pg_constraint AS k ON k.conrelid = given.target AND k.contype = 'f' AND k.conparentid = 0
  JOIN pg_catalog.pg_attribute AS theirs
    ON theirs.attrelid = k.confrelid AND theirs.attname = given.own_name AND NOT theirs.attisdropped
  CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(pair.our = given.own_number AND pair.other = theirs.attnum), false) AS bound,
      string_agg(quote_ident(a.attname), ', ' ORDER BY pair.place)
        FILTER (WHERE pair.our <> given.own_number AND pair.other <> theirs.attnum) AS ours,
      string_agg(quote_ident(b.attname), ', ' ORDER BY pair.place)
        FILTER (WHERE pair.our <> given.own_number AND pair.other <> theirs.attnum) AS others,
      array_agg(pair.other ORDER BY pair.other)
        FILTER (WHERE pair.our <> given.own_number AND pair.other <> theirs.attnum) || theirs.attnum AS other_numbers
    FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS pair(our, other, place)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = pair.our
    JOIN pg_catalog.pg_attribute AS b ON b.attrelid = k.confrelid AND b.attnum = pair.other) AS pairs
  WHERE NOT pairs.bound AND pairs.ours IS NOT NULL)
SELECT CASE WHEN surrogate THEN 'surrogate key' ELSE 'key' END,
  coalesce(named, index),
  CASE WHEN named IS NULL
    THEN format('DROP INDEX %s; %s;', index, mended)
    ELSE format('ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s %s;', given.name, named, named, mended) END
FROM given, opened, LATERAL (
  SELECT left(definition, opening) || own || CASE contype WHEN 'x' THEN ' WITH =' ELSE '' END || ', '
    || substr(definition, opening + 1)) AS m(mended)
UNION ALL
SELECT 'foreign key', quote_ident(l.conname),
  CASE WHEN EXISTS (
      SELECT FROM pg_catalog.pg_index AS i
      WHERE i.indrelid = l.confrelid AND i.indisunique AND i.indimmediate AND i.indpred IS NULL
        AND i.indnkeyatts = cardinality(l.other_numbers)
        AND (i.indkey::int2[])[0:i.indnkeyatts - 1] @> l.other_numbers)
    THEN '' ELSE format('ALTER TABLE %s ADD UNIQUE (%s, %s); ', l.confrelid::regclass, l.their, l.others) END
  || format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%s, %s) REFERENCES %s (%s, %s)',
    given.name, l.conname, l.conname, given.own, l.ours, l.confrelid::regclass, l.their, l.others)
  || CASE l.confmatchtype WHEN 'f' THEN ' MATCH FULL' ELSE '' END
  || CASE l.confupdtype WHEN 'c' THEN ' ON UPDATE CASCADE' WHEN 'r' THEN ' ON UPDATE RESTRICT' ELSE '' END
  || CASE l.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'r' THEN ' ON DELETE RESTRICT'
    -- Without the list, which 14 does not know, it would set the tenant to NULL and fail.
    WHEN 'n' THEN CASE WHEN l.lists THEN format(' ON DELETE SET NULL (%s)', l.ours) ELSE '' END
    WHEN 'd' THEN CASE WHEN l.lists THEN format(' ON DELETE SET DEFAULT (%s)', l.ours) ELSE '' END
    ELSE '' END
  || CASE WHEN l.condeferrable THEN ' DEFERRABLE' ELSE '' END
  || CASE WHEN l.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END || ';'
  || CASE WHEN l.confdeltype IN ('n', 'd') AND NOT l.lists
    THEN ' /* PostgreSQL 14 has no ON DELETE SET of some columns: a row that is referred to can no longer be deleted */'
    ELSE '' END
FROM given, links AS l
UNION ALL
SELECT 'index', c.oid::regclass::text,
  format('CREATE INDEX %sON %s (%s);', CASE c.relkind WHEN 'r' THEN 'CONCURRENTLY ' ELSE '' END, c.oid::regclass, given.own)
FROM given, family AS f JOIN pg_catalog.pg_class AS c ON c.oid = f.oid
WHERE c.relkind IN ('r', 'p') AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid
  WHERE i.indrelid = c.oid AND a.attname = given.own_name AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL)
UNION ALL
SELECT 'collation', given.name || '.' || own,
  format('ALTER TABLE %s ALTER COLUMN %s TYPE %s COLLATE \"C\";', given.name, own, format_type(atttypid, atttypmod))
FROM given JOIN pg_catalog.pg_collation AS l ON l.oid = given.attcollation AND NOT l.collisdeterministic
UNION ALL
SELECT 'partition', c.oid::regclass::text, NULL
FROM given, family AS f JOIN pg_catalog.pg_class AS c ON c.oid = f.oid
WHERE c.relkind IN ('r', 'p') AND c.oid <> given.target AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
  SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'tenantry_backstop'))
ORDER BY 1, 2";
