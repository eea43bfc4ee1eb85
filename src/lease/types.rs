//! The types of a database, told to sqlx beforehand.
//!
//! sqlx asks the server for a type that it does not know between preparing a statement and running
//! it, and PostgreSQL forgets a statement without a name when it is asked anything: the statement
//! fails with 26000 (`exec_simple_query` in `postgres.c` drops the unnamed statement). Where
//! statements may not have names, sqlx has to know the types before.

use std::collections::HashSet;

use parking_lot::Mutex;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnection, PgTypeInfo};
use sqlx::{Arguments as _, Executor as _, Postgres, Row as _, Type};

/// Two messages of the simple protocol. Those of rows of tables are left out: there are as many of
/// them as tables, and a whole row is seldom a column.
///
/// # Cancel safety
///
/// Dropped, sqlx knows fewer types.
pub(super) async fn learn(raw: &mut PgConnection) -> Result<(), sqlx::Error> {
    let rows = sqlx::raw_sql(TYPES).fetch_all(&mut *raw).await?;
    let mut arguments = PgArguments::default();
    for row in &rows {
        let name = known_for_ever(row.try_get(0)?);
        arguments.add(Nothing(name)).map_err(sqlx::Error::Encode)?;
    }
    // sqlx looks all of them up in one question, does not find the last one, and sends no more.
    let no_type = Nothing("tenantry.no_type");
    arguments.add(no_type).map_err(sqlx::Error::Encode)?;
    let query = sqlx::query_with("SELECT 1", arguments).persistent(false);
    match raw.execute(query).await {
        Ok(_) | Err(sqlx::Error::TypeNotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A NULL of a type that is known by its name.
struct Nothing(&'static str);

impl Type<Postgres> for Nothing {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("tenantry.no_type")
    }
}

impl Encode<'_, Postgres> for Nothing {
    fn encode_by_ref(&self, _buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_name(self.0))
    }
}

/// sqlx takes names of types that live for ever. Databases of one kind have the same few.
fn known_for_ever(name: String) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock();
    let names = names.get_or_insert_default();
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = name.leak();
    names.insert(name);
    name
}

/// Whatever may be the type of a column of a result: a domain is described as what it is of, but
/// for the one that we send. Of those of the catalog, what is no part of it and sqlx does not know.
const TYPES: &str = "\
SELECT pg_catalog.format('%I.%I', n.nspname, t.typname)
FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
WHERE t.oid = pg_catalog.to_regtype('tenantry.scope')
  OR n.nspname = 'pg_catalog' AND t.typtype = 'b' AND t.typname !~ '^_?pg_'
  OR n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') AND n.nspname !~ '^pg_(toast_)?temp_'
    AND t.typtype NOT IN ('d', 'p')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_type AS r ON r.oid = c.reltype
      WHERE c.relkind <> 'c' AND t.oid IN (r.oid, r.typarray))";
