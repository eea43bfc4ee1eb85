//! The keys that an issuer publishes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tenantry::ErrorKind;
use tenantry::ResolveErrorKind::{TokenAlgorithm, TokenKey};
use tenantry::jwt::{JwtKey, JwtKeySet};

use crate::issuer::*;

/// The numbers of the public keys, as an issuer publishes them.
fn entry(kid: &str) -> Value {
    let der = |pem: &str| {
        let text: String = pem.lines().filter(|line| !line.contains('-')).collect();
        STANDARD.decode(text).expect("base64")
    };
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match kid {
        "rsa" => {
            // SEQUENCE (4) INTEGER (4) 0, 256 bytes of n, INTEGER (2) e
            let der = der(RSA_PKCS1);
            json!({"kty": "RSA", "n": encode(&der[9..265]), "e": encode(&der[267..]), "kid": kid})
        }
        "p256" => {
            let der = der(P256);
            json!({"kty": "EC", "crv": "P-256", "x": encode(&der[27..59]), "y": encode(&der[59..]), "kid": kid})
        }
        _ => {
            let der = der(ED25519);
            json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&der[12..]), "kid": kid})
        }
    }
}

fn set(entries: &[Value]) -> String {
    json!({ "keys": entries }).to_string()
}

#[test]
fn the_keys_of_an_issuer_verify_its_tokens() {
    let text = set(&[entry("rsa"), entry("p256"), entry("ed25519")]);
    let keys = JwtKeySet::new(JwtKey::from_jwks(&text).expect("keys")).expect("three ids");
    let resolver = builder().keys(keys).build().expect("complete");
    for (kid, signer) in [
        ("rsa", Signer::rsa(pem!("rsa_ours.pem"))),
        ("p256", Signer::es256()),
        ("ed25519", Signer::eddsa()),
    ] {
        let token = signer.sign(&header(signer.name, Some(kid)), &claims());
        assert_eq!(refusal(&resolver, &token), None, "{kid}");
        for other in ["rsa", "p256", "ed25519", "none"] {
            if other != kid {
                let token = signer.sign(&header(signer.name, Some(other)), &claims());
                assert!(matches!(
                    refusal(&resolver, &token),
                    Some(TokenAlgorithm | TokenKey)
                ));
            }
        }
    }
}

#[test]
fn zeros_in_front_of_a_number_do_not_matter() {
    let mut padded = entry("rsa");
    for number in ["n", "e"] {
        let bytes = URL_SAFE_NO_PAD.decode(padded[number].as_str().expect("text"));
        let longer = [vec![0; 3], bytes.expect("base64")].concat();
        padded[number] = json!(URL_SAFE_NO_PAD.encode(longer));
    }
    let key = JwtKey::from_jwks(&set(&[padded])).expect("a key").remove(0);
    let token = Signer::rsa(pem!("rsa_ours.pem")).sign(&header("RS256", None), &claims());
    assert_eq!(refusal(&resolver(key), &token), None);
}

#[test]
fn keys_that_are_not_for_us_are_passed_over() {
    let with = |kid: &str, member: &str, value: Value| {
        let mut entry = entry(kid);
        entry[member] = value;
        entry
    };
    let not_ours = [
        with("rsa", "use", json!("enc")),
        with("rsa", "use", json!(7)),
        with("rsa", "alg", json!("RS512")),
        with("rsa", "alg", json!("RSA-OAEP")),
        with("rsa", "key_ops", json!(["encrypt"])),
        with("rsa", "key_ops", json!("verify")),
        with("rsa", "n", json!("AQAB")),
        with("rsa", "e", json!("AQ")),
        with("rsa", "e", json!("Ag")),
        with("rsa", "n", json!("not base64!")),
        with("rsa", "kty", json!("rsa")),
        with("rsa", "kid", json!(7)),
        with("p256", "crv", json!("P-384")),
        with("p256", "alg", json!("ES384")),
        with("p256", "x", json!("AA")),
        with("ed25519", "crv", json!("X25519")),
        with("ed25519", "x", json!("AA")),
        json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "alg": "HS256", "kid": "oct"}),
        json!({"kty": "AKP"}),
        json!({}),
        json!("RSA"),
        json!(null),
    ];
    for entry in &not_ours {
        let error = JwtKey::from_jwks(&set(std::slice::from_ref(entry))).expect_err("none");
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{entry}");
    }
    let all: Vec<Value> = not_ours.into_iter().chain([entry("rsa")]).collect();
    assert_eq!(JwtKey::from_jwks(&set(&all)).expect("one").len(), 1);
    let ours = [
        with("rsa", "use", json!("sig")),
        with("rsa", "alg", json!("RS256")),
        with("rsa", "key_ops", json!(["sign", "verify"])),
        with("rsa", "x5c", json!(["AAAA"])),
    ];
    assert_eq!(
        JwtKey::from_jwks(&set(&ours)).expect("all").len(),
        ours.len()
    );
}

#[test]
fn what_is_no_key_set_is_refused() {
    let mut private = entry("p256");
    private["d"] = json!("AAAA");
    let published = set(&[entry("rsa"), private]);
    for text in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"keys":{}}"#,
        r#"{"keys":[]}"#,
        "{",
        &published,
    ] {
        let error = JwtKey::from_jwks(text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{text}");
    }
    let twice = JwtKey::from_jwks(&set(&[entry("rsa"), entry("rsa")])).expect("two");
    assert!(JwtKeySet::new(twice).is_err());
}
