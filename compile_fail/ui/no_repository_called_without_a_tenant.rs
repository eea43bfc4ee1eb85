use tenantry::repository::{PageRequest, WriteRepository};
use tenantry::{Reader, TenantScope};

type Cases = dyn WriteRepository<Id = i64, Row = String, Draft = String>;

async fn read(cases: &Cases) {
    let _ = cases.find(&7).await;
    let _ = cases.page(&PageRequest::default()).await;
}

async fn write(cases: &Cases, mut reader: Reader<'_>, scope: &TenantScope) {
    let _ = cases.insert(scope, &String::new()).await;
    let _ = cases.delete(&mut reader, &7, 1).await;
}

fn main() {}
