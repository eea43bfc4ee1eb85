//! A server, a database for each tenant, and the warehouse over them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tenantry::testing::PostgresServer;
use tenantry::{StaticDirectory, TenantRegistry};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard};

use crate::app::App;
use crate::registry;
use crate::server::{self, Databases};

pub struct World {
    pub server: PostgresServer,
    pub databases: Databases,
    /// What the registry was built from: a clone says what is known of the tenants.
    pub directory: StaticDirectory,
    pub registry: Option<TenantRegistry>,
    /// One load at a time: two would not find more, and each would be slower.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::const_new(());

impl World {
    pub async fn start(tenants: usize) -> Self {
        let turn = TURN.lock().await;
        let server = server::own().await.expect("PostgreSQL: run ./scripts/test");
        let tenants = server::tenants(tenants).expect("tenant ids");
        // A server that exists already may be in use by others.
        let prefix = format!("warehouse_{}", std::process::id());
        let databases = Databases::prepare(server.connect_options(), &prefix, tenants)
            .await
            .expect("databases");
        Self {
            directory: databases.directory(),
            registry: None,
            server,
            databases,
            _turn: turn,
        }
    }

    /// The example, as its `main` starts it.
    pub async fn serve(&mut self, every: Duration, max_pools: usize) -> (SocketAddr, App) {
        let registry = registry::build(self.directory.clone(), max_pools)
            .await
            .expect("a registry");
        self.registry = Some(registry.clone());
        let listener = listener().await;
        let address = listener.local_addr().expect("an address");
        let app = App::start(listener, registry, self.databases.tenants(), every)
            .await
            .expect("the warehouse");
        (address, app)
    }

    /// Puts a row of the second tenant into a database of the first.
    pub async fn plant(&self, table: &str) {
        let [owner, other, ..] = self.databases.tenants() else {
            panic!("two tenants");
        };
        let insert = match table {
            "products" => {
                "INSERT INTO products (sku, name, reorder_point, written_by) \
                 VALUES ('planted', '', 0, $1)"
            }
            "moves" => {
                "INSERT INTO moves (sku, quantity, reference, written_by) \
                 VALUES ('sku-1', 1, 'planted', $1)"
            }
            _ => {
                "INSERT INTO orders (sku, quantity, received_at, written_by) \
                 VALUES ('sku-1', 1, now(), $1)"
            }
        };
        let mut admin = self
            .databases
            .as_admin(owner)
            .connect()
            .await
            .expect("the superuser connects");
        let insert = sqlx::query(insert).bind(other.as_str());
        insert.execute(&mut admin).await.expect("planted");
        admin.close().await.expect("closed");
    }

    /// A server that somebody else runs does not go.
    async fn tidy_up(&self) -> Result<(), sqlx::Error> {
        let mut admin = self.server.connect_options().connect().await?;
        let mut role = String::new();
        for tenant in self.databases.tenants() {
            let options = self.databases.as_app(tenant);
            let database = options.get_database().expect("its name");
            let drop = format!("DROP DATABASE \"{database}\" WITH (FORCE)");
            admin.execute(AssertSqlSafe(drop)).await?;
            role = options.get_username().to_owned();
        }
        let drop = format!("DROP ROLE \"{role}\"");
        admin.execute(AssertSqlSafe(drop)).await?;
        admin.close().await
    }

    pub async fn stop(self) {
        if self.server.folder().is_none() {
            self.tidy_up().await.expect("tidied up");
        }
        self.server.stop().await.expect("stopped");
    }
}

pub async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port on loopback")
}

/// A test that hangs is to fail: the long edition takes minutes, and not this many.
pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(15 * 60), work)
        .await
        .expect("the load came to an end")
}
