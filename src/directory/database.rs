//! A database and how it is reached.

use std::fmt;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;

use crate::error::{Error, ErrorKind};
use crate::pooler::Pooler;
use crate::secret::Secret;

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

#[derive(Clone)]
struct Server {
    options: PgConnectOptions,
    password: Option<Secret>,
    pooler: Pooler,
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
                pooler: Pooler::default(),
            }),
        }
    }

    /// The same with a password that is fetched each time a connection is opened, so that a new
    /// password is used from the next connection on.
    #[must_use]
    pub fn password(self, password: Secret) -> Self {
        Self {
            server: Arc::new(Server {
                password: Some(password),
                ..Server::clone(&self.server)
            }),
            name: self.name,
        }
    }

    /// The same, and what is known of a pooler in front of the server. Default: it is found out.
    ///
    /// ```
    /// use sqlx::postgres::PgConnectOptions;
    /// use tenantry::{Database, Pooler};
    ///
    /// let server = PgConnectOptions::new_without_pgpass().host("pgbouncer.internal").port(6432);
    /// let shop = Database::new(server.username("app").database("shop"))
    ///     .pooler(Pooler::TransactionWithPreparedStatements);
    /// # let _ = shop;
    /// ```
    #[must_use]
    pub fn pooler(self, pooler: Pooler) -> Self {
        Self {
            server: Arc::new(Server {
                pooler,
                ..Server::clone(&self.server)
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

    pub(crate) fn pooler_setting(&self) -> Pooler {
        self.server.pooler
    }

    /// As whom to log in.
    pub(crate) fn role(&self) -> &str {
        self.server.options.get_username()
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
            role: self.role().to_owned(),
            name: Arc::clone(&self.name),
        }
    }

    /// How to connect now.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`] if the server would take the name, or that of the role, for
    ///   another one;
    /// - [`ErrorKind::Connect`] if the password cannot be had.
    ///
    /// # Cancel safety
    ///
    /// As safe as the resolver of the secret is.
    pub(crate) async fn connect_options(&self) -> Result<PgConnectOptions, Error> {
        check(&self.name)?;
        check(self.role())?;
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

/// Refuses what would arrive as another name.
///
/// The names stand in a message in which each parameter ends with a NUL byte: what comes behind one
/// in a name would be read as further parameters, such as another role. And longer names are cut
/// off (`ProcessStartupPacket` in PostgreSQL's `backend_startup.c`), so that two become one.
fn check(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "the name of a database, or of the role that logs in, has 1 to 63 bytes and no NUL byte",
        ));
    }
    Ok(())
}

const MAX_NAME_BYTES: usize = 63;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("db-secret.invalid")
            .port(6543)
            .username("app")
            .password("hunter2-secret")
    }

    #[test]
    fn equal_if_server_role_and_name_are() {
        let shop = Database::new(server().database("shop"));
        // However it was arrived at, and whatever the password.
        for same in [
            Database::new(server()).named("shop"),
            Database::new(server().password("another").database("shop")),
            Database::new(server().database("shop")).password(Secret::environment("P")),
        ] {
            assert_eq!(shop, same);
            assert_eq!(shop.key(), same.key());
        }
        for (other, same_server) in [
            (shop.named("shop_2"), true),
            (
                Database::new(server().username("jobs").database("shop")),
                true,
            ),
            (
                Database::new(server().host("db-2.invalid").database("shop")),
                false,
            ),
            (Database::new(server().port(6544).database("shop")), false),
            (
                Database::new(server().socket("/run/postgresql").database("shop")),
                false,
            ),
        ] {
            assert_ne!(shop, other);
            assert_ne!(shop.key(), other.key());
            assert_eq!(shop.server_key() == other.server_key(), same_server);
        }
    }

    #[test]
    fn without_a_name_it_has_that_of_the_role() {
        assert_eq!(Database::new(server()).name(), "app");
    }

    #[tokio::test]
    async fn what_would_arrive_as_another_name_is_refused() {
        let long = "x".repeat(64);
        for name in ["", "shop\0user\0postgres", "\0", &long] {
            for database in [
                Database::new(server()).named(name),
                Database::new(server().database(name)),
                Database::new(server().database("shop").username(name)),
            ] {
                let error = database.connect_options().await.expect_err(name);
                assert_eq!(error.kind(), ErrorKind::InvalidOption);
            }
        }
        let database = Database::new(server()).named("x".repeat(63));
        assert!(database.connect_options().await.is_ok());
    }

    #[tokio::test]
    async fn the_password_is_fetched_for_each_connection() {
        use async_trait::async_trait;
        use std::sync::atomic::{AtomicU32, Ordering};

        #[derive(Default)]
        struct Counting(AtomicU32);

        #[async_trait]
        impl crate::secret::SecretResolver for Counting {
            async fn resolve(
                &self,
                reference: &str,
            ) -> Result<secrecy::SecretString, crate::secret::SecretError> {
                self.0.fetch_add(1, Ordering::Relaxed);
                match reference {
                    "good" => Ok("hunter2-secret".into()),
                    _ => Err("hunter2-secret is what a careless resolver tells".into()),
                }
            }
        }

        let vault = Arc::new(Counting::default());
        let good = Database::new(server()).password(Secret::resolver(vault.clone(), "good"));
        for database in [&good, &good.named("another")] {
            let options = database.connect_options().await.expect("options");
            assert_eq!(options.get_database(), Some(database.name()));
        }
        assert_eq!(vault.0.load(Ordering::Relaxed), 2);

        let bad = Database::new(server()).password(Secret::resolver(vault, "bad"));
        let error = bad.connect_options().await.expect_err("no password");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(
            !format!("{error} {error:?} {bad:?}").contains("secret"),
            "{error:?}"
        );
    }
}
