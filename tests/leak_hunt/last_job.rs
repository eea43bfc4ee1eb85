//! A specimen in the background: a worker takes the tenant from a job, if the job has one, and goes
//! on with the last one if it has not. Whoever queued the second of two jobs left it out, because it
//! always followed the first.

use tenantry::testing::leak_hunt::{FindingKind, Subject, Turn, subject};
use tenantry::{Error, TenantId, TenantRegistry, TenantScope};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::stage::{self, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_last_job() {
    let stage = Stage::new().await;
    let registry = stage.registry().await;
    stage.finds_nothing_alone(last_job(&registry)).await;
    stage
        .finds(FindingKind::ForeignRow, last_job(&registry))
        .await;
}

struct Job {
    tenant: Option<TenantId>,
    turn: Turn,
    done: oneshot::Sender<Result<(), Error>>,
}

fn last_job(registry: &TenantRegistry) -> impl Subject {
    let (queue, jobs) = mpsc::channel(8);
    let mut worker = JoinSet::new();
    worker.spawn(work_off(registry.clone(), jobs));
    subject(move |turn: Turn| {
        let _as_long_as_this = &worker;
        let queue = queue.clone();
        async move {
            // The first job, and the one that follows it.
            for tenant in [Some(turn.tenant().clone()), None] {
                let (done, is_done) = oneshot::channel();
                let turn = turn.clone();
                let job = Job { tenant, turn, done };
                if queue.send(job).await.is_ok()
                    && let Ok(done) = is_done.await
                {
                    done?;
                }
            }
            Ok::<_, Error>(())
        }
    })
}

async fn work_off(registry: TenantRegistry, mut jobs: mpsc::Receiver<Job>) {
    let mut scope: Option<TenantScope> = None;
    while let Some(job) = jobs.recv().await {
        if let Some(tenant) = job.tenant {
            scope = registry.scope(tenant).await.ok();
        }
        if let Some(scope) = &scope {
            let done = stage::statement(&job.turn, scope).await;
            // Whoever queued it may have left.
            let _ = job.done.send(done.map_err(Error::from));
        }
    }
}
