//! The text of a token.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;
use tenantry::ResolveErrorKind::TokenMalformed;

use crate::issuer::*;

fn good() -> String {
    Signer::hs256(SECRET).sign(&header("HS256", None), &claims())
}

#[test]
fn a_token_has_three_parts_in_one_form_of_base64() {
    let resolver = resolver(hs256());
    let good = good();
    let parts: Vec<&str> = good.split('.').collect();
    let [head, payload, signature] = parts[..] else {
        panic!("three parts");
    };
    assert_eq!(refusal(&resolver, &good), None);
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        head.to_owned(),
        format!("{head}.{payload}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{head}..{payload}.{signature}"),
        format!("{head}.{payload}.{signature}.{signature}.{signature}"),
        format!("{head}=.{payload}.{signature}"),
        format!("{head}.{payload}.{signature}="),
        format!("{good}\n"),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}\u{0}"),
        format!("{head}.{payload}.{}", STANDARD.encode([0xfb; 32])),
        format!("\u{fe0f}.{payload}.{signature}"),
    ] {
        assert_eq!(refusal(&resolver, &bad), Some(TokenMalformed), "{bad}");
    }
}

#[test]
fn what_is_not_utf_8_is_refused() {
    let resolver = resolver(hs256());
    let signer = Signer::hs256(SECRET);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = header("HS256", None).to_string();
    let claims = claims().to_string();
    let broken = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.truncate(bytes.len() - 1);
        bytes.extend_from_slice(b",\"ignored\":\"\xff\"}");
        bytes
    };
    let token = signer.sign_message(&format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(&broken(&claims))
    ));
    assert_eq!(refusal(&resolver, &token), Some(TokenMalformed));
    let token = signer.sign_message(&format!(
        "{}.{}",
        encode(&broken(&header)),
        encode(claims.as_bytes())
    ));
    assert_eq!(refusal(&resolver, &token), Some(TokenMalformed));
    // Signed, and yet no base64.
    let token = signer.sign_message(&format!("{}.{}", encode(header.as_bytes()), "not+base/64"));
    assert_eq!(refusal(&resolver, &token), Some(TokenMalformed));
}

#[test]
fn a_token_that_is_too_long_is_refused_unread() {
    let with = |length: usize, max: Option<usize>| {
        let mut claims = claims();
        claims["padding"] = json!("x".repeat(length));
        let token = Signer::hs256(SECRET).sign(&header("HS256", None), &claims);
        let mut builder = builder().key(hs256());
        if let Some(max) = max {
            builder = builder.max_token_bytes(max.min(token.len()));
        }
        refusal(&builder.build().expect("complete"), &token)
    };
    assert_eq!(with(1_000, None), None);
    assert_eq!(with(8_192, None), Some(TokenMalformed));
    assert_eq!(with(20_000, Some(usize::MAX)), None);
    // Before anything is read: even `none` is not noticed.
    let token = format!(
        "{}.",
        message(&json!({"alg": "none", "x": "x".repeat(8_192)}), &claims())
    );
    assert_eq!(refusal(&resolver(hs256()), &token), Some(TokenMalformed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// There is one text for each token: a change anywhere is noticed.
    #[test]
    fn no_token_counts_that_was_changed(
        at in any::<prop::sample::Index>(),
        deleted in 0_usize..3,
        inserted in "[A-Za-z0-9_.=+/ -]{0,2}",
    ) {
        let good = good();
        let at = at.index(good.len() + 1);
        let end = (at + deleted).min(good.len());
        let changed = [&good[..at], &inserted, &good[end..]].concat();
        if changed != good {
            prop_assert!(refusal(&resolver(hs256()), &changed).is_some(), "{}", changed);
        }
    }

    #[test]
    fn nothing_makes_it_panic(text in ".*", header in ".*", payload in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
        let resolver = resolver(hs256());
        prop_assert!(refusal(&resolver, &text).is_some());
        let signer = Signer::hs256(SECRET);
        prop_assert!(refusal(&resolver, &signer.sign_text(&header, &payload)).is_some());
        let good = self::header("HS256", None).to_string();
        prop_assert!(refusal(&resolver, &signer.sign_text(&good, &payload)).is_some());
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(good), URL_SAFE_NO_PAD.encode(bytes));
        prop_assert!(refusal(&resolver, &signer.sign_message(&message)).is_some());
    }

    /// Whoever it is that a signed token names, it is who comes out.
    #[test]
    fn the_organisation_that_was_signed_comes_out(org in "[ -~]{0,70}", user in ".{0,300}") {
        let mut claims = claims();
        claims["org"] = json!(org);
        claims["sub"] = json!(user);
        let token = Signer::hs256(SECRET).sign(&header("HS256", None), &claims);
        if let Ok(context) = resolver(hs256()).verify(&token) {
            prop_assert_eq!(context.tenant().as_str(), org);
            prop_assert_eq!(context.user_id(), Some(&*user));
        }
    }
}
