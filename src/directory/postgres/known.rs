//! The table as it was read last.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::sync::broadcast;

use crate::directory::{DirectoryChange, TenantRecord, TenantState};
use crate::error::{Error, ErrorKind};
use crate::tenant::TenantId;

/// What all clones of a directory answer from. Only its follower writes it.
pub(super) struct Known {
    tenants: RwLock<BTreeMap<TenantId, Entry>>,
    changes: broadcast::Sender<DirectoryChange>,
    stale_after: Duration,
    begun: Instant,
    /// When the control database last answered, in milliseconds since `begun`.
    heard: AtomicU64,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Record(TenantRecord),
    /// Nothing that can be acted upon, by this rule.
    Unusable(&'static str),
}

/// What is to be different for a tenant: `None` where its row has gone.
pub(super) type Difference = (TenantId, Option<Entry>);

impl Known {
    /// Nothing as yet.
    pub(super) fn new(stale_after: Duration) -> Self {
        Self {
            tenants: RwLock::default(),
            changes: broadcast::Sender::new(CHANGES),
            stale_after,
            begun: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tenants.read().len()
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<DirectoryChange> {
        self.changes.subscribe()
    }

    pub(super) fn find(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Error> {
        self.check_contact()?;
        match self.tenants.read().get(tenant) {
            Some(Entry::Record(record)) => Ok(Some(record.clone())),
            Some(Entry::Unusable(rule)) => Err(Error::new(
                ErrorKind::Directory,
                format!("the tenant's row in the directory cannot be used: {rule}"),
            )),
            None => Ok(None),
        }
    }

    pub(super) fn list(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, Error> {
        self.check_contact()?;
        let tenants = self.tenants.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let active = tenants
            .range::<TenantId, _>((from, Bound::Unbounded))
            .filter(|(_, entry)| entry.is_active());
        Ok(active.take(limit).map(|(id, _)| id.clone()).collect())
    }

    /// The control database has answered, and nothing that it told is still to be applied.
    pub(super) fn heard(&self) {
        let since = self.begun.elapsed().as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.heard.store(since, Ordering::Release);
    }

    fn check_contact(&self) -> Result<(), Error> {
        let heard = Duration::from_millis(self.heard.load(Ordering::Acquire));
        if self.begun.elapsed().saturating_sub(heard) <= self.stale_after {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Directory,
            "the control database has been out of reach for longer than the directory's \
             `stale_after`: where tenants live, and whether they may be served, is not known",
        ))
    }

    /// Notes down a tenant that is not known like this. Its own rows, one after the other.
    pub(super) fn compare(
        &self,
        tenant: TenantId,
        entry: Entry,
        differences: &mut Vec<Difference>,
    ) {
        if self.tenants.read().get(&tenant) != Some(&entry) {
            differences.push((tenant, Some(entry)));
        }
    }

    /// Notes down a tenant that is known, and should not be.
    pub(super) fn compare_gone(&self, tenant: TenantId, differences: &mut Vec<Difference>) {
        if self.tenants.read().contains_key(&tenant) {
            differences.push((tenant, None));
        }
    }

    /// Notes down all tenants between these two: there is no row of them.
    pub(super) fn compare_gap(
        &self,
        after: Option<&TenantId>,
        before: Option<&TenantId>,
        differences: &mut Vec<Difference>,
    ) {
        if after
            .zip(before)
            .is_some_and(|(after, before)| after >= before)
        {
            return; // a range that BTreeMap would panic at
        }
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let before = before.map_or(Bound::Unbounded, Bound::Excluded);
        let tenants = self.tenants.read();
        let gone = tenants.range::<TenantId, _>((after, before));
        differences.extend(gone.map(|(id, _)| (id.clone(), None)));
    }

    /// Makes it so, and then tells of it.
    pub(super) fn apply(&self, differences: Vec<Difference>) {
        let changed: Vec<TenantId> = if differences.len() > TOLD_ONE_BY_ONE {
            vec![]
        } else {
            differences.iter().map(|(id, _)| id.clone()).collect()
        };
        let is_all = changed.len() < differences.len();
        for (tenant, entry) in &differences {
            if let Some(Entry::Unusable(rule)) = entry {
                tracing::warn!(%tenant, rule, "a tenant is unavailable: its row in the directory cannot be used");
            }
        }
        {
            let mut tenants = self.tenants.write();
            if tenants.is_empty() {
                // Made at once, its nodes are full.
                *tenants = differences
                    .into_iter()
                    .filter_map(|(tenant, entry)| Some((tenant, entry?)))
                    .collect();
            } else {
                for (tenant, entry) in differences {
                    match entry {
                        Some(entry) => tenants.insert(tenant, entry),
                        None => tenants.remove(&tenant),
                    };
                }
            }
        }
        let all = is_all.then_some(DirectoryChange::All);
        for change in all
            .into_iter()
            .chain(changed.into_iter().map(DirectoryChange::Tenant))
        {
            // Nobody may be listening.
            let _ = self.changes.send(change);
        }
    }
}

impl Entry {
    fn is_active(&self) -> bool {
        matches!(self, Self::Record(record) if record.tenant_state() == TenantState::Active)
    }
}

/// Who falls behind by more than this re-reads all.
const CHANGES: usize = 256;

/// More changes than this at once are told as [`DirectoryChange::All`].
const TOLD_ONE_BY_ONE: usize = CHANGES / 2;
