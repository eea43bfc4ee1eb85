fn pool(registry: &tenantry::TenantRegistry) {
    registry.pool();
    registry.acquire();
    registry.slots;
}

fn main() {}
