//! How many sessions the server has, in its own words.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::databases::Databases;
use super::support::runtime;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Everybody's but our own.
const COUNT: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// Looks again and again, on a thread of its own, so that what is measured does not keep it.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Sampled>,
}

#[derive(Clone, Copy, Default)]
pub struct Sampled {
    pub most: i64,
    pub looks: u64,
}

impl Sampler {
    pub fn start(databases: &Databases) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let options = databases.admin_options();
        let thread = thread::spawn(move || {
            runtime(1).block_on(async {
                let mut session = sqlx::ConnectOptions::connect(&options)
                    .await
                    .expect("a connection");
                let mut sampled = Sampled::default();
                while !seen.load(Ordering::Relaxed) {
                    let count: i64 = sqlx::query_scalar(COUNT)
                        .fetch_one(&mut session)
                        .await
                        .expect("counted");
                    sampled.most = sampled.most.max(count);
                    sampled.looks += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                sampled
            })
        });
        Self { stop, thread }
    }

    pub fn stop(self) -> Sampled {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it counted")
    }
}
