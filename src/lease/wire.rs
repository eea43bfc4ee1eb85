//! What the schedule of connections decides, done on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use tokio::runtime::Handle;
use tokio::time::{sleep, sleep_until, timeout};
use tracing::Instrument as _;

use super::at_rest::AtRest;
use super::connection::Connection;
use super::control::Control;
use super::options::PoolOptions;
use super::schedule::{Driver, Pool, Server, Types};
use super::way::Way;
use crate::directory::Database;
use crate::error::{Error, ErrorKind};
use crate::preflight;
use crate::settings::ContextSettings;
use crate::tenant::TenantId;

/// Connections to PostgreSQL.
pub(crate) enum Postgres {}

impl Types for Postgres {
    type Connection = Connection;
    type Tenant = TenantId;
    type Failure = Error;
    type Home = Home;
    type Driver = Wire;
}

/// How the connections of a pool are opened, and what they must find.
pub(crate) struct Home {
    pub(crate) database: Database,
    pub(crate) settings: Arc<ContextSettings>,
    pub(crate) options: PoolOptions,
    owner: Owner,
    /// The role for dangerous access, which is nobody else's.
    dangerous_role: Option<Arc<str>>,
    /// Whether contexts are signed.
    signs: bool,
    /// Whether the role was found fit. Asked of the first connection only: it takes the server
    /// longer than all else together.
    role_checked: AtomicBool,
}

/// Whose database it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This tenant's alone, and the database must know.
    Tenant(TenantId),
    /// That of tenants who share it.
    Many,
    /// Any that is installed, as the role for dangerous access.
    Dangerous,
}

impl Home {
    pub(crate) fn new(
        database: Database,
        settings: Arc<ContextSettings>,
        options: PoolOptions,
        owner: Owner,
        dangerous_role: Option<Arc<str>>,
        signs: bool,
    ) -> Self {
        Self {
            database,
            settings,
            options,
            owner,
            dangerous_role,
            signs,
            role_checked: AtomicBool::new(false),
        }
    }

    /// A connection that leads where it should, as a role that cannot step out of the isolation.
    async fn open(&self, way: &Arc<Way>) -> Result<Connection, Error> {
        let options = self.database.connect_options().await?;
        let pooler = self.database.pooler_setting();
        let mut connection = Connection::open(&options, pooler, way, &self.settings).await?;
        self.check_login(&connection)?;
        if self.owner != Owner::Dangerous {
            connection.takes_contexts(self.signs)?;
        }
        match &self.owner {
            Owner::Tenant(tenant) => {
                connection.belongs_to(tenant)?;
                if connection.tenant().is_none() {
                    return Err(Error::new(
                        ErrorKind::Installation,
                        format!(
                            "the database of tenant {tenant} does not know whose it is: \
                             run tenantry::sql::Installation::install on it with database_of"
                        ),
                    ));
                }
            }
            Owner::Many => {
                if connection.tenant().is_some() {
                    return Err(Error::new(
                        ErrorKind::Misrouted,
                        "the shared database was installed as the database of one tenant",
                    ));
                }
                if !self.role_checked.load(Ordering::Relaxed) {
                    preflight::check_role(connection.raw()).await?;
                    self.role_checked.store(true, Ordering::Relaxed);
                }
            }
            // Opened seldom, and asked each time: roles are granted at any time.
            Owner::Dangerous => preflight::check_dangerous_role(connection.raw()).await?,
        }
        Ok(connection)
    }

    /// That tenants and dangerous access are never the same role, in the server's own words: a
    /// pooler in between may log in as somebody else than was asked for.
    fn check_login(&self, connection: &Connection) -> Result<(), Error> {
        let is_dangerous = self.dangerous_role.as_deref() == Some(&*connection.role);
        let rule = match &self.owner {
            Owner::Dangerous if !is_dangerous => {
                "the connection for dangerous access is logged in as another role than configured"
            }
            Owner::Tenant(_) | Owner::Many if is_dangerous => {
                "the role of the connection is the one for dangerous access, which is no tenant's: \
                 give TenantRegistryBuilder::dangerous a role of its own"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Preflight, rule))
    }
}

/// Opens and closes connections in tasks, which nobody who waits can cancel.
pub(crate) struct Wire {
    runtime: Handle,
    /// Where connections are counted to the last.
    control: Option<Arc<Control>>,
    way: Arc<Way>,
    at_rest: Arc<AtRest>,
}

impl Wire {
    pub(super) fn new(
        runtime: Handle,
        control: Option<Control>,
        way: Arc<Way>,
        at_rest: Arc<AtRest>,
    ) -> Self {
        Self {
            runtime,
            control: control.map(Arc::new),
            way,
            at_rest,
        }
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) async fn close_control(&self) {
        if let Some(control) = &self.control {
            control.close().await;
        }
    }
}

impl Driver<Postgres> for Wire {
    fn open(&self, pool: Arc<Pool<Postgres>>) {
        let control = self.control.clone();
        let way = Arc::clone(&self.way);
        let span = match &pool.home().owner {
            Owner::Tenant(tenant) => tracing::debug_span!("open_connection", %tenant),
            Owner::Many | Owner::Dangerous => {
                let database = pool.home().database.name();
                tracing::debug_span!("open_connection", database)
            }
        };
        // Made before the task: where its runtime is gone, it has failed.
        let opening = Opening(Some(pool));
        let opening = async move {
            let Some(pool) = opening.0.as_ref() else {
                return;
            };
            let home = pool.home();
            let open = async {
                if let Some(control) = &control {
                    control.ready(&home.database).await?;
                }
                home.open(&way).await
            };
            match timeout(home.options.acquire_timeout, open).await {
                Ok(Ok(connection)) => opening.done(connection),
                Ok(Err(error)) => opening.failed(error, control.is_some()).await,
                Err(_) => {
                    let error = Error::new(
                        ErrorKind::Connect,
                        "no connection to the database could be opened in acquire_timeout",
                    );
                    opening.failed(error, control.is_some()).await;
                }
            }
        };
        self.runtime.spawn(opening.instrument(span));
    }

    fn close(&self, pool: Arc<Pool<Postgres>>, connection: Connection) {
        let Some(control) = self.control.clone() else {
            // Closed with the socket: nobody waits for the server to agree.
            drop(connection);
            pool.closed(Instant::now());
            return;
        };
        self.runtime.spawn(async move {
            let gone_with_us = connection.ends_its_session().then_some(connection.backend);
            let _ = timeout(FAREWELL, connection.raw.close()).await;
            if let Some(backend) = gone_with_us {
                control.gone(backend).await;
            }
            pool.closed(Instant::now());
        });
    }

    fn idle(&self) {
        self.at_rest.ring();
    }

    fn wake(&self, server: Arc<Server<Postgres>>, at: Instant) {
        self.runtime.spawn(async move {
            sleep_until(at.into()).await;
            server.look(Instant::now());
        });
    }
}

/// How long the farewell to a server may take before the socket is closed without it.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a connection that came to nothing is counted: its session has no number that we could
/// ask for.
const LINGER: Duration = Duration::from_millis(500);

/// A connection that is being opened.
///
/// # Drop
///
/// Without an end it has failed: a resolver of secrets may have panicked.
struct Opening(Option<Arc<Pool<Postgres>>>);

impl Opening {
    fn done(mut self, connection: Connection) {
        if let Some(pool) = self.0.take() {
            pool.opened(connection, Instant::now());
        }
    }

    async fn failed(mut self, error: Error, is_counted: bool) {
        let Some(pool) = self.0.take() else { return };
        pool.not_opened(error, Instant::now());
        if is_counted {
            sleep(LINGER).await;
        }
        pool.closed(Instant::now());
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            let error = Error::new(
                ErrorKind::Connect,
                "the opening of a connection was given up half-way",
            );
            pool.not_opened(error, Instant::now());
            pool.closed(Instant::now());
        }
    }
}
