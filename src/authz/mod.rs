//! Who may do what.

mod builder;
mod decision;
mod held;
mod permission;
mod question;

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::scope::TenantScope;

pub use builder::AuthorizerBuilder;
pub use decision::Decision;
use held::Held;
pub use permission::{Permission, PermissionPattern};

/// Says whether the user of a scope may do something in its tenant.
///
/// Clones share what they know.
#[derive(Clone)]
pub struct Authorizer(Arc<Inner>);

struct Inner {}

impl Authorizer {
    /// An authorizer with its options.
    pub fn builder() -> AuthorizerBuilder {
        AuthorizerBuilder::default()
    }

    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {}))
    }

    /// Whether the user of the scope may do this.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn check(&self, scope: &TenantScope, permission: &Permission) -> Decision {
        match self.held(scope).await {
            Ok(Some(held)) => held.decide(permission),
            Ok(None) => Decision::Denied,
            Err(_) => Decision::Unknown,
        }
    }

    /// That the user of the scope may do this.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::PermissionDenied`] if the user may not;
    /// - [`ErrorKind::NotAMember`] if the scope has no user, or one who is not a member of the tenant;
    /// - [`ErrorKind::PermissionUnknown`] if nobody could tell;
    /// - what the registry says of the tenant itself, such as [`ErrorKind::TenantSuspended`], and
    ///   [`ErrorKind::Installation`] where the tables of roles are missing.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn require(&self, scope: &TenantScope, permission: &Permission) -> Result<(), Error> {
        let held = self.member(scope).await?;
        match held.decide(permission) {
            Decision::Granted => Ok(()),
            _ => Err(Error::new(
                ErrorKind::PermissionDenied,
                "no role of the user grants this, or one denies it",
            )),
        }
    }

    /// That the user of the scope is a member of its tenant.
    ///
    /// # Errors
    ///
    /// As [`require`](Self::require), without [`ErrorKind::PermissionDenied`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn require_member(&self, scope: &TenantScope) -> Result<(), Error> {
        self.member(scope).await.map(drop)
    }

    async fn member(&self, scope: &TenantScope) -> Result<Arc<Held>, Error> {
        match self.held(scope).await {
            Ok(Some(held)) if held.is_member() => Ok(held),
            Ok(_) => Err(Error::new(
                ErrorKind::NotAMember,
                "the user is not a member of the tenant",
            )),
            Err(error) => Err(unknown(error)),
        }
    }

    /// `None` where there is no user.
    async fn held(&self, scope: &TenantScope) -> Result<Option<Arc<Held>>, Error> {
        let Some(user) = scope.context().user_id() else {
            return Ok(None);
        };
        let answer = question::ask(scope, user).await?;
        Ok(Some(Arc::new(answer.held)))
    }
}

/// What says more than that nobody could tell stays as it is.
fn unknown(error: Error) -> Error {
    match error.kind() {
        ErrorKind::TenantUnknown
        | ErrorKind::TenantSuspended
        | ErrorKind::TenantMoving
        | ErrorKind::TenantDeleted
        | ErrorKind::Misrouted
        | ErrorKind::Installation
        | ErrorKind::Closed => error,
        _ => {
            let retry_after = error.retry_after();
            let unknown = Error::new(
                ErrorKind::PermissionUnknown,
                "nobody could tell whether the user may do this: try again later",
            )
            .with_source(error);
            match retry_after {
                Some(delay) => unknown.with_retry_after(delay),
                None => unknown,
            }
        }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}
