//! Tenants with a database each, and what they do.

use std::error::Error;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::PostgresServer;
use tenantry::{Database, StaticDirectory, TenantContext, TenantId, TenantRegistry, TenantScope};

pub struct Tenants {
    server: Database,
    ids: Vec<TenantId>,
}

impl Tenants {
    pub async fn create(server: &PostgresServer, count: u64) -> Result<Self, Box<dyn Error>> {
        let mut admin = server.connect_options().connect().await?;
        admin.execute("CREATE ROLE app LOGIN").await?;
        admin.close().await?;
        let ids: Vec<TenantId> = (1..=count).map(TenantId::from).collect();
        for id in &ids {
            let mut owner = server.create_database(&name(id)).await?.connect().await?;
            Installation::new("app")
                .tenant_column("tenant_id", TenantType::Text)
                .database_of(id.clone())
                .install(&mut owner)
                .await?;
            let table = format!(
                "CREATE TABLE visits (tenant text NOT NULL, at timestamptz DEFAULT now()); \
                 GRANT SELECT, INSERT ON visits TO app; INSERT INTO visits VALUES ('{id}')"
            );
            owner.execute(AssertSqlSafe(table)).await?;
            owner.close().await?;
        }
        Ok(Self {
            server: Database::new(server.connect_options().username("app")),
            ids,
        })
    }

    pub fn directory(&self) -> StaticDirectory {
        let databases = self.ids.iter().map(|id| (id.clone(), name(id)));
        StaticDirectory::new().databases(self.server.clone(), databases)
    }

    /// So many visitors go round the first so many tenants for a while. What fails, as while the
    /// server is restarted, is tried again a little later.
    pub async fn visit(
        &self,
        registry: &TenantRegistry,
        tenants: usize,
        visitors: usize,
        time: Duration,
    ) {
        let until = Instant::now() + time;
        let visitors = (0..visitors).map(|visitor| async move {
            for n in visitor.. {
                if Instant::now() >= until {
                    return;
                }
                let id = &self.ids[n % tenants];
                let context = TenantContext::new(id.clone());
                if let Ok(scope) = registry.scope(context).await
                    && let Ok(whose) = work(&scope).await
                {
                    assert_eq!(whose, id.as_str(), "a row of another tenant");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        join_all(visitors).await;
    }

    /// The last tenant asks for all it can get.
    pub async fn flood(&self, registry: &TenantRegistry, tasks: usize, time: Duration) {
        let until = Instant::now() + time;
        let Some(id) = self.ids.last() else { return };
        let tasks = (0..tasks).map(|_| async move {
            while Instant::now() < until {
                if let Ok(scope) = registry.scope(id.clone()).await {
                    let _ = work(&scope).await;
                }
            }
        });
        join_all(tasks).await;
    }
}

/// What the job over all tenants does for each.
pub async fn report(scope: TenantScope) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM visits")
        .fetch_one(&scope)
        .await
}

async fn work(scope: &TenantScope) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT tenant FROM visits, pg_sleep(0.004) LIMIT 1")
        .fetch_one(scope)
        .await
}

fn name(id: &TenantId) -> String {
    format!("tenant_{id}")
}
