//! What a user must be allowed to do.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use super::rejection::Rejection;
use super::request::{RequestTransaction, no_tenant_layer};
use crate::authz::{Authorizer, Permission};
use crate::scope::TenantScope;

/// Lets nobody through who may not do this: a layer for tower, a middleware for actix, for a route
/// or many.
///
/// It stands inside a [`TenantLayer`](super::TenantLayer) that has an
/// [`authorizer`](super::TenantLayer::authorizer); elsewhere nobody gets through, the answer is 500
/// and the log says what to install. Where nobody can tell, the answer is 503.
///
/// ```
/// use tenantry::Permission;
/// use tenantry::web::RequirePermission;
///
/// let clerks_only = RequirePermission::new(Permission::new("invoices", "create"));
/// # let _ = clerks_only;
/// ```
#[derive(Clone, Debug)]
pub struct RequirePermission(Arc<Permission>);

impl RequirePermission {
    /// Requires this permission.
    pub fn new(permission: Permission) -> Self {
        Self(Arc::new(permission))
    }

    pub(super) fn around<S>(&self, inner: S) -> PermissionService<S> {
        PermissionService {
            inner,
            permission: Arc::clone(&self.0),
        }
    }
}

/// What a [`RequirePermission`] makes of a service.
#[derive(Clone)]
pub struct PermissionService<S> {
    pub(super) inner: S,
    pub(super) permission: Arc<Permission>,
}

impl<S> fmt::Debug for PermissionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermissionService").finish_non_exhaustive()
    }
}

/// Names a permission in a type, for [`Permitted`].
pub trait RequiredPermission: 'static {
    /// Which.
    const PERMISSION: Permission;
}

/// The argument of a handler that only those get to call who may: an extractor for axum and for
/// actix, which derefs to the scope.
///
/// A handler that takes it cannot be routed to without the check. Where it stands beside a
/// [`Tx`](super::Tx), the check comes first: in actix by itself, in axum where it is the argument
/// before.
///
/// ```
/// use tenantry::Permission;
/// use tenantry::web::{Permitted, RequiredPermission, Tx};
///
/// struct CreateInvoices;
///
/// impl RequiredPermission for CreateInvoices {
///     const PERMISSION: Permission = Permission::new("invoices", "create");
/// }
///
/// async fn create(_: Permitted<CreateInvoices>, tx: Tx) {
///     // ..
/// #   drop(tx);
/// }
/// ```
pub struct Permitted<P> {
    scope: TenantScope,
    permission: PhantomData<fn() -> P>,
}

impl<P: RequiredPermission> Permitted<P> {
    /// The check is on record with the request's transaction before this is polled.
    pub(super) fn found(
        scope: Option<TenantScope>,
        authorizer: Option<Authorizer>,
        request: Option<&RequestTransaction>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send + 'static {
        let check = request.and_then(RequestTransaction::check);
        async move {
            let scope = permitted(scope, authorizer, &P::PERMISSION).await?;
            drop(check);
            Ok(Self {
                scope,
                permission: PhantomData,
            })
        }
    }
}

impl<P> Permitted<P> {
    /// The scope of the user who may.
    pub fn into_scope(self) -> TenantScope {
        self.scope
    }
}

impl<P> Deref for Permitted<P> {
    type Target = TenantScope;

    fn deref(&self) -> &TenantScope {
        &self.scope
    }
}

impl<P> fmt::Debug for Permitted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permitted").field(&self.scope).finish()
    }
}

/// The scope of a user who may.
pub(super) async fn permitted(
    scope: Option<TenantScope>,
    authorizer: Option<Authorizer>,
    permission: &Permission,
) -> Result<TenantScope, Rejection> {
    let scope = scope.ok_or_else(no_tenant_layer)?;
    let authorizer = authorizer.ok_or_else(|| {
        Rejection::internal(
            "a route requires a permission, and the tenantry::web::TenantLayer around it has no \
             authorizer: nobody gets through",
        )
    })?;
    authorizer.require(&scope, permission).await?;
    Ok(scope)
}
