use tenantry::{TenantContext, TenantScope};

fn scope(context: TenantContext) {
    let _ = TenantScope::new(context);
    let _ = TenantScope::from(context);
}

fn main() {}
