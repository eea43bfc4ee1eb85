//! Who has which role, and what roles may do.

use std::fmt;

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::permission::PermissionPattern;
use crate::error::{Error, ErrorKind};
use crate::tx::TenantTx;

/// Members and roles of a transaction's tenant: rows of the tables that
/// [`Authorization`](crate::sql::Authorization) makes.
///
/// Nothing is changed until the transaction commits. From then on it holds for every process: see
/// [`Authorizer`](crate::Authorizer) for how soon. Each method answers whether it made a difference,
/// and a user is the text that [`TenantContext::user`](crate::TenantContext::user) carries.
///
/// It asks nobody whether the user of the transaction may do this: that is a permission of yours.
///
/// ```no_run
/// # use tenantry::{Error, RoleAdmin, TenantScope};
/// # async fn example(scope: TenantScope) -> Result<(), Error> {
/// let mut tx = scope.begin().await?;
/// let mut roles = RoleAdmin::new(&mut tx);
/// roles.create("clerk").await?;
/// roles.grant("clerk", &"invoices:*".parse()?).await?;
/// roles.deny("clerk", &"invoices:delete".parse()?).await?;
/// roles.add_member("alice").await?;
/// roles.assign("alice", "clerk").await?;
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Of all methods:
///
/// - [`ErrorKind::NotFound`] if the role or the member that a row would refer to is not there;
/// - [`ErrorKind::Database`] if the database refused the change, for example with the
///   [constraint](Error::constraint) `role_parents_acyclic`;
/// - as of any statement in the transaction: [`ErrorKind::ConnectionLost`],
///   [`ErrorKind::TransactionAborted`].
///
/// Two transactions that change roles of one tenant wait for each other; a deadlock or a time-out
/// among them [is retryable](Error::is_retryable).
///
/// # Cancel safety
///
/// As of any statement in the transaction, which stays usable; whether the change was made in it is
/// not known.
pub struct RoleAdmin<'t>(&'t mut TenantTx);

impl<'t> RoleAdmin<'t> {
    /// Changes what is of this transaction's tenant.
    pub fn new(tx: &'t mut TenantTx) -> Self {
        Self(tx)
    }

    /// Makes a user a member of the tenant, without a role.
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn add_member(&mut self, user: &str) -> Result<bool, Error> {
        let sql = "INSERT INTO tenantry.members (user_id) VALUES ($1) ON CONFLICT DO NOTHING";
        self.change(sqlx::query(sql).bind(user)).await
    }

    /// Removes a member with all roles.
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn remove_member(&mut self, user: &str) -> Result<bool, Error> {
        let sql = "DELETE FROM tenantry.members WHERE user_id = $1";
        self.change(sqlx::query(sql).bind(user)).await
    }

    /// Makes a role, which grants nothing yet.
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn create(&mut self, role: &str) -> Result<bool, Error> {
        let sql = "INSERT INTO tenantry.roles (role) VALUES ($1) ON CONFLICT DO NOTHING";
        self.change(sqlx::query(sql).bind(role)).await
    }

    /// Removes a role from whoever has it, and from the roles that inherit from it.
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn remove(&mut self, role: &str) -> Result<bool, Error> {
        let sql = "DELETE FROM tenantry.roles WHERE role = $1";
        self.change(sqlx::query(sql).bind(role)).await
    }

    /// Gives the role all that the parent grants and denies, now and later.
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn inherit(&mut self, role: &str, parent: &str) -> Result<bool, Error> {
        let sql = "INSERT INTO tenantry.role_parents (role, parent) VALUES ($1, $2) \
                   ON CONFLICT DO NOTHING";
        self.change(sqlx::query(sql).bind(role).bind(parent)).await
    }

    /// Undoes [`inherit`](Self::inherit).
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn disinherit(&mut self, role: &str, parent: &str) -> Result<bool, Error> {
        let sql = "DELETE FROM tenantry.role_parents WHERE role = $1 AND parent = $2";
        self.change(sqlx::query(sql).bind(role).bind(parent)).await
    }

    /// Lets the role do this. A role that denied the same pattern grants it from now on.
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn grant(&mut self, role: &str, pattern: &PermissionPattern) -> Result<bool, Error> {
        self.set(role, pattern, "grant").await
    }

    /// Denies this to whoever has the role, whatever other roles grant.
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn deny(&mut self, role: &str, pattern: &PermissionPattern) -> Result<bool, Error> {
        self.set(role, pattern, "deny").await
    }

    /// Lets the role say nothing of exactly this pattern: undoes [`grant`](Self::grant) and
    /// [`deny`](Self::deny).
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn withdraw(
        &mut self,
        role: &str,
        pattern: &PermissionPattern,
    ) -> Result<bool, Error> {
        let sql = "DELETE FROM tenantry.role_permissions \
                   WHERE role = $1 AND resource = $2 AND action = $3";
        let query = sqlx::query(sql).bind(role);
        let query = query.bind(pattern.resource()).bind(pattern.action());
        self.change(query).await
    }

    /// Gives a member a role.
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn assign(&mut self, user: &str, role: &str) -> Result<bool, Error> {
        let sql = "INSERT INTO tenantry.member_roles (user_id, role) VALUES ($1, $2) \
                   ON CONFLICT DO NOTHING";
        self.change(sqlx::query(sql).bind(user).bind(role)).await
    }

    /// Takes a role from a member.
    ///
    /// # Errors
    ///
    /// As said of the [type](Self).
    ///
    /// # Cancel safety
    ///
    /// As said of the [type](Self).
    pub async fn revoke(&mut self, user: &str, role: &str) -> Result<bool, Error> {
        let sql = "DELETE FROM tenantry.member_roles WHERE user_id = $1 AND role = $2";
        self.change(sqlx::query(sql).bind(user).bind(role)).await
    }

    async fn set(
        &mut self,
        role: &str,
        pattern: &PermissionPattern,
        effect: &str,
    ) -> Result<bool, Error> {
        let sql = "INSERT INTO tenantry.role_permissions AS p (role, resource, action, effect) \
                   VALUES ($1, $2, $3, $4) \
                   ON CONFLICT ON CONSTRAINT role_permissions_pkey \
                   DO UPDATE SET effect = EXCLUDED.effect WHERE p.effect <> EXCLUDED.effect";
        let query = sqlx::query(sql).bind(role);
        let query = query.bind(pattern.resource()).bind(pattern.action());
        self.change(query.bind(effect)).await
    }

    async fn change(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<bool, Error> {
        match query.execute(&mut *self.0).await {
            Ok(done) => Ok(done.rows_affected() > 0),
            Err(error) if is_foreign_key(&error) => Err(Error::new(
                ErrorKind::NotFound,
                "there is no such role, or no such member",
            )
            .with_source(error)),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_foreign_key(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation)
}

impl fmt::Debug for RoleAdmin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RoleAdmin").field(self.0).finish()
    }
}
