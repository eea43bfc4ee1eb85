//! Keys of any text: a key or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenantry::jwt::{JwtKey, JwtKeySet};

fuzz_target!(|text: &str| {
    if let Ok(keys) = JwtKey::from_jwks(text) {
        let _ = JwtKeySet::new(keys);
    }
    let _ = JwtKey::hs256(text.as_bytes());
    let _ = JwtKey::rs256_pem(text);
    let _ = JwtKey::es256_pem(text);
    let _ = JwtKey::ed25519_pem(text);
});
