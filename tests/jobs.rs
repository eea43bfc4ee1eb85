//! What is put into a queue says whose it is, and is bound anew when it is taken out.

mod support;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use support::{notes, tenant, world};
use tenantry::{
    ErrorKind, Platform, PlatformJob, StaticDirectory, TenantContext, TenantJob, TenantRegistry,
    TenantState,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Invoice {
    number: i64,
    note: Option<String>,
}

fn invoice() -> Invoice {
    Invoice {
        number: 12,
        note: Some("c4n4ry \"note\" \\ \u{e4}".to_owned()),
    }
}

fn job() -> TenantJob<Invoice> {
    let context = TenantContext::new(tenant("a"))
        .user("c4n4ry user")
        .setting("app.role", "c4n4ry role");
    TenantJob::new(context, invoice())
}

/// What is stored in a queue today must be readable by the release of tomorrow.
#[test]
fn job_comes_back_whole_and_its_form_stays() {
    let text = serde_json::to_string(&job()).expect("written");
    let back: TenantJob<Invoice> = serde_json::from_str(&text).expect(&text);
    assert_eq!(back, job());
    let form = json!({
        "context": {
            "tenant": "a",
            "user": "c4n4ry user",
            "settings": { "app.role": "c4n4ry role" },
        },
        "payload": { "number": 12, "note": "c4n4ry \"note\" \\ \u{e4}" },
    });
    assert_eq!(serde_json::to_value(job()).expect("written"), form);
    let back: TenantJob<Invoice> = serde_json::from_value(form).expect("read");
    assert_eq!(back, job());

    let platform = PlatformJob::new(Platform, invoice());
    let form = json!({ "platform": null, "payload": { "number": 12, "note": invoice().note } });
    assert_eq!(serde_json::to_value(&platform).expect("written"), form);
    let back: PlatformJob<Invoice> = serde_json::from_value(form).expect("read");
    assert_eq!(back, platform);
    assert_eq!(back.into_payload(), invoice());
}

#[test]
fn job_without_its_tenant_is_not_read() {
    for payload in [
        r#"{"payload": {"number": 12}}"#,
        r#"{"context": null, "payload": {"number": 12}}"#,
        r#"{"context": {}, "payload": {"number": 12}}"#,
        r#"{"context": {"user": "c4n4ry"}, "payload": {"number": 12}}"#,
        r#"{"context": {"tenant": ""}, "payload": {"number": 12}}"#,
        r#"{"context": {"tenant": "c4n4ry'"}, "payload": {"number": 12}}"#,
        r#"{"context": "c4n4ry", "payload": {"number": 12}}"#,
        r#"{"tenant": "a", "payload": {"number": 12}}"#,
        r#"{"context": {"tenant": "a"}, "context": {"tenant": "b"}, "payload": {"number": 12}}"#,
        r#"{"context": {"tenant": "a"}}"#,
        // The platform's own is no tenant's.
        r#"{"platform": null, "payload": {"number": 12}}"#,
        // A field that this release does not know may be the one that narrows the job down.
        r#"{"context": {"tenant": "a"}, "payload": {"number": 12}, "only": "c4n4ry"}"#,
        r#"{"context": {"tenant": "a", "only": "c4n4ry"}, "payload": {"number": 12}}"#,
    ] {
        let error = serde_json::from_str::<TenantJob<Invoice>>(payload).expect_err(payload);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("c4n4ry"), "{payload}: {text}");
    }
    // Fields of the payload are the payload's own affair.
    let more = r#"{"context": {"tenant": "a"}, "payload": {"number": 12, "more": true}}"#;
    let read: TenantJob<Invoice> = serde_json::from_str(more).expect("read");
    assert_eq!(read.context().tenant(), &tenant("a"));
}

#[test]
fn job_is_not_the_platforms_by_default() {
    for payload in [
        r#"{"payload": {"number": 12}}"#,
        r#"{"platform": true, "payload": {"number": 12}}"#,
        r#"{"platform": "c4n4ry", "payload": {"number": 12}}"#,
        r#"{"context": {"tenant": "a"}, "payload": {"number": 12}}"#,
        r#"{"platform": null, "context": {"tenant": "a"}, "payload": {"number": 12}}"#,
        r#"{"platform": null, "payload": {"number": 12}, "tenant": "a"}"#,
    ] {
        serde_json::from_str::<PlatformJob<Invoice>>(payload).expect_err(payload);
    }
}

#[test]
fn debug_shows_no_payload() {
    let shown = format!("{:?}", job());
    assert!(shown.contains("\"a\""), "{shown}");
    assert!(
        !shown.contains("c4n4ry") && !shown.contains("12"),
        "{shown}"
    );
    let shown = format!("{:?}", PlatformJob::new(Platform, invoice()));
    assert!(
        !shown.contains("c4n4ry") && !shown.contains("12"),
        "{shown}"
    );
}

#[tokio::test]
async fn job_is_bound_when_it_is_done_and_not_when_it_was_queued() {
    let world = world(&["a", "b"]).await;
    let directory = StaticDirectory::new().shared(world.app.clone(), [tenant("a"), tenant("b")]);
    let registry = TenantRegistry::builder(directory.clone())
        .build()
        .await
        .expect("a registry");
    let of = |id: &str| TenantJob::new(TenantContext::new(tenant(id)).user(7), invoice());
    let queued = serde_json::to_string(&of("a")).expect("written");
    let read = || serde_json::from_str::<TenantJob<Invoice>>(&queued).expect("read");

    let (scope, payload) = read().bind(&registry).await.expect("bound");
    assert_eq!(payload, invoice());
    assert_eq!(scope.context(), of("a").context());
    // The scope is the job's: it can be sent to wherever the work is done.
    let done = tokio::spawn(async move { notes(&scope).await });
    assert_eq!(
        done.await.expect("no panic").expect("served"),
        ["a note of a"]
    );

    for (state, kind) in [
        (TenantState::Suspended, ErrorKind::TenantSuspended),
        (TenantState::Moving, ErrorKind::TenantMoving),
        (TenantState::Deleted, ErrorKind::TenantDeleted),
    ] {
        assert!(directory.set_state(&tenant("a"), state));
        let mut bound = read().bind(&registry).await;
        // The registry hears of it in a moment. The bound is for a test that fails.
        for _ in 0..1_000 {
            if bound.as_ref().is_err_and(|error| error.kind() == kind) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            bound = read().bind(&registry).await;
        }
        let error = bound.expect_err("not served");
        assert_eq!(error.kind(), kind);
        assert!(
            !format!("{error:?} {error}").contains("c4n4ry"),
            "{error:?}"
        );
        let (b, _) = of("b").bind(&registry).await.expect("others are served");
        assert_eq!(notes(&b).await.expect("served"), ["a note of b"]);
    }
    assert!(directory.set_state(&tenant("a"), TenantState::Active));
    let (scope, _) = read().bind(&registry).await.expect("bound");
    assert_eq!(notes(&scope).await.expect("served"), ["a note of a"]);

    let unknown = of("nobody").bind(&registry).await.expect_err("unknown");
    assert!(unknown.is_tenant_unknown(), "{unknown:?}");
}
