//! Tokens for the demonstration. A service of yours gets them from whoever signs people in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use tenantry::TenantId;
use tenantry::jwt::{JwtKey, JwtResolver};

use crate::Failure;

/// Signs, and makes the resolver that believes what was signed here.
pub struct Tokens {
    secret: [u8; 32],
}

pub const ISSUER: &str = "https://id.practice.example/";
pub const AUDIENCE: &str = "https://api.practice.example/";
pub const KEY: &str = "demonstration";

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    org: &'a str,
    exp: u64,
}

impl Tokens {
    /// With a secret that nobody else knows, so tokens end with the process.
    pub fn new() -> Result<Self, Failure> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self::of(secret))
    }

    pub fn of(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    pub fn resolver(&self) -> Result<JwtResolver, Failure> {
        Ok(JwtResolver::builder()
            .issuer(ISSUER)
            .audience(AUDIENCE)
            .key(JwtKey::hs256(&self.secret)?.id(KEY))
            .build()?)
    }

    /// A token that says: this user, in this organisation.
    pub fn sign(&self, user: &str, organisation: &TenantId) -> Result<String, Failure> {
        let expires = SystemTime::now().duration_since(UNIX_EPOCH)? + LIFETIME;
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: user,
            org: organisation.as_str(),
            exp: expires.as_secs(),
        };
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(KEY.to_owned());
        let key = EncodingKey::from_secret(&self.secret);
        Ok(jsonwebtoken::encode(&header, &claims, &key)?)
    }
}
