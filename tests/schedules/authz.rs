//! What is known of users, under every order of a revocation, its telling, a question that is under
//! way, a sign of life and a check.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::{RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use crate::authz_cache::{BOUND, Cache, Epoch, Who};
use crate::sync::{Mutex, advance, now, reset_clock};

const TENANT: u8 = 1;

/// A database with one tenant and what a process knows of it.
struct World {
    cache: Cache<i64, u8>,
    database: Mutex<Database>,
    /// When the server had acknowledged each change, in their order.
    acknowledged: Mutex<Vec<Instant>>,
}

#[derive(Default)]
struct Database {
    /// How many changes were committed: it stands for what the user may do.
    changes: i64,
    /// What the server has not told yet; those that listen are told of nothing before they do.
    to_be_told: Option<VecDeque<u8>>,
}

fn who(route: u64) -> Who<'static> {
    Who {
        tenant: &TENANT,
        user: "alice",
        registry: 1,
        route,
    }
}

impl World {
    fn new() -> Arc<Self> {
        reset_clock();
        Arc::new(Self {
            cache: Cache::new(2, 100, now()),
            database: Mutex::new(Database::default()),
            acknowledged: Mutex::new(Vec::new()),
        })
    }

    /// A change that is committed, and then acknowledged.
    fn change(&self) {
        {
            let mut database = self.database.lock();
            database.changes += 1;
            if let Some(told) = &mut database.to_be_told {
                told.push_back(TENANT);
            }
        }
        self.acknowledged.lock().push(now());
    }

    /// A new connection that listens.
    fn open(&self) {
        self.database.lock().to_be_told = Some(VecDeque::new());
        self.cache.all_changed();
        self.ping();
    }

    fn break_off(&self) {
        self.database.lock().to_be_told = None;
        self.cache.lost();
    }

    /// The server answers a question, behind all that it had to tell.
    fn ping(&self) {
        let sent = now();
        self.listen();
        self.cache.heard(sent);
    }

    fn listen(&self) {
        loop {
            let told = self
                .database
                .lock()
                .to_be_told
                .as_mut()
                .and_then(VecDeque::pop_front);
            let Some(told) = told else { return };
            self.cache.changed(&told);
        }
    }

    /// What the database says, asked in the way that an authorizer does.
    fn ask(&self, route: u64) -> i64 {
        let ticket = self.cache.ticket(&who(route), 0, None);
        let answer = self.database.lock().changes;
        thread::yield_now();
        let epoch = Epoch {
            number: answer,
            mark: answer as u128,
        };
        let until = now() + Duration::from_secs(3_600);
        self.cache.keep(&ticket, &who(route), epoch, answer, until);
        answer
    }

    /// One check. What had been acknowledged a bound before it began is in the answer.
    fn check(&self, route: u64) {
        let begun = now();
        let least = {
            let acknowledged = self.acknowledged.lock();
            acknowledged
                .iter()
                .filter(|at| **at + BOUND <= begun)
                .count() as i64
        };
        let found = self.cache.find(&who(route), now(), |known| *known);
        let answer = found.unwrap_or_else(|| self.ask(route));
        assert!(
            answer >= least,
            "it says {answer}, and {least} changes were acknowledged"
        );
    }
}

fn run(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.failure_persistence = shuttle::FailurePersistence::Print;
    Runner::new(scheduler, config).run(test);
}

#[test]
fn no_check_is_behind_by_more_than_the_bound() {
    let times = if std::env::var_os("TENANTRY_LONG").is_some() {
        200_000
    } else {
        4_000
    };
    run(RandomScheduler::new(times), || {
        let world = World::new();
        let spawn = |work: fn(&World)| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                for _ in 0..4 {
                    work(&world);
                    if thread_rng().gen_range(0..3) == 0 {
                        advance(Duration::from_millis(thread_rng().gen_range(1..700)));
                    }
                }
            })
        };
        let threads = [
            spawn(World::change),
            spawn(|world| world.check(0)),
            spawn(|world| world.check(0)),
            // The directory says something else, and that the tenant lives where it did.
            spawn(|world| world.check(thread_rng().gen_range(0..2))),
            // One task, as it is.
            spawn(|world| {
                let listens = world.database.lock().to_be_told.is_some();
                match (listens, thread_rng().gen_range(0..4)) {
                    (false, _) => world.open(),
                    (true, 0) => world.break_off(),
                    (true, 1) => world.listen(),
                    (true, _) => world.ping(),
                }
            }),
        ];
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn an_answer_is_never_kept_behind_the_change_that_it_missed() {
    run(RandomScheduler::new(5_000), || {
        let world = World::new();
        world.open();
        let asks = thread::spawn({
            let world = Arc::clone(&world);
            move || world.ask(0)
        });
        let listens = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.change();
                world.listen();
            }
        });
        listens.join().expect("no panic");
        asks.join().expect("no panic");
        let known = world.cache.find(&who(0), now(), |known| *known);
        assert_ne!(known, Some(0), "the change was told of");
    });
}

#[test]
fn as_many_are_known_as_are_counted() {
    run(RandomScheduler::new(500), || {
        let world = World::new();
        let cache: Arc<Cache<i64, u8>> = Arc::new(Cache::new(2, 6, now()));
        let threads: Vec<_> = (0..3_u8)
            .map(|n| {
                let cache = Arc::clone(&cache);
                thread::spawn(move || {
                    for turn in 0..6_u8 {
                        let tenant = thread_rng().gen_range(0..3);
                        let user = format!("{n} {turn}");
                        let who = Who {
                            tenant: &tenant,
                            user: &user,
                            registry: thread_rng().gen_range(0..2),
                            route: 0,
                        };
                        let ticket = cache.ticket(&who, 0, None);
                        let number = thread_rng().gen_range(0..3);
                        let epoch = Epoch {
                            number,
                            mark: number as u128,
                        };
                        cache.keep(&ticket, &who, epoch, 0, now() + BOUND);
                        match thread_rng().gen_range(0..6) {
                            0 => cache.changed(&tenant),
                            1 => cache.all_changed(),
                            _ => {}
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        // Those who keep at the same moment may each be one too many.
        assert!(cache.len() <= 6 + 3, "{}", cache.len());
        cache.all_changed();
        assert_eq!(cache.len(), 0);
        drop(world);
    });
}
