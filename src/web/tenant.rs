//! Who may come in.

use std::fmt;
use std::sync::Arc;

use super::rejection::Rejection;
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
pub struct TenantLayer(Arc<Entrance>);

struct Entrance {
    registry: TenantRegistry,
    resolver: Box<dyn TenantResolver>,
}

impl TenantLayer {
    /// Requests are resolved by this resolver, and bound to this registry.
    pub fn new(registry: TenantRegistry, resolver: impl TenantResolver) -> Self {
        Self(Arc::new(Entrance {
            registry,
            resolver: Box::new(resolver),
        }))
    }

    pub(super) fn around<S>(&self, inner: S) -> TenantService<S> {
        TenantService {
            inner,
            layer: self.clone(),
        }
    }

    pub(super) async fn admit(&self, head: &RequestHead<'_>) -> Result<TenantScope, Rejection> {
        let entrance = &*self.0;
        let context = entrance.resolver.resolve(head).await?;
        let scope = entrance.registry.scope(context).await?;
        Ok(scope)
    }
}

impl fmt::Debug for TenantLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantLayer").finish_non_exhaustive()
    }
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
