//! From a bearer token to a context.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::claims::Expected;
use super::key::JwtKey;
use super::key_set::JwtKeySet;
use super::token::Token;
use crate::context::TenantContext;
use crate::error::{Error, ErrorKind};
use crate::resolve::TenantResolver;
use crate::resolve::error::{ResolveError, ResolveErrorKind};
use crate::resolve::head::RequestHead;

/// Takes tenant and user from the token in `Authorization: Bearer ..`, and from nothing else.
///
/// A token counts if all of this is so; each has a [`ResolveErrorKind`] of its own, and nothing is
/// asked of a database:
///
/// * It is signed by a key of the set, with the algorithm of that key: HS256, RS256, ES256 or EdDSA.
///   What its header says beside `alg` and `kid` is not looked at: neither a key that it brings along
///   nor an address to fetch one from. A header with `crit` is refused.
/// * `iss` is the issuer, and `aud` is one of the audiences or an array of texts with one among them.
/// * `exp` is there, lies before the year 10000, and is not over; `nbf`, where it is there, has come.
///   The leeway is 30 s.
/// * The claim of the organisation is a [`TenantId`](crate::TenantId), that of the user a text of 1 to
///   255 bytes. Both are texts, not numbers.
/// * None of these is there twice.
///
/// Whether the user is still a member of the organisation is not in a token: that is for the
/// authorizer to say, against the database.
///
/// A token that comes another way, in a cookie or the first message of a socket, is read by
/// [`verify`](Self::verify).
///
/// ```no_run
/// use tenantry::jwt::{JwtKey, JwtKeySet, JwtResolver};
/// use tenantry::{HeaderResolver, TenantResolver};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = JwtKeySet::new(JwtKey::from_jwks(&std::fs::read_to_string("jwks.json")?)?)?;
/// let token = JwtResolver::builder()
///     .issuer("https://id.example.com/")
///     .audience("https://api.example.com/")
///     .keys(keys.clone()) // and keys.replace(..) when the issuer changes them
///     .organisation_claim("org_id")
///     .build()?;
/// let resolver = token.agrees_with(HeaderResolver::new("x-tenant-id")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct JwtResolver {
    keys: JwtKeySet,
    expected: Expected,
    max_token_bytes: usize,
}

impl JwtResolver {
    /// Begins with no key, no issuer and no audience, all of which are needed.
    pub fn builder() -> JwtResolverBuilder {
        JwtResolverBuilder {
            issuer: None,
            audiences: Vec::new(),
            keys: Vec::new(),
            set: None,
            organisation_claim: "org".to_owned(),
            user_claim: "sub".to_owned(),
            leeway: Duration::from_secs(30),
            max_token_bytes: 8_192,
        }
    }

    /// The context that a token is for.
    ///
    /// # Errors
    ///
    /// What the token lacks, by kind; [`ResolveErrorKind::Unavailable`] while the set has no key.
    pub fn verify(&self, token: &str) -> Result<TenantContext, ResolveError> {
        self.context(token).map_err(ResolveError::new)
    }

    fn context(&self, token: &str) -> Result<TenantContext, ResolveErrorKind> {
        if token.len() > self.max_token_bytes {
            return Err(ResolveErrorKind::TokenMalformed);
        }
        let token = Token::parse(token)?;
        self.keys.verify(&token)?;
        let claims = token.payload().ok_or(ResolveErrorKind::TokenMalformed)?;
        self.expected.context(&claims, SystemTime::now())
    }
}

#[async_trait]
impl TenantResolver for JwtResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
        let absent = ResolveError::new(ResolveErrorKind::TokenAbsent);
        let field = request.field("authorization")?.ok_or(absent.clone())?;
        let (scheme, token) = field.split_once(' ').unwrap_or((field, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(absent);
        }
        self.verify(token.trim_matches(' '))
    }
}

/// Makes a [`JwtResolver`].
#[derive(Clone, Debug)]
#[must_use]
pub struct JwtResolverBuilder {
    issuer: Option<String>,
    audiences: Vec<String>,
    keys: Vec<JwtKey>,
    set: Option<JwtKeySet>,
    organisation_claim: String,
    user_claim: String,
    leeway: Duration,
    max_token_bytes: usize,
}

impl JwtResolverBuilder {
    /// Who issues the tokens: `iss`, compared byte by byte. Needed. One issuer, since a set of keys of
    /// two would let each speak for the other.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Whom the tokens are meant for: `aud`. Needed; called again, a token for either counts.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// A key that stays as long as the resolver; may be called again.
    pub fn key(mut self, key: JwtKey) -> Self {
        self.keys.push(key);
        self
    }

    /// A set of keys that can be replaced, instead of [`key`](Self::key).
    pub fn keys(mut self, keys: JwtKeySet) -> Self {
        self.set = Some(keys);
        self
    }

    /// The claim, directly in the token, that names the active organisation; `org` by default.
    pub fn organisation_claim(mut self, claim: impl Into<String>) -> Self {
        self.organisation_claim = claim.into();
        self
    }

    /// The claim that names the user; `sub` by default.
    pub fn user_claim(mut self, claim: impl Into<String>) -> Self {
        self.user_claim = claim.into();
        self
    }

    /// How far the issuer's clock may be off, either way: so much longer a token counts. 30 s by
    /// default, 5 min at most.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// How long a token may be; 8 KiB by default. A longer one is refused before anything is
    /// done with it.
    pub fn max_token_bytes(mut self, bytes: usize) -> Self {
        self.max_token_bytes = bytes;
        self
    }

    /// Makes the resolver.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if issuer, audience or keys are missing or empty, keys are given
    /// both ways, the keys make no [`JwtKeySet`], one claim is to be both the organisation and the
    /// user, or the leeway is longer than 5 min.
    pub fn build(self) -> Result<JwtResolver, Error> {
        let refuse = |rule| Err(Error::new(ErrorKind::InvalidOption, rule));
        let issuer = self.issuer.unwrap_or_default();
        if issuer.is_empty() {
            return refuse("tokens have an issuer: name it");
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return refuse("tokens are meant for somebody: name the audience");
        }
        if self.organisation_claim == self.user_claim {
            return refuse("the organisation and the user are two claims");
        }
        if self.leeway > MAX_LEEWAY {
            return refuse("the leeway is at most 5 min");
        }
        let keys = match (self.set, self.keys) {
            (Some(set), keys) if keys.is_empty() => set,
            (None, keys) => JwtKeySet::new(keys)?,
            (Some(_), _) => return refuse("keys are given one by one or as a set, not both"),
        };
        Ok(JwtResolver {
            keys,
            expected: Expected {
                issuer,
                audiences: self.audiences,
                organisation_claim: self.organisation_claim,
                user_claim: self.user_claim,
                leeway: self.leeway,
            },
            max_token_bytes: self.max_token_bytes,
        })
    }
}

const MAX_LEEWAY: Duration = Duration::from_secs(300);
