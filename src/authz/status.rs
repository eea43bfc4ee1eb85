//! What an authorizer has done.

/// What an [`Authorizer`](crate::Authorizer) knows and has done, see
/// [`status`](crate::Authorizer::status).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorizerStatus {
    /// Whether changes are heard of, so that what is known counts.
    pub is_following: bool,
    /// How many tenants and users are known in this process.
    pub entries: usize,
    /// How often a database was asked.
    pub asked: u64,
    /// How often Redis knew the answer.
    pub found_in_redis: u64,
}
