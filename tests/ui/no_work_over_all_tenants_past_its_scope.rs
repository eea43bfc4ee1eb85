use tenantry::{Error, ForEachTenant, TenantRegistry};

async fn the_scope_is_ignored(registry: &TenantRegistry) {
    registry
        .for_each_tenant(ForEachTenant::default(), |_| async {
            sqlx::query("DELETE FROM sessions").execute(registry).await?;
            Ok::<_, Error>(())
        })
        .await;
}

async fn a_pool_is_asked_for(registry: &TenantRegistry) {
    registry
        .for_each_tenant(ForEachTenant::default(), |scope| async move {
            sqlx::query("DELETE FROM sessions").execute(scope.pool()).await?;
            Ok::<_, Error>(())
        })
        .await;
}

async fn the_closure_takes_none(registry: &TenantRegistry) {
    registry
        .for_each_tenant(ForEachTenant::default(), || async { Ok::<_, Error>(()) })
        .await;
}

fn main() {}
