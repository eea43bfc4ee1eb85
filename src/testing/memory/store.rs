//! The rows of a double, and what transactions are about to do to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::context::TenantContext;
use crate::error::Error;
use crate::repository::{Versioned, not_found, stale};
use crate::tenant::TenantId;
use crate::tx::Participant;

use super::MemoryTable;
use super::violation::taken;

/// The rows of one tenant.
pub(super) type Rows<T> = BTreeMap<<T as MemoryTable>::Id, <T as MemoryTable>::Row>;

pub(super) struct Store<T: MemoryTable> {
    pub(super) table: T,
    committed: Mutex<HashMap<TenantId, Rows<T>>>,
    last_number: AtomicI64,
}

/// What is done to the rows of a tenant.
pub(super) enum Change<T: MemoryTable> {
    Insert(T::Row),
    Update {
        row: T::Row,
        /// The version that it was made of.
        from: i64,
    },
    Delete {
        id: T::Id,
        from: i64,
    },
}

/// What a transaction has done and not committed.
pub(super) struct Staged<T: MemoryTable> {
    store: Arc<Store<T>>,
    tenant: TenantId,
    /// Each with the number of savepoints that were set.
    changes: Vec<(usize, Change<T>)>,
}

impl<T: MemoryTable> Store<T> {
    pub(super) fn new(table: T) -> Self {
        Self {
            table,
            committed: Mutex::default(),
            last_number: AtomicI64::new(0),
        }
    }

    /// A copy of what is committed.
    pub(super) fn rows(&self, tenant: &TenantId) -> Rows<T> {
        let committed = self.committed.lock();
        committed.get(tenant).cloned().unwrap_or_default()
    }

    /// The row of a draft. Its number is gone whatever becomes of it, as a sequence's.
    pub(super) fn insert(&self, context: &TenantContext, draft: &T::Draft) -> T::Row {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        self.table.insert(context, draft, number)
    }

    /// The row that an upsert of this one changes.
    pub(super) fn met_by<'r>(&self, rows: &'r Rows<T>, row: &T::Row) -> Option<&'r T::Row> {
        let wanted = self.table.unique(row).into_iter().next()?;
        rows.values()
            .find(|old| self.table.unique(old).contains(&wanted))
    }

    /// # Errors
    ///
    /// The first change that cannot be made; those before it are made.
    pub(super) fn try_all<'c>(
        &self,
        rows: &mut Rows<T>,
        changes: impl IntoIterator<Item = &'c Change<T>>,
    ) -> Result<(), Error> {
        for change in changes {
            self.change(rows, change)?;
        }
        Ok(())
    }

    fn change(&self, rows: &mut Rows<T>, change: &Change<T>) -> Result<(), Error> {
        match change {
            Change::Insert(row) => {
                if rows.contains_key(&row.id()) {
                    return Err(taken("primary_key"));
                }
                self.is_unique(rows, row)?;
                rows.insert(row.id(), row.clone());
            }
            Change::Update { row, from } => {
                versioned(rows, &row.id(), *from)?;
                self.is_unique(rows, row)?;
                rows.insert(row.id(), row.clone());
            }
            Change::Delete { id, from } => {
                versioned(rows, id, *from)?;
                rows.remove(id);
            }
        }
        Ok(())
    }

    fn is_unique(&self, rows: &Rows<T>, row: &T::Row) -> Result<(), Error> {
        let (id, unique) = (row.id(), self.table.unique(row));
        if unique.is_empty() {
            return Ok(());
        }
        for (_, other) in rows.iter().filter(|(other, _)| **other != id) {
            let theirs = self.table.unique(other);
            if let Some((constraint, _)) = unique.iter().find(|value| theirs.contains(value)) {
                return Err(taken(constraint));
            }
        }
        Ok(())
    }
}

/// The row of this id, if it has this version.
pub(super) fn versioned<'r, Id: Ord, Row: Versioned<Id = Id>>(
    rows: &'r BTreeMap<Id, Row>,
    id: &Id,
    version: i64,
) -> Result<&'r Row, Error> {
    let row = rows.get(id).ok_or_else(not_found)?;
    match row.version() == version {
        true => Ok(row),
        false => Err(stale()),
    }
}

impl<T: MemoryTable> Staged<T> {
    pub(super) fn new(store: &Arc<Store<T>>, tenant: &TenantId) -> Self {
        Self {
            store: Arc::clone(store),
            tenant: tenant.clone(),
            changes: Vec::new(),
        }
    }

    pub(super) fn is_of(&self, store: &Arc<Store<T>>) -> bool {
        Arc::ptr_eq(&self.store, store)
    }

    pub(super) fn add(&mut self, depth: usize, changes: Vec<Change<T>>) {
        let changes = changes.into_iter().map(|change| (depth, change));
        self.changes.extend(changes);
    }

    /// What cannot be made any more, because another transaction has committed meanwhile, is left
    /// out: the commit will say so.
    pub(super) fn lay_over(&self, rows: &mut Rows<T>) {
        for (_, change) in &self.changes {
            let _ = self.store.try_all(rows, [change]);
        }
    }

    /// What is committed, with all changes made.
    fn whole(&self) -> Result<Rows<T>, Error> {
        let mut rows = self.store.rows(&self.tenant);
        let changes = self.changes.iter().map(|(_, change)| change);
        self.store.try_all(&mut rows, changes)?;
        Ok(rows)
    }
}

impl<T: MemoryTable> Participant for Staged<T> {
    fn undo(&mut self, depth: usize) {
        self.changes.retain(|(at, _)| *at < depth);
    }

    fn release(&mut self, depth: usize) {
        for (at, _) in &mut self.changes {
            *at = depth.min(*at);
        }
    }

    fn check(&self) -> Result<(), Error> {
        self.whole().map(drop)
    }

    fn keep(&mut self) {
        if let Ok(rows) = self.whole() {
            let mut committed = self.store.committed.lock();
            committed.insert(self.tenant.clone(), rows);
        }
    }
}
