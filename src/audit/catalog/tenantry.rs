//! What this crate itself has installed.

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;
use crate::sql::own;

/// A table of this crate's schema, as far as it can be told.
enum List {
    NotThere,
    NotReadable,
    Readable,
}

/// Whose the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::audit) enum DatabaseOf {
    /// Of all: rows say whose they are.
    Tenants,
    /// Of this one: so it was installed.
    Tenant(String),
    /// The role may not read it.
    Unknown,
}

impl DatabaseOf {
    pub(in crate::audit) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::Tenants | Self::Unknown => None,
        }
    }
}

pub(super) async fn database_of(connection: &mut PgConnection) -> Result<DatabaseOf, Error> {
    match list(connection, "installation").await? {
        List::NotThere => Ok(DatabaseOf::Tenants),
        List::NotReadable => Ok(DatabaseOf::Unknown),
        List::Readable => {
            let tenant: Option<Option<String>> =
                sqlx::query_scalar("SELECT tenant FROM tenantry.installation")
                    .persistent(false)
                    .fetch_optional(connection)
                    .await?;
            let tenant = tenant.flatten();
            Ok(tenant.map_or(DatabaseOf::Tenants, DatabaseOf::Tenant))
        }
    }
}

/// The tables that all tenants read, as they were applied. `None` if the role may not read the list.
pub(in crate::audit) async fn reference_tables(
    connection: &mut PgConnection,
) -> Result<Option<Vec<Id>>, Error> {
    match list(connection, "reference_tables").await? {
        List::NotThere => Ok(Some(Vec::new())),
        List::NotReadable => Ok(None),
        List::Readable => Ok(Some(
            sqlx::query_scalar("SELECT relation::oid FROM tenantry.reference_tables")
                .persistent(false)
                .fetch_all(connection)
                .await?,
        )),
    }
}

/// By the catalog: a name in a schema that the role may not use is refused as such.
async fn list(connection: &mut PgConnection, table: &str) -> Result<List, Error> {
    let readable: Option<bool> = sqlx::query_scalar(
        "SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') \
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'tenantry' AND c.relname = $1",
    )
    .bind(table)
    .persistent(false)
    .fetch_optional(connection)
    .await?;
    Ok(match readable {
        None => List::NotThere,
        Some(false) => List::NotReadable,
        Some(true) => List::Readable,
    })
}

/// The domains, which hold the checks of the context, quoted where SQL needs it.
pub(super) async fn domains(connection: &mut PgConnection) -> Result<Vec<(String, Id)>, Error> {
    Ok(sqlx::query_as(
        "SELECT format('%I.%I', n.nspname, t.typname), t.typowner FROM pg_type AS t \
           JOIN pg_namespace AS n ON n.oid = t.typnamespace \
         WHERE n.nspname = $1 AND t.typtype = 'd' ORDER BY 1",
    )
    .bind(own::SCHEMA)
    .persistent(false)
    .fetch_all(connection)
    .await?)
}
