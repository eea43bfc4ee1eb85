use tenantry::{Error, TenantTx};

async fn rollback(mut tx: TenantTx) -> Result<(), Error> {
    tx.rollback().await?;
    tx.advisory_lock("key").await
}

fn main() {}
