fn connection(scope: &tenantry::TenantScope) {
    scope.pool();
    scope.acquire();
    scope.slots;
}

fn main() {}
