use tenantry::{TenantScope, TenantTx};

fn write(_: &mut TenantTx) {}

fn outside(scope: &TenantScope) {
    write(scope);
}

fn main() {}
