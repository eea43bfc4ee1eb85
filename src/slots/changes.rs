//! What goes on without anybody asking: the directory's changes, and time.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, future};
use tokio::time::timeout;

use super::Slots;
use super::eviction::EvictionCause;
use super::target::Target;
use crate::directory::DirectoryChange;
use crate::error::ErrorKind;
use crate::tenant::TenantId;

/// How often it is looked for what has become too old.
const TICK: Duration = Duration::from_secs(1);

/// How many changes are asked about at once, so that one whose answer does not come keeps no other
/// from being heeded.
const AT_ONCE: usize = 16;

/// How long a directory has to say what has become of a tenant. A registry that was dropped meanwhile
/// is held for as long: where everything may have changed, once for each pool.
const ANSWER: Duration = Duration::from_secs(2);

/// Starts the two tasks of a registry. They end with it.
pub(super) fn watch(slots: &Arc<Slots>) {
    let changes = slots.directory.changes();
    let runtime = slots.servers.runtime().clone();
    let weak = Arc::downgrade(slots);
    let gone = gone(slots);
    let listening = changes.for_each_concurrent(AT_ONCE, move |change| {
        let weak = Weak::clone(&weak);
        async move {
            let Some(slots) = weak.upgrade() else { return };
            match change {
                DirectoryChange::Tenant(tenant) => slots.heed(&tenant).await,
                DirectoryChange::All => slots.heed_all().await,
            }
        }
    });
    runtime.spawn(future::select(Box::pin(listening), Box::pin(gone)));
    let weak = Arc::downgrade(slots);
    runtime.spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            let Some(slots) = weak.upgrade() else { return };
            slots.reap(Instant::now());
        }
    });
}

/// Comes back when the registry is gone, whether or not its directory ever says anything.
fn gone(slots: &Arc<Slots>) -> impl Future<Output = ()> + use<> {
    let weak: Weak<Slots> = Arc::downgrade(slots);
    async move {
        let mut ticks = tokio::time::interval(TICK);
        while weak.strong_count() > 0 {
            ticks.tick().await;
        }
    }
}

impl Slots {
    /// The directory has something new to say of this tenant. Its next statement asks; and a pool
    /// that is not its any more leases no more.
    async fn heed(&self, tenant: &TenantId) {
        self.routes.changed(tenant);
        let is_its = |key: &Target| key.tenant() == Some(tenant);
        if !self.pools.open().iter().any(|open| is_its(&open.key)) {
            return;
        }
        // It cannot tell: the next statement will ask, and wait or fail.
        let Ok(answer) = timeout(ANSWER, self.record(tenant)).await else {
            return;
        };
        let stays = match answer {
            Ok(record) => Some(Target::of(tenant, &record)),
            Err(error) if error.kind() == ErrorKind::Directory => return,
            Err(_) => None,
        };
        let given_up = self.pools.retire(EvictionCause::Directory, |key, _| {
            is_its(key) && stays.as_ref() != Some(key)
        });
        if given_up > 0 {
            tracing::info!(%tenant, "the directory has changed: the tenant's pool is given up");
        }
    }

    async fn heed_all(&self) {
        self.routes.clear();
        for open in self.pools.open() {
            if let Some(tenant) = open.key.tenant() {
                self.heed(tenant).await;
            }
        }
    }

    fn reap(&self, now: Instant) {
        for open in self.pools.open() {
            open.pool.reap(now);
        }
        if let Some(idle_timeout) = self.idle_timeout {
            let idle = idle_timeout.as_micros() as u64;
            let before = self.servers.ticks(now).saturating_sub(idle);
            self.pools
                .retire_idle(EvictionCause::Idle, |_, pool| pool.last_used() < before);
        }
        // Forgets those that have come to their end.
        self.pools.draining();
        self.routes.purge(now);
    }
}
