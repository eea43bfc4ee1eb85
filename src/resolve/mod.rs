//! Who asks: from a request to a [`TenantContext`].

mod agreement;
mod alternative;
mod error;
mod head;
mod header;
mod host;
#[cfg(feature = "jwt")]
pub mod jwt;
mod path;

use std::sync::Arc;

use async_trait::async_trait;

pub use agreement::AgreesWith;
pub use alternative::Or;
pub use error::{ResolveError, ResolveErrorKind};
pub use head::{HeaderFields, RequestHead};
pub use header::HeaderResolver;
pub use host::HostResolver;
pub use path::PathResolver;

use crate::context::TenantContext;

/// Finds out from a request whose data it is for, and who acts.
///
/// A resolver looks at the head of the request alone: never at its body, and never at a database.
/// Whether the user is a member of the tenant is for the authorizer to say, and
/// whether there is such a tenant for the registry.
///
/// Only a token says who asks. A host, a path or a header field says what somebody wants: behind
/// [`HostResolver`], [`PathResolver`] and [`HeaderResolver`] alone there has to be something that
/// knows the user.
///
/// ```
/// use tenantry::{HeaderResolver, PathResolver, RequestHead, ResolveErrorKind, TenantResolver};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let resolver = PathResolver::after("/tenants")?.or(HeaderResolver::new("x-tenant-id")?);
///
/// let fields = [("X-Tenant-Id", "globex")];
/// let by_path = RequestHead::new(None, "/tenants/acme/invoices", &fields);
/// assert_eq!(resolver.resolve(&by_path).await?.tenant().as_str(), "acme");
/// let by_field = RequestHead::new(None, "/invoices", &fields);
/// assert_eq!(resolver.resolve(&by_field).await?.tenant().as_str(), "globex");
///
/// let strict = PathResolver::after("/tenants")?.agrees_with(HeaderResolver::new("x-tenant-id")?);
/// let refused = strict.resolve(&by_path).await.unwrap_err();
/// assert_eq!(refused.kind(), ResolveErrorKind::Disagreement);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait TenantResolver: Send + Sync + 'static {
    /// The context that the request is to be answered in.
    ///
    /// # Errors
    ///
    /// [`ResolveErrorKind::Absent`] or [`ResolveErrorKind::TokenAbsent`] if the request says nothing
    /// that this resolver looks at, so that another one may be asked; any other kind if it says
    /// something that does not count.
    ///
    /// # Cancel safety
    ///
    /// Implementations change nothing that outlives the call.
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError>;

    /// Asks `other` where the request says nothing to this one. What it says to this one and does
    /// not count is refused all the same.
    fn or<R>(self, other: R) -> Or<Self, R>
    where
        Self: Sized,
        R: TenantResolver,
    {
        Or::new(self, other)
    }

    /// Refuses a request that says something else to `other`: another tenant, or another user where
    /// both name one. The context is this one's.
    ///
    /// A request that says nothing to `other` passes, so this one is to be the one that knows:
    /// `token.agrees_with(header)`, not the other way round.
    fn agrees_with<R>(self, other: R) -> AgreesWith<Self, R>
    where
        Self: Sized,
        R: TenantResolver,
    {
        AgreesWith::new(self, other)
    }
}

#[async_trait]
impl<R: TenantResolver + ?Sized> TenantResolver for Arc<R> {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
        (**self).resolve(request).await
    }
}

#[async_trait]
impl<R: TenantResolver + ?Sized> TenantResolver for Box<R> {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
        (**self).resolve(request).await
    }
}
