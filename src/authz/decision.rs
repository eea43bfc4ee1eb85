//! The answer to whether a user may do something.

/// Whether a user may do something: see [`Authorizer::check`](crate::Authorizer::check).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use = "what is not granted must not be done"]
pub enum Decision {
    /// A role of the user grants it, and none denies it.
    Granted,
    /// No role of the user grants it, or one denies it, or the user is not a member.
    Denied,
    /// Nobody could tell. To be treated as [`Denied`](Self::Denied), and told apart only in what
    /// the user is told.
    Unknown,
}

impl Decision {
    /// Whether it may be done.
    pub fn is_granted(self) -> bool {
        self == Self::Granted
    }
}
