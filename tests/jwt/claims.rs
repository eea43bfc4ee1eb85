//! What a token says, and what it leaves out.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry::ResolveErrorKind::{
    self, TokenAudience, TokenClaims, TokenExpired, TokenIssuer, TokenMalformed, TokenNotYetValid,
};

use crate::issuer::*;

/// What becomes of a token whose claims are the usual ones but for this one.
fn with(claim: &str, value: Value) -> Option<ResolveErrorKind> {
    let mut claims = claims();
    claims[claim] = value;
    outcome(&claims.to_string())
}

fn without(claim: &str) -> Option<ResolveErrorKind> {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(claim);
    outcome(&claims.to_string())
}

fn outcome(claims: &str) -> Option<ResolveErrorKind> {
    let token = Signer::hs256(SECRET).sign_text(&header("HS256", None).to_string(), claims);
    refusal(&resolver(hs256()), &token)
}

#[test]
fn a_token_has_its_time() {
    let now = now();
    assert_eq!(with("exp", json!(now + 3600)), None);
    assert_eq!(with("exp", json!(now as f64 + 3600.5)), None);
    assert_eq!(with("exp", json!(now - 60)), Some(TokenExpired));
    assert_eq!(with("exp", json!(now as f64 - 60.5)), Some(TokenExpired));
    assert_eq!(with("exp", json!(-1)), Some(TokenExpired));
    assert_eq!(
        with("exp", json!(now * 1000)),
        Some(TokenClaims),
        "milliseconds"
    );
    assert_eq!(without("exp"), Some(TokenClaims));
    assert_eq!(with("nbf", json!(now)), None);
    assert_eq!(with("nbf", json!(now + 3600)), Some(TokenNotYetValid));
    assert_eq!(with("nbf", json!("soon")), Some(TokenClaims));
    assert_eq!(with("iat", json!("whenever")), None);
}

#[test]
fn the_leeway_is_what_was_said() {
    let signer = Signer::hs256(SECRET);
    let mut claims = claims();
    claims["exp"] = json!(now() - 60);
    let token = signer.sign(&header("HS256", None), &claims);
    let with = |leeway| {
        let resolver = builder().key(hs256()).leeway(Duration::from_secs(leeway));
        refusal(&resolver.build().expect("complete"), &token)
    };
    assert_eq!(with(0), Some(TokenExpired));
    assert_eq!(with(300), None);
}

#[test]
fn a_token_is_of_our_issuer() {
    for other in [
        json!("https://id.example.test"),
        json!("https://ID.example.test/"),
        json!("https://id.example.test/\u{0}"),
        json!("https://evil.test/"),
        json!(""),
        json!([ISSUER]),
        json!({"iss": ISSUER}),
        json!(7),
        json!(null),
    ] {
        assert_eq!(with("iss", other.clone()), Some(TokenIssuer), "{other}");
    }
    assert_eq!(without("iss"), Some(TokenClaims));
}

#[test]
fn a_token_is_meant_for_us() {
    for ours in [
        json!(AUDIENCE),
        json!([AUDIENCE]),
        json!(["other", AUDIENCE]),
    ] {
        assert_eq!(with("aud", ours.clone()), None, "{ours}");
    }
    for other in [
        json!("https://api.example.test"),
        json!("https://api.example.test/v2"),
        json!([]),
        json!(["other"]),
        json!([[AUDIENCE]]),
        json!([7, AUDIENCE]),
        json!([null, AUDIENCE]),
        json!({"0": AUDIENCE}),
        json!({AUDIENCE: true}),
        json!(""),
        json!(7),
        json!(null),
    ] {
        assert_eq!(with("aud", other.clone()), Some(TokenAudience), "{other}");
    }
    assert_eq!(without("aud"), Some(TokenClaims));
    let two = builder()
        .audience("second")
        .key(hs256())
        .build()
        .expect("complete");
    for (audience, refused) in [
        ("second", None),
        (AUDIENCE, None),
        ("third", Some(TokenAudience)),
    ] {
        let mut claims = claims();
        claims["aud"] = json!(audience);
        let token = Signer::hs256(SECRET).sign(&header("HS256", None), &claims);
        assert_eq!(refusal(&two, &token), refused);
    }
}

#[test]
fn the_organisation_is_a_tenant_id() {
    assert_eq!(without("org"), Some(TokenClaims));
    for bad in [
        json!(""),
        json!(" "),
        json!(null),
        json!([]),
        json!(["acme"]),
        json!({}),
        json!({"id": "acme"}),
        json!(7),
        json!(true),
        json!("acme globex"),
        json!(" acme"),
        json!("acme\u{0}"),
        json!("../acme"),
        json!("acme'; --"),
        json!("\u{0430}cme"),
        json!("a".repeat(64)),
    ] {
        assert_eq!(with("org", bad.clone()), Some(TokenClaims), "{bad}");
    }
}

#[test]
fn the_user_is_a_text() {
    assert_eq!(without("sub"), Some(TokenClaims));
    for bad in [
        json!(""),
        json!(null),
        json!(7),
        json!(["u"]),
        json!({}),
        json!("a\u{0}"),
        json!("u".repeat(256)),
    ] {
        assert_eq!(with("sub", bad.clone()), Some(TokenClaims), "{bad}");
    }
    for good in ["u".repeat(255), "ü|auth0|' --".to_owned()] {
        assert_eq!(with("sub", json!(good)), None);
    }
}

#[test]
fn organisation_and_user_may_be_other_claims() {
    let resolver = builder()
        .key(hs256())
        .organisation_claim("https://example.test/org")
        .user_claim("uid")
        .build()
        .expect("complete");
    let mut claims = claims();
    claims["https://example.test/org"] = json!("globex");
    claims["uid"] = json!("u7");
    let token = Signer::hs256(SECRET).sign(&header("HS256", None), &claims);
    let context = resolver.verify(&token).expect("verified");
    assert_eq!(
        (context.tenant().as_str(), context.user_id()),
        ("globex", Some("u7"))
    );
    claims["https://example.test/org"] = json!(null);
    let token = Signer::hs256(SECRET).sign(&header("HS256", None), &claims);
    assert_eq!(
        refusal(&resolver, &token),
        Some(TokenClaims),
        "no other claim helps out"
    );
}

#[test]
fn no_claim_counts_that_is_there_twice() {
    let usual = claims();
    for claim in ["iss", "aud", "exp", "org", "sub"] {
        let usual = usual.as_object().expect("an object");
        let rest: Vec<String> = usual
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        let rest = rest.join(",");
        let escaped = format!("\\u{:04x}{}", u32::from(claim.as_bytes()[0]), &claim[1..]);
        for name in [claim, &escaped] {
            for value in [
                usual[claim].to_string(),
                "\"globex\"".to_owned(),
                "null".to_owned(),
            ] {
                for text in [
                    format!("{{{rest},\"{name}\":{value}}}"),
                    format!("{{\"{name}\":{value},{rest}}}"),
                ] {
                    assert_eq!(outcome(&text), Some(TokenMalformed), "{text}");
                }
            }
        }
        // Elsewhere it is another member.
        assert_eq!(
            outcome(&format!("{{{rest},\"act\":{{\"{claim}\":\"x\"}}}}")),
            None
        );
    }
    let early = format!(
        "{},\"nbf\":1,\"nbf\":1}}",
        usual.to_string().trim_end_matches('}')
    );
    assert_eq!(outcome(&early), Some(TokenMalformed));
}

#[test]
fn what_is_no_object_is_refused() {
    let usual = claims().to_string();
    let inner = usual.trim_matches(['{', '}']);
    let deep = format!(
        "{{{inner},\"x\":{}1{}}}",
        "[".repeat(3000),
        "]".repeat(3000)
    );
    let deep_org = format!(
        "{{{},\"org\":{}1{}}}",
        inner.replace("\"org\"", "\"o\""),
        "[".repeat(200),
        "]".repeat(200)
    );
    for text in [
        "",
        "null",
        "7",
        "\"text\"",
        "[]",
        "{",
        &format!("[{usual}]"),
        &format!("{usual} {usual}"),
        &format!("{usual}x"),
        &format!("\u{feff}{usual}"),
        &format!("{{{inner},}}"),
        &deep_org,
    ] {
        assert_eq!(outcome(text), Some(TokenMalformed), "{text}");
    }
    assert!(matches!(outcome(&deep), None | Some(TokenMalformed)));
    assert_eq!(
        outcome(&format!(" \n{usual}\t")),
        None,
        "space is no matter"
    );
    // The claims in the order of the members that are read.
    let list = format!(
        "[\"{AUDIENCE}\",{},\"{ISSUER}\",null,\"acme\",\"u\"]",
        now() + 60
    );
    assert_eq!(outcome(&list), Some(TokenMalformed));
}
