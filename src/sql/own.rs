//! What tenantry itself has in a database: names, for those who look at all there is.

/// Where all of it is.
pub(crate) const SCHEMA: &str = "tenantry";

/// Tables of the schema `tenantry` whose tenant column is `tenant`, and which are not forced: the
/// functions that write them run with the rights of their owner.
pub(crate) const TABLES: [&str; 4] = [
    "authorization_epochs",
    "number_series",
    "trail",
    "void_numbers",
];

/// The tenant column of [`TABLES`].
pub(crate) const COLUMN: &str = "tenant";

/// Tables of the schema `tenantry` that say what is installed, which all tenants may read.
pub(crate) const GLOBAL: [&str; 3] = ["authorization", "installation", "reference_tables"];

/// The function that returns the tenant of the context, and verifies its seal where there is one.
#[cfg(feature = "audit")]
pub(crate) const TENANT: &str = "current_tenant";

/// Functions of the schema `tenantry` with the rights of their owner. They take the tenant from the
/// context and never as an argument, or read it under its seal.
pub(crate) const FUNCTIONS: [&str; 10] = [
    "context_setting",
    "current_tenant",
    "current_user_id",
    "open_context",
    "record_in_trail",
    "reuse_number",
    "take_block",
    "take_number",
    "verify_trail",
    "void_number",
];
