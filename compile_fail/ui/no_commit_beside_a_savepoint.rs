use tenantry::{Error, TenantTx};

async fn beside(mut tx: TenantTx) -> Result<(), Error> {
    let savepoint = tx.savepoint().await?;
    tx.commit().await?;
    savepoint.release().await
}

fn main() {}
