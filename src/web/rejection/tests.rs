//! Each error, and what becomes of it.

use std::borrow::Cow;

use super::*;

/// What is in no answer.
const MARKER: &str = "marker-6c1f";

/// `status name`, and what the headers say.
fn told(rejection: impl Into<Rejection>) -> String {
    let rejection = rejection.into();
    let mut told = format!("{} {}", rejection.status(), rejection.name());
    if let Some(seconds) = rejection.retry_after() {
        told.push_str(&format!(" after {seconds}"));
    }
    if let Some(challenge) = rejection.challenge() {
        told.push_str(&format!(" {challenge}"));
    }
    let everything = format!(
        "{rejection} {rejection:?} {}",
        String::from_utf8(rejection.body()).expect("text")
    );
    assert!(!everything.contains(MARKER), "{everything}");
    told
}

fn of(kind: ErrorKind) -> String {
    told(Error::new(kind, MARKER))
}

#[derive(Debug)]
struct Refusal(&'static str);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MARKER)
    }
}

impl StdError for Refusal {}

impl sqlx::error::DatabaseError for Refusal {
    fn message(&self) -> &str {
        MARKER
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn constraint(&self) -> Option<&str> {
        Some(MARKER)
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> sqlx::error::ErrorKind {
        sqlx::error::ErrorKind::Other
    }
}

fn refusal(code: &'static str) -> sqlx::Error {
    sqlx::Error::Database(Box::new(Refusal(code)))
}

#[test]
fn every_kind_has_its_answer() {
    use ErrorKind as Kind;
    for (kind, expected) in [
        (Kind::InvalidTenantId, "400 bad-tenant"),
        (Kind::InvalidContext, "400 bad-tenant"),
        (Kind::InvalidOption, "500 internal"),
        (Kind::TenantUnknown, "404 unknown-tenant"),
        (Kind::TenantSuspended, "403 tenant-suspended"),
        (Kind::TenantMoving, "503 tenant-moving after 1"),
        (Kind::TenantDeleted, "410 tenant-deleted"),
        (Kind::Directory, "503 unavailable after 1"),
        (Kind::Misrouted, "500 internal"),
        (Kind::Installation, "500 internal"),
        (Kind::Preflight, "500 internal"),
        (Kind::StatementRefused, "500 internal"),
        (Kind::AcquireTimeout, "503 busy after 1"),
        (Kind::Saturated, "503 busy after 1"),
        (Kind::Connect, "503 unavailable after 1"),
        (Kind::ConnectionLost, "503 connection-lost"),
        (Kind::TransactionAborted, "500 internal"),
        (Kind::Commit, "500 internal"),
        (Kind::Closed, "503 unavailable after 1"),
        (Kind::Database, "500 internal"),
        (Kind::NotFound, "404 not-found"),
        (Kind::StaleVersion, "409 stale-version"),
        (Kind::InvalidCursor, "400 invalid-cursor"),
        (Kind::PermissionDenied, "403 permission-denied"),
        (Kind::NotAMember, "403 not-a-member"),
        (Kind::PermissionUnknown, "503 permission-unknown after 1"),
        (Kind::Other, "500 internal"),
    ] {
        assert_eq!(of(kind), expected, "{kind:?}");
    }
}

#[test]
fn what_the_database_says_is_told_by_its_code_alone() {
    for (code, expected) in [
        ("23505", "409 conflict"),
        ("23503", "409 conflict"),
        ("23514", "409 conflict"),
        ("23P01", "409 conflict"),
        ("40001", "503 contended after 1"),
        ("40P01", "503 contended after 1"),
        ("55P03", "503 contended after 1"),
        ("57014", "504 timed-out"),
        ("57P01", "503 connection-lost"),
        ("25P03", "503 connection-lost"),
        ("42501", "500 internal"),
        ("42P01", "500 internal"),
        ("22003", "500 internal"),
        ("22021", "400 invalid-text"),
        ("22P05", "400 invalid-text"),
        ("P0001", "500 internal"),
    ] {
        assert_eq!(told(refusal(code)), expected, "{code}");
    }
    assert_eq!(told(sqlx::Error::RowNotFound), "404 not-found");
}

#[test]
fn commit_that_failed_is_told_by_its_outcome() {
    let rolled_back = |code| CommitError::RolledBack(refusal(code).into());
    assert_eq!(told(rolled_back("23505")), "409 conflict");
    assert_eq!(told(rolled_back("40001")), "503 contended after 1");
    assert_eq!(told(rolled_back("25P02")), "500 internal");
    // Even if the server's last word was one after which others are repeated.
    for code in ["57P01", "40001", "23505"] {
        let unknown = CommitError::OutcomeUnknown(refusal(code).into());
        assert_eq!(told(unknown), "500 outcome-unknown");
    }
}

#[test]
fn every_refusal_of_a_resolver_has_its_answer() {
    use ResolveErrorKind as Kind;
    let of = |kind| told(ResolveError::new(kind));
    for (kind, expected) in [
        (Kind::Absent, "400 no-tenant"),
        (Kind::Malformed, "400 bad-tenant"),
        (Kind::Disagreement, "400 tenants-disagree"),
        (Kind::TokenAbsent, "401 token-absent Bearer"),
        (Kind::Unavailable, "503 unavailable after 1"),
    ] {
        assert_eq!(of(kind), expected, "{kind:?}");
    }
    for (kind, name) in [
        (Kind::TokenMalformed, "token-malformed"),
        (Kind::TokenAlgorithm, "token-algorithm"),
        (Kind::TokenKey, "token-key"),
        (Kind::TokenSignature, "token-signature"),
        (Kind::TokenExpired, "token-expired"),
        (Kind::TokenNotYetValid, "token-not-yet-valid"),
        (Kind::TokenIssuer, "token-issuer"),
        (Kind::TokenAudience, "token-audience"),
        (Kind::TokenClaims, "token-claims"),
    ] {
        let rule = ResolveError::new(kind).to_string();
        let expected =
            format!(r#"401 {name} Bearer error="invalid_token", error_description="{rule}""#);
        assert_eq!(of(kind), expected, "{kind:?}");
    }
}

#[test]
fn wait_is_whole_seconds_rounded_up_and_never_none() {
    let after = |delay| {
        Rejection::new(503, "busy", "busy")
            .later(delay)
            .retry_after()
    };
    for (delay, expected) in [
        (Duration::ZERO, 1),
        (Duration::from_nanos(1), 1),
        (Duration::from_millis(999), 1),
        (Duration::from_secs(1), 1),
        (Duration::from_millis(1_001), 2),
        (Duration::MAX, u64::MAX),
    ] {
        assert_eq!(after(delay), Some(expected), "{delay:?}");
    }
    let error =
        Error::new(ErrorKind::Saturated, "x").with_retry_after(Duration::from_millis(2_500));
    assert_eq!(told(error), "503 busy after 3");
}

#[test]
fn body_is_a_problem_of_rfc_9457() {
    let body = Rejection::new(418, "tea\"pot", "short and \"stout\"").body();
    assert_eq!(
        String::from_utf8(body).expect("text"),
        r#"{"type":"/problems/tea\"pot","title":"short and \"stout\"","status":418}"#
    );
}

#[test]
#[should_panic(expected = "400 to 599")]
fn success_is_no_rejection() {
    let _ = Rejection::new(200, "fine", "all is well");
}
