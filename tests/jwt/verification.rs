//! The signature, and the header that says how it was made.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tenantry::ResolveErrorKind::{TokenAlgorithm, TokenKey, TokenMalformed, TokenSignature};
use tenantry::jwt::{JwtKey, JwtKeySet};

use crate::issuer::*;

#[test]
fn a_token_of_each_algorithm_says_who_acts() {
    for (key, signer) in pairs() {
        let resolver = resolver(key.id("k"));
        let token = signer.sign(&header(signer.name, Some("k")), &claims());
        let context = resolver.verify(&token).expect(signer.name);
        assert_eq!(context.tenant().as_str(), "acme", "{}", signer.name);
        assert_eq!(context.user_id(), Some("user-1"), "{}", signer.name);
    }
}

#[test]
fn tokens_as_jsonwebtoken_writes_them_count() {
    let resolver = resolver(hs256().id("k"));
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k".to_owned());
    let key = EncodingKey::from_secret(SECRET);
    // It asks the provider of the process: this one, unless the build has two.
    let _ = aws_lc::DEFAULT_PROVIDER.install_default();
    let token = jsonwebtoken::encode(&header, &claims(), &key).expect("signed");
    assert_eq!(refusal(&resolver, &token), None);
}

#[test]
fn none_is_no_algorithm_however_it_is_spelt() {
    for (key, signer) in pairs() {
        let resolver = resolver(key.id("k"));
        let good = signer.sign(&header(signer.name, Some("k")), &claims());
        let signature = good.rsplit_once('.').expect("three parts").1;
        for none in [
            "none",
            "None",
            "NONE",
            "nOnE",
            "none ",
            "",
            "NULL",
            "noñe",
            "none\u{0}",
        ] {
            for kid in [None, Some("k"), Some("unknown")] {
                let message = message(&header(none, kid), &claims());
                for signature in ["", signature] {
                    let token = format!("{message}.{signature}");
                    assert_eq!(refusal(&resolver, &token), Some(TokenAlgorithm), "{none:?}");
                }
            }
        }
        for none in [json!(null), json!(0), json!(["none"]), json!({})] {
            let message = message(&json!({"alg": none}), &claims());
            let token = format!("{message}.");
            assert_eq!(refusal(&resolver, &token), Some(TokenMalformed));
        }
        let token = format!("{}.", message(&json!({"typ": "JWT"}), &claims()));
        assert_eq!(refusal(&resolver, &token), Some(TokenMalformed));
    }
}

/// Whoever has the public key, which is everybody, takes it for the secret of an HMAC.
#[test]
fn a_public_key_is_no_secret() {
    let der = STANDARD
        .decode(
            RSA.lines()
                .filter(|line| !line.contains('-'))
                .collect::<String>(),
        )
        .expect("base64");
    let pkcs1_der = STANDARD
        .decode(
            RSA_PKCS1
                .lines()
                .filter(|line| !line.contains('-'))
                .collect::<String>(),
        )
        .expect("base64");
    let forms = [
        RSA.as_bytes(),
        RSA.trim_end().as_bytes(),
        RSA_PKCS1.as_bytes(),
        RSA_PKCS1.trim_end().as_bytes(),
        &der,
        &pkcs1_der,
    ];
    let alone = resolver(rsa().id("rsa"));
    let with_hs256 = JwtKeySet::new([rsa().id("rsa"), hs256().id("hs")]).expect("keys");
    let with_hs256 = builder().keys(with_hs256).build().expect("complete");
    for form in forms {
        let signer = Signer::hs256(form);
        for (resolver, kid, refused) in [
            (&alone, None, TokenAlgorithm),
            (&alone, Some("rsa"), TokenAlgorithm),
            (&alone, Some("hs"), TokenKey),
            (&with_hs256, Some("rsa"), TokenAlgorithm),
            (&with_hs256, Some("hs"), TokenSignature),
            (&with_hs256, None, TokenKey),
        ] {
            let token = signer.sign(&header("HS256", kid), &claims());
            assert_eq!(refusal(resolver, &token), Some(refused), "{kid:?}");
        }
    }
    for (public, name) in [(P256, "p256"), (ED25519, "ed25519")] {
        let resolver = resolver(match name {
            "p256" => JwtKey::es256_pem(public).expect("a key"),
            _ => JwtKey::ed25519_pem(public).expect("a key"),
        });
        let token = Signer::hs256(public.as_bytes()).sign(&header("HS256", None), &claims());
        assert_eq!(refusal(&resolver, &token), Some(TokenAlgorithm));
    }
}

#[test]
fn a_key_is_for_its_own_algorithm() {
    let names = [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
        "ES384", "ES512", "ES256K", "EdDSA", "Ed25519", "hs256", "rs256", " RS256",
    ];
    for (key, signer) in pairs() {
        let resolver = resolver(key);
        for name in names.into_iter().filter(|name| *name != signer.name) {
            let token = signer.sign(&header(name, None), &claims());
            assert_eq!(refusal(&resolver, &token), Some(TokenAlgorithm), "{name}");
        }
    }
    // Signed as it says, with the right key, by an algorithm that the key is not for.
    for (algorithm, name) in [
        (Algorithm::RS384, "RS384"),
        (Algorithm::RS512, "RS512"),
        (Algorithm::PS256, "PS256"),
    ] {
        let signer = Signer {
            algorithm,
            name,
            ..Signer::rsa(pem!("rsa_ours.pem"))
        };
        let token = signer.sign(&header(name, None), &claims());
        assert_eq!(refusal(&resolver(rsa()), &token), Some(TokenAlgorithm));
    }
    let signer = Signer {
        algorithm: Algorithm::HS512,
        name: "HS512",
        ..Signer::hs256(SECRET)
    };
    let token = signer.sign(&header("HS512", None), &claims());
    assert_eq!(refusal(&resolver(hs256()), &token), Some(TokenAlgorithm));
}

#[test]
fn a_signature_that_is_not_of_the_key_is_refused() {
    let theirs = Signer::rsa(pem!("rsa_theirs.pem"));
    for kid in [None, Some("k")] {
        let token = theirs.sign(&header("RS256", kid), &claims());
        assert_eq!(
            refusal(&resolver(rsa().id("k")), &token),
            Some(TokenSignature)
        );
        let token = Signer::hs256(OTHER_SECRET).sign(&header("HS256", kid), &claims());
        assert_eq!(
            refusal(&resolver(hs256().id("k")), &token),
            Some(TokenSignature)
        );
    }
    for (key, signer) in pairs() {
        let resolver = resolver(key);
        let token = signer.sign(&header(signer.name, None), &claims());
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        for signature in [Vec::new(), vec![0; bytes.len()], bytes[1..].to_vec(), {
            bytes[7] ^= 1;
            bytes.clone()
        }] {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            assert_eq!(
                refusal(&resolver, &token),
                Some(TokenSignature),
                "{}",
                signer.name
            );
        }
        // The signature of one token under the claims of another.
        let mut others = claims();
        others["org"] = json!("globex");
        let forged = format!(
            "{}.{signature}",
            crate::issuer::message(&header(signer.name, None), &others)
        );
        assert_eq!(refusal(&resolver, &forged), Some(TokenSignature));
    }
}

#[test]
fn the_signature_is_looked_at_before_the_claims() {
    let mut expired = claims();
    expired["exp"] = json!(1);
    let token = Signer::hs256(OTHER_SECRET).sign(&header("HS256", None), &expired);
    assert_eq!(refusal(&resolver(hs256()), &token), Some(TokenSignature));
}

#[test]
fn keys_and_addresses_that_a_token_brings_are_not_followed() {
    let theirs = Signer::rsa(pem!("rsa_theirs.pem"));
    let brought = [
        ("jku", json!("http://127.0.0.1:9/keys")),
        ("x5u", json!("http://127.0.0.1:9/chain")),
        ("x5c", json!([pem!("rsa_ours.crt")])),
        (
            "jwk",
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "k"}),
        ),
        ("jwk", json!({"kty": "oct", "k": "AAAA"})),
        ("jwk", json!(7)),
        ("cty", json!("JWT")),
        ("zip", json!("DEF")),
        ("b64", json!(false)),
    ];
    for (member, value) in brought {
        let mut header = header("RS256", Some("k"));
        header[member] = value;
        let forged = theirs.sign(&header, &claims());
        let resolver = resolver(rsa().id("k"));
        assert_eq!(
            refusal(&resolver, &forged),
            Some(TokenSignature),
            "{member}"
        );
        let genuine = Signer::rsa(pem!("rsa_ours.pem")).sign(&header, &claims());
        assert_eq!(refusal(&resolver, &genuine), None, "{member}");
    }
}

#[test]
fn an_extension_that_must_be_understood_is_refused() {
    let resolver = resolver(hs256());
    for crit in [
        json!(["b64"]),
        json!(["exp"]),
        json!([]),
        json!(null),
        json!("x"),
        json!(7),
    ] {
        let mut header = header("HS256", None);
        header["crit"] = crit;
        let token = Signer::hs256(SECRET).sign(&header, &claims());
        assert_eq!(refusal(&resolver, &token), Some(TokenMalformed));
    }
}
