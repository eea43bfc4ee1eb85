//! The hunts over this crate: pools of one and of many, tenants that share tables and tenants with a
//! database of their own, and everything at once that a registry has to live with.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tenantry::testing::PostgresServer;
use tenantry::testing::leak_hunt::{Canaries, Disturbance, FindingKind, LeakHunt, RegistrySubject};
use tenantry::{
    ConnectionBudget, ContextSettings, LazyPools, StaticDirectory, TenantId, TenantRegistry,
    TenantRegistryBuilder,
};

use crate::stage::{Stage, installation};
use crate::support::tenant;

const EACH: Duration = Duration::from_secs(15);
const ROLE: &str = "app";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_shared_tables_one_connection() {
    let site = Site::new(4, 0).await;
    let registry = site.registry(1, |builder| builder).await;
    site.hunt(RegistrySubject::new(&registry), &registry).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_shared_tables_many_connections() {
    let site = Site::new(4, 0).await;
    let registry = site.registry(8, |builder| builder).await;
    site.hunt(RegistrySubject::new(&registry), &registry).await;
}

/// What services do most, and therefore most often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_single_statements() {
    let site = Site::new(4, 2).await;
    let registry = site.registry(3, |builder| builder).await;
    let subject = RegistrySubject::new(&registry).only(&["statement", "write", "prepared"]);
    site.hunt(subject, &registry).await;
}

/// Fewer pools than tenants: they change hands all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_databases_one_connection() {
    let site = Site::new(0, 4).await;
    let lazy = LazyPools::default().max_pools(3);
    let registry = site.registry(1, |builder| builder.lazy(lazy)).await;
    site.hunt(RegistrySubject::new(&registry), &registry).await;
}

/// Some share, some do not, and some have a schema of their own; under a cap that has them take turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_mixed_many_connections() {
    let site = Site::new(3, 3).await.with_schemas(["x0", "x1"]);
    let budget = ConnectionBudget::per_server(10).max_per_tenant(4);
    let registry = site
        .registry(4, |builder| {
            builder.lazy(LazyPools::default()).budget(budget)
        })
        .await;
    site.hunt(RegistrySubject::new(&registry), &registry).await;
}

/// The hunt sees what the database keeps apart, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_without_policies() {
    let stage = Stage::new().await;
    let mut admin = stage.world.admin().await;
    admin
        .execute("ALTER TABLE tenantry_leak_hunt.canaries DISABLE ROW LEVEL SECURITY")
        .await
        .expect("done");
    let registry = stage.registry().await;
    let subject = RegistrySubject::new(&registry);
    stage.finds(FindingKind::ForeignRow, subject).await;
}

/// What careless code sets has the names that the registry knows.
#[tokio::test]
async fn ours_with_settings_of_other_names() {
    let names = ContextSettings::new("shop.tenant", "shop.customer").expect("names");
    let stage = Stage::of(installation("app").settings(names.clone())).await;
    let app = stage.world.app.clone();
    let directory = StaticDirectory::new().shared(app, stage.tenants.clone());
    let registry = TenantRegistry::builder(directory).settings(names).build();
    let registry = registry.await.expect("a registry");
    let subject = RegistrySubject::new(&registry);
    stage.finds_nothing_in_peace(subject).await;
}

/// A server of its own, which is restarted under way.
struct Site {
    server: Arc<PostgresServer>,
    canaries: Canaries,
    directory: StaticDirectory,
    tenants: Vec<TenantId>,
}

impl Site {
    /// So many tenants that share a database, and so many with one of their own.
    async fn new(sharing: usize, alone: usize) -> Self {
        let server = PostgresServer::builder().setting("max_connections", "100");
        let server = Arc::new(server.start().await.expect("PostgreSQL"));
        run(
            &server.connect_options(),
            &format!("CREATE ROLE {ROLE} LOGIN"),
        )
        .await;
        let mut canaries = Canaries::new(&installation(ROLE));
        let mut directory = StaticDirectory::new();
        let mut tenants: Vec<TenantId> = (0..sharing).map(|n| tenant(&format!("s{n}"))).collect();
        if sharing > 0 {
            let admin = database(&server, "shared", None).await;
            let app = admin.clone().username(ROLE);
            directory = directory.shared(app, tenants.clone());
            canaries = canaries.shared(admin);
        }
        for number in 0..alone {
            let name = format!("d{number}");
            let id = tenant(&name);
            let admin = database(&server, &name, Some(&id)).await;
            directory = directory.database(id.clone(), admin.clone().username(ROLE));
            canaries = canaries.database_of(id.clone(), admin);
            tenants.push(id);
        }
        canaries.install().await.expect("tables");
        Self {
            server,
            canaries,
            directory,
            tenants,
        }
    }

    /// Tenants in the shared database, each of whose statements needs a transaction that says where
    /// its tables are. The canaries are where those of the others are.
    fn with_schemas<const N: usize>(mut self, schemas: [&'static str; N]) -> Self {
        let app = self
            .server
            .connect_options()
            .database("shared")
            .username(ROLE);
        let tenants = schemas.map(|schema| (tenant(schema), schema));
        self.directory = self.directory.schemas(app, tenants);
        self.tenants.extend(schemas.map(tenant));
        self
    }

    async fn registry(
        &self,
        connections: u32,
        with: impl FnOnce(TenantRegistryBuilder) -> TenantRegistryBuilder,
    ) -> TenantRegistry {
        let builder = TenantRegistry::builder(self.directory.clone())
            .pool_options(move |_, options| options.max_connections(connections));
        with(builder).build().await.expect("a registry")
    }

    async fn hunt(self, subject: RegistrySubject, registry: &TenantRegistry) {
        let admin = self.server.connect_options();
        let tenants = || self.tenants.iter().cloned();
        // What is rare in fifteen seconds need not be as often in an hour.
        let every = |millis| Duration::from_millis(if is_long() { 10 * millis } else { millis });
        let killed = Disturbance::killed_backends(admin, ROLE);
        let eviction = Disturbance::eviction(registry, tenants());
        let restart = Disturbance::restart(Arc::clone(&self.server));
        let report = LeakHunt::new(tenants())
            .duration(EACH)
            .canaries(self.canaries.clone())
            .disturbance(killed.every(every(200)))
            .disturbance(eviction.every(every(250)))
            .disturbance(Disturbance::suspension(&self.directory, tenants()))
            .disturbance(restart.every(every(7_000)))
            .run(subject)
            .await;
        println!("{report}");
        report.assert_clean();
        // It is worth as much as what was done.
        let ends = report.ends();
        assert!(ends.done > 50, "{report}");
        assert!(ends.cancelled * 20 > report.operations(), "{report}");
        assert!(ends.panicked > 0 && ends.timed_out > 0, "{report}");
        for (operation, ends) in report.ends_by_operation() {
            assert!(ends.done > 0, "{operation} was never done:\n{report}");
        }
        for (name, count) in report.disturbances() {
            // Whoever shares a database has no pool that could be evicted, and short hunts by the
            // environment's order may come to no restart.
            let may_be_none = name.contains("eviction") || is_long();
            assert!(*count > 0 || may_be_none, "there was not {name}:\n{report}");
        }
    }
}

/// Whether the environment says how long.
fn is_long() -> bool {
    [
        "TENANTRY_LEAK_HUNT_SECONDS",
        "TENANTRY_LEAK_HUNT_OPERATIONS",
    ]
    .iter()
    .any(|name| std::env::var_os(name).is_some())
}

/// How its superuser connects.
async fn database(
    server: &PostgresServer,
    name: &str,
    tenant: Option<&TenantId>,
) -> PgConnectOptions {
    let admin = server.create_database(name).await.expect("a database");
    let mut installation = installation(ROLE);
    if let Some(tenant) = tenant {
        installation = installation.database_of(tenant.clone());
    }
    let mut connection = admin.connect().await.expect("connected");
    let installed = installation.install(&mut connection).await;
    installed.expect("installed");
    admin
}

async fn run(admin: &PgConnectOptions, sql: &str) {
    let mut connection = admin.connect().await.expect("connected");
    let done = connection.execute(AssertSqlSafe(sql)).await;
    done.expect("done");
}
