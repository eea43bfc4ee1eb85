//! Which connections a tenant's statements go to.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind};
use crate::lease::Connections;
use crate::tenant::TenantId;

/// The map that scopes look into at every statement.
#[derive(Debug)]
pub(crate) struct Slots {
    shared: Option<Connections>,
    tenants: HashMap<TenantId, Slot>,
    others_share: bool,
}

#[derive(Debug)]
pub(crate) enum Slot {
    Shared,
    Own(Connections),
}

impl Slots {
    pub(crate) fn new(
        shared: Option<Connections>,
        tenants: HashMap<TenantId, Slot>,
        others_share: bool,
    ) -> Self {
        Self {
            shared,
            tenants,
            others_share,
        }
    }

    /// # Errors
    ///
    /// [`ErrorKind::TenantUnknown`].
    pub(crate) fn connections(&self, tenant: &TenantId) -> Result<&Connections, Error> {
        let shared = match self.tenants.get(tenant) {
            Some(Slot::Own(connections)) => return Ok(connections),
            Some(Slot::Shared) => self.shared.as_ref(),
            None => self.shared.as_ref().filter(|_| self.others_share),
        };
        shared.ok_or_else(|| {
            Error::new(
                ErrorKind::TenantUnknown,
                "the directory knows no such tenant",
            )
        })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Connections> {
        let own = self.tenants.values().filter_map(|slot| match slot {
            Slot::Own(connections) => Some(connections),
            Slot::Shared => None,
        });
        self.shared.iter().chain(own)
    }
}
