//! A database and how it is reached.

use std::fmt;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;

use super::secret::Secret;
use crate::error::{Error, ErrorKind};

/// A database, the server it is on, and as whom to log in there.
///
/// Cheap to clone. Thousands of databases on one server share its options and differ by a name:
///
/// ```
/// use sqlx::postgres::PgConnectOptions;
/// use tenantry::{Database, Secret};
///
/// let server = PgConnectOptions::new_without_pgpass().host("db.internal").username("app");
/// let shop = Database::new(server).password(Secret::environment("SHOP_PASSWORD"));
/// let (seven, eight) = (shop.named("shop_7"), shop.named("shop_8"));
/// # let _ = (seven, eight);
/// ```
///
/// Two are equal if server, role and name are. `Debug` shows no more than the name.
#[derive(Clone)]
pub struct Database {
    server: Arc<Server>,
    name: Arc<str>,
}

struct Server {
    options: PgConnectOptions,
    password: Option<Secret>,
}

/// By which a server is known: connections to it are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerKey(String);

/// By which a database with a role is known: tenants that share it share its connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatabaseKey {
    server: ServerKey,
    role: String,
    name: Arc<str>,
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Database {
    /// The database that these options lead to. Options of one server name it in the same way, by
    /// the same host (or socket) and port: that is how connections are counted per server.
    pub fn new(options: PgConnectOptions) -> Self {
        // Where none is named, PostgreSQL takes that of the role's name.
        let name = options.get_database().unwrap_or(options.get_username());
        Self {
            name: name.into(),
            server: Arc::new(Server {
                options,
                password: None,
            }),
        }
    }

    /// The same with a password that is fetched each time a connection is opened, so that a new
    /// password is used from the next connection on.
    #[must_use]
    pub fn password(self, password: Secret) -> Self {
        Self {
            server: Arc::new(Server {
                options: self.server.options.clone(),
                password: Some(password),
            }),
            name: self.name,
        }
    }

    /// Another database of the same server, with the same role and the same password.
    #[must_use]
    pub fn named(&self, name: impl Into<Arc<str>>) -> Self {
        Self {
            server: Arc::clone(&self.server),
            name: name.into(),
        }
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn server_key(&self) -> ServerKey {
        let options = &self.server.options;
        let host = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => options.get_host().to_owned(),
        };
        ServerKey(format!("{host}:{}", options.get_port()))
    }

    pub(crate) fn key(&self) -> DatabaseKey {
        DatabaseKey {
            server: self.server_key(),
            role: self.server.options.get_username().to_owned(),
            name: Arc::clone(&self.name),
        }
    }

    /// How to connect now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] if the password cannot be had.
    ///
    /// # Cancel safety
    ///
    /// As safe as the resolver of the secret is.
    pub(crate) async fn connect_options(&self) -> Result<PgConnectOptions, Error> {
        let options = self.server.options.clone().database(&self.name);
        let Some(secret) = &self.server.password else {
            return Ok(options);
        };
        let password = secret.resolve().await.map_err(|error| {
            Error::new(
                ErrorKind::Connect,
                "the password of a database could not be resolved",
            )
            .with_source(error)
        })?;
        Ok(options.password(secrecy::ExposeSecret::expose_secret(&password)))
    }
}

impl PartialEq for Database {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && (Arc::ptr_eq(&self.server, &other.server) || self.key() == other.key())
    }
}

impl Eq for Database {}

impl From<PgConnectOptions> for Database {
    fn from(options: PgConnectOptions) -> Self {
        Self::new(options)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
