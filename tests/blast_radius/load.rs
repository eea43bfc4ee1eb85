//! Tenants that go on working.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::Executor as _;
use tenantry::{Error, ErrorKind, TenantContext, TenantRegistry};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::{notes, tenant};

/// A statement and a transaction of this tenant, as a request would do it.
///
/// # Panics
///
/// If it sees anything but its own note.
pub(crate) async fn ask(registry: &TenantRegistry, id: &str) -> Result<(), Error> {
    let context = TenantContext::new(tenant(id)).user("somebody");
    let scope = registry.scope(context).await?;
    assert_eq!(notes(&scope).await?, [format!("a note of {id}")]);
    let mut tx = scope.begin().await?;
    (&mut tx).execute("SELECT 1").await?;
    assert_eq!(notes(&mut tx).await?, [format!("a note of {id}")]);
    Ok(tx.commit().await?)
}

/// The bound is for a test that fails.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(BOUND, so).await.is_ok(), "{what}");
}

pub(crate) async fn eventually_served(registry: &TenantRegistry, id: &str) {
    let served = async {
        while let Err(error) = ask(registry, id).await {
            let is_over = error.kind() == ErrorKind::TenantSuspended;
            assert!(error.is_retryable() || is_over, "{error:?}");
            sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = timeout(BOUND, served).await;
    assert!(in_time.is_ok(), "{id} is not served again");
}

const BOUND: Duration = Duration::from_secs(60);

/// Each of these tenants asks over and over.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    served: Vec<Arc<AtomicU64>>,
    tasks: Vec<JoinHandle<Outcome>>,
}

/// What became of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) errors: Vec<Error>,
    times: Vec<(Instant, Duration)>,
}

impl Load {
    pub(crate) async fn start(registry: &TenantRegistry, ids: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self {
            stop: Arc::clone(&stop),
            served: Vec::new(),
            tasks: Vec::new(),
        };
        for id in ids {
            let served = Arc::new(AtomicU64::new(0));
            load.served.push(Arc::clone(&served));
            let (registry, stop) = (registry.clone(), Arc::clone(&stop));
            load.tasks.push(tokio::spawn(async move {
                let mut outcome = Outcome::default();
                while !stop.load(Ordering::SeqCst) {
                    let began = Instant::now();
                    match ask(&registry, &id).await {
                        Ok(()) => {
                            outcome.times.push((began, began.elapsed()));
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => outcome.errors.push(error),
                    }
                    sleep(Duration::from_millis(1)).await;
                }
                outcome
            }));
        }
        load
    }

    /// Comes back when each of them was served so many times more, whatever else stands still.
    pub(crate) async fn progress(&self, times: u64) {
        let now = |served: &Arc<AtomicU64>| served.load(Ordering::SeqCst);
        let goals: Vec<u64> = self
            .served
            .iter()
            .map(|served| now(served) + times)
            .collect();
        until("they are served", || {
            let mut all = self.served.iter().zip(&goals);
            all.all(|(served, goal)| now(served) >= *goal)
        })
        .await;
    }

    pub(crate) async fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Outcome::default();
        for task in self.tasks {
            let outcome = task.await.expect("nothing foreign was seen");
            all.errors.extend(outcome.errors);
            all.times.extend(outcome.times);
        }
        all
    }

    /// Nobody met an error. How long they took in the first tenth of the time, and in the rest, is
    /// told and not judged: this machine may have other things to do.
    pub(crate) async fn finish(self, what: impl std::fmt::Debug) {
        let outcome = self.stop().await;
        assert!(outcome.errors.is_empty(), "{what:?}: {:?}", outcome.errors);
        let mut times = outcome.times;
        times.sort_unstable();
        let (before, after) = times.split_at(times.len() / 10);
        let median = |times: &[(Instant, Duration)]| {
            let mut times: Vec<Duration> = times.iter().map(|time| time.1).collect();
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        println!(
            "{what:?}: {} served, median {:?}, and {:?} before",
            times.len(),
            median(after),
            median(before)
        );
    }
}
