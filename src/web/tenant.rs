//! Who may come in.

use std::fmt;
use std::sync::Arc;

use super::rejection::Rejection;
use crate::authz::Authorizer;
use crate::registry::TenantRegistry;
use crate::resolve::{RequestHead, TenantResolver};
use crate::scope::TenantScope;

/// Finds out whose data a request is for and puts a [`TenantScope`] into it, for
/// [`Scope`](super::Scope) and [`Tx`](super::Tx): a layer for tower, a middleware for actix.
///
/// A request that the resolver or the registry refuses is answered with a [`Rejection`] and goes no
/// further. So is one without a tenant, of any method: what answers for all of them, such as
/// a health check or CORS with its preflight requests, belongs outside.
///
/// Install one of them: where two are nested, the inner one's scope replaces the outer one's.
///
/// A tower service behind it finds the [`TenantScope`] in the extensions of the request.
#[derive(Clone)]
pub struct TenantLayer {
    registry: TenantRegistry,
    resolver: Arc<dyn TenantResolver>,
    authorizer: Option<Authorizer>,
}

impl TenantLayer {
    /// Requests are resolved by this resolver, and bound to this registry.
    pub fn new(registry: TenantRegistry, resolver: impl TenantResolver) -> Self {
        Self {
            registry,
            resolver: Arc::new(resolver),
            authorizer: None,
        }
    }

    /// Only members of the tenant come in, as this authorizer knows them, and it is the one that
    /// [`RequirePermission`](super::RequirePermission) and [`Permitted`](super::Permitted) ask.
    /// Without one, whoever the resolver lets in is in.
    #[must_use]
    pub fn authorizer(mut self, authorizer: Authorizer) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    pub(super) fn around<S>(&self, inner: S) -> TenantService<S> {
        TenantService {
            inner,
            layer: self.clone(),
        }
    }

    /// What is to be put into the request.
    pub(super) async fn admit(&self, head: &RequestHead<'_>) -> Result<Admitted, Rejection> {
        let context = self.resolver.resolve(head).await?;
        let scope = self.registry.scope(context).await?;
        let authorizer = self.authorizer.clone();
        if let Some(authorizer) = &authorizer {
            authorizer.require_member(&scope).await?;
        }
        Ok(Admitted { scope, authorizer })
    }
}

impl fmt::Debug for TenantLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantLayer")
            .field("has_authorizer", &self.authorizer.is_some())
            .finish_non_exhaustive()
    }
}

/// What a request carries from here on.
pub(super) struct Admitted {
    pub(super) scope: TenantScope,
    pub(super) authorizer: Option<Authorizer>,
}

/// What a [`TenantLayer`] makes of a service.
#[derive(Clone)]
pub struct TenantService<S> {
    pub(super) inner: S,
    pub(super) layer: TenantLayer,
}

impl<S> fmt::Debug for TenantService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantService").finish_non_exhaustive()
    }
}
