fn connection(scope: &tenantry::TenantScope) {
    scope.pool();
    scope.acquire();
    scope.home;
}

fn main() {}
