//! The audit log: nobody with the application's role changes it, and what its owner changes is
//! noticed.

mod support;

use std::time::{Duration, SystemTime};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use support::database::{Outcome, TestDatabase, refused, run, text, text_as};
use support::{World, scope, tenant, world_with};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::cancelled_after;
use tenantry::{
    CommitError, ContextSettings, Error, ErrorKind, IsolationLevel, NumberSeries, RetryPolicy,
    TenantRegistry, TenantScope, Trail, TrailEntry, TrailHead, TrailQuery, TxOptions,
};

async fn world() -> World {
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    let world = world_with(installation.clone(), &["a", "b"]).await;
    let mut admin = world.admin().await;
    installation
        .trail()
        .apply(&mut admin)
        .await
        .expect("applied");
    installation
        .number_series()
        .apply(&mut admin)
        .await
        .expect("applied");
    admin.close().await.expect("closed");
    world
}

async fn registry(world: &World, connections: u32) -> TenantRegistry {
    world
        .registry_with(move |options| options.max_connections(connections))
        .await
}

/// In a transaction of its own.
async fn record(scope: &TenantScope, action: &str) -> Result<(), Error> {
    let mut tx = scope.begin().await?;
    Trail::record(&mut tx, &TrailEntry::new(action)).await?;
    Ok(tx.commit().await?)
}

async fn actions(scope: &TenantScope) -> Vec<String> {
    let query = TrailQuery::new().oldest_first().limit(10_000);
    let page = Trail::page(scope.into(), &query).await.expect("a page");
    let numbers = page.iter().map(|record| record.number());
    assert!(numbers.eq(1..=page.len() as i64), "numbers have a gap");
    page.iter()
        .map(|record| record.action().to_owned())
        .collect()
}

async fn is_sound(scope: &TenantScope) -> bool {
    Trail::verify(scope.into())
        .await
        .expect("verified")
        .is_sound()
}

#[tokio::test]
async fn what_was_recorded_is_read_page_by_page() {
    let world = world().await;
    let registry = registry(&world, 2).await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let began = SystemTime::now() - Duration::from_secs(1);
    let mut tx = a.begin().await.expect("begun");
    let entry = TrailEntry::new("invoice.pay")
        .object("invoice", 7)
        .before(json!({ "paid": false }))
        .after(json!({ "paid": true, "by": ["é", 1.50, null] }));
    Trail::record(&mut tx, &entry).await.expect("recorded");
    let own = Trail::page((&mut tx).into(), &TrailQuery::new())
        .await
        .expect("a page");
    assert!(own.is_empty(), "it has no number yet");
    tx.commit().await.expect("committed");
    for n in 2..=7 {
        record(&a, &format!("step {n}")).await.expect("recorded");
    }
    record(&b, "of b").await.expect("recorded");

    let page = Trail::page((&a).into(), &TrailQuery::new().limit(3))
        .await
        .expect("a page");
    let number =
        |page: &[tenantry::TrailRecord]| page.iter().map(|r| r.number()).collect::<Vec<_>>();
    assert_eq!(number(&page), [7, 6, 5]);
    let next = TrailQuery::new().limit(3).beyond(5);
    assert_eq!(
        number(&Trail::page((&a).into(), &next).await.expect("a page")),
        [4, 3, 2]
    );
    let rest = TrailQuery::new().limit(3).beyond(2);
    assert_eq!(
        number(&Trail::page((&a).into(), &rest).await.expect("a page")),
        [1]
    );
    let forward = TrailQuery::new().oldest_first().limit(2).beyond(5);
    assert_eq!(
        number(&Trail::page((&a).into(), &forward).await.expect("a page")),
        [6, 7]
    );
    let of_invoice = TrailQuery::new().object("invoice", 7);
    for query in [of_invoice.clone(), of_invoice.clone().oldest_first()] {
        let page = Trail::page((&a).into(), &query).await.expect("a page");
        assert_eq!(number(&page), [1]);
        let first = &page[0];
        assert_eq!(first.action(), "invoice.pay");
        assert_eq!(first.actor(), Some("user of a"));
        assert_eq!(first.object(), Some(("invoice", "7")));
        assert_eq!(first.before(), Some(&json!({ "paid": false })));
        assert_eq!(
            first.after(),
            Some(&json!({ "paid": true, "by": ["é", 1.5, null] }))
        );
        assert!(began <= first.at() && first.at() <= SystemTime::now() + Duration::from_secs(1));
    }
    assert_eq!(
        number(&Trail::page((&b).into(), &of_invoice).await.expect("a page")),
        [0; 0]
    );
    assert_eq!(actions(&b).await, ["of b"]);
    let report = Trail::verify((&a).into()).await.expect("verified");
    assert_eq!((report.entries(), report.broken_at()), (7, None));
    assert_eq!(report.head().map(TrailHead::number), Some(7));
    let mut reading = a.begin_read_only().await.expect("begun");
    assert!(
        Trail::verify((&mut reading).into())
            .await
            .expect("verified")
            .is_sound()
    );
    let nobody = registry.scope(tenant("nobody")).await.expect("a scope");
    let report = Trail::verify((&nobody).into()).await.expect("verified");
    assert_eq!(
        (report.entries(), report.head(), report.is_sound()),
        (0, None, true)
    );
    // Somebody without a name.
    record(&nobody, "x").await.expect("recorded");
    let page = Trail::page((&nobody).into(), &TrailQuery::new())
        .await
        .expect("a page");
    assert_eq!(
        (page[0].actor(), page[0].before(), page[0].object()),
        (None, None, None)
    );
    // Nobody's data in a debugger's view.
    let shown = format!("{entry:?} {page:?}");
    assert!(!shown.contains("paid"), "{shown}");
}

#[tokio::test]
async fn what_is_rolled_back_leaves_no_entry() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    record(&a, "first").await.expect("recorded");
    let mut tx = a.begin().await.expect("begun");
    Trail::record(&mut tx, &TrailEntry::new("rolled back"))
        .await
        .expect("recorded");
    tx.rollback().await.expect("rolled back");
    let mut tx = a.begin().await.expect("begun");
    Trail::record(&mut tx, &TrailEntry::new("dropped"))
        .await
        .expect("recorded");
    drop(tx);
    let mut tx = a.begin().await.expect("begun");
    Trail::record(&mut tx, &TrailEntry::new("second"))
        .await
        .expect("recorded");
    let mut savepoint = tx.savepoint().await.expect("set");
    Trail::record(&mut savepoint, &TrailEntry::new("not this"))
        .await
        .expect("recorded");
    savepoint.rollback().await.expect("rolled back to");
    Trail::record(&mut tx, &TrailEntry::new("third"))
        .await
        .expect("recorded");
    tx.commit().await.expect("committed");
    assert_eq!(actions(&a).await, ["first", "second", "third"]);
    assert!(is_sound(&a).await);
    let mut admin = world.admin().await;
    let pending = "SELECT count(*) FROM tenantry.trail_pending";
    assert_eq!(text(&mut admin, pending).await.expect("a count"), "0");
}

#[tokio::test]
async fn entries_that_are_not_as_they_should_be_are_refused() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    let long = "x".repeat(201);
    for entry in [
        TrailEntry::new(""),
        TrailEntry::new(&long),
        TrailEntry::new("a\0b"),
        TrailEntry::new("a").object("a\0", 1),
        TrailEntry::new("a").object("a", "\0"),
    ] {
        let mut tx = a.begin().await.expect("begun");
        let error = Trail::record(&mut tx, &entry).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        tx.commit().await.expect("nothing was sent");
    }
    // The server's own limits: it has no NUL in JSON, and the function can be called by anybody.
    let mut tx = a.begin().await.expect("begun");
    let entry = TrailEntry::new("a").after(json!("\0"));
    let error = Trail::record(&mut tx, &entry).await.expect_err("refused");
    assert_eq!(error.code().as_deref(), Some("22P05"));
    assert!(tx.commit().await.is_err());
    for action in ["''", "NULL", "repeat('x', 201)"] {
        let sql = format!("SELECT tenantry.record_in_trail({action}, NULL, NULL, NULL, NULL)");
        let mut tx = a.begin().await.expect("begun");
        assert!(tx.execute(AssertSqlSafe(sql)).await.is_err(), "{action}");
    }
    assert_eq!(actions(&a).await, [""; 0]);
}

#[tokio::test]
async fn who_records_waits_for_nobody_until_the_commit() {
    let world = world().await;
    let registry = registry(&world, 4).await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    record(&a, "first").await.expect("recorded");
    // Whoever waited would run into the time-out.
    let hasty = TxOptions::default().lock_timeout(Duration::from_millis(1));
    let mut early = a.begin().await.expect("begun");
    Trail::record(&mut early, &TrailEntry::new("begun early"))
        .await
        .expect("recorded");
    let mut late = a.begin_with(&hasty).await.expect("begun");
    Trail::record(&mut late, &TrailEntry::new("begun late"))
        .await
        .expect("recorded");
    late.commit().await.expect("committed");
    early.commit().await.expect("committed");
    assert_eq!(actions(&a).await, ["first", "begun late", "begun early"]);

    // Somebody is in the middle of a commit: the tenant waits, and no other one.
    let mut admin = world.admin().await;
    let head = "BEGIN; SELECT 1 FROM tenantry.trail_heads WHERE tenant = 'a' FOR UPDATE";
    admin.execute(head).await.expect("locked");
    let mut tx = b.begin_with(&hasty).await.expect("begun");
    Trail::record(&mut tx, &TrailEntry::new("of b"))
        .await
        .expect("recorded");
    tx.commit().await.expect("committed");
    let mut tx = a.begin_with(&hasty).await.expect("begun");
    Trail::record(&mut tx, &TrailEntry::new("too late"))
        .await
        .expect("recorded");
    let error = tx.commit().await.expect_err("held");
    assert!(error.is_rolled_back());
    let error = Error::from(error);
    assert_eq!(error.code().as_deref(), Some("55P03"));
    assert!(error.is_retryable());
    admin.execute("ROLLBACK").await.expect("released");
    assert!(is_sound(&a).await && is_sound(&b).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_make_one_chain() {
    let world = world().await;
    let registry = registry(&world, 20).await;
    let mut tasks = Vec::new();
    for n in 0..100 {
        let scope = scope(&registry, ["a", "b"][n % 2]).await;
        tasks.push(tokio::spawn(async move {
            for turn in 0..5 {
                let mut tx = scope.begin().await?;
                for part in 0..3 {
                    Trail::record(&mut tx, &TrailEntry::new(format!("{n}/{turn}/{part}"))).await?;
                }
                match turn {
                    0 => tx.rollback().await?,
                    _ => tx.commit().await?,
                }
            }
            Ok::<_, Error>(())
        }));
    }
    for task in tasks {
        task.await.expect("no panic").expect("no error");
    }
    for id in ["a", "b"] {
        let scope = scope(&registry, id).await;
        let actions = actions(&scope).await;
        assert_eq!(actions.len(), 50 * 4 * 3);
        // Those of one transaction stand together, in order.
        for three in actions.chunks(3) {
            let (of, _) = three[0].rsplit_once('/').expect("three parts");
            let expected = [0, 1, 2].map(|part| format!("{of}/{part}"));
            assert_eq!(three, expected);
        }
        assert!(is_sound(&scope).await);
    }
}

/// What the owner does to the entries 1 to 5 of `a`, and the first number that is then not right.
const FORGERIES: &[(&str, &str)] = &[
    ("SELECT 1", "NULL"),
    (
        "DELETE FROM tenantry.trail WHERE tenant = 'a' AND number = 1",
        "1",
    ),
    (
        "DELETE FROM tenantry.trail WHERE tenant = 'a' AND number = 3",
        "3",
    ),
    (
        "DELETE FROM tenantry.trail WHERE tenant = 'a' AND number = 5",
        "5",
    ),
    (
        "DELETE FROM tenantry.trail WHERE tenant = 'a' AND number > 2",
        "3",
    ),
    ("DELETE FROM tenantry.trail WHERE tenant = 'a'", "1"),
    ("TRUNCATE tenantry.trail", "1"),
    // Closed up behind the removal.
    (
        "DELETE FROM tenantry.trail WHERE tenant = 'a' AND number = 3; \
         UPDATE tenantry.trail SET number = number - 1 WHERE tenant = 'a' AND number = 4; \
         UPDATE tenantry.trail SET number = number - 1 WHERE tenant = 'a' AND number = 5",
        "3",
    ),
    (
        "UPDATE tenantry.trail SET action = 'x' WHERE tenant = 'a' AND number = 1",
        "1",
    ),
    (
        "UPDATE tenantry.trail SET actor = 'x' WHERE tenant = 'a' AND number = 2",
        "2",
    ),
    (
        "UPDATE tenantry.trail SET actor = NULL WHERE tenant = 'a' AND number = 2",
        "2",
    ),
    (
        "UPDATE tenantry.trail SET at = at + '1 microsecond' WHERE tenant = 'a' AND number = 3",
        "3",
    ),
    (
        "UPDATE tenantry.trail SET object_kind = 'x' WHERE tenant = 'a' AND number = 4",
        "4",
    ),
    (
        "UPDATE tenantry.trail SET object_id = 'x' WHERE tenant = 'a' AND number = 5",
        "5",
    ),
    (
        "UPDATE tenantry.trail SET before = '{\"a\": 2}' WHERE tenant = 'a' AND number = 2",
        "2",
    ),
    (
        "UPDATE tenantry.trail SET before = 'null' WHERE tenant = 'a' AND before IS NULL",
        "1",
    ),
    (
        "UPDATE tenantry.trail SET after = NULL WHERE tenant = 'a' AND number = 3",
        "3",
    ),
    (
        "UPDATE tenantry.trail SET hash = 'x' WHERE tenant = 'a' AND number = 4",
        "4",
    ),
    (
        "UPDATE tenantry.trail SET hash = 'x' WHERE tenant = 'a' AND number = 5",
        "5",
    ),
    // What one column loses another one gains.
    (
        "UPDATE tenantry.trail SET object_kind = object_kind || 'i', object_id = substr(object_id, 2) \
         WHERE tenant = 'a' AND number = 4",
        "4",
    ),
    // Two entries exchanged.
    (
        "UPDATE tenantry.trail SET number = 9 WHERE tenant = 'a' AND number = 2; \
         UPDATE tenantry.trail SET number = 2 WHERE tenant = 'a' AND number = 3; \
         UPDATE tenantry.trail SET number = 3 WHERE tenant = 'a' AND number = 9",
        "2",
    ),
    // Given to somebody else, and taken from somebody else.
    (
        "UPDATE tenantry.trail SET tenant = 'c' WHERE tenant = 'a' AND number = 5",
        "5",
    ),
    (
        "UPDATE tenantry.trail SET tenant = 'a', number = 6 WHERE tenant = 'b' AND number = 1",
        "6",
    ),
    // An entry too many, with a hash that fits.
    (
        "INSERT INTO tenantry.trail SELECT tenant, 6, at, actor, 'forged', NULL, NULL, NULL, NULL, '' \
           FROM tenantry.trail WHERE tenant = 'a' AND number = 5; \
         UPDATE tenantry.trail AS t SET hash = tenantry.trail_hash(h.hash, t) \
           FROM tenantry.trail_heads AS h WHERE h.tenant = 'a' AND t.tenant = 'a' AND t.number = 6",
        "6",
    ),
    // The newest one, with a hash that fits.
    (
        "UPDATE tenantry.trail SET action = 'forged' WHERE tenant = 'a' AND number = 5; \
         UPDATE tenantry.trail AS t SET hash = tenantry.trail_hash(p.hash, t) \
           FROM tenantry.trail AS p WHERE p.tenant = 'a' AND p.number = 4 AND t.tenant = 'a' AND t.number = 5",
        "5",
    ),
    // One in the middle, with a hash that fits: the next one tells.
    (
        "UPDATE tenantry.trail SET action = 'forged' WHERE tenant = 'a' AND number = 3; \
         UPDATE tenantry.trail AS t SET hash = tenantry.trail_hash(p.hash, t) \
           FROM tenantry.trail AS p WHERE p.tenant = 'a' AND p.number = 2 AND t.tenant = 'a' AND t.number = 3",
        "4",
    ),
    // Everything, with another tenant's.
    (
        "UPDATE tenantry.trail SET tenant = 'c' WHERE tenant = 'a'; \
         UPDATE tenantry.trail_heads SET tenant = 'c' WHERE tenant = 'a'; \
         UPDATE tenantry.trail SET tenant = 'a' WHERE tenant = 'b'; \
         UPDATE tenantry.trail_heads SET tenant = 'a' WHERE tenant = 'b'",
        "1",
    ),
    ("DELETE FROM tenantry.trail_heads WHERE tenant = 'a'", "1"),
    (
        "UPDATE tenantry.trail_heads SET hash = '' WHERE tenant = 'a'",
        "5",
    ),
    (
        "UPDATE tenantry.trail_heads SET number = 4 WHERE tenant = 'a'",
        "5",
    ),
    (
        "UPDATE tenantry.trail_heads SET number = 6 WHERE tenant = 'a'",
        "6",
    ),
    // Another tenant's is no business of this one.
    (
        "UPDATE tenantry.trail SET action = 'x' WHERE tenant = 'b'",
        "NULL",
    ),
];

/// The whole chain of `a`, and its head.
const FORGE_ALL: &str = "DO $$
  DECLARE previous bytea := ''; entry tenantry.trail;
  BEGIN
    UPDATE tenantry.trail SET action = 'forged' WHERE tenant = 'a' AND number = 2;
    FOR entry IN SELECT * FROM tenantry.trail WHERE tenant = 'a' ORDER BY number LOOP
      previous := tenantry.trail_hash(previous, entry);
      UPDATE tenantry.trail SET hash = previous WHERE tenant = 'a' AND number = entry.number;
    END LOOP;
    UPDATE tenantry.trail_heads SET hash = previous WHERE tenant = 'a';
  END $$";

async fn five_entries(world: &World) -> TenantRegistry {
    let registry = registry(world, 1).await;
    let a = scope(&registry, "a").await;
    for n in 1..=5 {
        let mut tx = a.begin().await.expect("begun");
        let mut entry = TrailEntry::new("invoice.pay")
            .object("invoice", "i7")
            .after(json!(n));
        if n > 1 {
            entry = entry.before(json!({ "a": 1 }));
        }
        Trail::record(&mut tx, &entry).await.expect("recorded");
        tx.commit().await.expect("committed");
    }
    record(&scope(&registry, "b").await, "of b")
        .await
        .expect("recorded");
    registry
}

#[tokio::test]
async fn whatever_the_owner_changes_is_found() {
    let world = world().await;
    let registry = five_entries(&world).await;
    let mut owner = world.admin().await;
    for (forgery, broken_at) in FORGERIES {
        let sql = format!("{forgery}; SELECT broken_at FROM tenantry.verify_trail(0, '')");
        let found = text_as(&mut owner, "a", &sql).await.expect(forgery);
        assert_eq!(found, *broken_at, "{forgery}");
    }
    let a = scope(&registry, "a").await;
    let report = Trail::verify((&a).into()).await.expect("verified");
    assert!(report.is_sound());
    let head = report.head().expect("a head").clone();
    owner
        .execute(
            "UPDATE tenantry.trail SET actor = 'somebody else' WHERE tenant = 'a' AND number = 2",
        )
        .await
        .expect("changed");
    let report = Trail::verify((&a).into()).await.expect("verified");
    assert_eq!(
        (report.is_sound(), report.broken_at(), report.entries()),
        (false, Some(2), 5)
    );
    assert_eq!(report.head(), Some(&head));
    assert!(is_sound(&scope(&registry, "b").await).await);
}

#[tokio::test]
async fn head_that_was_kept_elsewhere_finds_what_is_forged_from_end_to_end() {
    let world = world().await;
    let registry = five_entries(&world).await;
    let a = scope(&registry, "a").await;
    let mut owner = world.admin().await;
    let report = Trail::verify((&a).into()).await.expect("verified");
    let kept = report.head().expect("a head").to_string();
    let kept: TrailHead = kept.parse().expect("read");
    record(&a, "sixth").await.expect("recorded");
    let since = async || {
        Trail::verify_since((&a).into(), &kept)
            .await
            .expect("verified")
    };
    let report = since().await;
    assert_eq!((report.broken_at(), report.entries()), (None, 1));
    assert_eq!(report.head().map(TrailHead::number), Some(6));

    owner
        .execute("BEGIN; DELETE FROM tenantry.trail WHERE tenant = 'a' AND number = 6; COMMIT")
        .await
        .expect("gone");
    assert_eq!(since().await.broken_at(), Some(6));
    let sixth = "INSERT INTO tenantry.trail SELECT tenant, 6, at, actor, action, NULL, NULL, NULL, NULL, '' \
                 FROM tenantry.trail WHERE tenant = 'a' AND number = 5";
    owner.execute(sixth).await.expect("there");
    assert_eq!(since().await.broken_at(), Some(6));
    owner.execute(FORGE_ALL).await.expect("forged");
    assert!(
        is_sound(&a).await,
        "the specimen: the chain alone cannot tell"
    );
    assert_eq!(since().await.broken_at(), Some(5));
    owner
        .execute("DELETE FROM tenantry.trail WHERE tenant = 'a'; DELETE FROM tenantry.trail_heads WHERE tenant = 'a'")
        .await
        .expect("gone");
    assert!(
        is_sound(&a).await,
        "the specimen: nor whether there ever was one"
    );
    assert_eq!(since().await.broken_at(), Some(5));
}

#[tokio::test]
async fn settings_of_the_session_do_not_matter() {
    let world = world().await;
    let _registry = five_entries(&world).await;
    let mut owner = world.admin().await;
    for setting in [
        "SET TIME ZONE 'Pacific/Kiritimati'",
        "SET datestyle = 'German'",
        "SET bytea_output = 'escape'",
        "SET intervalstyle = 'sql_standard'",
        "SET extra_float_digits = 0",
        "SET client_encoding = 'LATIN1'",
        "SET standard_conforming_strings = off",
    ] {
        let sql = format!(
            "SET LOCAL {}; SELECT entries || ' ' || (broken_at IS NULL) FROM tenantry.verify_trail(0, '')",
            &setting[4..]
        );
        let found = text_as(&mut owner, "a", &sql).await.expect(setting);
        assert_eq!(found, "5 true", "{setting}");
    }
}

#[tokio::test]
async fn under_snapshots_the_commit_fails_and_is_repeated() {
    let world = world().await;
    let registry = registry(&world, 4).await;
    let a = scope(&registry, "a").await;
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let options = TxOptions::default().isolation(level);
        for _ in 0..2 {
            let mut tx = a.begin_with(&options).await.expect("begun");
            Trail::record(&mut tx, &TrailEntry::new("late"))
                .await
                .expect("recorded");
            record(&a, "meanwhile").await.expect("recorded");
            let error = tx.commit().await.expect_err("somebody else has recorded");
            assert!(matches!(error, CommitError::RolledBack(_)), "{error:?}");
            let error = Error::from(error);
            assert_eq!(error.code().as_deref(), Some("40001"));
            assert!(error.is_retryable());
        }
        let policy = RetryPolicy::default()
            .max_attempts(50)
            .delays(Duration::ZERO, Duration::ZERO);
        let options = options.retry(policy);
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (a, options) = (a.clone(), options.clone());
                tokio::spawn(async move {
                    a.transaction(options, |tx| {
                        Box::pin(
                            async move { Trail::record(tx, &TrailEntry::new("one of many")).await },
                        )
                    })
                    .await
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic").expect("no error");
        }
    }
    assert_eq!(actions(&a).await.len(), 2 * (2 + 8));
    assert!(is_sound(&a).await);
}

#[tokio::test]
async fn what_was_begun_with_an_entry_and_dropped_is_not_committed_without_it() {
    let world = world().await;
    let wire = world.slow_wire().await;
    let registry = world.registry_over(&wire).await;
    let a = scope(&registry, "a").await;
    record(&a, "first").await.expect("recorded");
    let mut doomed = 0;
    for polls in 0..60 {
        let before = actions(&a).await.len();
        let mut tx = a.begin().await.expect("begun");
        let entry = TrailEntry::new("x");
        let done = cancelled_after(polls, Trail::record(&mut tx, &entry))
            .await
            .is_some();
        let committed = tx.commit().await;
        let after = actions(&a).await.len();
        assert_eq!(after - before, usize::from(done), "after {polls} polls");
        assert!(committed.is_ok() || !done);
        doomed += usize::from(committed.is_err());
        if done {
            assert!(
                doomed > 0,
                "dropping it at its own await must doom the transaction"
            );
            assert!(is_sound(&a).await);
            return;
        }
    }
    panic!("did not complete");
}

/// Number, row and entry in one statement, which is the whole transaction.
#[tokio::test]
async fn one_statement_takes_a_number_writes_a_row_and_records_it() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    let series = NumberSeries::new("note").prefix("N").width(3);
    let statement = "WITH note AS ( \
           INSERT INTO notes (body) VALUES (tenantry.next_number($1)) RETURNING *) \
         SELECT note.body, tenantry.record_in_trail('note.create', 'note', note.body, NULL, to_jsonb(note))::text \
         FROM note";
    for expected in ["N-001", "N-002"] {
        let (body, _): (String, Option<String>) = sqlx::query_as(statement)
            .bind(&series)
            .fetch_one(&a)
            .await
            .expect("written");
        assert_eq!(body, expected);
    }
    let page = Trail::page((&a).into(), &TrailQuery::new())
        .await
        .expect("a page");
    assert_eq!(page.len(), 2);
    assert_eq!(page[0].object(), Some(("note", "N-002")));
    assert_eq!(
        page[0].after().and_then(|row| row["body"].as_str()),
        Some("N-002")
    );
    assert!(is_sound(&a).await);
}

#[tokio::test]
async fn it_works_wherever_a_tenant_lives() {
    let world = world().await;
    let mut admin = world.admin().await;
    admin
        .execute("CREATE SCHEMA home_c; GRANT USAGE ON SCHEMA home_c TO app")
        .await
        .expect("a schema");
    let fleet = support::fleet::Fleet::new(1).await;
    let mut owner = fleet.connect(&tenant("t0")).await;
    let installation = Installation::new(fleet.role()).database_of(tenant("t0"));
    installation
        .trail()
        .apply(&mut owner)
        .await
        .expect("applied");
    let directory = fleet
        .directory()
        .shared(world.app.clone(), [tenant("a"), tenant("b")])
        .schemas(world.app.clone(), [(tenant("c"), "home_c")]);
    let registry = TenantRegistry::builder(directory)
        .build()
        .await
        .expect("a registry");
    for id in ["a", "b", "c", "t0"] {
        let scope = scope(&registry, id).await;
        record(&scope, &format!("of {id}")).await.expect("recorded");
        assert_eq!(actions(&scope).await, [format!("of {id}")]);
        assert!(is_sound(&scope).await);
    }
}

#[tokio::test]
async fn role_of_the_application_records_and_reads_and_does_nothing_else() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let settings = ContextSettings::new("my.tenant", "my.user")?;
    let installation = Installation::new(&database.app).settings(settings);
    let stranger = format!("stranger_{}", database.name);
    let create = format!("CREATE ROLE {stranger} LOGIN");
    run(&mut database.superuser().await?, &create).await?;
    installation.install(&mut owner).await?;
    let app = &database.app;
    run(
        &mut owner,
        &format!("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {app}, {stranger}, PUBLIC"),
    )
    .await?;
    installation.trail().apply(&mut owner).await?;
    assert_eq!(database.given_away(&mut owner).await?, "0");
    let mut app = database.app().await?;
    const RECORD: &str = "SELECT tenantry.record_in_trail('x', 'k', 'i', NULL, '1')";
    for context in [
        "RESET my.tenant",
        "SET my.tenant = ''",
        "SET app.tenant_id = 'other'",
    ] {
        run(&mut app, context).await?;
        for sql in [RECORD, "SELECT * FROM tenantry.verify_trail(0, '')"] {
            assert_eq!(refused(&mut app, sql).await, "TN020", "{context}: {sql}");
        }
        assert_eq!(
            text(&mut app, "SELECT count(*) FROM tenantry.trail").await?,
            "0"
        );
    }
    run(&mut app, "SET my.tenant = 'a'; SET my.\"user\" = 'u'").await?;
    run(&mut app, RECORD).await?;
    run(&mut app, RECORD).await?;
    let columns = "(tenant, number, at, action, hash) VALUES ('a', 3, now(), 'x', '')";
    let past = format!("INSERT INTO tenantry.trail {columns}");
    for sql in [
        &*past,
        "INSERT INTO tenantry.trail_pending (tenant, at, action) VALUES ('a', now(), 'x')",
        "UPDATE tenantry.trail SET action = 'y'",
        "DELETE FROM tenantry.trail",
        "TRUNCATE tenantry.trail",
        "MERGE INTO tenantry.trail AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
        "SELECT 1 FROM tenantry.trail FOR UPDATE",
        "SELECT 1 FROM tenantry.trail_pending",
        "DELETE FROM tenantry.trail_pending",
        "SELECT 1 FROM tenantry.trail_heads",
        "UPDATE tenantry.trail_heads SET number = 0",
        "DELETE FROM tenantry.trail_heads",
        "DROP TABLE tenantry.trail",
        "ALTER TABLE tenantry.trail_pending DISABLE TRIGGER ALL",
        "DROP TRIGGER tenantry_chain ON tenantry.trail_pending",
        "CREATE OR REPLACE FUNCTION tenantry.chain_trail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "SELECT tenantry.trail_hash('', t) FROM tenantry.trail AS t",
        "SET session_replication_role = replica",
    ] {
        let code = refused(&mut app, sql).await;
        // MERGE is new in 15.
        assert!(
            code == "42501" || sql.starts_with("MERGE") && code == "42601",
            "{sql}: {code}"
        );
    }
    // At once or at the end of the transaction, it is chained.
    run(
        &mut app,
        &format!("BEGIN; SET CONSTRAINTS ALL IMMEDIATE; {RECORD}; COMMIT"),
    )
    .await?;
    // Not as somebody else, who is named after the entry was made.
    run(
        &mut app,
        &format!("BEGIN; {RECORD}; SET LOCAL my.tenant = 'b'; COMMIT"),
    )
    .await?;
    assert_eq!(
        text(
            &mut app,
            "SELECT count(*) FROM tenantry.trail WHERE actor = 'u'"
        )
        .await?,
        "4"
    );
    assert_eq!(
        text(
            &mut app,
            "SELECT broken_at FROM tenantry.verify_trail(0, '')"
        )
        .await?,
        "NULL"
    );
    run(&mut app, "SET my.tenant = 'b'").await?;
    assert_eq!(
        text(&mut app, "SELECT count(*) FROM tenantry.trail").await?,
        "0"
    );
    Ok(())
}

#[tokio::test]
async fn twice_is_once_and_drift_is_mended() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let installation = Installation::new(&database.app);
    let tables = installation.trail();
    let error = tables.apply(&mut owner).await.expect_err("not installed");
    assert_eq!(error.kind(), ErrorKind::Installation);
    installation.install(&mut owner).await?;
    let missing = Installation::new("no_such_role").trail();
    assert_eq!(
        missing.apply(&mut owner).await.expect_err("no role").kind(),
        ErrorKind::Installation
    );
    tables.apply(&mut owner).await?;
    let first = snapshot(&mut owner).await?;
    tables.apply(&mut owner).await?;
    assert_eq!(first, snapshot(&mut owner).await?);
    let app = &database.app;
    for drift in [
        &*format!(
            "GRANT ALL ON tenantry.trail, tenantry.trail_pending, tenantry.trail_heads TO {app}, PUBLIC"
        ),
        "GRANT EXECUTE ON FUNCTION tenantry.chain_trail() TO PUBLIC",
        "ALTER TABLE tenantry.trail DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE tenantry.trail_pending DISABLE TRIGGER tenantry_chain",
        "DROP TRIGGER tenantry_chain ON tenantry.trail_pending",
        "DROP TRIGGER tenantry_chain ON tenantry.trail_pending; \
         CREATE CONSTRAINT TRIGGER tenantry_chain AFTER INSERT ON tenantry.trail_pending \
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.action <> 'x') \
         EXECUTE FUNCTION tenantry.chain_trail()",
        "ALTER FUNCTION tenantry.chain_trail() SECURITY INVOKER",
        "CREATE OR REPLACE FUNCTION tenantry.trail_hash(previous bytea, entry tenantry.trail) \
         RETURNS bytea LANGUAGE sql AS 'SELECT previous'",
    ] {
        run(&mut owner, drift).await?;
        assert_ne!(first, snapshot(&mut owner).await?, "{drift}");
        tables.apply(&mut owner).await?;
        assert_eq!(first, snapshot(&mut owner).await?, "{drift}");
    }
    Ok(())
}

async fn snapshot(connection: &mut PgConnection) -> Outcome<String> {
    text(
        connection,
        "SELECT concat_ws('|',
           (SELECT string_agg(concat_ws(',', oid, relname, relacl, relrowsecurity), ';' ORDER BY relname)
            FROM pg_class WHERE relnamespace = 'tenantry'::regnamespace),
           (SELECT string_agg(concat_ws(',', tgname, tgtype, tgenabled, tginitdeferred, tgqual), ';' ORDER BY tgname)
            FROM pg_trigger WHERE tgrelid = 'tenantry.trail_pending'::regclass),
           (SELECT string_agg(concat_ws(',', tablename, policyname, cmd, qual), ';' ORDER BY tablename)
            FROM pg_policies WHERE schemaname = 'tenantry'),
           (SELECT string_agg(concat_ws(',', oid, proname, prosrc, proacl, prosecdef, proconfig, provolatile), ';' ORDER BY proname)
            FROM pg_proc WHERE pronamespace = 'tenantry'::regnamespace))",
    )
    .await
}
