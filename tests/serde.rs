//! A job carries its context in its payload: what goes in comes out, and what is not a context is
//! refused without a word of what it held.

use serde_json::json;
use tenantry::{TenantContext, TenantId};

fn context() -> TenantContext {
    TenantContext::new("acme".parse::<TenantId>().expect("an id"))
        .user("c4n4ry \"user\" \\ \u{e4}")
        .setting("app.role", "clerk")
        .setting("app.request", "")
}

fn refused(payload: &str) -> String {
    let error = serde_json::from_str::<TenantContext>(payload).expect_err(payload);
    format!("{error} {error:?}")
}

#[test]
fn context_comes_back_whole() {
    for context in [
        context(),
        TenantContext::new(7_u64),
        TenantContext::new(7_u64).setting("app.role", "clerk"),
    ] {
        let text = serde_json::to_string(&context).expect("written");
        let back: TenantContext = serde_json::from_str(&text).expect(&text);
        assert_eq!(back, context);
        let value = serde_json::to_value(&context).expect("written");
        let back: TenantContext = serde_json::from_value(value).expect(&text);
        assert_eq!(back, context);
    }
}

/// What is stored in a queue today must be readable by the release of tomorrow.
#[test]
fn form_of_a_context_stays() {
    let plain = json!({ "tenant": "7" });
    assert_eq!(
        serde_json::to_value(TenantContext::new(7_u64)).expect("written"),
        plain
    );
    let whole = json!({
        "tenant": "acme",
        "user": "c4n4ry \"user\" \\ \u{e4}",
        "settings": { "app.request": "", "app.role": "clerk" },
    });
    assert_eq!(serde_json::to_value(context()).expect("written"), whole);
}

#[test]
fn tenant_is_parsed_on_the_way_in() {
    let upper = json!({ "tenant": "AAAAAAAA-0000-4000-8000-000000000001" });
    let context: TenantContext = serde_json::from_value(upper).expect("a uuid");
    assert_eq!(
        context.tenant().as_str(),
        "aaaaaaaa-0000-4000-8000-000000000001"
    );
    for bad in [
        "",
        "a c4n4ry",
        "c4n4ry' OR true --",
        "c4n4ry\\u0000",
        &"c4n4ry".repeat(11),
    ] {
        let text = refused(&format!("{{\"tenant\": \"{bad}\"}}"));
        assert!(text.contains("a tenant id"), "{text}");
        assert!(!text.contains("c4n4ry"), "{text}");
    }
}

#[test]
fn what_is_no_context_is_refused_in_silence() {
    for payload in [
        // A field that this release does not know may be the one that narrows the context down.
        r#"{"tenant": "a", "scope": "c4n4ry"}"#,
        r#"{"user": "c4n4ry"}"#,
        r#"{"tenant": "a", "tenant": "c4n4ry"}"#,
        r#"{"tenant": "a", "user": "c4n4ry", "user": "c4n4ry"}"#,
        r#"{"tenant": "a", "user": 4711}"#,
        r#"{"tenant": "a", "user": ["c4n4ry"]}"#,
        r#"{"tenant": "a", "user": {"id": "c4n4ry"}}"#,
        r#"{"tenant": 4711}"#,
        r#"{"tenant": -47.11}"#,
        r#"{"tenant": null}"#,
        r#"{"tenant": "a", "settings": "c4n4ry"}"#,
        r#"{"tenant": "a", "settings": ["c4n4ry"]}"#,
        r#"{"tenant": "a", "settings": {"app.role": 4711}}"#,
        r#"{"tenant": "a", "settings": {"app.role": "clerk", "app.role": "c4n4ry"}}"#,
        r#"{"tenant": "a", "settings": {"app.role": ["c4n4ry"]}}"#,
        r#""c4n4ry""#,
        r#"["c4n4ry", "c4n4ry is no context"]"#,
        "4711",
        "true",
    ] {
        let text = refused(payload);
        for value in ["c4n4ry", "4711", "47.11"] {
            assert!(!text.contains(value), "{payload}: {text}");
        }
    }
}

#[test]
fn a_refusal_says_what_belongs_there() {
    for (payload, expected) in [
        (r#"["a"]"#, "expected a tenant context"),
        (r#"{"tenant": 4711}"#, "expected a string"),
        (
            r#"{"tenant": "a", "settings": {"app.role": null}}"#,
            "expected a string",
        ),
        (
            r#"{"tenant": "a", "settings": "app.role"}"#,
            "expected a map of settings",
        ),
    ] {
        let text = refused(payload);
        assert!(text.contains(expected), "{payload}: {text}");
    }
}
