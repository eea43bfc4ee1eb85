//! Tokens: any text, any claims that were signed, and any header that was signed as well.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tenantry::jwt::{JwtKey, JwtResolver};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

static RESOLVER: LazyLock<JwtResolver> = LazyLock::new(|| {
    JwtResolver::builder()
        .issuer("i")
        .audience("a")
        .key(JwtKey::hs256(SECRET).expect("a key").id("k"))
        .build()
        .expect("complete")
});

fuzz_target!(|input: &[u8]| {
    // The claims, and behind a NUL byte the header.
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let claims = parts.next().unwrap_or_default();

    if let Ok(text) = std::str::from_utf8(claims) {
        assert!(RESOLVER.verify(text).is_err(), "nobody signed it");
    }

    let header = parts.next().unwrap_or(br#"{"alg":"HS256","kid":"k"}"#);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signer = (aws_lc::DEFAULT_PROVIDER.signer_factory)(&Algorithm::HS256, &key);
    let signature = signer.expect("a key").sign(message.as_bytes());
    if let Ok(context) = RESOLVER.verify(&format!("{message}.{}", encode(&signature))) {
        // What counted is what another reader finds there.
        let header: Value = serde_json::from_slice(header).expect("JSON");
        assert_eq!(header["alg"], "HS256");
        assert!(header.get("kid").is_none_or(|kid| kid == "k"));
        assert!(header.get("crit").is_none());
        let claims: Value = serde_json::from_slice(claims).expect("JSON");
        assert_eq!(claims["iss"], "i");
        assert!(
            claims["aud"] == "a"
                || claims["aud"]
                    .as_array()
                    .expect("names")
                    .contains(&"a".into())
        );
        assert!(claims["exp"].as_f64().expect("a time") > 1.7e9);
        assert_eq!(claims["org"], context.tenant().as_str());
        assert_eq!(claims["sub"], context.user_id().expect("a user"));
    }
});
