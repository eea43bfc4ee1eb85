use tenantry::{TenantContext, TenantId};

fn bare(id: String) {
    let _: TenantId = "acme";
    let _ = TenantId(id.into());
    let _ = TenantContext::new("acme");
}

fn main() {}
