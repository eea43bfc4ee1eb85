//! Tenants with members and roles, a registry over them, and authorizers.

use std::future::Future;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor as _};
use tenantry::sql::{Installation, TenantType};
use tenantry::{
    Authorizer, Decision, Permission, StaticDirectory, TenantContext, TenantRegistry, TenantScope,
};

use super::{World, tenant, world_with};

pub const READ: Permission = Permission::new("invoices", "read");
pub const WRITE: Permission = Permission::new("invoices", "write");

/// In each tenant `alice` is a member with the role `clerk`, which grants `invoices:read`.
pub struct Stage {
    pub world: World,
    pub directory: StaticDirectory,
    pub registry: TenantRegistry,
}

impl Stage {
    pub async fn new(tenants: &[&str]) -> Self {
        Self::of(TenantType::Text, tenants).await
    }

    pub async fn of(kind: TenantType, tenants: &[&str]) -> Self {
        super::log::log();
        let installation = Installation::new("app").tenant_column("tenant_id", kind);
        let world = world_with(installation.clone(), &[]).await;
        let mut admin = world.admin().await;
        let authorization = installation.authorization();
        authorization.apply(&mut admin).await.expect("the tables");
        let directory = StaticDirectory::new().shared_by_all(world.app.clone());
        let registry = registry(&directory).await;
        let stage = Self {
            world,
            directory,
            registry,
        };
        for id in tenants {
            stage
                .sql(&format!(
                    "INSERT INTO tenantry.members (tenant_id, user_id) VALUES ('{id}', 'alice');
                     INSERT INTO tenantry.roles (tenant_id, role) VALUES ('{id}', 'clerk');
                     INSERT INTO tenantry.role_permissions (tenant_id, role, resource, action, effect)
                       VALUES ('{id}', 'clerk', 'invoices', 'read', 'grant');
                     INSERT INTO tenantry.member_roles (tenant_id, user_id, role)
                       VALUES ('{id}', 'alice', 'clerk');"
                ))
                .await;
        }
        stage
    }

    /// As the superuser, and committed when it returns.
    pub async fn sql(&self, sql: &str) {
        let mut admin = self.world.admin().await;
        let done = admin.execute(AssertSqlSafe(sql)).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub async fn revoke(&self, id: &str) {
        self.sql(&format!(
            "DELETE FROM tenantry.member_roles WHERE tenant_id = '{id}' AND user_id = 'alice'"
        ))
        .await;
    }

    pub async fn assign(&self, id: &str) {
        self.sql(&format!(
            "INSERT INTO tenantry.member_roles (tenant_id, user_id, role) VALUES ('{id}', 'alice', 'clerk')"
        ))
        .await;
    }

    pub async fn scope(&self, id: &str, user: &str) -> TenantScope {
        scope(&self.registry, id, user).await
    }

    /// One that hears of changes.
    pub async fn authorizer(&self) -> Authorizer {
        let builder = Authorizer::builder().subscription(self.world.app.clone());
        builder.build().await.expect("an authorizer")
    }

    /// No new sessions, and an end to those there are.
    pub async fn shut(&self, is_shut: bool) {
        use sqlx::ConnectOptions as _;
        let name = self
            .world
            .admin
            .get_database()
            .expect("a database")
            .to_owned();
        let server = self.world.admin.clone().database("postgres");
        let mut admin = server.connect().await.expect("the superuser connects");
        let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {}", !is_shut);
        admin.execute(AssertSqlSafe(open)).await.expect("altered");
        if is_shut {
            let end = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            );
            admin.execute(AssertSqlSafe(end)).await.expect("terminated");
        }
    }
}

pub async fn registry(directory: &StaticDirectory) -> TenantRegistry {
    let registry = TenantRegistry::builder(directory.clone());
    registry.build().await.expect("a registry")
}

pub async fn scope(registry: &TenantRegistry, id: &str, user: &str) -> TenantScope {
    let context = TenantContext::new(tenant(id)).user(user);
    registry.scope(context).await.expect("a scope")
}

/// Asks until the answer is this one. The bound is for a test that fails.
pub async fn until(authorizer: &Authorizer, scope: &TenantScope, decision: Decision) {
    eventually("another answer", async || {
        authorizer.check(scope, &READ).await == decision
    })
    .await;
}

pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    in_time(until).await.unwrap_or_else(|| panic!("{what}"));
}

pub async fn in_time<T>(what: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(60), what)
        .await
        .ok()
}
