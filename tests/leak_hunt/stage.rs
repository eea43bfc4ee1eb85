//! What specimens are shown on: databases with canaries in them, and how one is found out.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgExecutor};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::leak_hunt::{Canaries, FindingKind, LeakHunt, Report, Subject, Turn};
use tenantry::{StaticDirectory, TenantId, TenantRegistry};

use crate::support::fleet::Fleet;
use crate::support::{World, empty_world, tenant};

pub(crate) const READ: &str = "SELECT canary FROM tenantry_leak_hunt.canaries";
pub(crate) const WRITE: &str = "INSERT INTO tenantry_leak_hunt.canaries (canary) VALUES ($1)";

/// A database that three tenants share.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) tenants: Vec<TenantId>,
    pub(crate) canaries: Canaries,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::of(installation("app")).await
    }

    pub(crate) async fn of(installation: Installation) -> Self {
        let world = empty_world().await;
        let mut admin = world.admin().await;
        installation.install(&mut admin).await.expect("installed");
        let canaries = Canaries::new(&installation).shared(world.admin.clone());
        canaries.install().await.expect("tables");
        Self {
            world,
            tenants: ["a", "b", "c"].map(tenant).into(),
            canaries,
        }
    }

    /// As services have it, with the role of the application.
    pub(crate) async fn pool(&self, connections: u32) -> PgPool {
        self.pool_with(PgPoolOptions::new(), connections).await
    }

    pub(crate) async fn pool_with(&self, options: PgPoolOptions, connections: u32) -> PgPool {
        options
            .max_connections(connections)
            .connect_with(self.world.app.clone().disable_statement_logging())
            .await
            .expect("a pool")
    }

    pub(crate) async fn registry(&self) -> TenantRegistry {
        let app = self.world.app.clone();
        let directory = StaticDirectory::new().shared(app, self.tenants.clone());
        let registry = TenantRegistry::builder(directory).build();
        registry.await.expect("a registry")
    }

    fn hunt(&self) -> LeakHunt {
        hunt(&self.tenants, &self.canaries)
    }

    /// Within ten seconds there is something, and it is of this kind.
    pub(crate) async fn finds(&self, kind: FindingKind, subject: impl Subject) {
        finds(self.hunt(), kind, subject).await;
    }

    /// One turn after the other, and none of them disturbed.
    pub(crate) async fn finds_nothing_alone(&self, subject: impl Subject) {
        finds_nothing(self.hunt().tasks(1).calm(), subject).await;
    }

    /// Many turns at once, and none of them disturbed.
    pub(crate) async fn finds_nothing_in_peace(&self, subject: impl Subject) {
        finds_nothing(self.hunt().calm(), subject).await;
    }

    /// With all that a hunt does.
    pub(crate) async fn finds_nothing(&self, subject: impl Subject) {
        finds_nothing(self.hunt(), subject).await;
    }
}

/// A database for each tenant.
pub(crate) async fn fleet() -> (Fleet, Canaries) {
    let fleet = Fleet::new(3).await;
    let mut canaries = Canaries::new(&installation(&fleet.role()));
    for id in &fleet.tenants {
        canaries = canaries.database_of(id.clone(), database(&fleet.admin, &fleet, id));
    }
    canaries.install().await.expect("tables");
    (fleet, canaries)
}

pub(crate) fn database(
    options: &PgConnectOptions,
    fleet: &Fleet,
    id: &TenantId,
) -> PgConnectOptions {
    options.clone().database(&fleet.name(id))
}

pub(crate) fn installation(role: &str) -> Installation {
    Installation::new(role).tenant_column("tenant_id", TenantType::Text)
}

pub(crate) fn hunt(tenants: &[TenantId], canaries: &Canaries) -> LeakHunt {
    LeakHunt::new(tenants.iter().cloned())
        .canaries(canaries.clone())
        .ignore_environment()
}

pub(crate) async fn finds(hunt: LeakHunt, kind: FindingKind, subject: impl Subject) {
    let hunt = hunt.duration(Duration::from_secs(10)).stop_at_first();
    let report = hunt.run(subject).await;
    println!("{report}");
    assert!(report.has(kind), "it was not seen through:\n{report}");
}

/// A test that finds nothing here is worth nothing there.
pub(crate) async fn finds_nothing(hunt: LeakHunt, subject: impl Subject) {
    let report: Report = hunt.operations(150).run(subject).await;
    report.assert_clean();
    assert!(report.rows().0 > 50, "it saw next to nothing:\n{report}");
    assert!(report.rows().1 > 10, "it wrote next to nothing:\n{report}");
}

/// One statement, whichever turn it is.
pub(crate) async fn statement<'e>(
    turn: &Turn,
    executor: impl PgExecutor<'e>,
) -> Result<(), sqlx::Error> {
    if turn.operation() == "write" {
        let canary = turn.canary().to_owned();
        sqlx::query(WRITE).bind(canary).execute(executor).await?;
        turn.wrote();
    } else {
        let rows: Vec<String> = sqlx::query_scalar(READ).fetch_all(executor).await?;
        turn.saw_all(&rows);
    }
    Ok(())
}
