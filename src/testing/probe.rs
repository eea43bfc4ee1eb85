//! For benches: what the registry's own part of a statement costs.

use crate::registry::TenantRegistry;
use crate::tenant::TenantId;

/// Takes a connection for this tenant and gives it back, without a statement, if one is free at
/// once: the look-up of the tenant, the lease and its return. `false` if there was none.
///
/// For benches, such as `benches/hot_path`.
pub fn lease_and_give_back(registry: &TenantRegistry, tenant: &TenantId) -> bool {
    registry.lease_and_give_back(tenant)
}
