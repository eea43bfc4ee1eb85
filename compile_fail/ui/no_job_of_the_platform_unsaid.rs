use tenantry::{PlatformJob, TenantContext, TenantRegistry};

fn jobs(context: TenantContext) {
    PlatformJob::new("a payload");
    PlatformJob::new((), "a payload");
    PlatformJob::new(context, "a payload");
    PlatformJob::<String>::default();
}

async fn platform_job_has_no_scope(job: PlatformJob<String>, registry: &TenantRegistry) {
    job.bind(registry).await;
}

fn main() {}
