//! What a registry had, moment by moment.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tenantry::{RegistryStatus, TenantRegistry};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_millis(20);

#[derive(Default)]
pub struct Life {
    /// Seconds since the beginning, and what there was.
    pub moments: Vec<(f64, RegistryStatus)>,
    pub phases: Vec<(f64, &'static str)>,
}

impl Life {
    pub fn seconds(&self) -> f64 {
        self.moments.last().map_or(0.0, |(at, _)| *at)
    }

    pub fn summary(&self) -> String {
        let most = |of: fn(&RegistryStatus) -> usize| {
            let all = self.moments.iter().map(|(_, status)| of(status));
            all.max().unwrap_or_default()
        };
        let Some((_, last)) = self.moments.last() else {
            return "nothing was seen".to_owned();
        };
        format!(
            "{} moments: at most {} pools, {} connections and {} waiting; {} leases, {} of them \
             had to wait; {} pools and {} connections opened; evictions: {:?}",
            self.moments.len(),
            most(|status| status.pools),
            most(|status| status.connections.total()),
            most(|status| status.connections.waiting),
            last.leases,
            last.misses,
            last.pools_opened,
            last.connections_opened,
            last.evictions,
        )
    }
}

/// Looks at a registry every so often, until it is stopped.
pub struct Recorder {
    begun: Instant,
    life: Arc<Mutex<Life>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub fn start(registry: TenantRegistry) -> Self {
        let begun = Instant::now();
        let life = Arc::new(Mutex::new(Life::default()));
        let (stop, mut stopped) = oneshot::channel();
        let moments = Arc::clone(&life);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            while stopped.try_recv().is_err() {
                ticks.tick().await;
                let moment = (begun.elapsed().as_secs_f64(), registry.status());
                moments.lock().expect("no panic").moments.push(moment);
            }
        });
        Self {
            begun,
            life,
            stop,
            task,
        }
    }

    pub fn phase(&self, name: &'static str) {
        println!("{name} ..");
        let at = self.begun.elapsed().as_secs_f64();
        self.life.lock().expect("no panic").phases.push((at, name));
    }

    pub async fn stop(self) -> Life {
        let _ = self.stop.send(());
        let _ = self.task.await;
        std::mem::take(&mut *self.life.lock().expect("no panic"))
    }
}
