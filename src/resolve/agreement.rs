//! One resolver that another one must not contradict.

use async_trait::async_trait;

use super::{RequestHead, ResolveError, ResolveErrorKind, TenantResolver};
use crate::context::TenantContext;

/// Two resolvers, of which the second must not contradict the first: see
/// [`TenantResolver::agrees_with`].
#[derive(Clone, Debug)]
pub struct AgreesWith<A, B> {
    authority: A,
    witness: B,
}

impl<A, B> AgreesWith<A, B> {
    pub(super) fn new(authority: A, witness: B) -> Self {
        Self { authority, witness }
    }
}

#[async_trait]
impl<A: TenantResolver, B: TenantResolver> TenantResolver for AgreesWith<A, B> {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
        let context = self.authority.resolve(request).await?;
        match self.witness.resolve(request).await {
            Ok(witness) if agree(&context, &witness) => Ok(context),
            Ok(_) => Err(ResolveError::new(ResolveErrorKind::Disagreement)),
            Err(error) if error.is_silence() => Ok(context),
            Err(error) => Err(error),
        }
    }
}

fn agree(one: &TenantContext, other: &TenantContext) -> bool {
    let users = one.user_id().zip(other.user_id());
    one.tenant() == other.tenant() && users.is_none_or(|(one, other)| one == other)
}
