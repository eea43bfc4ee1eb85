//! Guarantee 10: what gives something back may be dropped anywhere, with or without a runtime; and
//! the futures can be sent to where they are wanted.

mod support;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use futures_util::StreamExt as _;
use support::{World, notes, scope, session, world};
use tenantry::{
    CommitError, Error, Reader, TenantCopyIn, TenantReadTx, TenantRegistry, TenantSavepoint,
    TenantScope, TenantTx, TxOptions,
};
use tokio::runtime::{Builder, Runtime};

/// Where a guard is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    OutsideAnyRuntime,
    AfterTheRuntime,
    AnotherThread,
    AnotherRuntime,
}

const PLACES: [Place; 4] = [
    Place::OutsideAnyRuntime,
    Place::AfterTheRuntime,
    Place::AnotherThread,
    Place::AnotherRuntime,
];

/// What is dropped, and in the middle of what.
#[derive(Clone, Copy, Debug)]
enum Guard {
    Scope,
    Registry,
    Tx,
    TxThatWrote,
    ReadTx,
    Savepoint,
    StreamOfScope,
    StreamOfTx,
    CopyIn,
    CopyOut,
    Traces,
    BeginUnderWay,
    StatementUnderWay,
    CommitUnderWay,
}

const GUARDS: [Guard; 14] = [
    Guard::Scope,
    Guard::Registry,
    Guard::Tx,
    Guard::TxThatWrote,
    Guard::ReadTx,
    Guard::Savepoint,
    Guard::StreamOfScope,
    Guard::StreamOfTx,
    Guard::CopyIn,
    Guard::CopyOut,
    Guard::Traces,
    Guard::BeginUnderWay,
    Guard::StatementUnderWay,
    Guard::CommitUnderWay,
];

const WRITE: &str = "INSERT INTO notes (body) VALUES ('must not stay')";
const MANY: &str = "SELECT i FROM generate_series(1, 100000) AS i";

fn drop_at<G: Send>(place: Place, home: &mut Option<Runtime>, guard: G) {
    match place {
        Place::OutsideAnyRuntime => drop(guard),
        Place::AfterTheRuntime => {
            drop(home.take());
            drop(guard);
        }
        Place::AnotherThread => thread::scope(|threads| {
            let thread = threads.spawn(move || drop(guard));
            thread.join().expect("the drop does not panic");
        }),
        Place::AnotherRuntime => {
            let other = Builder::new_current_thread().build().expect("a runtime");
            other.block_on(async { drop(guard) });
        }
    }
}

/// A future that has been polled once. It waits, unless the server answered within that poll.
fn under_way<'f, F: Future + Send + 'f>(
    home: &Runtime,
    future: F,
) -> Pin<Box<dyn Future<Output = F::Output> + Send + 'f>> {
    let mut future = Box::pin(future);
    home.block_on(poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    }));
    future
}

/// Makes the guard on its home, and drops it at the place.
fn make_and_drop(guard: Guard, place: Place, home: &mut Option<Runtime>, registry: TenantRegistry) {
    let runtime = home.as_ref().expect("at home");
    let a = runtime.block_on(scope(&registry, "a"));
    let begin = || runtime.block_on(a.begin()).expect("begun");
    match guard {
        Guard::Scope => drop_at(place, home, a),
        Guard::Registry => drop_at(place, home, (a, registry)),
        Guard::Tx => {
            let tx = begin();
            drop_at(place, home, tx);
        }
        Guard::TxThatWrote => {
            let mut tx = begin();
            runtime
                .block_on(sqlx::query(WRITE).execute(&mut tx))
                .expect("written");
            drop_at(place, home, tx);
        }
        Guard::ReadTx => {
            let tx = runtime.block_on(a.begin_read_only()).expect("begun");
            drop_at(place, home, tx);
        }
        Guard::Savepoint => {
            let mut tx = begin();
            let mut savepoint = runtime.block_on(tx.savepoint()).expect("set");
            runtime
                .block_on(sqlx::query(WRITE).execute(&mut *savepoint))
                .expect("written");
            drop_at(place, home, savepoint);
        }
        Guard::StreamOfScope => {
            let mut rows = sqlx::query(MANY).fetch(&a);
            runtime
                .block_on(rows.next())
                .expect("a row")
                .expect("a row");
            drop_at(place, home, rows);
        }
        Guard::StreamOfTx => {
            let mut tx = begin();
            let mut rows = sqlx::query(MANY).fetch(&mut tx);
            runtime
                .block_on(rows.next())
                .expect("a row")
                .expect("a row");
            drop_at(place, home, rows);
        }
        Guard::CopyIn => {
            let mut tx = begin();
            let mut copy = runtime
                .block_on(tx.copy_in_raw("COPY plain FROM STDIN"))
                .expect("begun");
            runtime
                .block_on(copy.send(b"must not stay\n"))
                .expect("sent");
            drop_at(place, home, copy);
        }
        Guard::CopyOut => {
            let mut tx = begin();
            let mut chunks = runtime
                .block_on(tx.copy_out_raw("COPY (SELECT generate_series(1, 100000)) TO STDOUT"))
                .expect("begun");
            runtime
                .block_on(chunks.next())
                .expect("a chunk")
                .expect("a chunk");
            drop_at(place, home, chunks);
        }
        Guard::Traces => {
            let mut tx = begin();
            runtime
                .block_on(sqlx::query("LISTEN something").execute(&mut tx))
                .expect("listening");
            drop_at(place, home, tx);
        }
        Guard::BeginUnderWay => {
            let begin = under_way(runtime, a.begin());
            drop_at(place, home, begin);
        }
        Guard::StatementUnderWay => {
            let slow = sqlx::query("SELECT pg_sleep(60)").execute(&a);
            let slow = under_way(runtime, slow);
            drop_at(place, home, slow);
        }
        Guard::CommitUnderWay => {
            let commit = under_way(runtime, begin().commit());
            drop_at(place, home, commit);
        }
    }
}

/// Asked on a runtime of its own: the bound is for a test that fails.
async fn sessions_end(world: &World, what: &str) {
    for _ in 0..1_000 {
        if world.sessions().await == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the sessions do not end: {what}");
}

fn drops_anywhere(new_home: impl Fn() -> Runtime) {
    let asking = Runtime::new().expect("a runtime");
    let world = asking.block_on(world(&["a", "b"]));
    for guard in GUARDS {
        for place in PLACES {
            let what = format!("{guard:?}, {place:?}");
            let mut home = Some(new_home());
            let runtime = home.as_ref().expect("at home");
            let registry = runtime.block_on(world.registry());
            make_and_drop(guard, place, &mut home, registry.clone());
            if let Some(home) = &home {
                home.block_on(async {
                    let b = scope(&registry, "b").await;
                    let first = session(&b).await.expect(&what);
                    let second = session(&b).await.expect(&what);
                    assert_eq!(first.tenant.as_deref(), Some("b"), "{what}");
                    assert_ne!(
                        first.xid, second.xid,
                        "inside a leftover transaction: {what}"
                    );
                    assert_eq!(notes(&b).await.expect(&what), ["a note of b"], "{what}");
                });
            }
            drop(registry);
            // While the runtime is still there, or it would be the one who closes them.
            asking.block_on(sessions_end(&world, &what));
            drop(home);
        }
    }
    asking.block_on(async {
        let mut admin = world.admin().await;
        assert_eq!(
            notes(&mut admin).await.expect("rows"),
            ["a note of a", "a note of b"]
        );
    });
}

#[test]
fn drops_anywhere_from_a_runtime_of_one_thread() {
    drops_anywhere(|| {
        Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    });
}

#[test]
fn drops_anywhere_from_a_runtime_of_many_threads() {
    drops_anywhere(|| Runtime::new().expect("a runtime"));
}

/// The specimen: what these tests would see of sqlx's own guards.
#[test]
fn pool_connection_of_sqlx_panics_outside_a_runtime() {
    let runtime = Runtime::new().expect("a runtime");
    let connection = runtime.block_on(async {
        let world = world(&["a"]).await;
        let pool = sqlx::PgPool::connect_with(world.app).await.expect("a pool");
        pool.acquire().await.expect("a connection")
    });
    let dropped = thread::spawn(move || drop(connection)).join();
    assert!(dropped.is_err());
}

#[tokio::test]
async fn panic_in_a_transaction_rolls_it_back() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let task = tokio::spawn(async move {
        a.transaction(TxOptions::default(), |tx| {
            Box::pin(async move {
                sqlx::query(WRITE).execute(&mut *tx).await?;
                assert_eq!(notes(tx).await?.len(), 0, "this is the panic");
                Ok::<_, Error>(())
            })
        })
        .await
    });
    assert!(task.await.expect_err("panicked").is_panic());
    let b = scope(&registry, "b").await;
    let first = session(&b).await.expect("the pool serves");
    let second = session(&b).await.expect("the pool serves");
    assert_ne!(first.xid, second.xid);
    assert_eq!(notes(&b).await.expect("served"), ["a note of b"]);
    let a = scope(&registry, "a").await;
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
}

// What follows is proved by compiling.

fn send<T: Send>(value: T) -> T {
    value
}

fn lives_anywhere<T: Send + Sync + 'static>() {}

fn is_cloned<T: Clone>() {}

#[test]
fn handles_can_be_kept_anywhere() {
    lives_anywhere::<TenantScope>();
    lives_anywhere::<TenantRegistry>();
    lives_anywhere::<Error>();
    lives_anywhere::<CommitError>();
    is_cloned::<TenantScope>();
    is_cloned::<TenantRegistry>();
    fn guards_move_between_threads() {
        fn is_send<T: Send>() {}
        is_send::<TenantTx>();
        is_send::<TenantReadTx>();
        is_send::<TenantSavepoint<'static>>();
        is_send::<TenantCopyIn<'static>>();
        is_send::<Reader<'static>>();
    }
    guards_move_between_threads();
}

/// Not called: every public future can be sent to another thread.
#[expect(dead_code, reason = "it is there to be compiled")]
async fn futures_are_send(registry: TenantRegistry, scope: TenantScope) -> Result<(), Error> {
    send(registry.scope(scope.context().clone())).await?;
    send(notes(&scope)).await?;
    let mut rows = send(sqlx::query("SELECT 1").fetch(&scope));
    send(rows.next()).await;
    let mut tx = send(scope.begin()).await?;
    send(notes(&mut tx)).await?;
    send(notes(&mut Reader::from(&mut tx))).await?;
    send(tx.advisory_lock("x")).await?;
    send(tx.dangerous_connection()).await?;
    let mut savepoint = send(tx.savepoint()).await?;
    send(notes(&mut *savepoint)).await?;
    send(savepoint.release()).await?;
    let mut copy = send(tx.copy_in_raw("COPY plain FROM STDIN")).await?;
    send(copy.send(b"")).await?;
    send(copy.finish()).await?;
    drop(send(tx.copy_out_raw("COPY plain TO STDOUT")).await?);
    send(tx.commit()).await?;
    let tx = send(scope.begin_read_only()).await?;
    send(tx.rollback()).await?;
    send(scope.transaction(TxOptions::default(), |tx| {
        Box::pin(async move { Ok::<_, Error>(notes(tx).await?) })
    }))
    .await?;
    Ok(())
}

#[async_trait::async_trait]
trait Notes {
    async fn add(&self, scope: &TenantScope, body: &str) -> Result<i64, Error>;
}

struct PgNotes;

#[async_trait::async_trait]
impl Notes for PgNotes {
    async fn add(&self, scope: &TenantScope, body: &str) -> Result<i64, Error> {
        let body = body.to_owned();
        scope
            .transaction(TxOptions::default(), |tx| {
                let body = body.clone();
                Box::pin(async move {
                    sqlx::query("INSERT INTO notes (body) VALUES ($1)")
                        .bind(body)
                        .execute(&mut *tx)
                        .await?;
                    count(tx.into()).await
                })
            })
            .await
    }
}

async fn count(mut reader: Reader<'_>) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM notes")
        .fetch_one(&mut reader)
        .await?)
}

async fn generic<T, E>(scope: &TenantScope, value: &T) -> Result<String, E>
where
    T: ToString + Send + Sync,
    E: From<Error> + From<sqlx::Error> + Send,
{
    let text = value.to_string();
    scope
        .transaction(TxOptions::default(), |tx| {
            let text = text.clone();
            Box::pin(async move {
                let echoed = sqlx::query_scalar("SELECT $1").bind(text);
                Ok::<String, E>(echoed.fetch_one(tx).await?)
            })
        })
        .await
}

type Handler = Arc<
    dyn Fn(TenantScope) -> Pin<Box<dyn Future<Output = Result<i64, Error>> + Send>> + Send + Sync,
>;

#[tokio::test]
async fn transactions_run_in_tasks_traits_generics_and_handlers() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;

    let notes: Arc<dyn Notes + Send + Sync> = Arc::new(PgNotes);
    let in_task = {
        let (notes, a) = (Arc::clone(&notes), a.clone());
        tokio::spawn(async move { notes.add(&a, "in a task").await })
    };
    assert_eq!(in_task.await.expect("no panic").expect("added"), 2);

    let handler: Handler = Arc::new(move |scope| {
        let notes = Arc::clone(&notes);
        Box::pin(async move {
            let local = String::from("by a handler");
            notes.add(&scope, &local).await
        })
    });
    let handled = tokio::spawn(handler(a.clone())).await.expect("no panic");
    assert_eq!(handled.expect("added"), 3);
    assert_eq!(generic::<_, Error>(&a, &7).await.expect("echoed"), "7");
}

/// What the closure holds may borrow; what it hands to the future of an attempt is owned.
#[tokio::test]
async fn transaction_uses_a_local() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let task = tokio::spawn(async move {
        let bodies = [String::from("one"), String::from("two")];
        a.transaction(TxOptions::default(), |tx| {
            let bodies = bodies.clone();
            Box::pin(async move {
                for body in &bodies {
                    sqlx::query("INSERT INTO notes (body) VALUES ($1)")
                        .bind(body)
                        .execute(&mut *tx)
                        .await?;
                }
                count(tx.into()).await
            })
        })
        .await
    });
    assert_eq!(task.await.expect("no panic").expect("added"), 3);
}
