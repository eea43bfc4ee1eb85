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
    let names = rows.iter().map(|row| row.try_get(0).map(known_for_ever));
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    match look_up(raw, &names).await {
        // Among them is one of which sqlx can make nothing: it goes on without.
        Err(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Protocol(_)) => {
            look_up(raw, &[SCOPE]).await
        }
        done => done,
    }
}

async fn look_up(raw: &mut PgConnection, names: &[&'static str]) -> Result<(), sqlx::Error> {
    let mut arguments = PgArguments::default();
    // sqlx looks all of them up in one question, does not find the last one, and sends no more.
    for name in names.iter().chain([&NO_TYPE]) {
        arguments.add(Nothing(name)).map_err(sqlx::Error::Encode)?;
    }
    let query = sqlx::query_with("SELECT 1", arguments).persistent(false);
    match raw.execute(query).await {
        Ok(_) | Err(sqlx::Error::TypeNotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

const SCOPE: &str = "tenantry.scope";
const NO_TYPE: &str = "tenantry.no_type";

/// A NULL of a type that is known by its name.
struct Nothing(&'static str);

impl Type<Postgres> for Nothing {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name(NO_TYPE)
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
/// for the one that we send. Of a kind or category that sqlx does not know it could not read the
/// answer.
const TYPES: &str = "\
SELECT pg_catalog.format('%I.%I', n.nspname, t.typname)
FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem
  LEFT JOIN pg_catalog.pg_class AS c ON c.oid = coalesce(nullif(t.typrelid, 0), e.typrelid)
WHERE t.oid = pg_catalog.to_regtype('tenantry.scope')
  OR t.typtype IN ('b', 'c', 'e', 'r') AND coalesce(e.typtype, 'b') IN ('b', 'c', 'd', 'e', 'r')
    AND n.nspname !~ '^(information_schema|pg_toast|pg_(toast_)?temp_.*)$'
    AND pg_catalog.concat(t.typcategory, e.typcategory) ~ '^[ABCDEGINPRSTUVX]*$'
    AND coalesce(c.relkind, 'c') = 'c'";
