use tenantry::{TenantReadTx, TenantTx};

fn write(_: &mut TenantTx) {}

fn read(tx: &mut TenantReadTx) {
    write(tx);
}

fn main() {}
