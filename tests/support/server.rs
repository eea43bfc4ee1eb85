//! A stand-in for the throw-away server: the one that `TENANTRY_TEST_DATABASE_URL` names, as a
//! superuser who needs no password.

use sqlx::postgres::PgConnectOptions;

pub(crate) struct PostgresServer(PgConnectOptions);

impl PostgresServer {
    pub(crate) async fn start() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let url = std::env::var("TENANTRY_TEST_DATABASE_URL")
            .map_err(|_| "set TENANTRY_TEST_DATABASE_URL to the URL of a superuser")?;
        Ok(Self(url.parse()?))
    }

    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        self.0.clone()
    }
}
