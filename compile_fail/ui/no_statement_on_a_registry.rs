trait Runs {
    fn runs(self);
}

impl<'c, E: sqlx::PgExecutor<'c>> Runs for E {
    fn runs(self) {}
}

fn statement(registry: &tenantry::TenantRegistry) {
    registry.runs();
}

fn main() {}
