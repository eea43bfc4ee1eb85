//! Who asks: from a request to a [`TenantContext`].

mod error;
mod head;

use async_trait::async_trait;

pub use error::{ResolveError, ResolveErrorKind};
pub use head::{HeaderFields, RequestHead};

use crate::context::TenantContext;

/// Finds out from a request whose data it is for, and who acts.
///
/// A resolver looks at the head of the request alone: never at its body, and never at a database.
/// Whether the user is a member of the tenant is for the authorizer to say, and
/// whether there is such a tenant for the registry.
#[async_trait]
pub trait TenantResolver: Send + Sync + 'static {
    /// The context that the request is to be answered in.
    ///
    /// # Errors
    ///
    /// [`ResolveErrorKind::Absent`] if the request says nothing that this resolver looks at, so that
    /// another one may be asked; any other kind if it says something that does not count.
    ///
    /// # Cancel safety
    ///
    /// Implementations change nothing that outlives the call.
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError>;
}
