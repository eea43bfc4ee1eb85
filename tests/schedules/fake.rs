//! A server whose connections are numbers, and those who open and close them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use proptest::sample::Index;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread::{self, JoinHandle};

use crate::at_rest::AtRest;
use crate::model::Did;
use crate::schedule::{Checkout, Driver, Pool, PoolLimits, Server, ServerLimits, Types};
use crate::sync::{advance_to, epoch, now, reset_clock};

pub(crate) enum Fake {}

impl Types for Fake {
    type Connection = Token;
    type Tenant = u8;
    type Failure = u32;
    type Home = usize;
    type Driver = Hands;
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) number: u32,
    home: usize,
}

/// Who opens and closes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// Whoever runs the test, by [`World::perform`].
    ByHand,
    /// A thread for each job. One opening of so many fails.
    ByThreads { one_fails_of: u32 },
}

pub(crate) enum Job {
    Open(Arc<Pool<Fake>>),
    Close(Arc<Pool<Fake>>, Token),
    /// The server lets go of what was never opened.
    LetGo(Arc<Pool<Fake>>),
    Wake(Instant),
}

impl Job {
    pub(crate) fn home(&self) -> Option<usize> {
        match self {
            Self::Open(pool) | Self::Close(pool, _) | Self::LetGo(pool) => Some(*pool.home()),
            Self::Wake(_) => None,
        }
    }
}

/// The server's own books, against which those of the schedule are checked.
pub(crate) struct World {
    cap: usize,
    manner: Manner,
    pub(crate) at_rest: Arc<AtRest>,
    server: Mutex<Weak<Server<Fake>>>,
    // Held between two steps of `shuttle` at most, so no schedule meets it locked.
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    homes: Vec<Home>,
    tokens: BTreeMap<u32, Where>,
    opened: u32,
    failed: u32,
    /// What was asked for and not done yet.
    jobs: Vec<Job>,
    decisions: Did,
    threads: Vec<JoinHandle<()>>,
}

struct Home {
    limits: PoolLimits,
    opening: usize,
    let_go: usize,
    tokens: usize,
    /// It must not lease any more to who asks from here on.
    retired: bool,
    /// Nobody had one of its connections when it was retired.
    retired_idle: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// In its pool, or on the way from or to it.
    Free(usize),
    InHand(usize, u8),
    Closing(usize),
}

pub(crate) const NEVER_OLD: PoolLimits = PoolLimits {
    max: 4,
    max_per_tenant: None,
    min: 0,
    test_after: Duration::from_secs(1),
    idle_timeout: None,
    max_lifetime: None,
};

impl World {
    pub(crate) fn new(
        cap: usize,
        turn: Duration,
        manner: Manner,
    ) -> (Arc<Self>, Arc<Server<Fake>>) {
        reset_clock();
        let world = Arc::new(Self {
            cap,
            manner,
            at_rest: Arc::default(),
            server: Mutex::default(),
            books: Mutex::default(),
        });
        let limits = ServerLimits { max: cap, turn };
        let server = Server::new(limits, Hands(Arc::clone(&world)), epoch());
        *world.server.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&server);
        (world, server)
    }

    pub(crate) fn pool(&self, server: &Arc<Server<Fake>>, limits: PoolLimits) -> Arc<Pool<Fake>> {
        let mut books = self.books();
        books.homes.push(Home {
            limits,
            opening: 0,
            let_go: 0,
            tokens: 0,
            retired: false,
            retired_idle: false,
        });
        let home = books.homes.len() - 1;
        drop(books);
        server.pool(limits, home)
    }

    /// Notes into whose hands a connection has come.
    pub(crate) fn hand_over(
        self: &Arc<Self>,
        mut checkout: Checkout<Fake>,
        home: usize,
        tenant: u8,
    ) -> InHand {
        let token = checkout.connection().expect("it was just leased");
        let (number, its_home) = (token.number, token.home);
        assert_eq!(its_home, home, "a connection of another pool");
        let mut books = self.books();
        let was = books.tokens.insert(number, Where::InHand(home, tenant));
        assert_eq!(was, Some(Where::Free(home)), "in two hands, or closed");
        let of_tenant = Where::InHand(home, tenant);
        let used = books.tokens.values().filter(|at| **at == of_tenant).count();
        let limits = books.homes[home].limits;
        let max = limits.max_per_tenant.unwrap_or(limits.max);
        assert!(used <= max, "tenant {tenant} has {used} of {max}");
        assert!(!books.homes[home].retired_idle, "retired in use");
        drop(books);
        InHand {
            checkout: Some(checkout),
            number,
            home,
            tenant,
            world: Arc::clone(self),
        }
    }

    /// What was asked for and not done yet.
    pub(crate) fn jobs(&self) -> usize {
        self.books().jobs.len()
    }

    pub(crate) fn take_job(&self, which: impl FnMut(&Job) -> bool) -> Option<Job> {
        let mut books = self.books();
        let at = books.jobs.iter().position(which)?;
        Some(books.jobs.remove(at))
    }

    /// One of the jobs of a kind.
    pub(crate) fn job_at(&self, index: Index, which: impl Fn(&Job) -> bool) -> Option<Job> {
        let of_kind = self.books().jobs.iter().filter(|job| which(job)).count();
        let mut before = index.index(of_kind.max(1));
        self.take_job(|job| {
            let wanted = which(job) && before == 0;
            before -= usize::from(which(job) && before > 0);
            wanted
        })
    }

    /// What was asked for since the last time.
    pub(crate) fn take_decisions(&self) -> Did {
        std::mem::take(&mut self.books().decisions)
    }

    pub(crate) fn perform(self: &Arc<Self>, job: Job, succeeds: bool) -> Option<u32> {
        match job {
            Job::Open(pool) if succeeds => {
                let home = *pool.home();
                let mut books = self.books();
                let number = books.opened;
                books.opened += 1;
                books.homes[home].opening -= 1;
                books.homes[home].tokens += 1;
                books.tokens.insert(number, Where::Free(home));
                drop(books);
                pool.opened(Token { number, home }, now());
                return Some(number);
            }
            Job::Open(pool) => {
                let mut books = self.books();
                books.failed += 1;
                let failure = books.failed;
                books.homes[*pool.home()].opening -= 1;
                books.homes[*pool.home()].let_go += 1;
                drop(books);
                pool.not_opened(failure, now());
                self.do_or_note(Job::LetGo(pool));
            }
            Job::Close(pool, token) => {
                let mut books = self.books();
                books.tokens.remove(&token.number);
                books.homes[token.home].tokens -= 1;
                drop(books);
                pool.closed(now());
            }
            Job::LetGo(pool) => {
                self.books().homes[*pool.home()].let_go -= 1;
                pool.closed(now());
            }
            Job::Wake(at) => {
                advance_to(at);
                self.look();
            }
        }
        None
    }

    pub(crate) fn look(&self) {
        let server = {
            let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
            server.upgrade()
        };
        if let Some(server) = server {
            server.look(now());
        }
    }

    /// Waits until all that was asked for is done.
    pub(crate) fn settle(&self) {
        loop {
            let thread = self.books().threads.pop();
            let Some(thread) = thread else { return };
            thread.join().expect("a job does not panic");
        }
    }

    /// This pool has just been retired, `idle` or not.
    pub(crate) fn is_retired_now(&self, home: usize, idle: bool) {
        let mut books = self.books();
        let mut tokens = books.tokens.values();
        let in_use = tokens.any(|at| matches!(at, Where::InHand(of, _) if *of == home));
        assert!(!(idle && in_use), "retired in use");
        books.homes[home].retired = true;
        books.homes[home].retired_idle |= idle;
    }

    pub(crate) fn was_retired(&self, home: usize) -> bool {
        self.books().homes[home].retired
    }

    /// Nothing is left, neither here nor in the schedule's books.
    pub(crate) fn assert_empty(&self, server: &Server<Fake>) {
        let books = self.books();
        assert!(books.tokens.is_empty(), "left open: {:?}", books.tokens);
        assert_eq!(books.homes.iter().map(Home::held).sum::<usize>(), 0);
        drop(books);
        assert_eq!(server.counts(), Default::default());
    }

    fn do_or_note(self: &Arc<Self>, job: Job) {
        match self.manner {
            Manner::ByHand => self.books().jobs.push(job),
            Manner::ByThreads { one_fails_of } => {
                let world = Arc::clone(self);
                let thread = thread::spawn(move || {
                    let succeeds = !matches!(job, Job::Open(_))
                        || one_fails_of == 0
                        || thread_rng().gen_range(0..one_fails_of) > 0;
                    world.perform(job, succeeds);
                });
                self.books().threads.push(thread);
            }
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home {
    /// Connections that the server knows of, or is about to.
    fn held(&self) -> usize {
        self.opening + self.let_go + self.tokens
    }
}

pub(crate) struct Hands(Arc<World>);

impl Hands {
    pub(crate) fn is_retired_idle(&self, home: usize) {
        self.0.is_retired_now(home, true);
    }
}

impl Driver<Fake> for Hands {
    fn open(&self, pool: Arc<Pool<Fake>>) {
        let mut books = self.0.books();
        let home = &mut books.homes[*pool.home()];
        home.opening += 1;
        let (held, max) = (home.held(), home.limits.max);
        assert!(held <= max, "a pool has {held} of {max}");
        let held: usize = books.homes.iter().map(Home::held).sum();
        let cap = self.0.cap;
        assert!(held <= cap, "the server has {held} of {cap}");
        books.decisions.open.push(*pool.home());
        drop(books);
        self.0.do_or_note(Job::Open(pool));
    }

    fn close(&self, pool: Arc<Pool<Fake>>, token: Token) {
        assert_eq!(*pool.home(), token.home);
        let closing = Where::Closing(token.home);
        let mut books = self.0.books();
        let was = books.tokens.insert(token.number, closing);
        assert_eq!(was, Some(Where::Free(token.home)), "closed under a holder");
        books.decisions.close.push(token.number);
        drop(books);
        self.0.do_or_note(Job::Close(pool, token));
    }

    fn idle(&self) {
        self.0.at_rest.ring();
    }

    fn wake(&self, _server: Arc<Server<Fake>>, at: Instant) {
        self.0.do_or_note(Job::Wake(at));
    }
}

/// A connection in use.
pub(crate) struct InHand {
    checkout: Option<Checkout<Fake>>,
    pub(crate) number: u32,
    pub(crate) home: usize,
    pub(crate) tenant: u8,
    world: Arc<World>,
}

impl InHand {
    pub(crate) fn discard(mut self) {
        self.leave_hand();
        if let Some(mut checkout) = self.checkout.take() {
            checkout.close();
        }
    }

    fn leave_hand(&self) {
        let mut books = self.world.books();
        books.tokens.insert(self.number, Where::Free(self.home));
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(mut checkout) = self.checkout.take() {
            self.leave_hand();
            // As whoever has used one says, at the end of a statement.
            checkout.used_until(now());
            drop(checkout);
        }
    }
}
