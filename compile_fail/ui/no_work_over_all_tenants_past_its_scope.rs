use tenantry::{Error, ForEachTenant, TenantRegistry};

trait Runs {
    fn runs(self);
}

impl<'c, E: sqlx::PgExecutor<'c>> Runs for E {
    fn runs(self) {}
}

async fn the_scope_is_ignored(registry: &TenantRegistry) {
    registry
        .for_each_tenant(ForEachTenant::default(), |_| async {
            registry.runs();
            Ok::<_, Error>(())
        })
        .await;
}

async fn a_pool_is_asked_for(registry: &TenantRegistry) {
    registry
        .for_each_tenant(ForEachTenant::default(), |scope| async move {
            scope.pool();
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
