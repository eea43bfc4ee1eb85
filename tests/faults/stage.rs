//! A registry with one connection behind a proxy, and what must be true of it after anything.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgExecutor};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::FaultProxy;
use tenantry::{ContextSettings, PoolOptions, TenantRegistry, TenantScope};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::support::{World, notes, scope, session, world_with};

/// Who waits for longer waits for ever.
const EVER: Duration = Duration::from_secs(60);

pub struct Stage {
    pub world: World,
    pub wire: FaultProxy,
    pub registry: TenantRegistry,
    /// The superuser, who does not go through the proxy.
    pub admin: Mutex<PgConnection>,
    /// A single statement tests a connection first, so that none meets one that died while idle.
    tests_first: bool,
}

/// Three rows of `a` and one of `b`, in a table under RLS, a table without, and one under RLS whose
/// constraint is looked at by COMMIT.
pub async fn installed() -> (World, Installation) {
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    let world = world_with(installation.clone(), &["a", "b"]).await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "INSERT INTO notes (tenant_id, body) \
               VALUES ('a', 'a second note of a'), ('a', 'a third note of a'); \
             CREATE TABLE onces (tenant_id text NOT NULL, body text NOT NULL, \
               CONSTRAINT onces_body UNIQUE (body) DEFERRABLE INITIALLY DEFERRED)",
        )
        .await
        .expect("rows and a table");
    installation
        .table("onces")
        .apply(&mut admin)
        .await
        .expect("policies");
    admin.close().await.expect("closed");
    (world, installation)
}

impl Stage {
    pub async fn new(tests_first: bool) -> Self {
        let (world, _) = installed().await;
        Self::over(world, tests_first).await
    }

    pub async fn over(world: World, tests_first: bool) -> Self {
        let wire = wire(&world.app).await;
        let registry = world
            .registry_of(
                wire.connect_options(&world.app),
                ContextSettings::default(),
                move |defaults| options(defaults, tests_first),
            )
            .await;
        Self::of(world, wire, registry, tests_first).await
    }

    pub async fn of(
        world: World,
        wire: FaultProxy,
        registry: TenantRegistry,
        tests_first: bool,
    ) -> Self {
        Self {
            admin: Mutex::new(world.admin().await),
            world,
            wire,
            registry,
            tests_first,
        }
    }

    pub async fn scope(&self, id: &str) -> TenantScope {
        scope(&self.registry, id).await
    }

    /// Somebody else is served, at the first attempt, and by a session that is in order.
    pub async fn serves(&self) {
        let b = self.scope("b").await;
        let served = async {
            if self.tests_first {
                answers(&b, "b").await.expect("served at once");
            }
            // Without the test it may be this that finds the connection dead, and replaces it.
            let mut tx = b.begin().await.expect("begun at once");
            answers(&mut tx, "b").await.expect("answered");
            assert_eq!(notes(&mut tx).await.expect("rows"), ["a note of b"]);
            tx.rollback().await.expect("rolled back");
            let first = session(&b).await.expect("served");
            let second = session(&b).await.expect("served");
            assert_eq!(first.tenant.as_deref(), Some("b"));
            assert_ne!(first.xid, second.xid, "inside a transaction that was left");
            assert_eq!(notes(&b).await.expect("rows"), ["a note of b"]);
        };
        timeout(EVER, served).await.expect("the pool serves");
    }

    /// As [`serves`](Self::serves), where a connection may be silent: who gets it gives it up.
    pub async fn serves_in_the_end(&self) {
        let b = self.scope("b").await;
        let served = async {
            let mut patience = Duration::from_millis(20);
            while timeout(patience, b.begin()).await.is_err() {
                patience *= 2;
            }
        };
        timeout(EVER, served).await.expect("the pool serves");
        self.serves().await;
    }
}

pub async fn wire(options: &PgConnectOptions) -> FaultProxy {
    FaultProxy::start(options).await.expect("a proxy")
}

pub fn options(defaults: PoolOptions, tests_first: bool) -> PoolOptions {
    let hour = Duration::from_secs(3_600);
    defaults
        .max_connections(1)
        .abandoned_grace(Duration::from_millis(30))
        .test_after(if tests_first { Duration::ZERO } else { hour })
}

/// A text that nothing else here has in it.
pub fn label() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("label {}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The answer is to this question, and in this tenant's name.
pub async fn answers<'e>(executor: impl PgExecutor<'e>, tenant: &str) -> Result<(), sqlx::Error> {
    let question = label();
    let answer: (String, String) =
        sqlx::query_as("SELECT $1, current_setting('app.tenant_id', true)")
            .bind(&question)
            .fetch_one(executor)
            .await?;
    assert_eq!(answer, (question, tenant.to_owned()));
    Ok(())
}
