//! The same again and again, with the fault at the next message each time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use sqlx::Row as _;
use tenantry::testing::{Direction, ProxyCounts};
use tenantry::{CommitError, Error, ErrorKind, TenantScope};

use crate::stage::Stage;

/// More messages, or bytes, than any operation here needs.
const MOST: u64 = 20_000;

/// What befalls the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    CutAfterMessages,
    CutAfterBytes,
    /// It goes silent, whoever waits gives up, and it comes to life again at once.
    SilentAfterMessages,
    /// The same, and it stays silent.
    DeadAfterMessages,
}

/// One time.
pub struct Trial<'s> {
    pub stage: &'s Stage,
    fault: Fault,
    direction: Direction,
    after: u64,
    number: u32,
    armed: Cell<Option<ProxyCounts>>,
    was_hit: Cell<bool>,
    saw: Cell<Option<&'static str>>,
}

/// How often what was seen.
#[derive(Debug, Default)]
pub struct Tally {
    pub faults: u64,
    saw: BTreeMap<&'static str, u64>,
}

/// Cuts at each message, and in the long edition at each byte.
pub async fn sweep(stage: &Stage, operation: impl AsyncFn(&Trial<'_>)) -> Tally {
    sweep_by(stage, 1, operation).await
}

/// Cuts at each message, and in the long edition at every so many bytes.
pub async fn sweep_by(stage: &Stage, bytes: usize, operation: impl AsyncFn(&Trial<'_>)) -> Tally {
    let mut tally = Tally::default();
    sweep_with(stage, Fault::CutAfterMessages, 1, &operation, &mut tally).await;
    if long() {
        sweep_with(stage, Fault::CutAfterBytes, bytes, &operation, &mut tally).await;
    }
    tally
}

/// The network goes silent at each message, and the operation is given up. What stays silent costs
/// time: at every fourth message, in the long edition at each.
pub async fn silence(stage: &Stage, operation: impl AsyncFn(&Trial<'_>)) {
    let mut tally = Tally::default();
    let rarely = if long() { 1 } else { 4 };
    sweep_with(stage, Fault::SilentAfterMessages, 1, &operation, &mut tally).await;
    sweep_with(
        stage,
        Fault::DeadAfterMessages,
        rarely,
        &operation,
        &mut tally,
    )
    .await;
}

async fn sweep_with(
    stage: &Stage,
    fault: Fault,
    step: usize,
    operation: &impl AsyncFn(&Trial<'_>),
    tally: &mut Tally,
) {
    let (started, before) = (Instant::now(), tally.faults);
    for direction in [Direction::ToServer, Direction::ToClient] {
        for after in (0..).step_by(step) {
            let trial = Trial::new(stage, fault, direction, after);
            match fault {
                Fault::CutAfterMessages | Fault::CutAfterBytes => {
                    operation(&trial).await;
                    trial.disarm().await;
                    stage.serves().await;
                }
                Fault::SilentAfterMessages => {
                    trial.given_up(operation).await;
                    stage.wire.thaw();
                    stage.serves().await;
                }
                Fault::DeadAfterMessages => {
                    trial.given_up(operation).await;
                    stage.serves_in_the_end().await;
                    stage.wire.thaw();
                }
            }
            if let Some(saw) = trial.saw.get() {
                *tally.saw.entry(saw).or_default() += 1;
            }
            if !trial.was_hit.get() {
                assert!(after > 1, "{trial}: hardly anything was to be cut");
                break;
            }
            tally.faults += 1;
            assert!(after < MOST, "{trial}: does not come to an end");
        }
    }
    let faults = tally.faults - before;
    println!("{faults} times {fault:?} in {:?}", started.elapsed());
}

impl<'s> Trial<'s> {
    fn new(stage: &'s Stage, fault: Fault, direction: Direction, after: u64) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Self {
            stage,
            fault,
            direction,
            after,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            armed: Cell::default(),
            was_hit: Cell::default(),
            saw: Cell::default(),
        }
    }

    /// A note that is this trial's alone.
    pub fn body(&self) -> String {
        format!("written by trial {}", self.number)
    }

    pub async fn a(&self) -> TenantScope {
        self.stage.scope("a").await
    }

    /// From here on.
    pub fn arm(&self) {
        let wire = &self.stage.wire;
        self.armed.set(Some(wire.counts()));
        match self.fault {
            Fault::CutAfterMessages => wire.cut_after_messages(self.direction, self.after),
            Fault::CutAfterBytes => wire.cut_after_bytes(self.direction, self.after),
            Fault::SilentAfterMessages | Fault::DeadAfterMessages => {
                wire.freeze_after_messages(self.direction, self.after);
            }
        }
    }

    /// As [`arm`](Self::arm), for each connection that is opened from here on.
    pub fn arm_each(&self) {
        let wire = &self.stage.wire;
        self.armed.set(Some(wire.counts()));
        match self.fault {
            Fault::CutAfterBytes => wire.cut_each_after_bytes(self.direction, self.after),
            _ => wire.cut_each_after_messages(self.direction, self.after),
        }
    }

    /// To here, and until the server has done what it was told before the cut.
    pub async fn disarm(&self) {
        let Some(armed) = self.armed.take() else {
            return;
        };
        self.stage.wire.disarm();
        let since = self.stage.wire.counts().since(&armed);
        self.was_hit.set(since.cuts() + since.freezes() > 0);
        self.stage.wire.parted().await;
    }

    /// Whether something has befallen the connection, once disarmed.
    pub fn was_hit(&self) -> bool {
        self.was_hit.get()
    }

    /// Runs it until the network is silent, and gives it up.
    async fn given_up(&self, operation: &impl AsyncFn(&Trial<'_>)) {
        let before = self.stage.wire.counts().freezes();
        let silent = async {
            while self.stage.wire.counts().freezes() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if let Either::Right(_) = select(pin!(operation(self)), pin!(silent)).await {
            self.was_hit.set(true);
        }
        self.stage.wire.disarm();
        self.armed.take();
    }

    /// Notes what this trial has seen, for the tally.
    pub fn saw(&self, what: &'static str) {
        self.saw.set(Some(what));
    }

    /// How many notes of this trial the server has kept.
    pub async fn kept(&self) -> i64 {
        self.kept_in("SELECT count(*), min(tenant_id) FROM notes WHERE body = $1")
            .await
    }

    /// As [`kept`](Self::kept), of another table.
    pub async fn kept_in(&self, counts: &'static str) -> i64 {
        let mut admin = self.stage.admin.lock().await;
        let row = sqlx::query(counts)
            .bind(self.body())
            .fetch_one(&mut *admin)
            .await
            .expect("a count");
        let (kept, tenant): (i64, Option<String>) = (row.get(0), row.get(1));
        assert!(kept == 0 || tenant.as_deref() == Some("a"), "{self}");
        kept
    }

    /// What a commit said is true of so many rows, all of which were written or none.
    pub async fn judge(&self, committed: Result<(), CommitError>, kept: i64, written: i64) {
        assert!(kept == 0 || kept == written, "{self}: {kept} of {written}");
        match committed {
            Ok(()) => {
                assert_eq!(kept, written, "{self}: committed, it said");
                self.saw("committed");
            }
            Err(CommitError::RolledBack(error)) => {
                assert_eq!(kept, 0, "{self}: rolled back, it said: {error:?}");
                self.saw("rolled back");
            }
            Err(CommitError::OutcomeUnknown(error)) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{self}: {error:?}");
                assert!(self.was_hit(), "{self}: unknown without a reason");
                self.saw(if kept == 0 { NOT_KEPT } else { KEPT });
            }
            Err(other) => panic!("{self}: {other:?}"),
        }
    }

    /// What is said where a connection was lost, and nothing else is.
    pub fn is_lost(&self, error: impl Into<Error>) {
        let error = error.into();
        assert!(self.was_hit(), "{self}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{self}: {error:?}");
        assert!(error.is_retryable() && !error.is_outcome_unknown());
    }
}

const KEPT: &str = "unknown, and kept";
const NOT_KEPT: &str = "unknown, and not kept";

impl Tally {
    pub fn has_seen(&self, what: &str) -> bool {
        self.saw.contains_key(what)
    }

    /// "Unknown" was said where it was, and never where it was not.
    pub fn unknown_was_unknown(&self) {
        assert!(self.has_seen(KEPT) && self.has_seen(NOT_KEPT), "{self:?}");
    }

    pub fn nothing_was_unknown(&self) {
        assert!(!self.has_seen(KEPT) && !self.has_seen(NOT_KEPT), "{self:?}");
    }
}

impl std::fmt::Display for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            fault,
            direction,
            after,
            ..
        } = self;
        write!(f, "{fault:?} {direction:?} {after}")
    }
}

/// Says where it was when an assertion did not.
impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self}");
        }
    }
}

fn long() -> bool {
    std::env::var_os("TENANTRY_LONG").is_some_and(|long| long == "1")
}
