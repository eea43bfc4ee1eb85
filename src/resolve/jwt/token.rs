//! A token, taken apart and not yet believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::object::Object;
use crate::resolve::error::ResolveErrorKind;

/// The three parts of a token. Nothing in it counts before its signature has been verified, but for
/// the choice of the key.
pub(super) struct Token<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// What the signature is over.
    pub(super) message: &'t str,
    payload: &'t str,
    signature: &'t str,
}

impl<'t> Token<'t> {
    /// The header is read for the algorithm and the id of the key alone: a key that comes with the
    /// token, or an address to fetch one from, is never looked at. One with `crit` is refused, as
    /// it has to be by whoever knows none of the extensions.
    pub(super) fn parse(text: &'t str) -> Result<Self, ResolveErrorKind> {
        let malformed = ResolveErrorKind::TokenMalformed;
        let (message, signature) = text.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = message.split_once('.').ok_or(malformed)?;
        if payload.contains('.') {
            return Err(malformed);
        }
        let header = decode(header).ok_or(malformed)?;
        let header = Object::parse(&header, &["alg", "crit", "kid"]).ok_or(malformed)?;
        if header.get("crit").is_some() {
            return Err(malformed);
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(malformed),
        };
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => algorithm(name).ok_or(ResolveErrorKind::TokenAlgorithm)?,
            _ => return Err(malformed),
        };
        Ok(Self {
            algorithm,
            key_id,
            message,
            payload,
            signature,
        })
    }

    pub(super) fn signature(&self) -> Option<Vec<u8>> {
        decode(self.signature)
    }

    pub(super) fn payload(&self) -> Option<Vec<u8>> {
        decode(self.payload)
    }
}

/// The names are compared as they are: `none` is none of them, however it is spelt.
fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "HS256" => Some(Algorithm::HS256),
        "RS256" => Some(Algorithm::RS256),
        "ES256" => Some(Algorithm::ES256),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

/// In the one form that there is for each sequence of bytes: without padding, and no bits that do
/// not count.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}
