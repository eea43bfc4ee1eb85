//! What is put into a queue: a payload that says whose it is.

use serde::{Deserialize, Serialize};

use crate::context::TenantContext;
use crate::error::Error;
use crate::registry::TenantRegistry;
use crate::scope::TenantScope;

/// A job of one tenant: it cannot be made without a context, and not be run without binding it.
///
/// Serialise it into whatever queue you have. What a worker reads is bound anew, so that a tenant
/// that was suspended meanwhile is refused.
///
/// ```
/// use tenantry::{TenantContext, TenantId, TenantJob};
///
/// let acme: TenantId = "acme".parse()?;
/// let job = TenantJob::new(TenantContext::new(acme).user(4711), "invoice 12");
/// let queued = serde_json::to_string(&job)?;
/// let read: TenantJob<String> = serde_json::from_str(&queued)?;
/// assert_eq!(read.context().tenant().as_str(), "acme");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```no_run
/// # use tenantry::{Error, TenantJob, TenantRegistry};
/// # async fn worker(registry: TenantRegistry, read: TenantJob<i64>) -> Result<(), Error> {
/// let (scope, invoice) = read.bind(&registry).await?;
/// sqlx::query("UPDATE invoices SET sent = true WHERE id = $1")
///     .bind(invoice)
///     .execute(&scope)
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantJob<P> {
    context: TenantContext,
    payload: P,
}

impl<P> TenantJob<P> {
    /// A job with this payload, on whose behalf.
    pub fn new(context: impl Into<TenantContext>, payload: P) -> Self {
        Self {
            context: context.into(),
            payload,
        }
    }

    /// On whose behalf.
    pub fn context(&self) -> &TenantContext {
        &self.context
    }

    /// The scope to do it in, and what is to be done.
    ///
    /// # Errors
    ///
    /// As [`TenantRegistry::scope`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn bind(self, registry: &TenantRegistry) -> Result<(TenantScope, P), Error> {
        let scope = registry.scope(self.context).await?;
        Ok((scope, self.payload))
    }
}

/// `Debug` shows the tenant, and not the payload, which holds a tenant's data.
impl<P> std::fmt::Debug for TenantJob<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantJob")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// A job of the platform and of no tenant, which has to be said: `PlatformJob::new(Platform, ..)`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformJob<P> {
    platform: Platform,
    payload: P,
}

/// Says that something is the platform's own, and no tenant's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Platform;

impl<P> PlatformJob<P> {
    /// A job with this payload that is no tenant's.
    pub fn new(platform: Platform, payload: P) -> Self {
        Self { platform, payload }
    }

    /// What is to be done.
    pub fn into_payload(self) -> P {
        self.payload
    }
}

/// `Debug` does not show the payload.
impl<P> std::fmt::Debug for PlatformJob<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlatformJob").finish_non_exhaustive()
    }
}
