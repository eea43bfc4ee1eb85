//! Why a request got no context.

use std::fmt;

/// A request that does not say, or may not say, whose data it is for.
///
/// `Display` is a fixed text for each kind; nothing that the client sent is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError(ResolveErrorKind);

/// The kinds of [`ResolveError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResolveErrorKind {
    /// The request does not say whose data it is for.
    Absent,
    /// It says so in a form that is not accepted: not a tenant id, a field that is there twice, a
    /// host that is none of ours.
    Malformed,
    /// Two parts of the request name different tenants, or different users.
    Disagreement,
    /// There is no token, or none in the form `Bearer ..`.
    TokenAbsent,
    /// What was sent as a token is none, is too long, has a member twice, or extensions that have to
    /// be understood.
    TokenMalformed,
    /// Its algorithm is not the one of its key, or is `none`.
    TokenAlgorithm,
    /// It names a key that is not in the key set, or none where the set has several.
    TokenKey,
    /// Its signature is not that of the key.
    TokenSignature,
    /// It has expired.
    TokenExpired,
    /// It is not valid yet.
    TokenNotYetValid,
    /// It was issued by someone else.
    TokenIssuer,
    /// It is meant for someone else.
    TokenAudience,
    /// It lacks a claim (the user, the organisation, issuer, audience, the time it expires at), or
    /// has one that is of no use: an organisation that is no tenant id, a time that is no number.
    TokenClaims,
    /// The keys, or whatever else a resolver asks for, are out of reach: try again later.
    Unavailable,
}

impl ResolveError {
    /// An error of this kind, for a resolver of your own.
    pub fn new(kind: ResolveErrorKind) -> Self {
        Self(kind)
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ResolveErrorKind {
        self.0
    }

    /// Whether the request says nothing, so that another resolver may be asked.
    pub(super) fn is_silence(&self) -> bool {
        matches!(
            self.0,
            ResolveErrorKind::Absent | ResolveErrorKind::TokenAbsent
        )
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ResolveErrorKind::Absent => "the request does not say whose data it is for",
            ResolveErrorKind::Malformed => {
                "the request names its tenant in a form that is not accepted"
            }
            ResolveErrorKind::Disagreement => "two parts of the request contradict each other",
            ResolveErrorKind::TokenAbsent => "the request carries no bearer token",
            ResolveErrorKind::TokenMalformed => "the token is malformed",
            ResolveErrorKind::TokenAlgorithm => {
                "the token is signed by an algorithm that is not accepted"
            }
            ResolveErrorKind::TokenKey => "the token is signed with an unknown key",
            ResolveErrorKind::TokenSignature => "the signature of the token is wrong",
            ResolveErrorKind::TokenExpired => "the token has expired",
            ResolveErrorKind::TokenNotYetValid => "the token is not valid yet",
            ResolveErrorKind::TokenIssuer => "the token was issued by someone else",
            ResolveErrorKind::TokenAudience => "the token is meant for someone else",
            ResolveErrorKind::TokenClaims => {
                "the token lacks a claim that is needed, or has one that is of no use"
            }
            ResolveErrorKind::Unavailable => "the request cannot be checked at the moment",
        })
    }
}

impl std::error::Error for ResolveError {}
