use tenantry::{DangerousRegistry, DangerousTx, TenantScope};

async fn without_a_reason(dangerous: DangerousRegistry) {
    let _ = dangerous.begin().await;
    let _ = dangerous.begin("sam").await;
    let _ = sqlx::query("SELECT 1").execute(&dangerous).await;
}

fn tenant(dangerous: DangerousTx, _: impl FnOnce(TenantScope)) -> TenantScope {
    dangerous.clone();
    dangerous.dangerous_connection();
    dangerous.into()
}

fn main() {}
