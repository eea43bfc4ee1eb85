//! A build in which `jsonwebtoken` does not know whose cryptography to use. Alone in its file, since the
//! choice is made once in a process.

use std::panic::catch_unwind;

use jsonwebtoken::crypto::{CryptoProvider, KeyUtils};
use jsonwebtoken::{Algorithm, DecodingKey};
use tenantry::jwt::JwtKey;

use issuer::*;

#[path = "jwt/issuer.rs"]
mod issuer;

/// What there is when the features of both are on and nobody chose one.
static NOBODY: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| panic!("nobody chose a provider"),
    verifier_factory: |_, _| panic!("nobody chose a provider"),
    key_utils: KeyUtils::new_unimplemented(),
};

#[test]
fn the_provider_of_the_process_is_not_asked() {
    NOBODY.install_default().expect("the first");
    let specimen = catch_unwind(|| {
        let key = DecodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key");
        jsonwebtoken::crypto::verify("AAAA", b"message", &key, Algorithm::RS256).is_ok()
    });
    assert!(specimen.is_err(), "jsonwebtoken panics");

    for (key, signer) in pairs() {
        let token = signer.sign(&header(signer.name, None), &claims());
        assert_eq!(refusal(&resolver(key), &token), None, "{}", signer.name);
    }
    JwtKey::rs256_pem(RSA_PKCS1).expect("a key");
}
