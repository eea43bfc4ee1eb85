//! What was found out about tenants: read at every statement.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use foldhash::fast::RandomState;
use parking_lot::RwLock;

use crate::lease::Connections;
use crate::tenant::TenantId;

/// Where a tenant's statements go.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) connections: Connections,
    pub(super) schema: Option<Arc<str>>,
    /// When the directory has to be asked again.
    pub(super) until: Option<Instant>,
}

/// The routes that are known. Nothing is lost with one that is forgotten: the directory is asked
/// again.
#[derive(Default)]
pub(super) struct Routes {
    known: RwLock<HashMap<TenantId, Route, RandomState>>,
    /// Raised by each change, so that an answer from before it is not kept.
    generation: AtomicU64,
}

impl Routes {
    pub(super) fn find(&self, tenant: &TenantId, now: Instant) -> Option<Route> {
        self.with(tenant, now, Route::clone)
    }

    /// Looks at a route in its place. `what` is done under the lock, and neither waits nor comes
    /// back here.
    pub(super) fn with<R>(
        &self,
        tenant: &TenantId,
        now: Instant,
        what: impl FnOnce(&Route) -> R,
    ) -> Option<R> {
        let known = self.known.read();
        let route = known.get(tenant)?;
        let is_current = route.until.is_none_or(|until| now < until);
        is_current.then(|| what(route))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Keeps a route, unless something has changed since `generation`.
    pub(super) fn keep(&self, tenant: &TenantId, route: Route, generation: u64) -> bool {
        let mut known = self.known.write();
        // Asked under the lock under which it is raised.
        if self.generation() != generation {
            return false;
        }
        known.insert(tenant.clone(), route);
        true
    }

    /// The directory says something else of this tenant.
    pub(super) fn changed(&self, tenant: &TenantId) {
        let mut known = self.known.write();
        self.generation.fetch_add(1, Ordering::SeqCst);
        known.remove(tenant);
    }

    pub(super) fn forget(&self, tenant: &TenantId) {
        self.known.write().remove(tenant);
    }

    pub(super) fn clear(&self) {
        let mut known = self.known.write();
        self.generation.fetch_add(1, Ordering::SeqCst);
        known.clear();
    }

    /// Forgets those that lead nowhere any more, and those that have to be asked for again.
    pub(super) fn purge(&self, now: Instant) {
        let stale = |route: &Route| {
            route.connections.is_retired() || route.until.is_some_and(|until| until <= now)
        };
        self.known.write().retain(|_, route| !stale(route));
    }
}
