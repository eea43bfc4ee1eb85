//! A scope that leads nowhere.

use crate::context::TenantContext;
use crate::error::Error;
use crate::scope::TenantScope;

/// A scope without a server, for unit tests of services whose repositories are doubles, such as
/// [`MemoryRepository`](super::MemoryRepository). The code under test takes it as it takes any
/// other, and begins, commits and rolls back as it does elsewhere.
///
/// It has no database: each statement, a `SELECT 1` as well, is refused with
/// [`ErrorKind::StatementRefused`](crate::ErrorKind::StatementRefused), so that nothing passes a
/// test by reaching something else than a double. What needs the server (number series, the
/// trail, advisory locks, COPY) is refused with it; behind a trait of your own it can have a
/// double, too.
///
/// Its transactions are PostgreSQL's as far as doubles can tell: a violated constraint dooms them,
/// or what of them is behind a savepoint; nothing is seen by others before the commit, and then
/// what all doubles have is seen at once; what is dropped is rolled back. There are no locks:
/// where two transactions change the same row, the second to *commit* is rolled back, where
/// PostgreSQL would have let the second to *change* it wait.
///
/// ```
/// use tenantry::TenantId;
/// use tenantry::testing::detached_scope;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tenantry::Error> {
/// let scope = detached_scope("acme".parse::<TenantId>()?)?;
/// let tx = scope.begin().await?;
/// tx.commit().await?;
/// assert!(sqlx::query("SELECT 1").execute(&scope).await.is_err());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ErrorKind::InvalidContext`](crate::ErrorKind::InvalidContext), as from
/// [`TenantRegistry::scope`](crate::TenantRegistry::scope); any setting will do that has the form
/// of one.
pub fn detached_scope(context: impl Into<TenantContext>) -> Result<TenantScope, Error> {
    TenantScope::detached(context.into())
}
