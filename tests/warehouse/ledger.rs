//! What the clients know of what they wrote.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tenantry::TenantId;

use crate::operation::{Operation, What};
use crate::stock::Kind;

/// Thousands of entries, written by every client.
#[derive(Default)]
pub struct Ledger {
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub tenant: TenantId,
    pub sku: String,
    /// None for a new product, which has no stock.
    pub quantity: Option<i32>,
    pub fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has to be there.
    Acknowledged,
    /// It must not be there.
    Refused,
    /// Nobody heard: both are right, but only at the tenant's.
    Unknown,
}

impl Ledger {
    /// Notes what became of a write; reads leave no trace.
    pub fn note(&self, operation: &Operation, fate: Fate) {
        let (reference, sku, quantity) = match &operation.what {
            What::Add(new) => (new.name.clone(), new.sku.clone(), None),
            What::Record(sku, new) => {
                let sign = match new.kind {
                    Kind::Receive => 1,
                    Kind::Ship => -1,
                };
                (
                    new.reference.clone(),
                    sku.clone(),
                    Some(sign * new.quantity),
                )
            }
            _ => return,
        };
        let entry = Entry {
            tenant: operation.tenant.clone(),
            sku,
            quantity,
            fate,
        };
        self.put(reference, entry);
    }

    pub fn put(&self, reference: String, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(reference, entry);
    }

    /// What was written for this tenant, by reference.
    pub fn of(&self, tenant: &TenantId) -> HashMap<String, Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .iter()
            .filter(|(_, entry)| entry.tenant == *tenant)
            .map(|(reference, entry)| (reference.clone(), entry.clone()))
            .collect()
    }
}
