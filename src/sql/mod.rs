//! What tenantry installs in a database.
//!
//! [`Installation`] makes the schema `tenantry` with the argument type that carries the tenant of
//! each statement. [`TenantTable`] puts a table under row level security, [`ReferenceTable`] makes
//! one readable by all tenants and writable by none, and [`TenantTable::advice`] names what these
//! leave to you. [`Authorization`] makes the tables of members and their roles,
//! [`NumberSeriesTables`] and [`TrailTables`] what numbers and the audit log are kept in,
//! [`ControlTables`] the table of tenants in a control database, and [`DangerousAccess`] the record
//! of access to the rows of all tenants. Each gives its SQL as text,
//! for your own migrations, and runs the same text itself.
//!
//! A script is one statement (a `DO` block), so it is carried out as a whole or not at all, be it
//! inside a transaction of a migration tool or on its own. Running it again mends what has drifted
//! and leaves the rest as it is.
//!
//! ```no_run
//! use sqlx::Connection as _;
//! use tenantry::sql::{Installation, TenantType};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // The owner of the tables, not the role that the service logs in as.
//! let mut owner = sqlx::PgConnection::connect("postgres://owner@localhost/shop").await?;
//!
//! let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Uuid);
//! installation.install(&mut owner).await?;
//! installation.table("app.invoices").apply(&mut owner).await?;
//! installation.reference_table("app.countries").apply(&mut owner).await?;
//!
//! for advice in installation.table("app.invoices").advice(&mut owner).await? {
//!     println!("{advice}");
//! }
//! # Ok(())
//! # }
//! ```

mod advice;
mod authorization;
mod column;
mod control;
mod dangerous_access;
mod domain;
mod installation;
mod keys;
mod number_series;
#[cfg(any(feature = "testing", feature = "audit"))]
pub(crate) mod own;
mod reference;
mod script;
mod seal;
mod table;
mod tenant_rows;
mod trail;

pub use advice::{Advice, AdviceRule};
pub use authorization::Authorization;
pub use column::TenantType;
pub use control::ControlTables;
pub use dangerous_access::DangerousAccess;
pub use installation::Installation;
pub use number_series::NumberSeriesTables;
pub use reference::ReferenceTable;
pub use table::TenantTable;
pub use trail::TrailTables;

pub(crate) use authorization::CHANNEL as AUTHORIZATION_CHANNEL;
pub(crate) use control::CHANNEL;
pub(crate) use domain::LAYOUT;
#[cfg(any(feature = "testing", feature = "audit"))]
pub(crate) use seal::{LOOK as LOOK_FOR_SEAL, MAKE_UP as SEAL_MADE_UP};
pub(crate) use seal::{SEALED_LAYOUT, Seal};
