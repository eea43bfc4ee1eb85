//! One resolver, or else another.

use async_trait::async_trait;

use super::{RequestHead, ResolveError, ResolveErrorKind, TenantResolver};
use crate::context::TenantContext;

/// Two resolvers, of which the second is asked where the first is told nothing: see
/// [`TenantResolver::or`].
#[derive(Clone, Debug)]
pub struct Or<A, B> {
    first: A,
    second: B,
}

impl<A, B> Or<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

#[async_trait]
impl<A: TenantResolver, B: TenantResolver> TenantResolver for Or<A, B> {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
        let silence = match self.first.resolve(request).await {
            Err(error) if error.is_silence() => error,
            answer => return answer,
        };
        match self.second.resolve(request).await {
            // Where a token would have done, the client is to be told so.
            Err(error) if error.kind() == ResolveErrorKind::Absent => Err(silence),
            answer => answer,
        }
    }
}
