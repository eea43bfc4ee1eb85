//! What is done to a file before anybody uses it.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use sqlx::AssertSqlSafe;

use super::connection::{self, Connection};
use super::disk::Home;
use super::lease::Lease;
use super::tx::SqliteTx;
use crate::context::TenantContext;
use crate::error::{Error, ErrorKind};
use crate::tenant::TenantId;

/// Brings a file up to date.
pub(super) type Migration = Arc<
    dyn for<'t> Fn(&'t mut SqliteTx) -> BoxFuture<'t, Result<(), Error>> + Send + Sync + 'static,
>;

/// Runs it in a transaction. Gives the connection back if nothing is left on it.
pub(super) async fn run(
    migration: &Migration,
    connection: Connection,
    tenant: &TenantId,
) -> Result<Option<Connection>, Error> {
    let mut tx = begin(connection, tenant).await?;
    if let Err(error) = migration(&mut tx).await {
        tx.close().await;
        return Err(error);
    }
    let changed_schema = tx.has_changed_schema();
    let mut connection = tx.commit_and_keep().await?;
    if changed_schema && !connection.forget_schema().await? {
        connection.close().await;
        return Ok(None);
    }
    Ok(Some(connection))
}

/// Makes the file of a tenant who has none. `false` if it was there.
///
/// # Cancel safety
///
/// Not cancel safe: an empty file may be left, which the next attempt fills.
pub(super) async fn create(home: &Home) -> Result<bool, Error> {
    let connection = Connection::create(&home.path, &home.tenant, &home.options).await?;
    let mut tx = begin(connection, &home.tenant).await?;
    match fill(&mut tx, home).await {
        Ok(true) => {}
        found => {
            tx.close().await;
            return found;
        }
    }
    let mut connection = tx.commit_and_keep().await?;
    // So that the file says whose it is without its journal, which may get lost or mixed up.
    let checkpoint = connection
        .send("PRAGMA main.wal_checkpoint(TRUNCATE)")
        .await;
    connection.close().await;
    checkpoint?;
    Ok(true)
}

/// `false` if there is nothing to be done.
async fn fill(tx: &mut SqliteTx, home: &Home) -> Result<bool, Error> {
    match connection::belongs_to(tx.raw()?, &home.tenant).await {
        Err(error) if error.kind() == ErrorKind::TenantUnknown => {}
        found => return found.map(|()| false),
    }
    let owner = format!(
        "{} INSERT INTO tenantry_file VALUES (1, '{}', {})",
        connection::OWNER,
        home.tenant, // No quote is in any id.
        connection::LAYOUT,
    );
    tx.send(AssertSqlSafe(owner)).await?;
    if let Some(migration) = &home.migration {
        migration(tx).await?;
    }
    Ok(true)
}

async fn begin(connection: Connection, tenant: &TenantId) -> Result<SqliteTx, Error> {
    let context = Arc::new(TenantContext::new(tenant.clone()));
    SqliteTx::begin(Lease::alone(connection), &context, true).await
}
