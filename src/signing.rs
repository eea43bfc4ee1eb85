//! The key with which a process says that a context is its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind};
use crate::secret::Secret;

/// A key that processes sign contexts with, and that a sealed database verifies them by: see
/// [`Installation::sealed`](crate::sql::Installation::sealed).
///
/// The process gets it by [`TenantRegistryBuilder::signing_key`], the database by
/// [`Installation::add_signing_key`]. Both must have the same secret under the same id.
///
/// The secret is a text of at least 32 bytes, all of which count: 32 bytes from a generator of
/// random numbers, as hexadecimal digits or in base64. Whoever has it can sign for every tenant.
///
/// `Debug` shows the id and where the secret is to be had, never the secret.
///
/// ```
/// use tenantry::{Secret, SigningKey};
///
/// let key = SigningKey::new("2026-11", Secret::environment("SHOP_SIGNING_KEY"))?;
/// assert_eq!(key.id(), "2026-11");
/// # Ok::<(), tenantry::Error>(())
/// ```
///
/// [`TenantRegistryBuilder::signing_key`]: crate::TenantRegistryBuilder::signing_key
/// [`Installation::add_signing_key`]: crate::sql::Installation::add_signing_key
#[derive(Clone, Debug)]
#[must_use = "a key does nothing by itself: give it to the builder of a registry, and to the database"]
pub struct SigningKey {
    id: Arc<str>,
    secret: Secret,
    token_lifetime: Duration,
}

const MAX_ID: usize = 63;
const MIN_SECRET: usize = 32;
const MIN_LIFETIME: Duration = Duration::from_secs(4);
const MAX_LIFETIME: Duration = Duration::from_secs(60 * 60);

impl SigningKey {
    /// A key of this id: 1 to 63 bytes of ASCII letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if the id is not of this form.
    pub fn new(id: impl Into<Arc<str>>, secret: Secret) -> Result<Self, Error> {
        let id = id.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(allowed) {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                "the id of a signing key has 1 to 63 bytes of ASCII letters, digits, '-', '_' and \
                 '.'",
            ));
        }
        Ok(Self {
            id,
            secret,
            token_lifetime: Duration::from_secs(60),
        })
    }

    /// How long a context counts after it was signed, by the clock of the database server. Default
    /// 60 s, at least 4 s, at most an hour; whole seconds.
    ///
    /// It has to cover the difference of the clocks, and the time from signing until the first
    /// statement of a transaction has reached the server. It bounds how long a context could be
    /// used by whoever got hold of one. A scope signs anew when half of it is over, and a
    /// transaction that has begun may last longer.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME);
        self
    }

    /// What it is known by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What a process needs to sign.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] if the secret could not be had, [`ErrorKind::InvalidOption`] if it is
    /// too short.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn signer(&self) -> Result<Signer, Error> {
        let secret = self.resolve().await?;
        let mac = Hmac::new_from_slice(secret.expose_secret().as_bytes())
            .expect("HMAC takes keys of any length");
        Ok(Signer {
            id: Arc::clone(&self.id),
            mac,
            lifetime: self.token_lifetime.as_secs(),
        })
    }

    /// What a database needs to verify.
    ///
    /// # Errors
    ///
    /// As [`signer`](Self::signer).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn pads(&self) -> Result<Pads, Error> {
        let secret = self.resolve().await?;
        Ok(Pads::of(secret.expose_secret().as_bytes()))
    }

    async fn resolve(&self) -> Result<SecretString, Error> {
        let secret = self.secret.resolve().await.map_err(|error| {
            Error::new(
                ErrorKind::Connect,
                "the secret of the signing key could not be resolved",
            )
            .with_source(error)
        })?;
        if secret.expose_secret().len() < MIN_SECRET {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                "the secret of a signing key has at least 32 bytes",
            ));
        }
        Ok(secret)
    }
}

/// Signs contexts.
pub(crate) struct Signer {
    id: Arc<str>,
    /// Keyed: a clone has the first blocks of both hashes behind it.
    mac: Hmac<Sha256>,
    lifetime: u64,
}

impl Signer {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// In seconds.
    pub(crate) fn lifetime(&self) -> u64 {
        self.lifetime
    }

    /// HMAC-SHA256, in hexadecimal digits.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        let mut mac = self.mac.clone();
        mac.update(message);
        let mut text = String::with_capacity(64);
        for byte in mac.finalize().into_bytes() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).expect("four bits"));
            }
        }
        text
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A key as HMAC uses it (RFC 2104): mixed with the two constants, a block each. The database has no
/// HMAC of its own, and need not mix them for each context.
pub(crate) struct Pads {
    inner: SecretBox<[u8; BLOCK]>,
    outer: SecretBox<[u8; BLOCK]>,
}

/// Of SHA-256, in bytes.
const BLOCK: usize = 64;

impl Pads {
    fn of(secret: &[u8]) -> Self {
        let digest;
        let key = match secret.len() > BLOCK {
            true => {
                digest = Sha256::digest(secret);
                &digest[..]
            }
            false => secret,
        };
        let pad = |constant: u8| {
            let mut pad = Box::new([constant; BLOCK]);
            for (mixed, byte) in pad.iter_mut().zip(key) {
                *mixed ^= byte;
            }
            SecretBox::new(pad)
        };
        Self {
            inner: pad(0x36),
            outer: pad(0x5c),
        }
    }

    pub(crate) fn inner(&self) -> &[u8] {
        self.inner.expose_secret()
    }

    pub(crate) fn outer(&self) -> &[u8] {
        self.outer.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::secret::{SecretError, SecretResolver};

    /// Whose secrets are their names.
    struct Parrot;

    #[async_trait]
    impl SecretResolver for Parrot {
        async fn resolve(&self, reference: &str) -> Result<SecretString, SecretError> {
            match reference {
                "" => Err("there is none".into()),
                secret => Ok(secret.into()),
            }
        }
    }

    fn key(secret: &str) -> SigningKey {
        SigningKey::new("k", Secret::resolver(Arc::new(Parrot), secret)).expect("a key")
    }

    /// The database's way of computing it.
    fn by_pads(pads: &Pads, message: &[u8]) -> String {
        let inner = Sha256::new()
            .chain_update(pads.inner())
            .chain_update(message);
        let outer = Sha256::new().chain_update(pads.outer());
        let mac = outer.chain_update(inner.finalize()).finalize();
        mac.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[tokio::test]
    async fn both_sides_compute_the_same() -> Result<(), Error> {
        for length in [32, 63, 64, 65, 200] {
            let key = key(&"s".repeat(length));
            let (signer, pads) = (key.signer().await?, key.pads().await?);
            for message in [&b""[..], b"what is signed", &[7; 1000]] {
                assert_eq!(signer.sign(message), by_pads(&pads, message), "{length}");
            }
        }
        Ok(())
    }

    /// RFC 4231, test case 6: a key of 131 bytes.
    #[tokio::test]
    async fn it_is_hmac_sha_256() -> Result<(), Error> {
        let pads = Pads::of(&[0xaa; 131]);
        let mac = by_pads(
            &pads,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
        );
        let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        assert_eq!(mac, expected);
        Ok(())
    }

    #[tokio::test]
    async fn a_short_secret_and_none_at_all_are_refused() {
        let refused = |result: Result<Signer, Error>| result.map_err(|error| error.kind()).err();
        let short = key(&"s".repeat(31)).signer().await;
        assert_eq!(refused(short), Some(ErrorKind::InvalidOption));
        assert_eq!(refused(key("").signer().await), Some(ErrorKind::Connect));
    }

    #[test]
    fn an_id_off_the_rule_is_refused() {
        let taken = |id: &str| SigningKey::new(id, Secret::environment("K")).is_ok();
        assert!(taken("2026-11_a.b"));
        assert!(taken(&"k".repeat(63)));
        for id in ["", " ", "a b", "a'b", "k\u{e4}y", "a\0", &"k".repeat(64)] {
            assert!(!taken(id), "{id:?}");
        }
    }

    #[tokio::test]
    async fn a_lifetime_is_kept_within_bounds() -> Result<(), Error> {
        for (asked, taken) in [(0, 4), (4, 4), (59, 59), (3_600, 3_600), (9_999, 3_600)] {
            let key = key(&"s".repeat(32)).token_lifetime(Duration::from_secs(asked));
            assert_eq!(key.signer().await?.lifetime(), taken);
        }
        assert_eq!(key(&"s".repeat(32)).signer().await?.lifetime(), 60);
        Ok(())
    }

    #[tokio::test]
    async fn nothing_of_it_is_shown() -> Result<(), Error> {
        struct Quiet;
        #[async_trait]
        impl SecretResolver for Quiet {
            async fn resolve(&self, _reference: &str) -> Result<SecretString, SecretError> {
                Ok("hunter2 hunter2 hunter2 hunter2 ".into())
            }
        }
        let key = SigningKey::new("k", Secret::resolver(Arc::new(Quiet), "there"))?;
        let signer = key.signer().await?;
        let shown = format!("{key:?} {signer:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("there"), "{shown}");
        Ok(())
    }
}
