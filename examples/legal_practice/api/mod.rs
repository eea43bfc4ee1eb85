//! The practice over HTTP: `actix` and `axum` have the same routes over the same [`Practice`].
//!
//! [`Practice`]: crate::practice::Practice

pub mod actix;
pub mod axum;
pub mod description;

use serde::{Deserialize, Serialize};
use tenantry::Permission;
use tenantry::web::{Rejection, RequiredPermission};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::cases::Case;

/// Types that stand for permissions, so that a handler says in its arguments who may call it.
macro_rules! permissions {
    ($($name:ident = $resource:literal : $action:literal;)*) => {$(
        pub enum $name {}

        impl RequiredPermission for $name {
            const PERMISSION: Permission = Permission::new($resource, $action);
        }
    )*};
}

permissions! {
    ViewCases = "cases": "view";
    CreateCases = "cases": "create";
    EditCases = "cases": "edit";
    DeleteCases = "cases": "delete";
    ViewInvoices = "invoices": "view";
    CreateInvoices = "invoices": "create";
    CreatePayments = "payments": "create";
    ViewAccounts = "accounts": "view";
    ViewTrail = "trail": "view";
    ViewMembers = "members": "view";
    EditMembers = "members": "edit";
}

#[derive(Deserialize, Serialize, ToSchema)]
pub struct SignIn {
    pub user: String,
    pub organisation: String,
}

#[derive(Deserialize, Serialize, ToSchema)]
pub struct SignedIn {
    /// For the header `Authorization: Bearer ..`.
    pub token: String,
    /// Seconds.
    pub expires_in: u64,
}

/// What a case is to be, and which version of it was read.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct CaseChange {
    pub title: String,
    pub client: String,
    pub closed: bool,
    pub version: i64,
}

impl CaseChange {
    /// The case of this id, as it is to be.
    pub fn of(self, id: Uuid) -> Case {
        Case {
            id,
            title: self.title,
            client: self.client,
            closed: self.closed,
            version: self.version,
        }
    }
}

/// Which version of it was read.
#[derive(Deserialize)]
pub struct Version {
    pub version: i64,
}

pub const BAD_BODY: Rejection = Rejection::new(
    400,
    "bad-body",
    "the body is not the JSON that belongs here",
);
pub const BAD_QUERY: Rejection = Rejection::new(
    400,
    "bad-query",
    "the part of the address behind ? is not what belongs here",
);
pub const NO_SUCH_PATH: Rejection =
    Rejection::new(404, "no-such-path", "there is nothing at this path");
pub const BAD_METHOD: Rejection =
    Rejection::new(405, "bad-method", "this path does not take this method");
