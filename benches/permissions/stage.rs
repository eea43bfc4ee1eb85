//! Tenants with roles, and an authorizer that knows all of them.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::PostgresServer;
use tenantry::{
    Authorizer, Decision, Permission, StaticDirectory, TenantContext, TenantId, TenantRegistry,
    TenantScope,
};
use tokio::runtime::{Builder, Runtime};

pub const TENANTS: usize = 1_000;
pub const PATTERNS: usize = 52;

pub struct Stage {
    pub authorizer: Authorizer,
    pub scopes: Vec<TenantScope>,
    _registry: TenantRegistry,
    _server: PostgresServer,
    _runtime: Runtime,
}

impl Stage {
    pub fn start() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let (authorizer, scopes, registry, server) = runtime.block_on(start());
        Self {
            authorizer,
            scopes,
            _registry: registry,
            _server: server,
            _runtime: runtime,
        }
    }
}

async fn start() -> (Authorizer, Vec<TenantScope>, TenantRegistry, PostgresServer) {
    let server = PostgresServer::start()
        .await
        .expect("the benches need PostgreSQL: run ./scripts/test");
    let admin = server
        .create_database("permissions")
        .await
        .expect("a database");
    let mut owner = admin.connect().await.expect("connected");
    owner
        .execute("CREATE ROLE bench_app LOGIN")
        .await
        .expect("a role");
    let installation = Installation::new("bench_app").tenant_column("tenant_id", TenantType::Text);
    installation.install(&mut owner).await.expect("installed");
    installation
        .authorization()
        .apply(&mut owner)
        .await
        .expect("installed");
    let rows = format!(
        "CREATE TEMPORARY TABLE t AS SELECT 'tenant-' || n AS t FROM generate_series(1, {TENANTS}) AS n;
         INSERT INTO tenantry.members (tenant_id, user_id) SELECT t, 'somebody' FROM t;
         INSERT INTO tenantry.roles (tenant_id, role) SELECT t, 'clerk' FROM t;
         INSERT INTO tenantry.role_permissions (tenant_id, role, resource, action, effect)
           SELECT t, 'clerk', 'resource' || n, a, 'grant' FROM t, generate_series(1, 25) AS n, unnest('{{read,write}}'::text[]) AS a
           UNION ALL SELECT t, 'clerk', 'all', '*', 'grant' FROM t
           UNION ALL SELECT t, 'clerk', '*', 'destroy', 'deny' FROM t;
         INSERT INTO tenantry.member_roles (tenant_id, user_id, role) SELECT t, 'somebody', 'clerk' FROM t;
         ANALYZE;"
    );
    owner.execute(AssertSqlSafe(rows)).await.expect("roles");
    let app = admin.username("bench_app");
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(app.clone()));
    let registry = registry.build().await.expect("a registry");
    let authorizer = Authorizer::builder()
        .subscription(app)
        .build()
        .await
        .expect("an authorizer");
    let permission = Permission::new("resource7", "read");
    let mut scopes = Vec::new();
    for n in 1..=TENANTS {
        let tenant: TenantId = format!("tenant-{n}").parse().expect("a tenant");
        let scope = registry.scope(TenantContext::new(tenant).user("somebody"));
        let scope = scope.await.expect("a scope");
        assert_eq!(
            authorizer.check(&scope, &permission).await,
            Decision::Granted
        );
        scopes.push(scope);
    }
    (authorizer, scopes, registry, server)
}
