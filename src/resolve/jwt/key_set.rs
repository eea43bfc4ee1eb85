//! The keys that count at the moment.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use super::key::JwtKey;
use super::token::Token;
use crate::error::{Error, ErrorKind};
use crate::resolve::error::ResolveErrorKind;

/// The keys that tokens are verified with, replaced while resolvers use them.
///
/// A clone is the same set. A token with a `kid` is verified with the key of that id and no other;
/// one without only where the set has a single key. No key is tried because another one did not fit.
///
/// An empty set ([`default`](Self::default)) is one whose keys have not come yet: tokens are refused
/// as [`ResolveErrorKind::Unavailable`](crate::ResolveErrorKind::Unavailable).
///
/// Issuers change their keys by publishing the new one beside the old one, signing with the new one
/// after a while, and taking the old one back when the last of its tokens has expired:
///
/// ```
/// use tenantry::jwt::{JwtKey, JwtKeySet};
///
/// let old = JwtKey::hs256(b"0123456789abcdef0123456789abcdef")?.id("2026-06");
/// let new = JwtKey::hs256(b"fedcba9876543210fedcba9876543210")?.id("2026-07");
/// let keys = JwtKeySet::new([old.clone()])?; // given to a resolver, and kept
/// keys.replace([old, new.clone()])?;
/// keys.replace([new])?;
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct JwtKeySet(Arc<RwLock<Arc<[JwtKey]>>>);

impl JwtKeySet {
    /// A set of these keys.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if there is none, if two have the same id, or if one of several
    /// has none.
    pub fn new(keys: impl IntoIterator<Item = JwtKey>) -> Result<Self, Error> {
        Ok(Self(Arc::new(RwLock::new(checked(keys)?))))
    }

    /// These keys count from now on, and no others. A token whose verification has begun is verified
    /// with what was there.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new); the keys stay as they are.
    pub fn replace(&self, keys: impl IntoIterator<Item = JwtKey>) -> Result<(), Error> {
        let keys = checked(keys)?;
        let old = std::mem::replace(&mut *self.0.write(), keys);
        drop(old); // outside the lock: keys are wiped
        Ok(())
    }

    /// Whether the token was signed with one of the keys, by its algorithm.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), ResolveErrorKind> {
        let keys = Arc::clone(&self.0.read());
        let key = match (&token.key_id, &*keys) {
            (_, []) => return Err(ResolveErrorKind::Unavailable),
            (Some(id), keys) => keys.iter().find(|key| key.key_id() == Some(id)),
            (None, [key]) => Some(key),
            (None, _) => None,
        };
        let key = key.ok_or(ResolveErrorKind::TokenKey)?;
        if key.algorithm() != token.algorithm {
            return Err(ResolveErrorKind::TokenAlgorithm);
        }
        let signature = token.signature().ok_or(ResolveErrorKind::TokenMalformed)?;
        if !key.verifies(token.message, &signature) {
            return Err(ResolveErrorKind::TokenSignature);
        }
        Ok(())
    }
}

impl fmt::Debug for JwtKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = Arc::clone(&self.0.read());
        f.debug_tuple("JwtKeySet").field(&keys).finish()
    }
}

fn checked(keys: impl IntoIterator<Item = JwtKey>) -> Result<Arc<[JwtKey]>, Error> {
    let refuse = |rule| Err(Error::new(ErrorKind::InvalidOption, rule));
    let keys: Arc<[JwtKey]> = keys.into_iter().collect();
    if keys.is_empty() {
        return refuse("a key set has at least one key");
    }
    if keys.len() > 1 && keys.iter().any(|key| key.key_id().is_none()) {
        return refuse("of several keys each has an id, the `kid` of its tokens");
    }
    let ids: BTreeSet<_> = keys.iter().map(JwtKey::key_id).collect();
    if ids.len() < keys.len() {
        return refuse("two keys of a set have the same id");
    }
    Ok(keys)
}
