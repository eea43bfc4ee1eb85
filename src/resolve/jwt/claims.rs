//! What a token has to say.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::object::Object;
use crate::context::TenantContext;
use crate::resolve::error::ResolveErrorKind;
use crate::tenant::TenantId;

/// What the claims of a token are compared with.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) organisation_claim: String,
    pub(super) user_claim: String,
    pub(super) leeway: Duration,
}

/// The last second of the year 9999. A later time is a mistake, mostly milliseconds: such a token
/// would never expire.
const MAX_TIME: f64 = 253_402_300_799.0;

/// What the user of a [`TenantContext`] may have.
const MAX_USER: usize = 255;

impl Expected {
    /// The context that claims are for, whose signature has been verified.
    pub(super) fn context(
        &self,
        claims: &[u8],
        now: SystemTime,
    ) -> Result<TenantContext, ResolveErrorKind> {
        let (organisation, user) = (&*self.organisation_claim, &*self.user_claim);
        let read = ["aud", "exp", "iss", "nbf", organisation, user];
        let claims = Object::parse(claims, &read).ok_or(ResolveErrorKind::TokenMalformed)?;
        let claim = |name| claims.get(name).ok_or(ResolveErrorKind::TokenClaims);

        if claim("iss")?.as_str() != Some(&self.issuer) {
            return Err(ResolveErrorKind::TokenIssuer);
        }
        if !self.is_meant_for_us(claim("aud")?) {
            return Err(ResolveErrorKind::TokenAudience);
        }
        self.check_time(claim("exp")?, claims.get("nbf"), now)?;

        // Text alone: whether 7, 7.0 and "7" are one organisation is not ours to guess.
        let tenant: TenantId = claim(organisation)?
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or(ResolveErrorKind::TokenClaims)?;
        let user = claim(user)?
            .as_str()
            .filter(|user| (1..=MAX_USER).contains(&user.len()) && !user.contains('\0'))
            .ok_or(ResolveErrorKind::TokenClaims)?;
        Ok(TenantContext::new(tenant).user(user))
    }

    fn is_meant_for_us(&self, audience: &Value) -> bool {
        let is_ours = |name: &Value| {
            let ours = &mut self.audiences.iter();
            name.as_str()
                .is_some_and(|name| ours.any(|our| our == name))
        };
        match audience {
            Value::Array(names) => names.iter().all(Value::is_string) && names.iter().any(is_ours),
            name => is_ours(name),
        }
    }

    fn check_time(
        &self,
        expiry: &Value,
        not_before: Option<&Value>,
        now: SystemTime,
    ) -> Result<(), ResolveErrorKind> {
        // A clock that stands before 1970 can tell nothing.
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|_| ResolveErrorKind::Unavailable)?
            .as_secs_f64();
        let leeway = self.leeway.as_secs_f64();

        let expiry = time(expiry)?;
        if expiry > MAX_TIME {
            return Err(ResolveErrorKind::TokenClaims);
        }
        if now >= expiry + leeway {
            return Err(ResolveErrorKind::TokenExpired);
        }
        if let Some(not_before) = not_before
            && now + leeway < time(not_before)?
        {
            return Err(ResolveErrorKind::TokenNotYetValid);
        }
        Ok(())
    }
}

/// Seconds since 1970, whole or not.
fn time(claim: &Value) -> Result<f64, ResolveErrorKind> {
    claim
        .as_f64()
        .filter(|seconds| seconds.is_finite())
        .ok_or(ResolveErrorKind::TokenClaims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(times: &str, now: f64) -> Result<(), ResolveErrorKind> {
        let expected = Expected {
            issuer: "issuer".to_owned(),
            audiences: vec!["audience".to_owned()],
            organisation_claim: "org".to_owned(),
            user_claim: "sub".to_owned(),
            leeway: Duration::from_secs(30),
        };
        let claims =
            format!(r#"{{"iss":"issuer","aud":"audience","org":"acme","sub":"u",{times}}}"#);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(now);
        expected.context(claims.as_bytes(), now).map(drop)
    }

    #[test]
    fn a_token_expires_when_its_time_and_the_leeway_are_over() {
        let expired = Err(ResolveErrorKind::TokenExpired);
        for exp in ["1000", "1000.0", "1e3", "10.00e2"] {
            let times = format!(r#""exp":{exp}"#);
            assert_eq!(outcome(&times, 1029.5), Ok(()), "{exp}");
            assert_eq!(outcome(&times, 1030.0), expired, "{exp}");
        }
        assert_eq!(outcome(r#""exp":1000.5"#, 1030.25), Ok(()));
        assert_eq!(outcome(r#""exp":1000.5"#, 1030.5), expired);
        for past in ["0", "-0.0", "-1", "-9223372036854775808", "-1e300"] {
            assert_eq!(outcome(&format!(r#""exp":{past}"#), 1000.0), expired);
        }
    }

    #[test]
    fn a_token_becomes_valid_a_leeway_before_its_time() {
        let early = Err(ResolveErrorKind::TokenNotYetValid);
        let times = r#""exp":9000,"nbf":1000"#;
        assert_eq!(outcome(times, 969.5), early);
        assert_eq!(outcome(times, 970.0), Ok(()));
        assert_eq!(outcome(r#""exp":9000,"nbf":1e300"#, 1000.0), early);
        assert_eq!(outcome(r#""exp":9000,"nbf":-1e300"#, 1000.0), Ok(()));
    }

    #[test]
    fn a_time_that_is_of_no_use_is_refused() {
        for exp in [
            "null",
            "\"9999\"",
            "true",
            "[9999]",
            "{}",
            "253402300800",
            "1767225600000",
            "18446744073709551615",
            "184467440737095516150",
            "1e300",
        ] {
            assert_eq!(
                outcome(&format!(r#""exp":{exp}"#), 1000.0),
                Err(ResolveErrorKind::TokenClaims),
                "{exp}"
            );
        }
        for nbf in ["null", "\"1\"", "[]"] {
            assert_eq!(
                outcome(&format!(r#""exp":9000,"nbf":{nbf}"#), 1000.0),
                Err(ResolveErrorKind::TokenClaims),
                "{nbf}"
            );
        }
        // No number to serde_json, unless its feature `arbitrary_precision` is on.
        assert!(matches!(
            outcome(r#""exp":1e999"#, 1000.0),
            Err(ResolveErrorKind::TokenMalformed | ResolveErrorKind::TokenClaims)
        ));
        assert_eq!(outcome(r#""exp":253402300799"#, 1000.0), Ok(()));
    }

    #[test]
    fn a_clock_before_1970_lets_nobody_in() {
        let expected = Expected {
            issuer: String::new(),
            audiences: vec![String::new()],
            organisation_claim: "org".to_owned(),
            user_claim: "sub".to_owned(),
            leeway: Duration::ZERO,
        };
        let claims = br#"{"iss":"","aud":"","exp":9000,"org":"acme","sub":"u"}"#;
        let now = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(
            expected.context(claims, now),
            Err(ResolveErrorKind::Unavailable)
        );
    }
}
