//! The database that a command is about.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::arguments::DatabaseOptions;
use crate::failure::Failure;

/// How long it may take until there is a connection.
const PATIENCE: Duration = Duration::from_secs(10);

impl DatabaseOptions {
    /// # Errors
    ///
    /// If it is no URL of a database. What it is instead is not repeated: it may hold a password.
    fn connect_options(&self) -> Result<PgConnectOptions, Failure> {
        match &self.database_url {
            None => Ok(PgConnectOptions::new()),
            Some(url) => url.parse().map_err(|_| {
                Failure::new("the database URL is none: postgres://USER@HOST:PORT/DATABASE")
            }),
        }
    }
}

pub(crate) async fn connect(options: &DatabaseOptions) -> Result<PgConnection, Failure> {
    connect_with(&options.connect_options()?).await
}

/// For one who takes a connection out of a pool. A pool tries to connect until it gives up, and does not
/// say why it could not, so that is found out before.
pub(crate) async fn pool(options: &DatabaseOptions) -> Result<PgPool, Failure> {
    let options = options.connect_options()?;
    // That it answers is all there is to know.
    let _ = connect_with(&options).await?.close().await;
    Ok(PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options))
}

async fn connect_with(options: &PgConnectOptions) -> Result<PgConnection, Failure> {
    let connection = tokio::time::timeout(PATIENCE, PgConnection::connect_with(options)).await;
    let connection = connection.map_err(|_| Failure::new("the server does not answer"))?;
    connection.map_err(|error| Failure::new("the database cannot be reached").because(&error))
}
