use tenantry::{CommitError, TenantSavepoint};

async fn through(savepoint: TenantSavepoint<'_>) -> Result<(), CommitError> {
    savepoint.commit().await
}

fn main() {}
