//! Work over all tenants: each is met once, a few at a time, and the report says enough to go on
//! where it ended. None of it needs a database: the work here asks for nothing.

mod support;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::postgres::PgConnectOptions;
use support::listed::Listed;
use support::tenant;
use tenantry::{
    ConnectionBudget, Database, ErrorKind, ForEachError, ForEachReport, ForEachTenant, LazyPools,
    Placement, StaticDirectory, Stopped, TenantDirectory, TenantId, TenantRecord, TenantRegistry,
    TenantState,
};

fn ids(count: usize) -> Vec<TenantId> {
    (0..count).map(|n| tenant(&format!("t{n:04}"))).collect()
}

/// Where nobody goes.
fn nowhere() -> TenantRecord {
    let database = Database::new(PgConnectOptions::new_without_pgpass());
    TenantRecord::new(Placement::Shared { database })
}

fn answers(tenants: &[TenantId]) -> StaticDirectory {
    let directory = StaticDirectory::new();
    for tenant in tenants {
        directory.put(tenant.clone(), nowhere());
    }
    directory
}

async fn registry(directory: impl TenantDirectory) -> TenantRegistry {
    TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .build()
        .await
        .expect("a registry")
}

type Report = ForEachReport<usize, std::io::Error>;

/// The place of each in the order in which they were met; `fails` fail.
async fn number(registry: &TenantRegistry, options: ForEachTenant, fails: &[&str]) -> Report {
    let met = AtomicUsize::new(0);
    registry
        .for_each_tenant(options, |scope| {
            let place = met.fetch_add(1, Ordering::SeqCst);
            let fails = fails.contains(&scope.tenant().as_str());
            async move {
                tokio::task::yield_now().await;
                if fails {
                    return Err(std::io::Error::other("not this one"));
                }
                Ok(place)
            }
        })
        .await
}

fn in_order(tenants: &[TenantId]) -> BTreeMap<TenantId, usize> {
    tenants.iter().cloned().zip(0..).collect()
}

/// More of them than a directory is asked for at a time.
#[tokio::test]
async fn each_tenant_is_met_once_and_in_order() {
    let tenants = ids(700);
    let registry = registry(answers(&tenants)).await;
    let report = number(&registry, ForEachTenant::default(), &[]).await;
    assert_eq!(report.done, in_order(&tenants));
    assert!(report.failed.is_empty() && report.stopped.is_none());
    assert_eq!(report.resume_after.as_ref(), tenants.last());
}

#[tokio::test]
async fn run_begins_behind_the_tenant_that_is_named() {
    let tenants = ids(700);
    let registry = registry(answers(&tenants)).await;
    for n in [0, 255, 256, 698] {
        let options = ForEachTenant::default().after(tenants[n].clone());
        let report = number(&registry, options, &[]).await;
        assert_eq!(report.done, in_order(&tenants[n + 1..]), "{n}");
    }
    let last = tenants.last().cloned().expect("one");
    let options = ForEachTenant::default().after(last.clone());
    let report = number(&registry, options, &[]).await;
    assert!(report.done.is_empty() && report.stopped.is_none());
    assert_eq!(report.resume_after, Some(last));
}

#[tokio::test]
async fn nobody_is_left_out_where_a_run_was_stopped_and_went_on() {
    let tenants = ids(40);
    let registry = registry(answers(&tenants)).await;
    for concurrency in [1, 3, 16] {
        let options = ForEachTenant::default()
            .concurrency(concurrency)
            .stop_after_failures(2);
        let fails = ["t0004", "t0010", "t0030"];
        let first = number(&registry, options.clone(), &fails).await;
        assert!(matches!(first.stopped, Some(Stopped::Failures)));
        let failed: Vec<_> = first.failed.keys().map(TenantId::as_str).collect();
        assert_eq!(failed, ["t0004", "t0010"], "{concurrency} at a time");
        // What was under way when the second one failed was done all the same.
        let met = first.done.len() + first.failed.len();
        assert!(met >= 11, "{met}");
        assert!(met < 11 + 2 * concurrency, "{met}");
        assert_eq!(first.resume_after, Some(tenants[met - 1].clone()));

        let last = first.resume_after.expect("some were met");
        let rest = number(&registry, options.after(last), &[]).await;
        assert!(rest.stopped.is_none());
        assert_eq!(rest.done, in_order(&tenants[met..]));
    }
}

/// How many were worked on at a time, at most.
async fn most_at_a_time(registry: &TenantRegistry, options: ForEachTenant) -> usize {
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (now, most_ever) = (&now, &most);
    registry
        .for_each_tenant(options, |_| async move {
            most_ever.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(())
        })
        .await;
    most.load(Ordering::SeqCst)
}

#[tokio::test]
async fn no_more_at_a_time_than_was_asked_for_and_than_is_a_jobs_share() {
    let tenants = ids(60);
    let with = async |pools: LazyPools, budget: Option<ConnectionBudget>| {
        let builder = TenantRegistry::builder(answers(&tenants)).lazy(pools);
        let builder = match budget {
            Some(budget) => builder.budget(budget),
            None => builder,
        };
        builder.build().await.expect("a registry")
    };
    let options = ForEachTenant::default;
    let plenty = with(LazyPools::default().max_pools(100), None).await;
    assert_eq!(most_at_a_time(&plenty, options()).await, 4);
    assert_eq!(most_at_a_time(&plenty, options().concurrency(0)).await, 1);
    assert_eq!(most_at_a_time(&plenty, options().concurrency(7)).await, 7);
    assert_eq!(most_at_a_time(&plenty, options().concurrency(99)).await, 25);

    let few = with(LazyPools::default().max_pools(3), None).await;
    assert_eq!(most_at_a_time(&few, options()).await, 1);

    let budget = ConnectionBudget::per_server(40).max_per_tenant(5);
    let shared = with(LazyPools::default().max_pools(40), Some(budget)).await;
    assert_eq!(most_at_a_time(&shared, options().concurrency(99)).await, 5);
}

/// With eager pools and no budget there is nothing to take a share of.
#[tokio::test]
async fn without_a_cap_as_many_at_a_time_as_was_asked_for() {
    let directory = StaticDirectory::new();
    let registry = TenantRegistry::builder(directory.clone())
        .build()
        .await
        .expect("a registry of nobody");
    let options = ForEachTenant::default().concurrency(30);
    assert_eq!(most_at_a_time(&registry, options.clone()).await, 0);
    for tenant in ids(60) {
        directory.put(tenant, nowhere());
    }
    assert_eq!(most_at_a_time(&registry, options).await, 30);
}

#[tokio::test]
async fn tenants_that_were_gone_before_they_were_met_are_failures() {
    let unknown = Listed {
        answers: StaticDirectory::new(),
        tenants: ids(30),
        fails_behind: None,
    };
    let registry = TenantRegistry::builder(unknown)
        .build()
        .await
        .expect("nobody is left who could fail");
    let report = number(&registry, ForEachTenant::default().concurrency(30), &[]).await;
    assert!(report.done.is_empty());
    for error in report.failed.values() {
        let ForEachError::Scope(error) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.kind(), ErrorKind::TenantUnknown);
    }
    assert_eq!(report.failed.len(), 30);
}

#[tokio::test]
async fn failure_of_one_tenant_is_its_own_and_says_why() {
    let tenants = ids(4);
    let answers = answers(&tenants);
    assert!(answers.set_state(&tenants[2], TenantState::Suspended));
    let registry = registry(Listed {
        answers,
        tenants: tenants.clone(),
        fails_behind: None,
    })
    .await;
    let report = registry
        .for_each_tenant(ForEachTenant::default(), |scope| async move {
            match scope.tenant().as_str() {
                "t0000" => Err(std::io::Error::other("not this one")),
                "t0001" => panic!("nor this one"),
                _ => Ok(()),
            }
        })
        .await;
    assert_eq!(Vec::from_iter(report.done.keys()), [&tenants[3]]);
    let [work, panic, suspended] = &Vec::from_iter(report.failed.values())[..] else {
        panic!("three failed: {report:?}");
    };
    assert!(matches!(work, ForEachError::Work(_)));
    assert_eq!(work.to_string(), "the work failed for this tenant");
    assert_eq!(work.source().expect("a cause").to_string(), "not this one");
    assert!(matches!(panic, ForEachError::Panicked));
    assert_eq!(panic.to_string(), "the work panicked for this tenant");
    assert!(panic.source().is_none());
    assert!(
        matches!(suspended, ForEachError::Scope(error) if error.kind() == ErrorKind::TenantSuspended)
    );
    assert_eq!(suspended.to_string(), "the tenant could not be bound");
    assert!(suspended.source().is_some());
    assert_eq!(report.resume_after.as_ref(), tenants.last());
}

#[tokio::test]
async fn directory_that_cannot_say_who_comes_next_ends_a_run() {
    let tenants = ids(3);
    let registry = registry(Listed {
        answers: answers(&tenants),
        tenants: tenants.clone(),
        fails_behind: tenants.last().cloned(),
    })
    .await;
    // What is under way comes to its end, and is not the reason.
    let options = ForEachTenant::default()
        .concurrency(10)
        .stop_after_failures(1);
    let report = number(&registry, options, &["t0001"]).await;
    let Some(Stopped::Directory(error)) = &report.stopped else {
        panic!("{report:?}");
    };
    assert_eq!(error.kind(), ErrorKind::Directory);
    assert_eq!((report.done.len(), report.failed.len()), (2, 1));
    assert_eq!(report.resume_after.as_ref(), tenants.last());
}
