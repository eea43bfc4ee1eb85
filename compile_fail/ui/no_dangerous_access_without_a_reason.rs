use tenantry::{DangerousRegistry, DangerousTx, TenantScope};

trait Runs {
    fn runs(self);
}

impl<'c, E: sqlx::PgExecutor<'c>> Runs for E {
    fn runs(self) {}
}

async fn without_a_reason(dangerous: DangerousRegistry) {
    let _ = dangerous.begin().await;
    let _ = dangerous.begin("sam").await;
    (&dangerous).runs();
}

fn tenant(dangerous: DangerousTx, _: impl FnOnce(TenantScope)) -> TenantScope {
    dangerous.clone();
    dangerous.dangerous_connection();
    dangerous.into()
}

fn main() {}
