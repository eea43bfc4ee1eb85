//! Keys as issuers publish them: a JSON Web Key Set (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::key::JwtKey;
use crate::error::{Error, ErrorKind};

impl JwtKey {
    /// The keys of a JSON Web Key Set that can verify tokens here. How the text is fetched, and how
    /// often, is the caller's affair.
    ///
    /// As the standard has it, keys of other kinds are passed over: for encryption, of other
    /// algorithms, types and curves. A symmetric key is passed over too, since what is published is no
    /// secret. An RSA key that names no algorithm is for RS256.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if the text is no key set, has no key that can be used, or
    /// holds a private key.
    pub fn from_jwks(text: &str) -> Result<Vec<Self>, Error> {
        let refuse = |rule| Error::new(ErrorKind::InvalidOption, rule);
        let set: Value =
            serde_json::from_str(text).map_err(|_| refuse("the text is no JSON Web Key Set"))?;
        let Some(Value::Array(entries)) = set.get("keys") else {
            return Err(refuse("the text is no JSON Web Key Set"));
        };
        if entries.iter().any(|entry| entry.get("d").is_some()) {
            return Err(refuse("the key set holds a private key: it is published"));
        }
        let keys: Vec<Self> = entries.iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err(refuse(
                "the key set holds no key that can verify tokens here",
            ));
        }
        Ok(keys)
    }
}

/// `None` for a key that is not for us.
fn key(entry: &Value) -> Option<JwtKey> {
    let text = |member: &str| entry.get(member).map(|value| value.as_str().ok_or(()));
    let is = |member, wanted| text(member) == Some(Ok(wanted));
    let may_be = |member, wanted| text(member).is_none_or(|value| value == Ok(wanted));
    let bytes = |member| URL_SAFE_NO_PAD.decode(text(member)?.ok()?).ok();

    let verifies = entry.get("key_ops").is_none_or(|operations| {
        let operations = operations.as_array().map_or(&[][..], Vec::as_slice);
        operations.iter().any(|operation| operation == "verify")
    });
    if !verifies || !may_be("use", "sig") {
        return None;
    }

    let key = if is("kty", "RSA") && may_be("alg", "RS256") {
        JwtKey::rs256(&bytes("n")?, &bytes("e")?)
    } else if is("kty", "EC") && is("crv", "P-256") && may_be("alg", "ES256") {
        let (x, y) = (bytes("x")?, bytes("y")?);
        if x.len() != 32 {
            return None;
        }
        JwtKey::es256(&[&[4], &*x, &*y].concat())
    } else if is("kty", "OKP") && is("crv", "Ed25519") && may_be("alg", "EdDSA") {
        JwtKey::ed25519(&bytes("x")?)
    } else {
        return None;
    };
    let key = key.ok()?;
    match text("kid") {
        None => Some(key),
        Some(id) => Some(key.id(id.ok()?)),
    }
}
