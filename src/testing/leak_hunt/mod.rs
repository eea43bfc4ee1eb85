//! The hunt for rows that reach the wrong tenant.
//!
//! Isolation that holds when requests come one after the other says nothing: what goes wrong between
//! tenants goes wrong under load, by a future that was dropped, a connection that came back in an odd
//! state, or a variable that somebody else has changed meanwhile. A [`LeakHunt`] makes that load. Many
//! tasks do the work of many tenants at once, through the code that is put to the test, its
//! [`Subject`]. Each writes rows that say whose they are, canaries, and looks whose it is shown. Most
//! of what goes wrong in production is done to them on purpose:
//!
//! * a third of the turns is dropped at a random poll, or by a time-out, and some unwind in a panic;
//! * [`Disturbance`]s go on around them: backends are killed, pools evicted, tenants suspended, the
//!   server restarts;
//! * over a registry, [`RegistrySubject`] adds transactions that abort, savepoints, streams that are
//!   left half-way, and code that changes the session and tells nobody.
//!
//! The [`Report`] has each row that was seen by, or written for, the wrong tenant; what was confirmed
//! and is not there; what was rolled back and is; answers to the questions of others; and who is not
//! served any more when all is over. It counts what was done and how it ended.
//!
//! # In your own tests
//!
//! Over a registry of yours, with tables of its own that [`Canaries::install`] makes:
//!
//! ```no_run
//! use tenantry::sql::{Installation, TenantType};
//! use tenantry::testing::PostgresServer;
//! use tenantry::testing::leak_hunt::{Canaries, Disturbance, LeakHunt, RegistrySubject};
//! use tenantry::{StaticDirectory, TenantId, TenantRegistry};
//!
//! #[tokio::test(flavor = "multi_thread")]
//! async fn tenants_are_kept_apart() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = PostgresServer::start().await?;
//!     let admin = server.create_database("app").await?;
//!     let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
//!     // .. as in production: the role, the installation, and your tables
//!     let canaries = Canaries::new(&installation).shared(admin.clone());
//!     canaries.install().await?;
//!
//!     let tenants: Vec<TenantId> = vec!["acme".parse()?, "globex".parse()?];
//!     let app = admin.clone().username("app");
//!     let directory = StaticDirectory::new().shared(app, tenants.clone());
//!     let registry = TenantRegistry::builder(directory).build().await?;
//!     LeakHunt::new(tenants)
//!         .canaries(canaries)
//!         .disturbance(Disturbance::killed_backends(admin, "app"))
//!         .run(RegistrySubject::new(&registry))
//!         .await
//!         .assert_clean();
//!     Ok(())
//! }
//! ```
//!
//! Over a service, whatever it is made of: a closure, see [`Subject`]. It needs no tables of ours and
//! none of this crate; with [`Canaries`] it is also looked at what was written.
//!
//! # For hours
//!
//! A hunt takes 3 seconds unless the code says otherwise, and what the environment says goes first:
//!
//! | variable | |
//! |---|---|
//! | `TENANTRY_LEAK_HUNT_SECONDS` | so long |
//! | `TENANTRY_LEAK_HUNT_OPERATIONS` | so many operations, however long it takes |
//! | `TENANTRY_LEAK_HUNT_SEED` | from this seed |
//!
//! # Again
//!
//! Seed, task and number of a turn decide whose turn it is, what is done and what is done to it, and
//! the report has them. In which order tasks meet is decided by the machine: the same seed makes the
//! same turns, and not the same accident each time. What is rare is found again by more tasks, fewer
//! connections and more time.
//!
//! # What it does not see
//!
//! Only what its subject does. Rows of other tables, other roles and other ways in are not looked at.

mod canaries;
mod canary;
mod course;
mod disturbance;
mod fate;
mod finding;
mod ledger;
mod limits;
mod registry;
mod report;
mod subject;
mod tally;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use crate::tenant::TenantId;
use limits::Limits;

pub use canaries::Canaries;
pub use disturbance::Disturbance;
pub use finding::{Finding, FindingKind};
pub use registry::RegistrySubject;
pub use report::Report;
pub use subject::{Subject, subject};
pub use tally::Ends;
pub use turn::Turn;

/// A hunt, before it begins; see [the module](self).
#[derive(Debug)]
#[must_use = "a hunt does nothing by itself, use `.run(subject)`"]
pub struct LeakHunt {
    tenants: Vec<TenantId>,
    tasks: u32,
    duration: Option<Duration>,
    operations: Option<u64>,
    seed: Option<u64>,
    is_calm: bool,
    patience: Duration,
    stops_at_first: bool,
    heeds_environment: bool,
    canaries: Option<Canaries>,
    disturbances: Vec<Disturbance>,
}

impl LeakHunt {
    /// Among these tenants, two or more.
    pub fn new(tenants: impl IntoIterator<Item = TenantId>) -> Self {
        Self {
            tenants: Vec::from_iter(tenants),
            tasks: 16,
            duration: None,
            operations: None,
            seed: None,
            is_calm: false,
            patience: Duration::from_secs(60),
            stops_at_first: false,
            heeds_environment: true,
            canaries: None,
            disturbances: Vec::new(),
        }
    }

    /// How many turns are under way at a time. Default 16, at least 1.
    pub fn tasks(mut self, tasks: u32) -> Self {
        self.tasks = tasks.max(1);
        self
    }

    /// How long turns are begun. Default 3 s, unless a number of [`operations`](Self::operations)
    /// is said. What comes behind, a last round and a last look, takes as long as it takes.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// How many operations are carried out, to their end or not; those that were refused do not
    /// count. With a [`duration`](Self::duration) as well, what comes first ends the hunt.
    pub fn operations(mut self, operations: u64) -> Self {
        self.operations = Some(operations);
        self
    }

    /// What is drawn from. Default: another each time; the report has it.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Nothing is done to the turns: no one is dropped, and none panics. With
    /// [one task](Self::tasks) this is the test that most suites have, and that finds nothing.
    pub fn calm(mut self) -> Self {
        self.is_calm = true;
        self
    }

    /// How long a turn that nothing is done to may take before it is stuck, and how long, when all is
    /// over, connections may take to come back and servers to come up. Default 60 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Ends with the first thing that was found, without a last round. To show that something can be
    /// found.
    pub fn stop_at_first(mut self) -> Self {
        self.stops_at_first = true;
        self
    }

    /// Whatever the environment says, this hunt does as the code says.
    pub fn ignore_environment(mut self) -> Self {
        self.heeds_environment = false;
        self
    }

    /// Looks after these tables, too. Whoever writes canaries to them lives in one of their
    /// databases.
    pub fn canaries(mut self, canaries: Canaries) -> Self {
        self.canaries = Some(canaries);
        self
    }

    /// This goes on meanwhile.
    pub fn disturbance(mut self, disturbance: Disturbance) -> Self {
        self.disturbances.push(disturbance);
        self
    }

    /// Goes hunting in this subject, on the runtime of the caller; with threads of its own
    /// (`#[tokio::test(flavor = "multi_thread")]`) it finds more in less time.
    ///
    /// # Cancel safety
    ///
    /// Dropped, all turns and disturbances are dropped. Rows are left in the tables until the next
    /// hunt.
    ///
    /// # Panics
    ///
    /// With fewer than two tenants, with a subject that knows no operations, and if a variable of the
    /// environment is not a number.
    pub async fn run(self, subject: impl Subject) -> Report {
        assert!(self.tenants.len() > 1, "a leak needs two tenants");
        assert!(!subject.operations().is_empty(), "there is nothing to do");
        let duration = match self.operations {
            None => self.duration.or(Some(Duration::from_secs(3))),
            Some(_) => self.duration,
        };
        let limits = Limits {
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
            duration,
            operations: self.operations,
        };
        let limits = match self.heeds_environment {
            true => limits.from_environment(),
            false => limits,
        };
        course::run(self, limits, Arc::new(subject)).await
    }
}
