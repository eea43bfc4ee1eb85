//! Repositories: the conformance checks on PostgreSQL and on the double, the specimens that they
//! must be red on, units of work, and what a scope without a server does.

mod support;

#[path = "repository/cases.rs"]
mod cases;
#[path = "repository/flawed.rs"]
mod flawed;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use cases::{Case, CaseTable, Cases, NewCase, OfCases};
use flawed::{Flaw, Flawed};
use futures_util::{FutureExt as _, TryStreamExt as _};
use sqlx::{Connection as _, Executor as _};
use support::{World, empty_world, notes, scope, tenant, world};
use tenantry::repository::{PageRequest, ReadRepository, WriteRepository};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::conformance::{self, Report, Subject};
use tenantry::testing::{MemoryRepository, detached_scope};
use tenantry::{
    Error, ErrorKind, Reader, RetryPolicy, TenantContext, TenantRegistry, TenantScope, TxOptions,
};

/// A database with the table of cases, under policies or not.
async fn world_of_cases(has_policies: bool) -> World {
    let world = empty_world().await;
    let mut admin = world.admin().await;
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    installation.install(&mut admin).await.expect("installed");
    admin.execute(cases::TABLE).await.expect("a table");
    match has_policies {
        true => {
            let table = installation.table("cases");
            table.apply(&mut admin).await.expect("policies");
        }
        false => {
            let open = "ALTER TABLE cases ADD COLUMN tenant_id text NOT NULL; \
                        GRANT ALL ON cases TO app";
            admin.execute(open).await.expect("a column");
        }
    }
    admin.execute(cases::UNIQUE).await.expect("a constraint");
    admin.close().await.expect("closed");
    world
}

async fn registry(world: &World) -> TenantRegistry {
    world
        .registry_with(|options| options.max_connections(4))
        .await
}

fn detached(id: &str) -> TenantScope {
    detached_scope(tenant(id)).expect("a scope")
}

async fn check(subject: &impl Subject, registry: &TenantRegistry) -> Report {
    let (a, b) = (scope(registry, "a").await, scope(registry, "b").await);
    conformance::check(subject, &a, &b).await
}

#[tokio::test]
async fn repository_over_postgresql_conforms() {
    let world = world_of_cases(true).await;
    check(&OfCases(Cases), &registry(&world).await)
        .await
        .assert();
}

#[tokio::test]
async fn double_conforms() {
    let double = OfCases(MemoryRepository::new(CaseTable));
    let report = conformance::check(&double, &detached("a"), &detached("b")).await;
    report.assert();
}

/// Each with the check that is there for it.
const SPECIMENS: [(Flaw, &str); 25] = [
    (Flaw::Find, "find keeps tenants apart"),
    (Flaw::Get, "get keeps tenants apart"),
    (Flaw::FirstPage, "page keeps tenants apart"),
    (Flaw::LaterPage, "page keeps tenants apart"),
    (Flaw::Stream, "stream keeps tenants apart"),
    (Flaw::Insert, "insert keeps tenants apart"),
    (Flaw::InsertMany, "insert_many keeps tenants apart"),
    (Flaw::Update, "update keeps tenants apart"),
    (Flaw::Upsert, "upsert keeps tenants apart"),
    (Flaw::Delete, "delete keeps tenants apart"),
    (Flaw::Offset, "pages are stable under inserts and deletes"),
    (Flaw::NoTieBreaker, "pages have each row once"),
    (Flaw::OneDirection, "pages have each row once"),
    (Flaw::NoLimit, "pages have at most as many rows as they may"),
    (Flaw::SkipsOne, "pages have each row once"),
    (Flaw::AnyonesCursor, "cursors of others are refused"),
    (Flaw::AnyOrdersCursor, "cursors of others are refused"),
    (Flaw::BrokenCursorIsNone, "broken cursors are refused"),
    (Flaw::UpdateOfAnyVersion, "update needs the version"),
    (Flaw::DeleteOfAnyVersion, "delete needs the version"),
    (Flaw::SilentlyNotFound, "update needs the version"),
    (Flaw::UpsertKeepsVersion, "upsert changes what is there"),
    (
        Flaw::SwallowsConflict,
        "insert says which constraint is violated",
    ),
    (Flaw::OneByOne, "insert_many makes all rows or none"),
    (
        Flaw::NoConstraint,
        "insert says which constraint is violated",
    ),
];

#[tokio::test]
async fn checks_are_red_on_each_specimen() {
    let world = world_of_cases(false).await;
    let registry = registry(&world).await;
    check(&OfCases(Flawed(Flaw::None)), &registry)
        .await
        .assert();

    let mut unseen = Vec::new();
    for (flaw, expected) in SPECIMENS {
        let report = check(&OfCases(Flawed(flaw)), &registry).await;
        if !report.complaints().any(|(name, _)| name == expected) {
            unseen.push(format!("{flaw:?}: {report}"));
        }
        let mut admin = world.admin().await;
        admin.execute("TRUNCATE cases").await.expect("emptied");
        admin.close().await.expect("closed");
    }
    assert!(unseen.is_empty(), "not seen: {unseen:#?}");
}

/// What the specimens forget the database does not.
#[tokio::test]
async fn policies_keep_tenants_apart_where_a_repository_forgets_to() {
    let world = world_of_cases(true).await;
    let registry = registry(&world).await;
    for flaw in [
        Flaw::Find,
        Flaw::Get,
        Flaw::FirstPage,
        Flaw::LaterPage,
        Flaw::Stream,
        Flaw::Update,
        Flaw::Delete,
    ] {
        let report = check(&OfCases(Flawed(flaw)), &registry).await;
        assert!(
            report.complaints().all(|(name, _)| !name.contains("apart")),
            "{flaw:?}: {report}"
        );
    }
    // What would make another tenant's row is refused.
    for flaw in [Flaw::Insert, Flaw::InsertMany, Flaw::Upsert] {
        let report = check(&OfCases(Flawed(flaw)), &registry).await;
        let mut kinds = report.complaints().map(|(_, complaint)| complaint.kind());
        assert!(
            kinds.all(|kind| kind == Some(ErrorKind::Database)),
            "{flaw:?}: {report}"
        );
    }
}

/// The checks do not start among somebody's rows.
#[tokio::test]
async fn checks_leave_rows_alone_that_they_have_not_made() {
    let double = OfCases(MemoryRepository::new(CaseTable));
    let (a, b) = (detached("a"), detached("b"));
    let mut tx = b.begin().await.expect("begun");
    let case = double
        .0
        .insert(&mut tx, &double.draft(7))
        .await
        .expect("made");
    tx.commit().await.expect("committed");
    let report = conformance::check(&double, &a, &b).await;
    assert_eq!(report.complaints().count(), 1, "{report}");
    assert_eq!(
        double.0.get((&b).into(), &case.id).await.expect("there"),
        case
    );
    assert!(!conformance::check(&double, &a, &a).await.is_ok());
}

type AnyCases = Arc<dyn WriteRepository<Id = i64, Row = Case, Draft = NewCase>>;

/// A service as there may be one: it knows neither where the cases are nor whose they are.
#[async_trait]
trait Desk: Send + Sync {
    async fn open(&self, scope: &TenantScope, codes: [&str; 2]) -> Result<[Case; 2], Error>;
}

struct TwoDrawers {
    open: AnyCases,
    archive: AnyCases,
}

#[async_trait]
impl Desk for TwoDrawers {
    async fn open(&self, scope: &TenantScope, [one, other]: [&str; 2]) -> Result<[Case; 2], Error> {
        let mut tx = scope.begin().await?;
        let one = self.open.insert(&mut tx, &new_case(one)).await?;
        let other = self.archive.insert(&mut tx, &new_case(other)).await?;
        tx.commit().await?;
        Ok([one, other])
    }
}

fn new_case(code: &str) -> NewCase {
    NewCase {
        code: code.to_owned(),
        title: "a title".to_owned(),
        due: 1,
    }
}

async fn codes(cases: &AnyCases, scope: &TenantScope) -> Vec<String> {
    let cases = cases.stream(scope.into()).map_ok(|case| case.code);
    cases.try_collect().await.expect("a stream")
}

/// In tasks, behind trait objects, over the server and without one.
#[tokio::test]
async fn unit_of_work_is_kept_or_undone_as_a_whole() {
    let world = world_of_cases(true).await;
    let registry = registry(&world).await;
    let cases: AnyCases = Arc::new(Cases);
    let postgresql = (
        TwoDrawers {
            open: Arc::clone(&cases),
            archive: cases,
        },
        scope(&registry, "a").await,
    );
    let doubles = (
        TwoDrawers {
            open: Arc::new(MemoryRepository::new(CaseTable)),
            archive: Arc::new(MemoryRepository::new(CaseTable)),
        },
        detached("a"),
    );
    for (drawers, scope) in [postgresql, doubles] {
        let (open, archive) = (Arc::clone(&drawers.open), Arc::clone(&drawers.archive));
        let desk: Arc<dyn Desk> = Arc::new(drawers);
        let open_both = |codes: [&'static str; 2]| {
            let (desk, scope) = (Arc::clone(&desk), scope.clone());
            tokio::spawn(async move { desk.open(&scope, codes).await })
        };
        open_both(["1", "2"])
            .await
            .expect("no panic")
            .expect("opened");
        // The first is free, the second is not.
        let taken = open_both(["3", "2"]).await.expect("no panic");
        assert_eq!(taken.expect_err("taken").kind(), ErrorKind::Conflict);
        assert!(!codes(&open, &scope).await.contains(&"3".to_owned()));
        let all = [codes(&open, &scope).await, codes(&archive, &scope).await].concat();
        assert!(all.contains(&"1".to_owned()) && all.contains(&"2".to_owned()));
    }
}

/// Whoever reads through the pages gets each row that was there all along once, while others write.
#[tokio::test]
async fn pages_are_stable_while_others_write() {
    let world = world_of_cases(true).await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    let drafts: Vec<_> = (0..200)
        .map(|number| new_case(&format!("old {number}")))
        .collect();
    let drafts: Vec<_> = (0..)
        .zip(drafts)
        .map(|(number, draft)| NewCase {
            due: number / 7,
            ..draft
        })
        .collect();
    let mut tx = a.begin().await.expect("begun");
    Cases.insert_many(&mut tx, &drafts).await.expect("made");
    tx.commit().await.expect("committed");

    // Nobody goes on before the other side has: between two pages there is a commit at least.
    let (wrote, mut writes) = tokio::sync::mpsc::channel(1);
    for writer in 0..2 {
        let (a, wrote) = (a.clone(), wrote.clone());
        tokio::spawn(async move {
            for number in 1.. {
                let mut tx = a.begin().await.expect("begun");
                let draft = new_case(&format!("new {writer} {number}"));
                let due = (number * 13) % 30;
                let made = Cases.insert(&mut tx, &NewCase { due, ..draft }).await;
                let made = made.expect("made");
                if number % 3 == 0 {
                    let gone = Cases.delete(&mut tx, &made.id, made.version).await;
                    gone.expect("removed");
                }
                tx.commit().await.expect("committed");
                if wrote.send(()).await.is_err() {
                    break;
                }
            }
        });
    }
    for request in [PageRequest::default(), PageRequest::default().descending()] {
        let mut request = request.limit(9);
        let mut seen: HashMap<i64, u32> = HashMap::new();
        let mut old = 0;
        loop {
            let page = Cases.page((&a).into(), &request).await.expect("a page");
            for case in page.items {
                *seen.entry(case.id).or_default() += 1;
                old += usize::from(case.code.starts_with("old"));
            }
            match page.next {
                Some(next) => request = request.after(next),
                None => break,
            }
            writes.recv().await.expect("somebody writes");
        }
        assert!(
            seen.values().all(|times| *times == 1),
            "a row was seen twice"
        );
        assert_eq!(old, 200);
    }
}

#[tokio::test]
async fn conflict_says_which_constraint_and_no_more() {
    let world = world(&["a"]).await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "CREATE TABLE rooms (name text CONSTRAINT one_room_a_name UNIQUE, \
               late int CONSTRAINT late UNIQUE DEFERRABLE INITIALLY DEFERRED, \
               taken int8range, \
               CONSTRAINT no_overlap EXCLUDE USING gist (taken WITH &&), \
               CONSTRAINT named CHECK (name <> '')); \
             GRANT ALL ON rooms TO app",
        )
        .await
        .expect("a table");
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    let run = |text: &'static str| {
        let a = &a;
        async move { sqlx::query(text).execute(a).await.map_err(Error::from) }
    };
    run("INSERT INTO rooms VALUES ('c4n4ry', 1, '[1, 5)')")
        .await
        .expect("made");
    for (text, constraint) in [
        ("INSERT INTO rooms VALUES ('c4n4ry')", "one_room_a_name"),
        ("INSERT INTO rooms (taken) VALUES ('[4, 6)')", "no_overlap"),
        ("INSERT INTO rooms (late) VALUES (1)", "late"),
    ] {
        let error = run(text).await.expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.constraint(), Some(constraint));
        assert!(!error.is_retryable());
        assert!(!format!("{error} {error:?}").contains("c4n4ry"));
    }
    let error = run("INSERT INTO rooms VALUES ('')")
        .await
        .expect_err("no name");
    assert_eq!(
        (error.kind(), error.constraint()),
        (ErrorKind::Database, Some("named"))
    );

    // At COMMIT it is still certain that nothing was kept.
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("INSERT INTO rooms (late) VALUES (1)")
        .execute(&mut tx)
        .await
        .expect("run");
    let error = tx.commit().await.expect_err("taken");
    assert!(error.is_rolled_back(), "{error:?}");
    assert_eq!(Error::from(error).constraint(), Some("late"));
}

/// A retry policy goes by what the server said, and by what a double says in its place.
#[tokio::test]
async fn unique_violation_can_be_worth_another_attempt() {
    let world = world_of_cases(true).await;
    let registry = registry(&world).await;
    let double: AnyCases = Arc::new(MemoryRepository::new(CaseTable));
    for (cases, scope) in [
        (Arc::new(Cases) as AnyCases, scope(&registry, "a").await),
        (double, detached("a")),
    ] {
        let mut tx = scope.begin().await.expect("begun");
        cases.insert(&mut tx, &new_case("1")).await.expect("made");
        tx.commit().await.expect("committed");
        let retry = RetryPolicy::default()
            .delays(std::time::Duration::ZERO, std::time::Duration::ZERO)
            .on_unique_violation("one_case_a_code");
        let options = TxOptions::default().retry(retry);
        let mut number = 0;
        let made = scope.transaction(options, |tx| {
            number += 1;
            let (cases, draft) = (Arc::clone(&cases), new_case(&number.to_string()));
            async move { cases.insert(tx, &draft).await }.boxed()
        });
        assert_eq!(made.await.expect("the second is free").code, "2");
        assert_eq!(number, 2);
    }
}

#[tokio::test]
async fn detached_scope_has_no_database() {
    let a = detached("a");
    let refused = |error: sqlx::Error| {
        assert_eq!(Error::from(error).kind(), ErrorKind::StatementRefused);
    };
    refused(a.execute("SELECT 1").await.expect_err("on a scope"));
    refused(
        sqlx::query("SELECT 1")
            .execute(&a)
            .await
            .expect_err("on a scope"),
    );
    refused(
        sqlx::query("SELECT 1")
            .fetch_optional(&a)
            .await
            .expect_err("on a scope"),
    );
    refused(
        (&a).prepare(sqlx::SqlStr::from_static("SELECT 1"))
            .await
            .expect_err("prepared"),
    );
    refused(notes(&mut Reader::from(&a)).await.expect_err("of a reader"));

    let mut tx = a.begin().await.expect("begun");
    refused(
        sqlx::query("SELECT 1")
            .execute(&mut tx)
            .await
            .expect_err("in a transaction"),
    );
    refused(
        sqlx::raw_sql("SELECT 1")
            .execute(&mut tx)
            .await
            .expect_err("as text"),
    );
    refused(
        (&mut tx)
            .prepare(sqlx::SqlStr::from_static("SELECT 1"))
            .await
            .expect_err("prepared"),
    );
    let ours = |error: Error| assert_eq!(error.kind(), ErrorKind::StatementRefused);
    ours(tx.advisory_lock("key").await.expect_err("a lock"));
    ours(
        tx.dangerous_connection()
            .await
            .map(drop)
            .expect_err("a connection"),
    );
    ours(
        tx.copy_in_raw("COPY t FROM STDIN")
            .await
            .map(drop)
            .expect_err("a copy"),
    );
    ours(
        tx.copy_out_raw("COPY t TO STDOUT")
            .await
            .map(drop)
            .expect_err("a copy"),
    );
    tx.commit().await.expect("nothing was done");

    let mut tx = a.begin_read_only().await.expect("begun");
    refused(
        sqlx::query("SELECT 1")
            .execute(&mut tx)
            .await
            .expect_err("in a transaction"),
    );
    tx.rollback().await.expect("nothing was done");

    let context = TenantContext::new(tenant("a"))
        .user(7)
        .setting("app.role", "clerk");
    let scope = detached_scope(context.clone()).expect("any setting will do");
    assert_eq!(*scope.begin().await.expect("begun").context(), context);
    let error = detached_scope(TenantContext::new(tenant("a")).user("")).expect_err("no user");
    assert_eq!(error.kind(), ErrorKind::InvalidContext);
    let refused = TxOptions::default().role("");
    let error = scope.begin_with(&refused).await.expect_err("no role");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
}

/// A double has no part in what a server commits.
#[tokio::test]
async fn double_writes_in_detached_transactions_only() {
    let world = world_of_cases(true).await;
    let registry = registry(&world).await;
    let double = MemoryRepository::new(CaseTable);
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    let error = double
        .insert(&mut tx, &new_case("1"))
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::StatementRefused);
    tx.rollback().await.expect("rolled back");

    let a = detached("a");
    let mut tx = a
        .begin_with(&TxOptions::default().read_only())
        .await
        .expect("begun");
    let error = double
        .insert(&mut tx, &new_case("1"))
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Database);
}

/// The second to commit is rolled back, in all doubles that took part.
#[tokio::test]
async fn doubles_commit_together_or_not_at_all() {
    let a = detached("a");
    let (one, other) = (
        MemoryRepository::new(CaseTable),
        MemoryRepository::new(CaseTable),
    );
    let mut tx = a.begin().await.expect("begun");
    let case = other.insert(&mut tx, &new_case("1")).await.expect("made");
    tx.commit().await.expect("committed");

    let (mut first, mut second) = (
        a.begin().await.expect("begun"),
        a.begin().await.expect("begun"),
    );
    one.insert(&mut second, &new_case("2")).await.expect("made");
    other.update(&mut second, &case).await.expect("changed");
    other.update(&mut first, &case).await.expect("changed");
    first.commit().await.expect("the first");
    let error = second.commit().await.expect_err("the second");
    assert!(error.is_rolled_back());
    let rows = one
        .stream((&a).into())
        .try_collect::<Vec<_>>()
        .await
        .expect("rows");
    assert!(rows.is_empty(), "half of a transaction");
    assert_eq!(
        other
            .get((&a).into(), &case.id)
            .await
            .expect("there")
            .version,
        2
    );
}

/// What makes the double doomed is what dooms the real one: nothing else was tried by mistake.
#[tokio::test]
async fn savepoint_that_is_left_open_is_undone_at_commit() {
    let a = detached("a");
    let double = MemoryRepository::new(CaseTable);
    let mut tx = a.begin().await.expect("begun");
    double.insert(&mut tx, &new_case("1")).await.expect("made");
    {
        let mut savepoint = tx.savepoint().await.expect("set");
        double
            .insert(&mut savepoint, &new_case("2"))
            .await
            .expect("made");
        let twice = double.insert(&mut savepoint, &new_case("1")).await;
        assert_eq!(twice.expect_err("twice").kind(), ErrorKind::Conflict);
        let error = savepoint.release().await.expect_err("it has failed");
        assert_eq!(error.kind(), ErrorKind::TransactionAborted);
    }
    tx.commit().await.expect("the rest is whole");
    let rows = double
        .stream((&a).into())
        .try_collect::<Vec<_>>()
        .await
        .expect("rows");
    assert_eq!(rows.len(), 1);
}

/// Both frameworks read it so.
#[test]
fn request_for_a_page_is_read_from_what_a_client_sends() {
    let request: PageRequest = serde_json::from_str("{}").expect("nothing is needed");
    assert_eq!(request, PageRequest::default());
    let text = r#"{"limit": 7, "order": "title", "direction": "desc", "after": "AAAA"}"#;
    let error = serde_json::from_str::<PageRequest>(text).expect_err("no cursor");
    assert!(!error.to_string().contains("AAAA"), "{error}");
    let text = r#"{"limit": 7, "order": "title", "direction": "descending"}"#;
    let request: PageRequest = serde_json::from_str(text).expect("a request");
    assert_eq!(
        request,
        PageRequest::default().limit(7).order("title").descending()
    );
    assert_eq!(
        request
            .order_among(&["due", "title"])
            .expect("there is one"),
        "title"
    );
    let query = "limit=7&order=title&direction=desc&status=open";
    let from_query = actix_web::web::Query::<PageRequest>::from_query(query);
    assert_eq!(from_query.expect("a request").into_inner(), request);
    let garbled = actix_web::web::Query::<PageRequest>::from_query("after=%ff%00");
    assert!(garbled.is_err());
    let error = request.order_among(&["due"]).expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::UnknownOrder);
    assert!(!format!("{request:?}").contains("title"));
}
