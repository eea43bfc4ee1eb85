//! The set of keys, and what is none.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tenantry::ErrorKind;
use tenantry::ResolveErrorKind::{TokenKey, TokenMalformed, TokenSignature, Unavailable};
use tenantry::jwt::{JwtKey, JwtKeySet};

use crate::issuer::*;

fn token(kid: Option<&str>, secret: &[u8]) -> String {
    Signer::hs256(secret).sign(&header("HS256", kid), &claims())
}

fn other() -> JwtKey {
    JwtKey::hs256(OTHER_SECRET).expect("a key")
}

#[test]
fn a_token_is_verified_with_the_key_that_it_names() {
    let keys = JwtKeySet::new([hs256().id("a"), other().id("b")]).expect("keys");
    let resolver = builder().keys(keys).build().expect("complete");
    assert_eq!(refusal(&resolver, &token(Some("a"), SECRET)), None);
    assert_eq!(refusal(&resolver, &token(Some("b"), OTHER_SECRET)), None);
    assert_eq!(
        refusal(&resolver, &token(Some("b"), SECRET)),
        Some(TokenSignature)
    );
    for unknown in ["", "c", "A", "a ", "a\u{0}", "../a", "' or 1=1"] {
        assert_eq!(
            refusal(&resolver, &token(Some(unknown), SECRET)),
            Some(TokenKey)
        );
    }
    assert_eq!(
        refusal(&resolver, &token(None, SECRET)),
        Some(TokenKey),
        "which?"
    );
}

#[test]
fn a_token_without_an_id_needs_a_set_of_one() {
    for key in [hs256(), hs256().id("a")] {
        assert_eq!(refusal(&resolver(key), &token(None, SECRET)), None);
    }
    assert_eq!(
        refusal(&resolver(hs256().id("a")), &token(Some("a"), SECRET)),
        None
    );
    assert_eq!(
        refusal(&resolver(hs256()), &token(Some("a"), SECRET)),
        Some(TokenKey)
    );
}

#[test]
fn an_id_is_one_text() {
    let resolver = resolver(hs256().id("a"));
    for kid in [json!(null), json!(1), json!(["a"]), json!({"a": "a"})] {
        let mut header = header("HS256", None);
        header["kid"] = kid;
        let token = Signer::hs256(SECRET).sign(&header, &claims());
        assert_eq!(refusal(&resolver, &token), Some(TokenMalformed));
    }
    for twice in [
        r#"{"alg":"HS256","kid":"a","kid":"a"}"#,
        r#"{"alg":"HS256","kid":"b","k\u0069d":"a"}"#,
        r#"{"alg":"none","alg":"HS256","kid":"a"}"#,
        r#"{"alg":"HS256","alg":"none","kid":"a"}"#,
    ] {
        let token = Signer::hs256(SECRET).sign_text(twice, &claims().to_string());
        assert_eq!(refusal(&resolver, &token), Some(TokenMalformed), "{twice}");
    }
}

#[test]
fn a_set_has_one_key_for_an_id() {
    for keys in [
        vec![],
        vec![hs256().id("a"), other().id("a")],
        vec![hs256().id("a"), other()],
        vec![hs256(), other()],
    ] {
        let kept = JwtKeySet::new([hs256().id("kept")]).expect("a key");
        for error in [
            JwtKeySet::new(keys.clone()).expect_err("refused"),
            kept.replace(keys).expect_err("refused"),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
        }
        let resolver = builder().keys(kept).build().expect("complete");
        assert_eq!(refusal(&resolver, &token(Some("kept"), SECRET)), None);
    }
}

#[test]
fn keys_are_replaced_while_a_resolver_uses_them() {
    let keys = JwtKeySet::default();
    let resolver = builder().keys(keys.clone()).build().expect("complete");
    let (old, new) = (token(Some("old"), SECRET), token(Some("new"), OTHER_SECRET));
    let seen = || (refusal(&resolver, &old), refusal(&resolver, &new));
    assert_eq!(seen(), (Some(Unavailable), Some(Unavailable)));
    keys.replace([hs256().id("old")]).expect("a key");
    assert_eq!(seen(), (None, Some(TokenKey)));
    keys.replace([hs256().id("old"), other().id("new")])
        .expect("keys");
    assert_eq!(seen(), (None, None));
    keys.replace([other().id("new")]).expect("a key");
    assert_eq!(seen(), (Some(TokenKey), None));
}

#[test]
fn a_key_that_stays_is_there_throughout() {
    let keys = JwtKeySet::new([hs256().id("stays")]).expect("a key");
    let resolver = builder().keys(keys.clone()).build().expect("complete");
    let token = token(Some("stays"), SECRET);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..500 {
                let next = other().id(format!("next-{round}"));
                keys.replace([next, hs256().id("stays")]).expect("keys");
            }
            over.store(true, Ordering::Release);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    assert_eq!(refusal(&resolver, &token), None);
                }
            });
        }
    });
}

#[test]
fn what_is_no_key_is_refused() {
    for secret in [&b""[..], b"secret", &[7; 31]] {
        refused(JwtKey::hs256(secret));
    }
    JwtKey::hs256(&[7; 32]).expect("long enough");
    for public in [RSA, RSA_PKCS1, P256, ED25519] {
        refused(JwtKey::hs256(public.as_bytes()));
        refused(JwtKey::hs256(format!("\n {public}").as_bytes()));
    }
    let private = [pem!("rsa_ours.pem"), pem!("p256.pem"), pem!("ed25519.pem")];
    let certificates = [pem!("rsa_ours.crt"), pem!("p256.crt")];
    let foreign = [
        pem!("p384.pub.pem"),
        pem!("secp256k1.pub.pem"),
        pem!("ed448.pub.pem"),
        pem!("rsa_1024.pub.pem"),
    ];
    let cut: String = RSA
        .lines()
        .take(3)
        .chain(["-----END PUBLIC KEY-----"])
        .collect();
    let two = format!("{RSA}{RSA}");
    let odd = ["", "-----BEGIN PUBLIC KEY-----", "x", &cut, &two];
    for pem in private
        .into_iter()
        .chain(certificates)
        .chain(foreign)
        .chain(odd)
    {
        refused(JwtKey::rs256_pem(pem));
        refused(JwtKey::es256_pem(pem));
        refused(JwtKey::ed25519_pem(pem));
    }
    refused(JwtKey::rs256_pem(P256));
    refused(JwtKey::rs256_pem(ED25519));
    refused(JwtKey::es256_pem(RSA));
    refused(JwtKey::es256_pem(ED25519));
    refused(JwtKey::ed25519_pem(P256));
    refused(JwtKey::ed25519_pem(RSA));

    // With the line ends of other systems, and what editors leave at the end.
    for (pem, make) in [
        (RSA, JwtKey::rs256_pem as fn(&str) -> _),
        (RSA_PKCS1, JwtKey::rs256_pem),
        (P256, JwtKey::es256_pem),
        (ED25519, JwtKey::ed25519_pem),
    ] {
        for pem in [
            pem.replace('\n', "\r\n"),
            pem.trim().to_owned(),
            format!("\n{pem}\n\n"),
        ] {
            make(&pem).expect("a key");
        }
    }
}

fn refused(key: Result<JwtKey, tenantry::Error>) {
    let error = key.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
}

#[test]
fn no_key_is_shown() {
    let key = JwtKey::hs256(SECRET).expect("a key").id("a");
    let keys = JwtKeySet::new([key.clone(), rsa().id("r")]).expect("keys");
    let complete = builder().keys(keys.clone());
    let resolver = complete.clone().build().expect("complete");
    let texts = format!(
        "{key:?} {keys:?} {complete:?} {resolver:?} {:?}",
        builder().key(key.clone())
    );
    assert!(texts.contains("HS256"), "{texts}");
    for form in [
        String::from_utf8_lossy(SECRET).into_owned(),
        STANDARD.encode(SECRET),
        format!("{SECRET:?}"),
        "48, 49, 50".to_owned(),
        RSA.lines().nth(2).expect("a key").to_owned(),
    ] {
        assert!(!texts.contains(&form), "{texts}");
    }
}
