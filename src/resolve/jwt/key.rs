//! A key, and the one algorithm that it is for.

use std::fmt;

use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::error::{Error, ErrorKind};

/// A key that tokens are verified with.
///
/// Each key is for one algorithm, whatever a token says: one that claims another is refused before
/// anything is computed. Of a pair of keys this is the public one; what signs tokens has no business
/// here.
///
/// `Debug` shows the algorithm and the id, never the key; it is wiped when it is dropped.
///
/// ```
/// use tenantry::jwt::JwtKey;
///
/// let key = JwtKey::hs256(b"0123456789abcdef0123456789abcdef")?.id("2026-07");
/// assert_eq!(format!("{key:?}"), r#"JwtKey { algorithm: HS256, id: Some("2026-07"), .. }"#);
/// assert!(JwtKey::hs256(b"too short").is_err());
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone)]
pub struct JwtKey {
    algorithm: Algorithm,
    id: Option<String>,
    key: DecodingKey,
}

/// In front of the point of each uncompressed public key on P-256, in base64.
const P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";

/// In front of each public key of Ed25519, in base64.
const ED25519: &str = "MCowBQYDK2VwAyEA";

impl JwtKey {
    /// The shortest secret for HS256, in bytes: as long as its hash, which is what RFC 7518 asks for.
    /// It has to be random; a password is none.
    pub const MIN_SECRET: usize = 32;

    /// A secret that the issuer and this service have in common. Whoever verifies can sign.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if it has fewer than [`MIN_SECRET`](Self::MIN_SECRET) bytes, or is
    /// the text of a key in PEM: a public key is no secret.
    pub fn hs256(secret: &[u8]) -> Result<Self, Error> {
        if secret.len() < Self::MIN_SECRET {
            return Err(refuse("a secret for HS256 has at least 32 bytes"));
        }
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(refuse(
                "a secret for HS256 is no key in PEM: a public key is verified with its own algorithm",
            ));
        }
        Ok(Self::new(
            Algorithm::HS256,
            DecodingKey::from_secret(secret),
        ))
    }

    /// An RSA key of 2048 to 8192 bits, for RS256: `BEGIN PUBLIC KEY` or `BEGIN RSA PUBLIC KEY`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if it is none, a private key or a certificate.
    pub fn rs256_pem(pem: &str) -> Result<Self, Error> {
        public_key(pem)?;
        let key = DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| refuse(NO_RSA))?;
        let (n, e) = key
            .try_get_as_bytes()
            .and_then(
                aws_lc::DEFAULT_PROVIDER
                    .key_utils
                    .rsa_pub_components_from_public_key,
            )
            .map_err(|_| refuse(NO_RSA))?;
        Self::rs256(&n, &e)
    }

    /// A key on the curve P-256, for ES256: `BEGIN PUBLIC KEY`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if it is none, on another curve, a private key or a certificate.
    pub fn es256_pem(pem: &str) -> Result<Self, Error> {
        if !public_key(pem)?.starts_with(P256) {
            return Err(refuse(NO_P256));
        }
        let key = DecodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| refuse(NO_P256))?;
        Self::es256(key.try_get_as_bytes().map_err(|_| refuse(NO_P256))?)
    }

    /// A key of Ed25519, for EdDSA: `BEGIN PUBLIC KEY`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if it is none, of Ed448, a private key or a certificate.
    pub fn ed25519_pem(pem: &str) -> Result<Self, Error> {
        if !public_key(pem)?.starts_with(ED25519) {
            return Err(refuse(NO_ED25519));
        }
        let key = DecodingKey::from_ed_pem(pem.as_bytes()).map_err(|_| refuse(NO_ED25519))?;
        Self::ed25519(key.try_get_as_bytes().map_err(|_| refuse(NO_ED25519))?)
    }

    /// The same with an id: the `kid` of the tokens that are signed with it. A set of several keys
    /// needs one for each.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    pub(super) fn rs256(n: &[u8], e: &[u8]) -> Result<Self, Error> {
        let (n, e) = (without_zeros(n), without_zeros(e));
        let bits = n
            .first()
            .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        let is_odd = e.last().is_some_and(|byte| byte % 2 == 1);
        if !(2048..=8192).contains(&bits) || !is_odd || e == [1] {
            return Err(refuse(NO_RSA));
        }
        let key = DecodingKey::from_rsa_raw_components(n, e);
        Ok(Self::new(Algorithm::RS256, key))
    }

    pub(super) fn es256(point: &[u8]) -> Result<Self, Error> {
        if point.len() != 65 || point[0] != 4 {
            return Err(refuse(NO_P256));
        }
        Ok(Self::new(Algorithm::ES256, DecodingKey::from_ec_der(point)))
    }

    pub(super) fn ed25519(point: &[u8]) -> Result<Self, Error> {
        if point.len() != 32 {
            return Err(refuse(NO_ED25519));
        }
        Ok(Self::new(Algorithm::EdDSA, DecodingKey::from_ed_der(point)))
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the holder of this key signed the message.
    ///
    /// `jsonwebtoken::decode` and `verify` ask a provider that belongs to the process, and panic
    /// where the features of two are on and nobody chose one. Its own provider is there
    /// whatever else is.
    pub(super) fn verifies(&self, message: &str, signature: &Vec<u8>) -> bool {
        (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&self.algorithm, &self.key)
            .is_ok_and(|verifier| verifier.verify(message.as_bytes(), signature).is_ok())
    }

    fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        Self {
            algorithm,
            id: None,
            key,
        }
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The text of the one public key in a PEM, in base64 without line breaks.
fn public_key(pem: &str) -> Result<String, Error> {
    let rule = "a key in PEM is one block, `BEGIN PUBLIC KEY`: \
                neither a private key nor a certificate";
    let text = pem.trim().replace('\r', "");
    let between = |first, last| text.strip_prefix(first)?.strip_suffix(last);
    between("-----BEGIN PUBLIC KEY-----\n", "-----END PUBLIC KEY-----")
        .or_else(|| {
            between(
                "-----BEGIN RSA PUBLIC KEY-----\n",
                "-----END RSA PUBLIC KEY-----",
            )
        })
        .filter(|block| !block.contains('-'))
        .map(|block| block.split_ascii_whitespace().collect())
        .ok_or(refuse(rule))
}

/// A number without the zeros in front of it, which its reader does not take.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn refuse(rule: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOption, rule)
}

const NO_RSA: &str = "a key for RS256 is an RSA public key of 2048 to 8192 bits";
const NO_P256: &str = "a key for ES256 is a public key on the curve P-256, uncompressed";
const NO_ED25519: &str = "a key for EdDSA is a public key of Ed25519";
