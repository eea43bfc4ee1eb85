use tenantry::{Reader, TenantTx};

fn write(_: &mut TenantTx) {}

fn read(mut reader: Reader<'_>) {
    write(&mut reader);
}

fn main() {}
