//! A way from a tenant to its pool, and threads that go it for as long as a window is open.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tenantry::TenantId;

use super::workload::Workload;

/// So many operations between two looks at whether the window is still open.
const BATCH: usize = 256;

pub struct Candidate {
    pub name: &'static str,
    /// No way to a pool, but something to understand the others by.
    pub is_reference: bool,
    run: Box<Run>,
}

/// With so many threads, for so long.
type Run = dyn Fn(&Workload, usize, Duration) -> Taken;

#[derive(Clone, Copy)]
pub struct Taken {
    /// Operations in a second, of all threads together.
    pub rate: f64,
    /// What an operation took of the processor: whoever else uses the machine is not in it, nor
    /// is waiting for a lock that is held.
    pub nanoseconds: f64,
}

impl Candidate {
    /// All threads use the same one. What `look_up` returns is dropped at once: that gives it
    /// back.
    pub fn shared<R>(
        name: &'static str,
        look_up: impl Fn(&TenantId) -> R + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            is_reference: false,
            run: Box::new(move |workload, threads, window| {
                run(workload, threads, window, || &look_up)
            }),
        }
    }

    /// Each thread makes one of its own: the memory of as many as there are threads.
    pub fn of_each_thread<R, F: Fn(&TenantId) -> R>(
        name: &'static str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            is_reference: false,
            run: Box::new(move |workload, threads, window| run(workload, threads, window, &make)),
        }
    }

    /// Not to be judged.
    pub fn reference(self) -> Self {
        Self {
            is_reference: true,
            ..self
        }
    }

    pub fn run(&self, workload: &Workload, threads: usize, window: Duration) -> Taken {
        (self.run)(workload, threads, window)
    }
}

fn run<R, F: Fn(&TenantId) -> R>(
    workload: &Workload,
    threads: usize,
    window: Duration,
    make: impl Fn() -> F + Sync,
) -> Taken {
    let start = Barrier::new(threads + 1);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|number| {
                let (start, is_over, make) = (&start, &is_over, &make);
                scope.spawn(move || {
                    let requests = workload.requests(number as u64);
                    let look_up = make();
                    start.wait();
                    let (started, before) = (Instant::now(), processor_time());
                    let mut done = 0_u64;
                    for batch in requests.chunks_exact(BATCH).cycle() {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        for tenant in batch {
                            black_box(look_up(tenant));
                        }
                        done += BATCH as u64;
                    }
                    (done, processor_time() - before, started)
                })
            })
            .collect();
        start.wait();
        let mut started = Instant::now();
        // The end of an earlier scope's threads may have left a wake-up.
        while let Some(left) = window.checked_sub(started.elapsed()) {
            thread::park_timeout(left);
        }
        is_over.store(true, Ordering::Relaxed);
        let (mut done, mut spent) = (0, Duration::ZERO);
        for thread in threads {
            let (its, time, start) = thread.join().expect("no look-up panics");
            done += its;
            spent += time;
            // This thread may have been the last to be woken.
            started = started.min(start);
        }
        Taken {
            rate: done as f64 / started.elapsed().as_secs_f64(),
            nanoseconds: spent.as_secs_f64() * 1e9 / done as f64,
        }
    })
}

/// What this thread has had.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("a clock of every thread")
        .into()
}
