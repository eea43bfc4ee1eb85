//! A directory whose list is not what its answers are.

use async_trait::async_trait;
use tenantry::{Error, StaticDirectory, TenantDirectory, TenantId, TenantRecord};

/// Names its tenants, whatever has become of them since.
pub struct Listed {
    pub answers: StaticDirectory,
    /// In the order of their ids.
    pub tenants: Vec<TenantId>,
    /// Who comes behind this one it cannot say.
    pub fails_behind: Option<TenantId>,
}

#[async_trait]
impl TenantDirectory for Listed {
    async fn find(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Error> {
        self.answers.find(tenant).await
    }

    async fn list(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, Error> {
        if after.is_some() && after == self.fails_behind.as_ref() {
            return Err(Error::directory("out of order"));
        }
        let behind = self
            .tenants
            .iter()
            .filter(|tenant| after.is_none_or(|after| *tenant > after));
        Ok(behind.take(limit).cloned().collect())
    }
}
