//! Who may do what.

mod builder;
mod cache;
mod decision;
mod flights;
mod held;
mod inner;
mod permission;
mod question;
#[cfg(feature = "redis")]
mod redis;
mod roles;
mod status;
mod subscription;

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::scope::TenantScope;

pub use builder::AuthorizerBuilder;
pub use decision::Decision;
use held::Held;
use inner::Inner;
pub use permission::{Permission, PermissionPattern};
pub use roles::RoleAdmin;
pub use status::AuthorizerStatus;

/// Says whether the user of a scope may do something in its tenant.
///
/// A permission is granted if a role of the user grants it, directly or by inheritance, and none
/// denies it. Roles are rows of the tenant's own database, under row level security:
/// [`Authorization`](crate::sql::Authorization) makes the tables, [`RoleAdmin`] changes them.
///
/// # How soon a revocation holds
///
/// At once, without a [`subscription`](AuthorizerBuilder::subscription): each check asks the
/// database. With one, answers are kept in this process, and a change is told to every process when
/// it is committed: it holds within milliseconds. **In no case does a check let something through
/// that was revoked, with its commit acknowledged, one second before the check began.** The server
/// is asked four times a second whether it is there, and what is known counts for a second from
/// when a question was sent that was answered. So if the connection breaks, freezes or is led astray,
/// checks ask the database after that second at the latest; if that does not answer either,
/// nothing is granted. The second is one of this process's clock, which stands still while the
/// machine is suspended.
///
/// What is kept belongs to one tenant, of one registry, that lives in the subscribed database; a
/// tenant that is suspended or moved is known no more.
///
/// # Examples
///
/// ```no_run
/// use sqlx::postgres::PgConnectOptions;
/// use tenantry::{Authorizer, Permission, TenantScope};
///
/// const CREATE: Permission = Permission::new("invoices", "create");
///
/// # async fn example(scope: TenantScope) -> Result<(), tenantry::Error> {
/// let app = PgConnectOptions::new_without_pgpass().host("db.internal").username("app");
/// let authorizer = Authorizer::builder().subscription(app).build().await?;
///
/// authorizer.require(&scope, &CREATE).await?;
/// # Ok(())
/// # }
/// ```
///
/// Clones share what they know, and the connection.
///
/// # Drop
///
/// The connection is closed when the last clone is dropped. It lives on the runtime that
/// [`build`](AuthorizerBuilder::build) was called on: when that ends, nothing is kept any more.
#[derive(Clone)]
pub struct Authorizer(Arc<Inner>);

impl Authorizer {
    /// An authorizer with its options.
    pub fn builder() -> AuthorizerBuilder {
        AuthorizerBuilder::new()
    }

    fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Whether the user of the scope may do this. A scope without a user may do nothing.
    ///
    /// What this process knows is answered at its first poll, in less than a microsecond.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn check(&self, scope: &TenantScope, permission: &Permission) -> Decision {
        let decided = self.with(scope, |held| held.decide(permission)).await;
        match decided {
            Ok(Some(decision)) => decision,
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
        let what = |held: &Held| (held.is_member(), held.decide(permission));
        match self.with(scope, what).await {
            Ok(Some((_, Decision::Granted))) => Ok(()),
            Ok(Some((true, _))) => Err(Error::new(
                ErrorKind::PermissionDenied,
                "no role of the user grants this, or one denies it",
            )),
            Ok(_) => Err(not_a_member()),
            Err(error) => Err(unknown(error)),
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
        match self.with(scope, Held::is_member).await {
            Ok(Some(true)) => Ok(()),
            Ok(_) => Err(not_a_member()),
            Err(error) => Err(unknown(error)),
        }
    }

    /// What it knows and has done, for a health check or a page of numbers.
    pub fn status(&self) -> AuthorizerStatus {
        self.0.status()
    }

    /// `None` where there is no user.
    async fn with<R>(
        &self,
        scope: &TenantScope,
        what: impl Fn(&Held) -> R,
    ) -> Result<Option<R>, Error> {
        let Some(user) = scope.context().user_id() else {
            return Ok(None);
        };
        if let Some(found) = self.0.known(scope, user, &what) {
            return Ok(Some(found));
        }
        // In a box, so that the future of those who need not wait is small.
        let held = Box::pin(self.0.find_out(scope, user)).await?;
        Ok(Some(what(&held)))
    }
}

fn not_a_member() -> Error {
    Error::new(
        ErrorKind::NotAMember,
        "the user is not a member of the tenant",
    )
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
        | ErrorKind::Closed
        | ErrorKind::PermissionUnknown => error,
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
        f.debug_tuple("Authorizer").field(&self.status()).finish()
    }
}
