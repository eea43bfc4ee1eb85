//! What a client is told when it is refused.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::resolve::{ResolveError, ResolveErrorKind};
use crate::tx::CommitError;

/// An answer that refuses: a status and fixed texts, as `application/problem+json` ([RFC 9457]).
///
/// Nothing of what the database, the client or a secret said is in it. The member `type` is
/// `/problems/` and the name below, `title` is the sentence that belongs to it. 401 has
/// `WWW-Authenticate` ([RFC 6750]); where it is worth trying again there is `Retry-After`, in whole
/// seconds, rounded up. `Cache-Control: no-store` keeps a shared cache from telling one tenant what
/// another one was told.
///
/// | status | names |
/// |---|---|
/// | 400 | `no-tenant`, `bad-tenant`, `tenants-disagree`, `invalid-cursor`, `unknown-order`, `invalid-text` |
/// | 401 | `token-absent`, `token-malformed`, `token-algorithm`, `token-key`, `token-signature`, `token-expired`, `token-not-yet-valid`, `token-issuer`, `token-audience`, `token-claims` |
/// | 403 | `tenant-suspended`, `not-a-member`, `permission-denied` |
/// | 404 | `unknown-tenant`, `not-found` |
/// | 409 | `conflict`: a constraint does not allow it; `stale-version` |
/// | 410 | `tenant-deleted` |
/// | 500 | `internal`; `outcome-unknown`: nobody can tell whether it was committed |
/// | 503 | `connection-lost`: an autocommit statement that was under way may have been carried out |
/// | 503 and `Retry-After` | `busy`, `contended`, `unavailable`, `tenant-moving`, `permission-unknown` |
/// | 504 | `timed-out`: the database stopped a statement |
///
/// `outcome-unknown` and `connection-lost` have no `Retry-After`, and the former is no 503, because
/// there are clients and proxies that repeat such requests by themselves.
///
/// With `?`, errors of this crate, of sqlx and of a commit become one. What is internal is logged
/// at ERROR, by its kind and its own words, when it does.
///
/// ```
/// use tenantry::TenantId;
/// use tenantry::web::Rejection;
///
/// let error = "no such form".parse::<TenantId>().unwrap_err();
/// let rejection = Rejection::from(error);
/// assert_eq!((rejection.status(), rejection.name()), (400, "bad-tenant"));
/// ```
///
/// [RFC 6750]: https://www.rfc-editor.org/rfc/rfc6750#section-3
/// [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    status: u16,
    name: &'static str,
    title: &'static str,
    challenge: Option<&'static str>,
    retry_after: Option<Duration>,
}

/// The type of the body.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// How long a client is told to wait where nobody knows.
const SOME_TIME: Duration = Duration::from_secs(1);

impl Rejection {
    /// One of your own, for what the service itself refuses.
    ///
    /// ```
    /// use tenantry::web::Rejection;
    ///
    /// const NOT_ENOUGH: Rejection =
    ///     Rejection::new(409, "not-enough", "there is not enough of it in stock");
    /// ```
    ///
    /// # Panics
    ///
    /// If `status` is not that of an error, 400 to 599: in a constant, when it is compiled.
    pub const fn new(status: u16, name: &'static str, title: &'static str) -> Self {
        assert!(
            status >= 400 && status <= 599,
            "a rejection has the status of an error, 400 to 599"
        );
        Self {
            status,
            name,
            title,
            challenge: None,
            retry_after: None,
        }
    }

    /// The same with `Retry-After`.
    #[must_use]
    pub const fn later(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// By what a client tells it from others: the end of its `type`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What is wrong, in a sentence.
    pub fn title(&self) -> &'static str {
        self.title
    }

    /// The value of the header `WWW-Authenticate`, which 401 has.
    pub fn challenge(&self) -> Option<&'static str> {
        self.challenge
    }

    /// The value of the header `Retry-After`: whole seconds, and never "at once".
    pub fn retry_after(&self) -> Option<u64> {
        let delay = self.retry_after?;
        let begun = u64::from(delay.subsec_nanos() > 0);
        Some(delay.as_secs().saturating_add(begun).max(1))
    }

    /// The body, JSON of the type `application/problem+json`.
    pub fn body(&self) -> Vec<u8> {
        let kind = Value::from(format!("/problems/{}", self.name));
        let (title, status) = (Value::from(self.title), self.status);
        format!(r#"{{"type":{kind},"title":{title},"status":{status}}}"#).into_bytes()
    }

    /// For what is not the client's fault and none of its business. `what` is for those who run the
    /// service.
    pub(super) fn internal(what: &'static str) -> Self {
        tracing::error!("{what}");
        INTERNAL
    }

    const fn token(name: &'static str, title: &'static str, challenge: &'static str) -> Self {
        let mut rejection = Self::new(401, name, title);
        rejection.challenge = Some(challenge);
        rejection
    }

    fn after(self, delay: Option<Duration>) -> Self {
        self.later(delay.unwrap_or(SOME_TIME))
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        let after = error.retry_after();
        match error.kind() {
            ErrorKind::InvalidTenantId => BAD_TENANT,
            // Either the client named itself so, or the database is not prepared for the context.
            ErrorKind::InvalidContext => {
                tracing::warn!(rule = %error, "a request was refused for its context");
                BAD_TENANT
            }
            ErrorKind::TenantUnknown => UNKNOWN_TENANT,
            ErrorKind::TenantSuspended => SUSPENDED,
            ErrorKind::TenantMoving => MOVING.after(after),
            ErrorKind::TenantDeleted => DELETED,
            ErrorKind::Directory | ErrorKind::Connect | ErrorKind::Closed => {
                UNAVAILABLE.after(after)
            }
            ErrorKind::AcquireTimeout | ErrorKind::Saturated => BUSY.after(after),
            ErrorKind::ConnectionLost => CONNECTION_LOST,
            ErrorKind::NotFound => NOT_FOUND,
            ErrorKind::StaleVersion => STALE_VERSION,
            ErrorKind::Conflict => CONFLICT,
            ErrorKind::InvalidCursor => INVALID_CURSOR,
            ErrorKind::UnknownOrder => UNKNOWN_ORDER,
            ErrorKind::PermissionDenied => PERMISSION_DENIED,
            ErrorKind::NotAMember => NOT_A_MEMBER,
            ErrorKind::PermissionUnknown => PERMISSION_UNKNOWN.after(after),
            ErrorKind::Commit if error.is_outcome_unknown() => OUTCOME_UNKNOWN,
            ErrorKind::Database | ErrorKind::TransactionAborted | ErrorKind::Commit => {
                refused_by_the_database(&error)
            }
            ErrorKind::InvalidOption
            | ErrorKind::Misrouted
            | ErrorKind::ContextRefused
            | ErrorKind::Installation
            | ErrorKind::Preflight
            | ErrorKind::StatementRefused
            | ErrorKind::Other => internal(&error),
        }
    }
}

fn refused_by_the_database(error: &Error) -> Rejection {
    if error.is_retryable() {
        return CONTENDED.after(error.retry_after());
    }
    match error.code().as_deref() {
        // Integrity constraint violations.
        Some(code) if code.starts_with("23") => CONFLICT,
        Some("57014") => TIMED_OUT,
        // A NUL in a text, or in JSON, which only a value that was sent can hold.
        Some("22021" | "22P05") => INVALID_TEXT,
        _ => internal(error),
    }
}

fn internal(error: &Error) -> Rejection {
    tracing::error!(
        kind = ?error.kind(),
        code = error.code().as_deref(),
        rule = %error,
        "a request fails for a reason that is not the client's"
    );
    INTERNAL
}

impl From<sqlx::Error> for Rejection {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<CommitError> for Rejection {
    fn from(error: CommitError) -> Self {
        Error::from(error).into()
    }
}

impl From<ResolveError> for Rejection {
    fn from(error: ResolveError) -> Self {
        match error.kind() {
            ResolveErrorKind::Absent => NO_TENANT,
            ResolveErrorKind::Malformed => BAD_TENANT,
            ResolveErrorKind::Disagreement => TENANTS_DISAGREE,
            ResolveErrorKind::TokenAbsent => TOKEN_ABSENT,
            ResolveErrorKind::TokenMalformed => TOKEN_MALFORMED,
            ResolveErrorKind::TokenAlgorithm => TOKEN_ALGORITHM,
            ResolveErrorKind::TokenKey => TOKEN_KEY,
            ResolveErrorKind::TokenSignature => TOKEN_SIGNATURE,
            ResolveErrorKind::TokenExpired => TOKEN_EXPIRED,
            ResolveErrorKind::TokenNotYetValid => TOKEN_NOT_YET_VALID,
            ResolveErrorKind::TokenIssuer => TOKEN_ISSUER,
            ResolveErrorKind::TokenAudience => TOKEN_AUDIENCE,
            ResolveErrorKind::TokenClaims => TOKEN_CLAIMS,
            ResolveErrorKind::Unavailable => UNAVAILABLE.later(SOME_TIME),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title)
    }
}

impl StdError for Rejection {}

const NO_TENANT: Rejection = Rejection::new(
    400,
    "no-tenant",
    "the request does not say whose data it is for",
);
const BAD_TENANT: Rejection = Rejection::new(
    400,
    "bad-tenant",
    "the request names its tenant or its user in a form that is not accepted",
);
const TENANTS_DISAGREE: Rejection = Rejection::new(
    400,
    "tenants-disagree",
    "two parts of the request contradict each other",
);
const UNKNOWN_ORDER: Rejection = Rejection::new(
    400,
    "unknown-order",
    "the list cannot be ordered as was asked",
);
const INVALID_CURSOR: Rejection = Rejection::new(
    400,
    "invalid-cursor",
    "the cursor is not one of this list: begin again at its first page",
);

/// A token, and the challenge that goes with it: the description is the title.
macro_rules! token {
    ($name:literal, $title:literal) => {
        Rejection::token(
            $name,
            $title,
            concat!(
                r#"Bearer error="invalid_token", error_description=""#,
                $title,
                '"'
            ),
        )
    };
}

/// Without an error code: "if the request lacks any authentication information".
const TOKEN_ABSENT: Rejection = Rejection::token(
    "token-absent",
    "the request carries no bearer token",
    "Bearer",
);
const TOKEN_MALFORMED: Rejection = token!("token-malformed", "the token is malformed");
const TOKEN_ALGORITHM: Rejection = token!(
    "token-algorithm",
    "the token is signed by an algorithm that is not accepted"
);
const TOKEN_KEY: Rejection = token!("token-key", "the token is signed with an unknown key");
const TOKEN_SIGNATURE: Rejection = token!("token-signature", "the signature of the token is wrong");
const TOKEN_EXPIRED: Rejection = token!("token-expired", "the token has expired");
const TOKEN_NOT_YET_VALID: Rejection = token!("token-not-yet-valid", "the token is not valid yet");
const TOKEN_ISSUER: Rejection = token!("token-issuer", "the token was issued by someone else");
const TOKEN_AUDIENCE: Rejection = token!("token-audience", "the token is meant for someone else");
const TOKEN_CLAIMS: Rejection = token!(
    "token-claims",
    "the token lacks a claim that is needed, or has one that is of no use"
);

const SUSPENDED: Rejection = Rejection::new(403, "tenant-suspended", "this tenant is suspended");
const NOT_A_MEMBER: Rejection = Rejection::new(
    403,
    "not-a-member",
    "the user is not a member of this tenant",
);
const PERMISSION_DENIED: Rejection =
    Rejection::new(403, "permission-denied", "the user may not do this");
const UNKNOWN_TENANT: Rejection = Rejection::new(404, "unknown-tenant", "there is no such tenant");
const NOT_FOUND: Rejection = Rejection::new(404, "not-found", "there is nothing here");
const INVALID_TEXT: Rejection = Rejection::new(
    400,
    "invalid-text",
    "a text holds a character that cannot be kept",
);
const CONFLICT: Rejection = Rejection::new(
    409,
    "conflict",
    "what is stored already does not allow this",
);
const STALE_VERSION: Rejection = Rejection::new(
    409,
    "stale-version",
    "this was changed since it was read: read it again and decide anew",
);
const DELETED: Rejection = Rejection::new(410, "tenant-deleted", "this tenant has been deleted");

const INTERNAL: Rejection = Rejection::new(
    500,
    "internal",
    "something is wrong on the side of the service",
);
pub(super) const OUTCOME_UNKNOWN: Rejection = Rejection::new(
    500,
    "outcome-unknown",
    "nobody can tell whether this was kept: look before you do it again",
);
const CONNECTION_LOST: Rejection = Rejection::new(
    503,
    "connection-lost",
    "the connection to the data broke: look what was kept before you do it again",
);
const BUSY: Rejection = Rejection::new(503, "busy", "too much is going on: try again later");
const CONTENDED: Rejection = Rejection::new(
    503,
    "contended",
    "others worked on the same data at that moment: try again",
);
const UNAVAILABLE: Rejection = Rejection::new(
    503,
    "unavailable",
    "the service is not available: try again later",
);
const MOVING: Rejection = Rejection::new(
    503,
    "tenant-moving",
    "this tenant is being moved: try again later",
);
const PERMISSION_UNKNOWN: Rejection = Rejection::new(
    503,
    "permission-unknown",
    "nobody could tell whether the user may do this: try again later",
);
const TIMED_OUT: Rejection = Rejection::new(504, "timed-out", "this took too long and was stopped");

#[cfg(test)]
mod tests;
