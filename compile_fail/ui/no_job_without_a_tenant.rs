use tenantry::{Platform, TenantJob};

fn jobs() {
    TenantJob::new("a payload");
    TenantJob::new((), "a payload");
    TenantJob::new(Platform, "a payload");
    TenantJob { payload: "a payload" };
    TenantJob::<String>::default();
}

fn main() {}
