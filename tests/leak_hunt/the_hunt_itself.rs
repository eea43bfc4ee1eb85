//! What the hunt says of subjects whose faults are known.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tenantry::testing::leak_hunt::{Disturbance, FindingKind, LeakHunt, Report, Turn, subject};
use tenantry::{Error, TenantId};

use crate::stage::{self, Stage};
use crate::support::tenant;

fn hunt() -> LeakHunt {
    LeakHunt::new(["a", "b"].map(tenant)).ignore_environment()
}

/// A turn: whose it was, what was to be done, and what was drawn for it.
type Seen = (TenantId, &'static str, u64);

/// In memory, where nothing can go wrong.
async fn of_memory(hunt: LeakHunt) -> (Report, Vec<Seen>) {
    let turns: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let seen = Arc::clone(&turns);
    let report = hunt
        .run(subject(move |turn: Turn| {
            let seen = (turn.tenant().clone(), turn.operation(), turn.random());
            turns.lock().push(seen);
            async move {
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
                turn.saw(turn.canary());
                Ok::<_, Error>(())
            }
        }))
        .await;
    let seen = seen.lock().clone();
    (report, seen)
}

#[tokio::test]
async fn same_seed_makes_the_same_turns() {
    let run = |seed| of_memory(hunt().tasks(1).operations(400).seed(seed));
    let (first, turns) = run(1).await;
    let (_, again) = run(1).await;
    let (other, others) = run(2).await;
    first.assert_clean();
    assert_eq!(first.seed(), 1);
    assert_eq!(turns, again);
    assert_ne!(turns, others);
    assert!(other.ends().cancelled > 50, "{other}");
    assert!(other.ends().panicked > 5, "{other}");
}

#[tokio::test]
async fn calm_hunt_disturbs_nobody() {
    let (report, _) = of_memory(hunt().calm().operations(200)).await;
    assert_eq!(report.ends().done, report.operations(), "{report}");
}

#[tokio::test]
async fn each_finding_says_where_to_look() {
    let report = hunt()
        .seed(7)
        .tasks(2)
        .stop_at_first()
        .run(subject(|turn: Turn| async move {
            turn.saw(format!("{}/1.0.0", turn.another_tenant()));
            Ok::<_, Error>(())
        }))
        .await;
    let finding = &report.findings()[0];
    assert_eq!(finding.kind(), FindingKind::ForeignRow);
    assert_ne!(finding.owner(), Some(finding.tenant()));
    assert!(finding.turn().is_some() && finding.doing().is_some());
    let text = report.to_string();
    assert!(text.starts_with("seed 7, 2 tasks"), "{text}");
    assert!(text.contains("was shown a row of"), "{text}");
    let panic = std::panic::catch_unwind(|| report.assert_clean());
    assert!(panic.is_err(), "it was let through");
}

#[tokio::test]
async fn answers_and_traces_of_other_turns_are_found() {
    let last: Arc<Mutex<String>> = Arc::default();
    let report = hunt()
        .tasks(1)
        .calm()
        .operations(20)
        .run(subject(move |turn: Turn| {
            let last = std::mem::replace(&mut *last.lock(), turn.canary().to_owned());
            async move {
                turn.answered(&last);
                turn.found_on_session("psql");
                turn.found_on_session(&last);
                Ok::<_, Error>(())
            }
        }))
        .await;
    assert!(report.has(FindingKind::CrossedAnswer), "{report}");
    assert!(report.has(FindingKind::TraceOnSession), "{report}");
    assert!(!report.has(FindingKind::ForeignRow), "{report}");
}

#[tokio::test]
async fn a_panic_of_the_subject_is_a_finding() {
    let report = hunt()
        .operations(10)
        .run(subject(|turn: Turn| async move {
            if turn.operation() == "read" {
                std::panic::resume_unwind(Box::new("an assertion of the subject's"));
            }
            Ok::<_, Error>(())
        }))
        .await;
    assert!(report.has(FindingKind::Panic), "{report}");
}

/// As with a pool whose connections do not come back.
#[tokio::test]
async fn who_is_not_served_in_the_end_is_stuck() {
    let served = Arc::new(AtomicU64::new(0));
    let report = hunt()
        .tasks(1)
        .calm()
        .operations(20)
        .patience(Duration::from_millis(20))
        .run(subject(move |_: Turn| {
            let number = served.fetch_add(1, Ordering::Relaxed);
            async move {
                if number >= 20 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Error>(())
            }
        }))
        .await;
    assert!(report.has(FindingKind::Stuck), "{report}");
}

#[tokio::test]
async fn what_was_written_is_looked_at() {
    let stage = Stage::new().await;
    let admin = stage.world.admin.clone();
    let report = LeakHunt::new(stage.tenants.clone())
        .ignore_environment()
        .canaries(stage.canaries.clone())
        .operations(60)
        .calm()
        .run(subject(move |turn: Turn| {
            let admin = admin.clone();
            async move {
                use sqlx::{ConnectOptions as _, Connection as _};
                let mut admin = admin.connect().await?;
                let mut put = async |tenant: &TenantId, canary: &str| {
                    sqlx::query(
                        "INSERT INTO tenantry_leak_hunt.canaries (tenant_id, canary) VALUES ($1, $2)",
                    )
                    .bind(tenant.as_str())
                    .bind(canary)
                    .execute(&mut admin)
                    .await
                };
                match turn.random() % 3 {
                    0 => drop(put(turn.another_tenant(), turn.canary()).await?),
                    1 => drop(put(turn.tenant(), turn.doomed_canary()).await?),
                    _ => turn.wrote(),
                }
                admin.close().await
            }
        }))
        .await;
    for kind in [
        FindingKind::StoredForAnother,
        FindingKind::NeverCommitted,
        FindingKind::Lost,
    ] {
        assert!(report.has(kind), "no {kind:?}:\n{report}");
    }
}

/// A look that sees nothing must not pass for one that finds nothing.
#[tokio::test]
async fn role_that_policies_hold_cannot_look() {
    let stage = Stage::new().await;
    let canaries = tenantry::testing::leak_hunt::Canaries::new(&stage::installation("app"))
        .shared(stage.world.app.clone());
    let report = LeakHunt::new(stage.tenants.clone())
        .ignore_environment()
        .canaries(canaries)
        .operations(10)
        .run(subject(|_: Turn| async { Ok::<_, Error>(()) }))
        .await;
    assert!(report.has(FindingKind::NotLookedAt), "{report}");
}

#[tokio::test]
async fn disturbances_go_on_meanwhile() {
    let report = hunt()
        .duration(Duration::from_millis(300))
        .disturbance(
            Disturbance::new("noise", |random| {
                std::future::ready(random.is_multiple_of(2))
            })
            .every(Duration::from_millis(2)),
        )
        .run(subject(|turn: Turn| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            turn.saw(turn.canary());
            Ok::<_, Error>(())
        }))
        .await;
    report.assert_clean();
    assert!(report.disturbances()["noise"] > 0, "{report}");
}
