//! What this crate itself has installed.

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

/// The tables that all tenants read, as they were applied. None if the role may not read the list.
pub(in crate::audit) async fn reference_tables(
    connection: &mut PgConnection,
) -> Result<Vec<Id>, Error> {
    const LIST: &str = "tenantry.reference_tables";
    let readable: Option<bool> = sqlx::query_scalar(
        "SELECT has_table_privilege(to_regclass($1), 'SELECT') \
           AND has_schema_privilege('tenantry', 'USAGE') WHERE to_regclass($1) IS NOT NULL",
    )
    .bind(LIST)
    .persistent(false)
    .fetch_optional(&mut *connection)
    .await?;
    if readable != Some(true) {
        return Ok(Vec::new());
    }
    Ok(
        sqlx::query_scalar("SELECT relation::oid FROM tenantry.reference_tables")
            .persistent(false)
            .fetch_all(connection)
            .await?,
    )
}
