//! Who issues the tokens of the tests, rightly or wrongly.
#![allow(dead_code, reason = "no file of tests uses all of it")]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tenantry::ResolveErrorKind;
use tenantry::jwt::{JwtKey, JwtResolver, JwtResolverBuilder};

pub(crate) const ISSUER: &str = "https://id.example.test/";
pub(crate) const AUDIENCE: &str = "https://api.example.test/";
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
pub(crate) const OTHER_SECRET: &[u8] = b"fedcba9876543210fedcba9876543210";

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("pem/", $name))
    };
}
#[allow(unused_imports, reason = "no file of tests uses all of it")]
pub(crate) use pem;

pub(crate) const RSA: &str = pem!("rsa_ours.pub.pem");
pub(crate) const RSA_PKCS1: &str = pem!("rsa_ours.pkcs1.pem");
pub(crate) const P256: &str = pem!("p256.pub.pem");
pub(crate) const ED25519: &str = pem!("ed25519.pub.pem");

/// Signs whatever it is told to.
pub(crate) struct Signer {
    pub(crate) name: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
}

impl Signer {
    pub(crate) fn hs256(secret: &[u8]) -> Self {
        let key = EncodingKey::from_secret(secret);
        Self {
            name: "HS256",
            algorithm: Algorithm::HS256,
            key,
        }
    }

    pub(crate) fn rsa(pem: &str) -> Self {
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a key");
        Self {
            name: "RS256",
            algorithm: Algorithm::RS256,
            key,
        }
    }

    pub(crate) fn es256() -> Self {
        let key = EncodingKey::from_ec_pem(pem!("p256.pem").as_bytes()).expect("a key");
        Self {
            name: "ES256",
            algorithm: Algorithm::ES256,
            key,
        }
    }

    pub(crate) fn eddsa() -> Self {
        let key = EncodingKey::from_ed_pem(pem!("ed25519.pem").as_bytes()).expect("a key");
        Self {
            name: "EdDSA",
            algorithm: Algorithm::EdDSA,
            key,
        }
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        self.sign_message(&format!("{}.{}", encode(header), encode(claims)))
    }

    pub(crate) fn sign_message(&self, message: &str) -> String {
        let signer = (aws_lc::DEFAULT_PROVIDER.signer_factory)(&self.algorithm, &self.key);
        let signature = signer.expect("a key").sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A key of each algorithm, and who signs with it.
pub(crate) fn pairs() -> [(JwtKey, Signer); 4] {
    [
        (hs256(), Signer::hs256(SECRET)),
        (rsa(), Signer::rsa(pem!("rsa_ours.pem"))),
        (JwtKey::es256_pem(P256).expect("a key"), Signer::es256()),
        (
            JwtKey::ed25519_pem(ED25519).expect("a key"),
            Signer::eddsa(),
        ),
    ]
}

pub(crate) fn hs256() -> JwtKey {
    JwtKey::hs256(SECRET).expect("a key")
}

pub(crate) fn rsa() -> JwtKey {
    JwtKey::rs256_pem(RSA).expect("a key")
}

pub(crate) fn builder() -> JwtResolverBuilder {
    JwtResolver::builder().issuer(ISSUER).audience(AUDIENCE)
}

pub(crate) fn resolver(key: JwtKey) -> JwtResolver {
    builder().key(key).build().expect("complete")
}

pub(crate) fn refusal(resolver: &JwtResolver, token: &str) -> Option<ResolveErrorKind> {
    resolver.verify(token).err().map(|error| error.kind())
}

pub(crate) fn header(algorithm: &str, kid: Option<&str>) -> Value {
    match kid {
        None => json!({"alg": algorithm, "typ": "JWT"}),
        Some(kid) => json!({"alg": algorithm, "typ": "JWT", "kid": kid}),
    }
}

pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "exp": now() + 3600, "sub": "user-1", "org": "acme"})
}

pub(crate) fn message(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock").as_secs()
}
