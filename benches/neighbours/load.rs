//! A round: seven tenants at a steady pace, and the flood or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval_at};

use super::databases::TENANTS;
use super::ways::Way;

/// Who floods. The others are quiet.
const FLOODS: usize = TENANTS - 1;

/// Before it counts: connections are there, and the flood's queue is full.
const LEAD: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
pub struct Load {
    pub statement: &'static str,
    /// How often each quiet tenant asks, whether or not it has been answered.
    pub period: Duration,
    /// So many requests of the flood are under way at any time.
    pub flood: usize,
}

/// What came of a round.
#[derive(Default)]
pub struct Round {
    /// Milliseconds of each request of a quiet tenant.
    pub quiet: Vec<f64>,
    /// How many requests of the flood were answered in a second.
    pub flood: f64,
    /// How many connections were opened in a second, where somebody counts.
    pub opened: Option<f64>,
}

impl Load {
    pub async fn round(self, way: &Way, floods: bool, length: Duration) -> Round {
        let stop = Arc::new(AtomicBool::new(false));
        let opened = way.opened();
        let flood: Vec<_> = (0..if floods { self.flood } else { 0 })
            .map(|_| tokio::spawn(self.flood(way.clone(), Arc::clone(&stop))))
            .collect();
        let started = Instant::now();
        let quiet = (0..FLOODS).map(|tenant| tokio::spawn(self.quiet(way.clone(), tenant, length)));
        let quiet = join_all(quiet).await;
        stop.store(true, Ordering::Relaxed);
        let answered = join_all(flood).await.into_iter();
        let answered: usize = answered.map(|task| task.expect("no panic")).sum();
        let took = started.elapsed().as_secs_f64();
        let opened = way
            .opened()
            .zip(opened)
            .map(|(after, before)| after - before);
        Round {
            quiet: quiet
                .into_iter()
                .flat_map(|task| task.expect("no panic"))
                .collect(),
            flood: answered as f64 / took,
            opened: opened.map(|opened| opened as f64 / took),
        }
    }

    /// One request after the other.
    async fn flood(self, way: Way, stop: Arc<AtomicBool>) -> usize {
        let mut answered = 0;
        while !stop.load(Ordering::Relaxed) {
            way.ask(FLOODS, self.statement).await;
            answered += 1;
        }
        answered
    }

    /// Each request in a task of its own: one that takes long does not hold up the next, and its
    /// time counts from when it was made.
    async fn quiet(self, way: Way, tenant: usize, length: Duration) -> Vec<f64> {
        // They do not all ask in the same moment.
        let offset = self.period.mul_f64(tenant as f64 / FLOODS as f64);
        let mut ticks = interval_at(tokio::time::Instant::now() + offset, self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let started = Instant::now();
        let mut requests = Vec::new();
        while started.elapsed() < LEAD + length {
            ticks.tick().await;
            let way = way.clone();
            let counts = started.elapsed() >= LEAD;
            requests.push(tokio::spawn(async move {
                let asked = Instant::now();
                way.ask(tenant, self.statement).await;
                counts.then(|| asked.elapsed().as_secs_f64() * 1e3)
            }));
        }
        let requests = join_all(requests).await.into_iter();
        requests
            .filter_map(|task| task.expect("no panic"))
            .collect()
    }
}
