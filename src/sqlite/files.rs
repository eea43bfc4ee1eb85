//! The files that are open.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::Mutex as TurnMutex;
use tokio::time::{Instant as Deadline, timeout_at};

use super::connection::{self, Connection};
use super::disk::{Disk, Home, Threads, Turn};
use super::file_name;
use super::lease::Lease;
use super::migration::{self, Migration};
use super::options::SqlitePoolOptions;
use crate::error::{Error, ErrorKind};
use crate::lease::AtRest;
use crate::lease::schedule::{
    Pool, PoolCounts, PoolLimits, Refusal, Server, ServerLimits, TryLease,
};
use crate::slots::{Done, EvictionCause, OpenPool, PoolMap, Pooled, Totals};
use crate::tenant::TenantId;

/// Folder, files and connections of one registry.
pub(super) struct Files {
    folder: PathBuf,
    options: Arc<SqlitePoolOptions>,
    migration: Option<Migration>,
    runtime: Handle,
    epoch: Instant,
    at_rest: Arc<AtRest>,
    open: PoolMap<TenantId, File>,
    /// One file is made at a time.
    creating: TurnMutex<()>,
    closed: AtomicBool,
    reads: AtomicU64,
}

/// What a connection is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// How often it is looked for what has become too old.
const TICK: Duration = Duration::from_secs(1);

impl Files {
    pub(super) fn new(
        folder: PathBuf,
        max_pools: usize,
        options: SqlitePoolOptions,
        migration: Option<Migration>,
        runtime: Handle,
    ) -> Arc<Self> {
        let at_rest = Arc::new(AtRest::default());
        let files = Arc::new(Self {
            folder,
            options: Arc::new(options),
            migration,
            runtime,
            epoch: Instant::now(),
            open: PoolMap::new(Some(max_pools), Arc::clone(&at_rest)),
            at_rest,
            creating: TurnMutex::default(),
            closed: AtomicBool::new(false),
            reads: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&files);
        files.runtime.spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                let Some(files) = weak.upgrade() else { return };
                files.reap(Instant::now());
            }
        });
        files
    }

    /// A connection for one use, when it is its turn.
    ///
    /// # Errors
    ///
    /// Those of opening the file, [`ErrorKind::TenantUnknown`], [`ErrorKind::Closed`], and
    /// [`ErrorKind::AcquireTimeout`] or [`ErrorKind::Saturated`] after `acquire_timeout`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a file that was being opened is for the next.
    pub(super) async fn lease(&self, tenant: &TenantId, purpose: Purpose) -> Result<Lease, Error> {
        let deadline = Deadline::now() + self.options.acquire_timeout;
        let turn = match purpose {
            Purpose::Write => Turn::Write,
            Purpose::Read => Turn::Read(self.reads.fetch_add(1, Ordering::Relaxed)),
        };
        loop {
            let file = self.file(tenant, deadline).await?;
            let Some(mut lease) = file.lease(&turn, deadline).await? else {
                continue; // It was given up meanwhile, and is not in the map any more.
            };
            file.0.touch(Instant::now());
            lease.connection()?.belongs_to(tenant)?;
            if lease.is_out_of_date() {
                lease.discard();
                continue;
            }
            return Ok(lease);
        }
    }

    /// The tenant's file, with a place among those that are open.
    async fn file(&self, tenant: &TenantId, deadline: Deadline) -> Result<File, Error> {
        self.is_open()?;
        if let Some(file) = self.open.get(tenant) {
            return Ok(file);
        }
        self.must_exist(tenant).await?;
        let make = || self.make(tenant);
        let file = timeout_at(deadline, self.open.get_or_make(tenant, make))
            .await
            .map_err(|_| {
                Error::new(
                    ErrorKind::Saturated,
                    "all files that the registry may have open were in use for as long as \
                     acquire_timeout",
                )
                .with_retry_after(Duration::from_secs(1))
            })?;
        self.is_open().inspect_err(|_| file.0.retire())?;
        Ok(file)
    }

    /// A file that nobody has opened yet. Each has a schedule of its own: who waits for one file
    /// is in nobody's way at another.
    fn make(&self, tenant: &TenantId) -> File {
        let limits = ServerLimits {
            max: usize::MAX,
            turn: Duration::ZERO,
        };
        let threads = Threads::new(self.runtime.clone(), Arc::clone(&self.at_rest));
        let limits_of_file = PoolLimits {
            max: self.options.max_connections as usize,
            max_per_tenant: Some(1), // of each turn, see `Turn`
            min: 0,
            // A file does not go away as a server does.
            test_after: Duration::MAX,
            idle_timeout: self.options.idle_timeout,
            max_lifetime: None,
        };
        let server = Server::new(limits, threads, self.epoch);
        let file = File(server.pool(limits_of_file, self.home(tenant)));
        file.0.touch(Instant::now());
        file
    }

    fn home(&self, tenant: &TenantId) -> Home {
        Home::new(
            tenant.clone(),
            self.folder.join(file_name::of(tenant)),
            Arc::clone(&self.options),
            self.migration.clone(),
        )
    }

    /// That this tenant has a file. Opens nothing.
    pub(super) async fn check(&self, tenant: &TenantId) -> Result<(), Error> {
        self.is_open()?;
        match self.open.get(tenant) {
            Some(_) => Ok(()),
            None => self.must_exist(tenant).await,
        }
    }

    async fn must_exist(&self, tenant: &TenantId) -> Result<(), Error> {
        let path = self.folder.join(file_name::of(tenant));
        match self.blocking(move || path.try_exists()).await? {
            true => Ok(()),
            false => Err(connection::unknown()),
        }
    }

    /// Makes the tenant's file. `false` if it was there.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it goes on.
    pub(super) async fn create(self: &Arc<Self>, tenant: &TenantId) -> Result<bool, Error> {
        self.is_open()?;
        let (files, tenant) = (Arc::clone(self), tenant.clone());
        let creation = self.runtime.spawn(async move {
            let _turn = files.creating.lock().await;
            let home = files.home(&tenant);
            if files.must_exist(&tenant).await.is_ok() {
                match Connection::check(&home.path, &tenant, &home.options).await {
                    Err(error) if error.is_tenant_unknown() => {}
                    found => return found.map(|()| false),
                }
            }
            let created = migration::create(&home).await?;
            if created {
                // One that found no file may still say so to the next.
                files.evict(&tenant);
            }
            Ok(created)
        });
        creation.await.unwrap_or_else(|gone| Err(interrupted(gone)))
    }

    /// Whose files are in the folder, in order of id.
    pub(super) async fn tenants(&self) -> Result<Vec<TenantId>, Error> {
        let folder = self.folder.clone();
        self.blocking(move || names_in(&folder)).await
    }

    pub(super) fn evict(&self, tenant: &TenantId) -> bool {
        let is_its = |key: &TenantId, _: &File| key == tenant;
        self.open.retire(EvictionCause::Explicit, is_its) > 0
    }

    /// Takes no more work and closes what is idle; what is in use goes on to its end.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.open.retire(EvictionCause::Shutdown, |_, _| true);
    }

    /// The same, and waits for that end. Comes back with those who were not done in time.
    pub(super) async fn shutdown(&self, grace: Duration) -> Vec<TenantId> {
        let deadline = Deadline::now() + grace;
        self.close();
        let ends = self.open.draining().into_iter().map(|gone| async move {
            let OpenPool { key, pool } = gone;
            let drained = timeout_at(deadline, pool.0.drained()).await;
            (drained.is_err() && pool.0.counts().in_use > 0).then_some(key)
        });
        let mut busy: Vec<_> = join_all(ends).await.into_iter().flatten().collect();
        busy.sort_unstable();
        busy.dedup();
        busy
    }

    pub(super) fn counts(&self) -> HashMap<TenantId, PoolCounts> {
        let open = self.open.open().into_iter();
        open.map(|file| (file.key, file.pool.0.counts())).collect()
    }

    pub(super) fn totals(&self) -> Totals {
        self.open.totals()
    }

    fn is_open(&self) -> Result<(), Error> {
        match self.closed.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Closed,
                "the registry has been closed",
            )),
        }
    }

    fn reap(&self, now: Instant) {
        for file in self.open.open() {
            file.pool.0.reap(now);
        }
        if let Some(idle_timeout) = self.options.idle_timeout {
            let age = now.saturating_duration_since(self.epoch);
            let before = age.saturating_sub(idle_timeout).as_micros() as u64;
            let is_old = |_: &TenantId, file: &File| file.last_used() < before;
            self.open.retire_idle(EvictionCause::Idle, is_old);
        }
    }

    async fn blocking<R: Send + 'static>(
        &self,
        look: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> Result<R, Error> {
        let looked = self.runtime.spawn_blocking(look).await;
        looked.map_err(interrupted)?.map_err(Error::directory)
    }
}

fn names_in(folder: &Path) -> io::Result<Vec<TenantId>> {
    let mut tenants = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        tenants.extend(name.to_str().and_then(file_name::tenant_of));
    }
    tenants.sort_unstable();
    Ok(tenants)
}

/// The task panicked, or its runtime is gone.
fn interrupted(error: tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Connect,
        "the work on the tenant's file was given up half-way",
    )
    .with_source(error)
}

/// One tenant's file, with its connections.
#[derive(Clone)]
pub(super) struct File(Arc<Pool<Disk>>);

impl File {
    /// `None` if it leases no more.
    async fn lease(&self, turn: &Turn, deadline: Deadline) -> Result<Option<Lease>, Error> {
        let now = Instant::now();
        match self.0.try_lease(turn, false, now) {
            TryLease::Leased(checkout) => return Ok(Some(Lease::new(checkout))),
            TryLease::Retired => return Ok(None),
            TryLease::Wait => {}
        }
        let mut place = self.0.wait(turn, now);
        match timeout_at(deadline, place.answer()).await {
            Ok(Ok(checkout)) => Ok(Some(Lease::new(checkout))),
            Ok(Err(Refusal::Retired)) => Ok(None),
            Ok(Err(Refusal::Failed(error, after))) => Err(error.with_retry_after(after)),
            Err(_) => Err(Error::new(
                ErrorKind::AcquireTimeout,
                "it did not become this one's turn on the tenant's file in acquire_timeout",
            )),
        }
    }
}

impl Pooled for File {
    fn last_used(&self) -> u64 {
        self.0.last_used()
    }

    fn retire(&self) {
        self.0.retire();
    }

    fn retire_if_idle(&self) -> bool {
        self.0.retire_if_idle()
    }

    fn is_drained(&self) -> bool {
        self.0.is_drained()
    }

    fn done(&self) -> Done {
        let counts = self.0.counts();
        Done {
            leases: counts.leases,
            opened: counts.opened,
            failures: counts.failures,
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}
