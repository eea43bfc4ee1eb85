use tenantry::{TenantContext, TenantScope};

fn scope(context: TenantContext) -> TenantScope {
    context.into()
}

fn main() {}
