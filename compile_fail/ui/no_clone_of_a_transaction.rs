fn clone(tx: tenantry::TenantTx) {
    tx.clone();
}

fn main() {}
