//! What the database is asked.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::held::Held;
use super::permission::PermissionPattern;
use crate::error::{Error, ErrorKind};
use crate::scope::TenantScope;

/// What the database says of a user.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) held: Held,
}

/// Asks the database of the scope's tenant. One round trip.
///
/// # Errors
///
/// Those of a statement on the scope, and [`ErrorKind::Installation`] where the tables are missing
/// or hold what this release does not understand.
///
/// # Cancel safety
///
/// As a statement on the scope: nothing is changed.
pub(super) async fn ask(scope: &TenantScope, user: &str) -> Result<Answer, Error> {
    let row = sqlx::query(QUESTION)
        .bind(user)
        .fetch_one(scope)
        .await
        .map_err(explain)?;
    read(&row)
}

fn read(row: &PgRow) -> Result<Answer, Error> {
    let patterns = |column: &str| -> Result<Vec<PermissionPattern>, Error> {
        let texts: Vec<String> = row.try_get(column).map_err(explain)?;
        let parsed = texts.iter().map(|text| text.parse());
        parsed
            .collect::<Result<_, _>>()
            .map_err(|error: Error| not_ours().with_source(error))
    };
    let is_member = row.try_get("is_member").map_err(explain)?;
    Ok(Answer {
        held: Held::new(is_member, patterns("granted")?, patterns("denied")?),
    })
}

fn explain(error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|error| error.code());
    match (code.as_deref(), &error) {
        // undefined_table, invalid_schema_name, undefined_column, insufficient_privilege
        (Some("42P01" | "3F000" | "42703" | "42501"), _)
        | (None, sqlx::Error::ColumnDecode { .. } | sqlx::Error::RowNotFound) => {
            not_ours().with_source(error)
        }
        _ => error.into(),
    }
}

fn not_ours() -> Error {
    Error::new(
        ErrorKind::Installation,
        "the tables of roles are missing, of another version, or not for this role to read: run \
         tenantry::sql::Authorization::apply on the database",
    )
}

/// One statement, so that all of it is of one moment.
const QUESTION: &str = "\
WITH RECURSIVE held (role) AS (
  SELECT m.role FROM tenantry.member_roles AS m WHERE m.user_id = $1
  UNION
  SELECT p.parent FROM held AS h JOIN tenantry.role_parents AS p ON p.role = h.role
), permissions AS (
  SELECT p.resource || ':' || p.action AS pattern, p.effect
  FROM held AS h JOIN tenantry.role_permissions AS p ON p.role = h.role
)
SELECT EXISTS (SELECT FROM tenantry.members AS m WHERE m.user_id = $1) AS is_member,
       ARRAY(SELECT DISTINCT p.pattern FROM permissions AS p WHERE p.effect = 'grant') AS granted,
       ARRAY(SELECT DISTINCT p.pattern FROM permissions AS p WHERE p.effect = 'deny') AS denied";
