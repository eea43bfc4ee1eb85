//! What the database is asked.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::cache::Epoch;
use super::held::Held;
use super::permission::PermissionPattern;
use crate::error::{Error, ErrorKind};
use crate::scope::TenantScope;

/// What the database says of a user.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) held: Arc<Held>,
    /// Which database it was, see [`DATABASE`].
    pub(super) database: String,
    /// The tenant as the database writes it, and the state of its roles. There is none as long as
    /// no role of the tenant was ever changed.
    pub(super) epoch: Option<(String, Epoch)>,
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
    let held = Held::new(is_member, patterns("granted")?, patterns("denied")?);
    Ok(Answer {
        held: Arc::new(held),
        database: row.try_get("database").map_err(explain)?,
        epoch: epoch(row)?,
    })
}

fn epoch(row: &PgRow) -> Result<Option<(String, Epoch)>, Error> {
    let Some(tenant) = row.try_get("tenant").map_err(explain)? else {
        return Ok(None);
    };
    let number = row.try_get("epoch").map_err(explain)?;
    let mark: String = row.try_get("mark").map_err(explain)?;
    let mark = Uuid::try_parse(&mark).map_err(|error| not_ours().with_source(error))?;
    let mark = mark.as_u128();
    Ok(Some((tenant, Epoch { number, mark })))
}

pub(super) fn explain(error: sqlx::Error) -> Error {
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

macro_rules! database {
    () => {
        "(SELECT d.oid::text FROM pg_database AS d WHERE d.datname = current_database()) \
         || ' ' || extract(epoch FROM pg_postmaster_start_time())::text"
    };
}

/// Which database it is: not a copy of it, nor a standby, nor another one that has its name later.
pub(super) const DATABASE: &str = database!();

/// One statement, so that all of it is of one moment.
const QUESTION: &str = concat!(
    "WITH RECURSIVE held (role) AS (
  SELECT m.role FROM tenantry.member_roles AS m WHERE m.user_id = $1
  UNION
  SELECT p.parent FROM held AS h JOIN tenantry.role_parents AS p ON p.role = h.role
), permissions AS (
  SELECT p.resource || ':' || p.action AS pattern, p.effect
  FROM held AS h JOIN tenantry.role_permissions AS p ON p.role = h.role
)
SELECT EXISTS (SELECT FROM tenantry.members AS m WHERE m.user_id = $1) AS is_member,
       ARRAY(SELECT DISTINCT p.pattern FROM permissions AS p WHERE p.effect = 'grant') AS granted,
       ARRAY(SELECT DISTINCT p.pattern FROM permissions AS p WHERE p.effect = 'deny') AS denied,
       e.tenant, e.epoch, e.mark::text AS mark, ",
    database!(),
    " AS database
FROM tenantry.authorization AS a LEFT JOIN tenantry.authorization_epochs AS e ON true"
);
