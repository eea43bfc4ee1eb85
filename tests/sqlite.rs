//! A file per tenant: isolation, ends, refusals. Each protection has a test that shows what happens
//! without it, by sqlx alone on the same kind of file.

#[path = "support/folder.rs"]
mod folder;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use folder::Folder;
use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteExecutor};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tenantry::sqlite::{
    SqlitePoolOptions, SqliteRegistry, SqliteRegistryBuilder, SqliteScope, SqliteTx,
};
use tenantry::testing::cancelled_after;
use tenantry::{CommitError, Error, ErrorKind, EvictionCause, TenantContext, TenantId};
use tokio::sync::Semaphore;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS notes (body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS keys (key INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS lines (
        key INTEGER NOT NULL REFERENCES keys DEFERRABLE INITIALLY DEFERRED);";

/// A statement that takes its time: 20,000 rows.
const SLOW_INSERT: &str = "
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO notes SELECT 'half' FROM n";

const ENDLESS: &str = "
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
    SELECT count(*) FROM n";

fn tenant(id: &str) -> TenantId {
    id.parse().expect("a tenant id")
}

fn builder(folder: &Folder) -> SqliteRegistryBuilder {
    SqliteRegistry::open(folder.path()).migrate(|tx| {
        Box::pin(async move {
            sqlx::raw_sql(SCHEMA).execute(tx).await?;
            Ok(())
        })
    })
}

/// One connection to a file, so that whoever comes next gets what the last one left.
fn one() -> SqlitePoolOptions {
    SqlitePoolOptions::default().max_connections(1)
}

/// With these tenants, and a note of each that says whose it is.
async fn with_tenants(builder: SqliteRegistryBuilder, tenants: &[&str]) -> SqliteRegistry {
    let registry = builder.build().await.expect("a registry");
    for id in tenants {
        assert!(registry.create(&tenant(id)).await.expect("created"));
        add(&scope(&registry, id).await, &format!("a note of {id}"))
            .await
            .expect("added");
    }
    registry
}

async fn scope(registry: &SqliteRegistry, id: &str) -> SqliteScope {
    registry.scope(tenant(id)).await.expect("a scope")
}

async fn add<'e>(executor: impl SqliteExecutor<'e>, body: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO notes VALUES (?)")
        .bind(body.to_owned())
        .execute(executor)
        .await
        .map(drop)
}

async fn notes<'e>(executor: impl SqliteExecutor<'e>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT body FROM notes ORDER BY body")
        .fetch_all(executor)
        .await
}

fn file(folder: &Folder, id: &str) -> PathBuf {
    folder.path().join(format!("tenant-{id}.sqlite"))
}

fn journal(folder: &Folder, id: &str) -> PathBuf {
    folder.path().join(format!("tenant-{id}.sqlite-wal"))
}

/// As another program would open it, which waits for nobody.
async fn plain(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::ZERO)
        .disable_statement_logging()
        .connect()
        .await
        .expect("a connection")
}

fn kind(error: impl Into<Error>) -> ErrorKind {
    error.into().kind()
}

/// Lets it get as far as it gets at once, and drops it.
async fn abandon<F: Future>(future: F) {
    let mut future = Box::pin(future);
    assert!(
        future.as_mut().now_or_never().is_none(),
        "it was done at once"
    );
}

async fn shut_down(registry: &SqliteRegistry) {
    let busy = registry.shutdown(Duration::from_secs(30)).await;
    assert_eq!(busy, [], "nobody should be busy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_keep_apart_while_files_come_and_go() {
    let folder = Folder::new();
    let ids = ["a", "A", "b", "b.b", "c-1", "c_1", "con"];
    let registry = with_tenants(builder(&folder).max_pools(3), &ids).await;
    let committed: Vec<Arc<AtomicUsize>> = ids.iter().map(|_| Arc::default()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..24_usize {
        let (registry, committed) = (registry.clone(), committed.clone());
        tasks.spawn(async move {
            for turn in 0..30 {
                let which = (task + turn * 5) % 7;
                let id = ids[which];
                let own = format!("a note of {id}");
                let scope = scope(&registry, id).await;
                let seen = match turn % 4 {
                    0 => {
                        add(&scope, &own).await.expect("added");
                        committed[which].fetch_add(1, Ordering::SeqCst);
                        notes(&scope).await
                    }
                    1 => {
                        let mut tx = scope.begin().await.expect("begun");
                        add(&mut tx, &own).await.expect("added");
                        let seen = notes(&mut tx).await;
                        tx.commit().await.expect("committed");
                        committed[which].fetch_add(1, Ordering::SeqCst);
                        seen
                    }
                    2 => {
                        let work = async {
                            let mut tx = scope.begin().await.expect("begun");
                            add(&mut tx, "half").await.expect("added");
                        };
                        cancelled_after(turn % 9, work).await;
                        notes(&scope).await
                    }
                    _ => {
                        let mut tx = scope.begin_read_only().await.expect("begun");
                        notes(&mut tx).await
                    }
                };
                let seen = seen.expect("notes");
                assert!(seen.iter().all(|body| *body == own), "{id} saw {seen:?}");
                assert!(registry.status().open <= 3);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task panics");
    }
    for (id, committed) in ids.iter().zip(&committed) {
        let seen = notes(&scope(&registry, id).await).await.expect("notes");
        assert_eq!(seen.len(), committed.load(Ordering::SeqCst) + 1, "{id}");
    }
    assert!(registry.status().evicted(EvictionCause::Capacity) > 20);
    let mut all: Vec<TenantId> = ids.into_iter().map(tenant).collect();
    all.sort_unstable();
    assert_eq!(registry.tenants().await.expect("a folder"), all);
    shut_down(&registry).await;
}

#[tokio::test]
async fn a_file_in_use_stays_open() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder).max_pools(2), &["a", "b", "c", "d"]).await;
    let mut tx = scope(&registry, "a").await.begin().await.expect("begun");
    add(&mut tx, "kept").await.expect("added");
    for turn in 0..12 {
        let id = ["b", "c", "d"][turn % 3];
        let own = format!("a note of {id}");
        assert_eq!(notes(&scope(&registry, id).await).await.expect(id), [own]);
    }
    assert!(
        registry.evict(&tenant("a")),
        "and when it is given up by name"
    );
    assert!(!registry.evict(&tenant("a")));
    add(&mut tx, "kept too").await.expect("added");
    tx.commit().await.expect("committed");
    let a = scope(&registry, "a").await;
    assert_eq!(
        notes(&a).await.expect("notes"),
        ["a note of a", "kept", "kept too"]
    );
    assert!(registry.status().evicted(EvictionCause::Capacity) >= 10);
}

#[tokio::test]
async fn newcomers_wait_for_a_place() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder).max_pools(1), &["a", "b"]).await;
    let tx = scope(&registry, "a").await.begin().await.expect("begun");
    let b = scope(&registry, "b").await;
    let mut waiting = std::pin::pin!(notes(&b));
    for _ in 0..50 {
        assert!(waiting.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    tx.rollback().await.expect("rolled back");
    assert_eq!(waiting.await.expect("notes"), ["a note of b"]);

    shut_down(&registry).await;
    let impatient = SqlitePoolOptions::default().acquire_timeout(Duration::from_millis(20));
    let registry = builder(&folder).max_pools(1).pool_options(impatient);
    let registry = registry.build().await.expect("a registry");
    let a = scope(&registry, "a").await;
    // To open the file may take longer than that.
    let tx = loop {
        match a.begin().await {
            Ok(tx) => break tx,
            Err(error) => assert_eq!(error.kind(), ErrorKind::AcquireTimeout),
        }
    };
    let error = Error::from(
        notes(&scope(&registry, "b").await)
            .await
            .expect_err("no place"),
    );
    assert_eq!(error.kind(), ErrorKind::Saturated);
    assert!(error.is_retryable() && error.retry_after().is_some());
    assert_eq!(
        kind(a.begin().await.expect_err("taken")),
        ErrorKind::AcquireTimeout
    );
    drop(tx);
}

#[tokio::test]
async fn one_writes_while_others_read() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder), &["a"]).await;
    let a = scope(&registry, "a").await;
    let mut snapshot = a.begin_read_only().await.expect("begun");
    assert_eq!(notes(&mut snapshot).await.expect("notes"), ["a note of a"]);

    let mut tx = a.begin().await.expect("begun");
    add(&mut tx, "new").await.expect("added");
    assert_eq!(notes(&a).await.expect("read beside it"), ["a note of a"]);
    let mut other = std::pin::pin!(a.begin());
    for _ in 0..50 {
        assert!(other.as_mut().now_or_never().is_none(), "two writers");
        tokio::task::yield_now().await;
    }
    let status = registry.status();
    assert_eq!((status.in_use, status.waiting), (2, 1), "it waits here");
    tx.commit().await.expect("committed");
    let mut other = other.await.expect("its turn");
    assert_eq!(
        notes(&mut other).await.expect("notes"),
        ["a note of a", "new"]
    );
    assert_eq!(notes(&mut snapshot).await.expect("notes"), ["a note of a"]);

    for text in ["DELETE FROM notes", "CREATE TABLE t (a)", "COMMIT"] {
        let refused = snapshot.execute(text).await.expect_err(text);
        assert_eq!(kind(refused), ErrorKind::StatementRefused);
    }
    snapshot.rollback().await.expect("ended");
}

#[tokio::test]
async fn an_unknown_tenant_gets_no_file() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder), &["a"]).await;
    let a = scope(&registry, "a").await;
    let unknown = registry.scope(tenant("b")).await.expect_err("unknown");
    assert!(unknown.is_tenant_unknown());
    shut_down(&registry).await;
    assert_eq!(
        kind(a.begin().await.expect_err("closed")),
        ErrorKind::Closed
    );
    assert_eq!(
        kind(registry.create(&tenant("b")).await.expect_err("closed")),
        ErrorKind::Closed
    );
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["tenant-a.sqlite"], "no journal is left, either");

    // A scope that outlives its tenant.
    let registry = builder(&folder).build().await.expect("a registry");
    let a = scope(&registry, "a").await;
    std::fs::remove_file(file(&folder, "a")).expect("removed");
    assert_eq!(
        kind(notes(&a).await.expect_err("gone")),
        ErrorKind::TenantUnknown
    );
    assert!(!file(&folder, "a").exists());

    let nowhere = SqliteRegistry::open(folder.path().join("nowhere"))
        .build()
        .await;
    assert_eq!(
        kind(nowhere.expect_err("no folder")),
        ErrorKind::InvalidOption
    );
}

#[tokio::test]
async fn a_file_is_made_once() {
    let folder = Folder::new();
    let registry = builder(&folder).build().await.expect("a registry");
    let a = tenant("a");
    let attempts = (0..8).map(|_| registry.create(&a));
    let made = join_all(attempts).await;
    let made: Vec<bool> = made
        .into_iter()
        .map(|made| made.expect("created"))
        .collect();
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    assert_eq!(
        notes(&scope(&registry, "a").await).await.expect("migrated"),
        [""; 0]
    );

    // Dropped half-way it goes on.
    for polls in 0..4 {
        let b = tenant(&format!("b{polls}"));
        cancelled_after(polls, registry.create(&b)).await;
        registry.create(&b).await.expect("created");
        assert_eq!(
            notes(&scope(&registry, b.as_str()).await)
                .await
                .expect("notes"),
            [""; 0]
        );
    }

    // What another program put there is not ours, and is left alone.
    for (id, text) in [("c", "CREATE TABLE notes (body)"), ("d", "")] {
        let path = SqliteConnectOptions::new()
            .filename(file(&folder, id))
            .create_if_missing(true);
        let mut foreign = path.connect().await.expect("a file");
        foreign.execute(text).await.expect("made");
        foreign.close().await.expect("closed");
    }
    let found = notes(&scope(&registry, "c").await).await;
    assert_eq!(kind(found.expect_err("nobody's")), ErrorKind::Installation);
    let made = registry.create(&tenant("c")).await;
    assert_eq!(kind(made.expect_err("nobody's")), ErrorKind::Installation);
    // An empty file is what a process leaves that dies while it makes one.
    let found = notes(&scope(&registry, "d").await).await;
    assert_eq!(kind(found.expect_err("not yet")), ErrorKind::TenantUnknown);
    assert!(registry.create(&tenant("d")).await.expect("created"));
    assert_eq!(
        notes(&scope(&registry, "d").await).await.expect("notes"),
        [""; 0]
    );
    std::fs::write(
        file(&folder, "e"),
        "no database, but longer than a header of one".repeat(9),
    )
    .expect("written");
    let found = notes(&scope(&registry, "e").await).await;
    assert_eq!(kind(found.expect_err("garbage")), ErrorKind::Connect);
}

#[tokio::test]
async fn a_file_that_changed_its_name_is_refused() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder), &["a", "b"]).await;
    shut_down(&registry).await;
    let (a, b, c) = (file(&folder, "a"), file(&folder, "b"), file(&folder, "c"));
    std::fs::copy(&a, &c).expect("copied");
    std::fs::rename(&a, folder.path().join("away")).expect("renamed");
    std::fs::rename(&b, &a).expect("renamed");
    std::fs::rename(folder.path().join("away"), &b).expect("renamed");

    let registry = builder(&folder).build().await.expect("a registry");
    for id in ["a", "b", "c"] {
        let scope = scope(&registry, id).await;
        assert!(Error::from(notes(&scope).await.expect_err(id)).is_misrouted());
        assert!(Error::from(add(&scope, "x").await.expect_err(id)).is_misrouted());
        assert!(scope.begin().await.expect_err(id).is_misrouted());
        let error = registry.create(&tenant(id)).await.expect_err(id);
        assert!(error.is_misrouted());
    }
    shut_down(&registry).await;
    assert_eq!(
        notes(&mut plain(&a).await).await.expect("notes"),
        ["a note of b"]
    );
    // Nor can it be told otherwise by mistake.
    for text in [
        "UPDATE tenantry_file SET tenant = 'a'",
        "DELETE FROM tenantry_file",
    ] {
        assert!(plain(&a).await.execute(text).await.is_err(), "{text}");
    }
}

/// Somebody copies files of a running service, and mixes up one and its journal: SQLite applies
/// any journal to any file.
#[tokio::test]
async fn a_file_beside_the_journal_of_another_is_refused() {
    let (folder, copies) = (Folder::new(), Folder::new());
    let registry = with_tenants(builder(&folder), &["a", "b"]).await;
    for (from, to) in [("a", "b"), ("b", "a")] {
        std::fs::copy(file(&folder, from), file(&copies, to)).expect("copied");
        std::fs::copy(journal(&folder, to), journal(&copies, to)).expect("copied");
    }
    let bytes = |id| {
        let read = |path| std::fs::read(path).expect("read");
        (read(file(&copies, id)), read(journal(&copies, id)))
    };
    let before = [bytes("a"), bytes("b")];
    let mixed = builder(&copies).build().await.expect("a registry");
    for id in ["a", "b"] {
        let error = notes(&scope(&mixed, id).await).await.expect_err(id);
        assert!(Error::from(error).is_misrouted());
    }
    shut_down(&mixed).await;
    assert!(before == [bytes("a"), bytes("b")], "it was written to");
    // The specimen: A's file, with B's rows.
    let mut plain = plain(&file(&copies, "b")).await;
    let owner: String = sqlx::query_scalar("SELECT tenant FROM tenantry_file")
        .fetch_one(&mut plain)
        .await
        .expect("an owner");
    assert_eq!(owner, "a");
    assert_eq!(notes(&mut plain).await.expect("notes"), ["a note of b"]);
    assert_eq!(registry.status().open, 2, "it was running all the time");
}

/// What must be true after whatever was done: nothing half-done is there, the connection is
/// outside any transaction, and nobody has a lock on the file.
async fn next_borrower_is_unharmed(registry: &SqliteRegistry, folder: &Folder, polls: usize) {
    let a = scope(registry, "a").await;
    let seen = notes(&a).await.expect("served");
    assert!(
        !seen.iter().any(|body| body == "half"),
        "after {polls} polls"
    );
    add(&a, "after").await.expect("served");
    let mut other = plain(&file(folder, "a")).await;
    other
        .execute("DELETE FROM notes WHERE body = 'after'")
        .await
        .expect("no lock is left");
    other.close().await.expect("closed");
    let tx = a
        .begin()
        .await
        .unwrap_or_else(|error| panic!("after {polls} polls: {error:?}"));
    tx.rollback().await.expect("rolled back");
    assert_eq!(
        notes(&a).await.expect("served"),
        seen,
        "after {polls} polls"
    );
}

/// Drops `operation` at each of its polls, until it completes.
///
/// Returns how many polls it was kept waiting.
async fn sweep<F>(operation: impl Fn(SqliteScope) -> F) -> usize
where
    F: Future<Output = ()>,
{
    let folder = Folder::new();
    // Slow enough for a grace that a loaded machine keeps.
    let options = one().abandoned_grace(Duration::from_secs(30));
    let registry = with_tenants(builder(&folder).pool_options(options), &["a"]).await;
    let mut dropped = 0;
    // SQLite answers from a thread of its own, sooner or later: on a busy machine often before
    // the next poll, so rounds go on until one was kept waiting. An operation that never waits
    // ends them, and its caller says so.
    for round in 0..200 {
        if round >= 5 && dropped > 0 {
            break;
        }
        for polls in 0.. {
            assert!(polls < 60, "did not complete in 60 polls");
            let a = scope(&registry, "a").await;
            let completed = cancelled_after(polls, operation(a)).await.is_some();
            next_borrower_is_unharmed(&registry, &folder, polls).await;
            if completed {
                break;
            }
            dropped += polls;
        }
    }
    let status = registry.tenant_status(&tenant("a")).expect("open");
    assert_eq!(status.connections, 1);
    dropped
}

const NO_WAIT: &str = "an operation that never waits proves nothing";

#[tokio::test]
async fn dropped_begin() {
    let waited = sweep(|a| async move {
        let mut tx = a.begin().await.expect("begun");
        add(&mut tx, "half").await.expect("added");
    });
    assert!(waited.await > 0, "{NO_WAIT}");
    sweep(|a| async move { drop(a.begin_read_only().await.expect("begun")) }).await;
}

#[tokio::test]
async fn dropped_statement() {
    for text in [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         SELECT max(i) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO notes SELECT 'x' FROM n WHERE i % 2000 = 0 RETURNING body",
    ] {
        let waited = sweep(|a| async move {
            sqlx::query(text).fetch_all(&a).await.expect("rows");
        });
        assert!(waited.await > 0, "{NO_WAIT}");
        let waited = sweep(|a| async move {
            sqlx::query(text).fetch_one(&a).await.expect("a row");
        });
        assert!(waited.await > 0, "{NO_WAIT}");
    }
    sweep(|a| async move {
        let text = sqlx::SqlStr::from_static("SELECT 1");
        a.prepare(text).await.expect("prepared");
    })
    .await;
}

#[tokio::test]
async fn dropped_statement_in_a_transaction() {
    let waited = sweep(|a| async move {
        let mut tx = a.begin().await.expect("begun");
        tx.execute(SLOW_INSERT).await.expect("added");
        sqlx::raw_sql("UPDATE notes SET body = 'half'; SELECT 1")
            .execute(&mut tx)
            .await
            .expect("updated");
    });
    assert!(waited.await > 0, "{NO_WAIT}");
}

#[tokio::test]
async fn dropped_end() {
    let waited = sweep(|a| async move {
        let mut tx = a.begin().await.expect("begun");
        add(&mut tx, "whole").await.expect("added");
        tx.commit().await.expect("committed");
    });
    assert!(waited.await > 0, "{NO_WAIT}");
    let waited = sweep(|a| async move {
        let mut tx = a.begin().await.expect("begun");
        tx.execute(SLOW_INSERT).await.expect("added");
        tx.rollback().await.expect("rolled back");
    });
    assert!(waited.await > 0, "{NO_WAIT}");
    sweep(|a| async move {
        let failed = a.transaction(|tx| {
            Box::pin(async move {
                tx.execute("CREATE TEMP TABLE notes (body)").await?;
                add(&mut *tx, "half").await?;
                Err::<(), _>(Error::from(sqlx::Error::RowNotFound))
            })
        });
        failed.await.expect_err("rolled back");
    })
    .await;
}

#[tokio::test]
async fn an_abandoned_statement_is_stopped() {
    let folder = Folder::new();
    let options = one().abandoned_grace(Duration::from_secs(30));
    let registry = with_tenants(builder(&folder).pool_options(options), &["a"]).await;
    let a = scope(&registry, "a").await;
    abandon(sqlx::query(ENDLESS).fetch_one(&a)).await;
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
    let status = registry.tenant_status(&tenant("a")).expect("open");
    assert_eq!(
        (status.connections, status.leases),
        (1, 3),
        "on the same connection"
    );

    // A stream that is left half-way.
    add(&a, "another").await.expect("added");
    let mut rows = sqlx::query("SELECT a.body FROM notes a, notes b, notes c").fetch(&a);
    rows.next().await.expect("a row").expect("a row");
    drop(rows);
    assert_eq!(notes(&a).await.expect("served").len(), 2);
}

#[tokio::test]
async fn a_panic_rolls_back() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder).pool_options(one()), &["a"]).await;
    let a = scope(&registry, "a").await;
    let work = {
        let a = a.clone();
        async move {
            a.transaction(|tx| {
                Box::pin(async move {
                    add(tx, "half").await?;
                    if true {
                        std::panic::resume_unwind(Box::new("on purpose"));
                    }
                    Ok::<(), Error>(())
                })
            })
            .await
        }
    };
    tokio::spawn(work).await.expect_err("it panics");
    next_borrower_is_unharmed(&registry, &folder, 0).await;
    let done: Result<i64, Error> = a
        .transaction(|tx| {
            Box::pin(async move {
                add(&mut *tx, "whole").await?;
                Ok(sqlx::query_scalar("SELECT count(*) FROM notes")
                    .fetch_one(tx)
                    .await?)
            })
        })
        .await;
    assert_eq!(done.expect("committed"), 2);
}

#[test]
fn dropped_where_there_is_no_runtime() {
    let folder = Folder::new();
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let home = runtime();
    let open = |registry: &SqliteRegistry| {
        let registry = registry.clone();
        async move {
            let a = scope(&registry, "a").await;
            let mut tx = a.begin().await.expect("begun");
            add(&mut tx, "half").await.expect("added");
            tx
        }
    };
    let elsewhere = |tx: SqliteTx| {
        std::thread::spawn(move || drop(tx))
            .join()
            .expect("no panic");
    };
    let registry = home.block_on(async {
        let registry = with_tenants(builder(&folder).pool_options(one()), &["a"]).await;
        elsewhere(open(&registry).await);
        next_borrower_is_unharmed(&registry, &folder, 0).await;
        registry
    });
    let tx = home.block_on(open(&registry));
    let read = home.block_on(async {
        let b = registry.create(&tenant("b")).await.expect("created");
        assert!(b);
        scope(&registry, "b")
            .await
            .begin_read_only()
            .await
            .expect("begun")
    });
    // On another runtime, and after the end of its own.
    let other = runtime();
    other.block_on(async {
        drop(read);
        assert_eq!(
            notes(&scope(&registry, "b").await).await.expect("served"),
            [""; 0]
        );
    });
    drop(home);
    elsewhere(tx);
    drop(registry);
    other.block_on(async {
        let registry = builder(&folder)
            .pool_options(one())
            .build()
            .await
            .expect("a registry");
        let seen = notes(&scope(&registry, "a").await).await.expect("served");
        assert_eq!(seen, ["a note of a"]);
    });
}

async fn refused_by_a_scope(a: &SqliteScope, text: &'static str) {
    let error = Error::from(a.execute(text).await.expect_err(text));
    assert_eq!(error.kind(), ErrorKind::StatementRefused, "{text}");
    let prepared = a
        .prepare(sqlx::SqlStr::from_static(text))
        .await
        .expect_err(text);
    assert_eq!(kind(prepared), ErrorKind::StatementRefused, "{text}");
}

async fn refused_in_a_transaction(a: &SqliteScope, text: &'static str) {
    let mut tx = a.begin().await.expect("begun");
    let error = Error::from(sqlx::raw_sql(text).execute(&mut tx).await.expect_err(text));
    assert_eq!(error.kind(), ErrorKind::StatementRefused, "{text}");
    add(&mut tx, "half").await.expect("it was not sent");
    tx.rollback().await.expect("still in the transaction");
}

async fn refused(a: &SqliteScope, texts: &[&'static str]) {
    for text in texts {
        refused_by_a_scope(a, text).await;
        refused_in_a_transaction(a, text).await;
    }
    assert_eq!(notes(a).await.expect("notes"), ["a note of a"]);
}

#[tokio::test]
async fn other_files_are_out_of_reach() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder).pool_options(one()), &["a", "b"]).await;
    let a = scope(&registry, "a").await;
    let texts = [
        "ATTACH 'tenant-b.sqlite' AS b",
        "attach database 'tenant-b.sqlite' as b",
        "SELECT 1; ATTACH 'tenant-b.sqlite' AS b",
        "DETACH b",
        "VACUUM INTO 'copy.sqlite'",
        "VACUUM",
    ];
    refused(&a, &texts).await;

    // The specimens.
    let mut plain = plain(&file(&folder, "a")).await;
    sqlx::query("ATTACH ? AS b")
        .bind(file(&folder, "b").to_str())
        .execute(&mut plain)
        .await
        .expect("attached");
    let body: String = sqlx::query_scalar("SELECT body FROM b.notes")
        .fetch_one(&mut plain)
        .await
        .expect("a row");
    assert_eq!(body, "a note of b");
    let copy = folder.path().join("copy");
    sqlx::query("VACUUM INTO ?")
        .bind(copy.to_str())
        .execute(&mut plain)
        .await
        .expect("copied");
    assert!(copy.exists());
}

#[tokio::test]
async fn transaction_control_as_text() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder).pool_options(one()), &["a"]).await;
    let a = scope(&registry, "a").await;
    let texts = [
        "BEGIN",
        "COMMIT",
        "END TRANSACTION",
        "ROLLBACK",
        "SAVEPOINT s",
        "RELEASE s",
        "ROLLBACK TO s",
        "INSERT INTO notes VALUES ('half'); COMMIT",
    ];
    refused(&a, &texts).await;

    // The specimen: what was rolled back is there.
    let mut plain = plain(&file(&folder, "a")).await;
    #[expect(clippy::disallowed_methods, reason = "what happens without us")]
    let mut tx = plain.begin().await.expect("begun");
    add(&mut *tx, "half").await.expect("added");
    tx.execute("COMMIT").await.expect("committed");
    let _ = tx.rollback().await;
    assert_eq!(
        notes(&mut plain).await.expect("notes"),
        ["a note of a", "half"]
    );
}

#[tokio::test]
async fn what_would_stay_on_the_connection() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder).pool_options(one()), &["a"]).await;
    let a = scope(&registry, "a").await;
    let texts = [
        "PRAGMA foreign_keys = OFF",
        "PRAGMA foreign_keys(0)",
        "PRAGMA main.journal_mode = DELETE",
        "PRAGMA synchronous = OFF",
        "PRAGMA query_only = 1",
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA temp.user_version",
        "EXPLAIN PRAGMA foreign_keys = OFF",
        "PRAGMA wal_checkpoint",
    ];
    refused(&a, &texts).await;
    for text in [
        "CREATE TEMP TABLE notes (body)",
        "DROP TABLE notes",
        "PRAGMA defer_foreign_keys = 1",
        "SELECT 1; SELECT 2",
    ] {
        refused_by_a_scope(&a, text).await;
    }
    let told: i64 = sqlx::query_scalar("PRAGMA foreign_keys")
        .fetch_one(&a)
        .await
        .expect("told");
    assert_eq!(told, 1);

    // Temporary objects go with their transaction, as does its connection.
    let mut tx = a.begin().await.expect("begun");
    sqlx::raw_sql("CREATE TEMP TABLE notes (body); INSERT INTO notes VALUES ('mine')")
        .execute(&mut tx)
        .await
        .expect("made");
    assert_eq!(notes(&mut tx).await.expect("notes"), ["mine"]);
    tx.commit().await.expect("committed");
    assert_eq!(notes(&a).await.expect("notes"), ["a note of a"]);

    // And what sqlx knew of a schema that was taken back.
    let name = async |executor: &mut SqliteTx| {
        let all = sqlx::query("SELECT * FROM notes").fetch_one(executor).await;
        let row = all.expect("a row");
        sqlx::Column::name(&sqlx::Row::columns(&row)[0]).to_owned()
    };
    let mut tx = a.begin().await.expect("begun");
    assert_eq!(name(&mut tx).await, "body");
    tx.execute("ALTER TABLE notes RENAME body TO other")
        .await
        .expect("renamed");
    assert_eq!(name(&mut tx).await, "other");
    drop(tx);
    assert_eq!(name(&mut a.begin().await.expect("begun")).await, "body");

    // The specimens: the next borrower finds no keys checked, and another table.
    let mut plain = plain(&file(&folder, "a")).await;
    plain
        .execute("PRAGMA foreign_keys = OFF; CREATE TEMP TABLE notes (body)")
        .await
        .expect("set");
    assert_eq!(notes(&mut plain).await.expect("notes"), [""; 0]);
    plain
        .execute("INSERT INTO lines VALUES (4711)")
        .await
        .expect("no key is checked");
}

#[tokio::test]
async fn several_statements_are_not_torn_apart() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder).pool_options(one()), &["a"]).await;
    let a = scope(&registry, "a").await;
    let text = "INSERT INTO notes VALUES ('half'); INSERT INTO notes VALUES (NULL)";
    refused_by_a_scope(&a, text).await;
    // The specimen.
    let mut plain = plain(&file(&folder, "a")).await;
    plain.execute(text).await.expect_err("the second fails");
    assert_eq!(
        notes(&mut plain).await.expect("notes"),
        ["a note of a", "half"]
    );
}

#[tokio::test]
async fn a_transaction_that_sqlite_ended_takes_no_more() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder).pool_options(one()), &["a"]).await;
    let a = scope(&registry, "a").await;
    sqlx::query("INSERT INTO keys VALUES (1)")
        .execute(&a)
        .await
        .expect("a key");

    let twice = "INSERT OR ROLLBACK INTO keys VALUES (1)";
    let mut tx = a.begin().await.expect("begun");
    add(&mut tx, "half").await.expect("added");
    assert_eq!(
        kind(tx.execute(twice).await.expect_err("twice")),
        ErrorKind::Conflict
    );
    let late = add(&mut tx, "late")
        .await
        .expect_err("there is no transaction");
    assert_eq!(kind(late), ErrorKind::TransactionAborted);
    let prepared = tx.prepare(sqlx::SqlStr::from_static("SELECT 1")).await;
    assert_eq!(
        kind(prepared.expect_err("none")),
        ErrorKind::TransactionAborted
    );
    let end = tx.commit().await.expect_err("there is no transaction");
    assert!(matches!(end, CommitError::RolledBack(_)));
    next_borrower_is_unharmed(&registry, &folder, 0).await;

    // Nobody saw the answer: it has to be waited for.
    let slowly = "INSERT OR ROLLBACK INTO keys
        WITH RECURSIVE n(i) AS (SELECT 300000 UNION ALL SELECT i - 1 FROM n WHERE i > 1)
        SELECT i FROM n";
    let mut tx = a.begin().await.expect("begun");
    abandon(tx.execute(slowly)).await;
    let late = add(&mut tx, "late")
        .await
        .expect_err("there is no transaction");
    assert_eq!(kind(late), ErrorKind::TransactionAborted);
    drop(tx);
    assert_eq!(notes(&a).await.expect("notes"), ["a note of a"]);

    // The specimen: what was said inside a transaction is kept outside of it.
    let mut plain = plain(&file(&folder, "a")).await;
    #[expect(clippy::disallowed_methods, reason = "what happens without us")]
    let mut tx = plain.begin().await.expect("begun");
    tx.execute(twice).await.expect_err("twice");
    add(&mut *tx, "late").await.expect("added, and committed");
    drop(tx);
    assert_eq!(
        notes(&mut plain).await.expect("notes"),
        ["a note of a", "late"]
    );
}

#[tokio::test]
async fn a_commit_says_what_became_of_it() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder).pool_options(one()), &["a"]).await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    add(&mut tx, "half").await.expect("added");
    tx.execute("INSERT INTO lines VALUES (4711)")
        .await
        .expect("looked at later");
    let end = tx.commit().await.expect_err("a violated key");
    assert!(end.is_rolled_back());
    let code = Error::from(end).code().map(|code| code.into_owned());
    assert_eq!(code.as_deref(), Some("787"), "SQLITE_CONSTRAINT_FOREIGNKEY");
    next_borrower_is_unharmed(&registry, &folder, 0).await;

    // A statement of its own, of which one row is wanted.
    let returning = "INSERT INTO lines VALUES (4711) RETURNING key";
    let error = sqlx::query(returning)
        .fetch_one(&a)
        .await
        .expect_err("a violated key");
    assert_eq!(kind(error), ErrorKind::Database);
    let count = "SELECT count(*) FROM lines";
    let count: i64 = sqlx::query_scalar(count)
        .fetch_one(&a)
        .await
        .expect("a count");
    assert_eq!(count, 0);
    // The specimen: a row of what is not there.
    let mut plain = plain(&file(&folder, "a")).await;
    sqlx::query(returning)
        .fetch_one(&mut plain)
        .await
        .expect("a row, and nothing behind it");

    // Another process that writes is waited for, and then it is an error to be tried again.
    shut_down(&registry).await;
    let options = one().busy_timeout(Duration::from_millis(10));
    let registry = builder(&folder)
        .pool_options(options)
        .build()
        .await
        .expect("a registry");
    let a = scope(&registry, "a").await;
    assert_eq!(notes(&a).await.expect("notes"), ["a note of a"]);
    plain.execute("BEGIN IMMEDIATE").await.expect("begun");
    let error = a.begin().await.expect_err("another writes");
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::Database, true)
    );
    plain.execute("ROLLBACK").await.expect("ended");
    next_borrower_is_unharmed(&registry, &folder, 0).await;
}

#[tokio::test]
async fn a_changed_schema_is_seen_by_all_connections() {
    let folder = Folder::new();
    let options = SqlitePoolOptions::default().max_connections(3);
    let registry = with_tenants(builder(&folder).pool_options(options), &["a"]).await;
    let a = scope(&registry, "a").await;
    let all = "SELECT * FROM notes";
    let columns = async |a: &SqliteScope| {
        let mut reads = Vec::new();
        for _ in 0..2 {
            let mut read = a.begin_read_only().await.expect("begun");
            let row = sqlx::query(all).fetch_one(&mut read).await.expect("a row");
            reads.push((sqlx::Row::columns(&row).len(), read));
        }
        reads
            .into_iter()
            .map(|(columns, _)| columns)
            .collect::<Vec<_>>()
    };
    assert_eq!(columns(&a).await, [1, 1]);
    a.transaction(|tx| {
        Box::pin(async move {
            tx.execute("ALTER TABLE notes ADD extra TEXT").await?;
            Ok::<_, Error>(())
        })
    })
    .await
    .expect("altered");
    assert_eq!(columns(&a).await, [2, 2]);
}

#[tokio::test]
async fn a_migration_that_fails_reaches_all_who_wait() {
    let folder = Folder::new();
    shut_down(&with_tenants(builder(&folder), &["a"]).await).await;
    let (fails, attempts) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let gate = Arc::new(Semaphore::new(0));
    let registry = {
        let (fails, attempts, gate) = (fails.clone(), attempts.clone(), gate.clone());
        let migrating = SqliteRegistry::open(folder.path()).migrate(move |tx| {
            let (fails, attempts, gate) = (fails.clone(), attempts.clone(), gate.clone());
            Box::pin(async move {
                attempts.fetch_add(1, Ordering::SeqCst);
                add(&mut *tx, "migrated").await?;
                if fails.load(Ordering::SeqCst) {
                    let _ = gate.acquire().await;
                    return Err(sqlx::Error::PoolClosed.into());
                }
                Ok(())
            })
        });
        migrating.build().await.expect("a registry")
    };
    let a = scope(&registry, "a").await;
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let a = a.clone();
            tokio::spawn(async move { notes(&a).await })
        })
        .collect();
    let waits = || {
        registry
            .tenant_status(&tenant("a"))
            .map_or(0, |status| status.waiting)
    };
    while waits() < 10 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1_000);
    for answer in join_all(waiting).await {
        let error = answer.expect("no panic").expect_err("not migrated");
        assert_eq!(kind(error), ErrorKind::Other);
    }
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
    fails.store(false, Ordering::SeqCst);
    let seen = notes(&a).await.expect("tried again");
    assert_eq!(seen, ["a note of a", "migrated"]);
    let readers = join_all((0..3).map(|_| a.begin_read_only())).await;
    assert!(readers.iter().all(Result::is_ok), "three connections");
    assert_eq!(
        attempts.load(Ordering::SeqCst),
        2,
        "once for all connections"
    );
}

#[tokio::test]
async fn the_end_says_who_was_busy() {
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder), &["a", "b", "c"]).await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    let mut waiting = std::pin::pin!(a.begin());
    while registry.status().waiting == 0 {
        assert!(waiting.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(registry.status().in_use, 1);
    assert_eq!(registry.shutdown(Duration::ZERO).await, [tenant("a")]);
    assert_eq!(kind(waiting.await.expect_err("closed")), ErrorKind::Closed);
    assert_eq!(
        kind(notes(&a).await.expect_err("closed")),
        ErrorKind::Closed
    );
    add(&mut tx, "kept").await.expect("it goes on");
    tx.commit().await.expect("committed");
    assert_eq!(registry.status().evicted(EvictionCause::Shutdown), 3);
    shut_down(&registry).await;
    let mut plain = plain(&file(&folder, "a")).await;
    assert_eq!(
        notes(&mut plain).await.expect("notes"),
        ["a note of a", "kept"]
    );
}

#[tokio::test]
async fn everything_sqlx_does_works_on_a_scope() {
    fn sent<T: Send + 'static>(it: T) -> T {
        it
    }
    let folder = Folder::new();
    let registry = with_tenants(builder(&folder), &["a"]).await;
    let context = TenantContext::new(tenant("a")).user(7);
    let a = sent(registry.scope(context).await.expect("a scope"));
    assert_eq!(a.context().user_id(), Some("7"));
    let mut insert = sqlx::QueryBuilder::new("INSERT INTO keys ");
    insert.push_values([1_i64, 2, 3], |mut row, key| {
        row.push_bind(key);
    });
    let done = insert.build().execute(&a).await.expect("inserted");
    assert_eq!((done.rows_affected(), done.last_insert_rowid()), (3, 3));
    let prepared = a.prepare(sqlx::SqlStr::from_static(
        "SELECT key FROM keys WHERE key > ?",
    ));
    let prepared = prepared.await.expect("prepared");
    let keys: Vec<i64> = sqlx::Statement::query_scalar(&prepared)
        .bind(1)
        .fetch_all(&a)
        .await
        .expect("rows");
    assert_eq!(keys, [2, 3]);
    let none: Option<i64> = sqlx::query_scalar("SELECT key FROM keys WHERE key = 9")
        .fetch_optional(&a)
        .await
        .expect("an answer");
    assert_eq!(none, None);
    let mut tx = sent(a.begin().await.expect("begun"));
    let last: i64 = sqlx::query_scalar("DELETE FROM keys WHERE key > 1 RETURNING key; SELECT 1")
        .fetch_one(&mut tx)
        .await
        .expect("a row");
    assert_eq!(last, 2);
    let left = "SELECT count(*) FROM keys";
    let left: i64 = sqlx::query_scalar(left)
        .fetch_one(&mut tx)
        .await
        .expect("a count");
    assert_eq!(left, 1, "run to the end");
    assert!(!format!("{a:?} {tx:?} {registry:?}").contains(folder.path().to_str().expect("text")));
}
