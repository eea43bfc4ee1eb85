use tenantry::{CommitError, TenantTx};

async fn commit(tx: TenantTx) -> Result<(), CommitError> {
    tx.commit().await?;
    tx.commit().await
}

fn main() {}
