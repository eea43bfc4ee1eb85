use tenantry::{Error, TenantTx};

async fn beside(mut tx: TenantTx) -> Result<(), Error> {
    let savepoint = tx.savepoint().await?;
    tx.advisory_lock("key").await?;
    savepoint.release().await
}

fn main() {}
