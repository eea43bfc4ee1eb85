fn connection(scope: &tenantry::TenantScope) {
    scope.pool();
    scope.acquire();
    scope.lease();
    scope.slots;
}

fn main() {}
