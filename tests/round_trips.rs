//! How often a caller waits for the server, counted on the wire.
//!
//! A round trip is counted when a client sends something after it has heard of the server. What
//! has been counted when an operation returns is what its caller waited for: each test runs on one
//! thread, so that nothing in the background runs before the test waits for something else. What
//! is counted later, until the count stays the same, is the background.

mod support;

use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use support::{World, notes, scope, world};
use tenantry::testing::FaultProxy;
use tenantry::{ContextSettings, PoolOptions, TenantRegistry, TenantScope};

/// Longer than a round trip on the slow wire: who is silent for so long has nothing more to say.
const SILENCE: Duration = Duration::from_millis(40);
const SILENCE_AT_LAST: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trips {
    waited_for: u64,
    in_background: u64,
}

impl Trips {
    const fn waited_for(waited_for: u64) -> Self {
        Self {
            waited_for,
            in_background: 0,
        }
    }
}

/// Counts the trips of `operation`, prints them, and gives what it returned.
async fn count<T>(wire: &FaultProxy, name: &str, operation: impl Future<Output = T>) -> (Trips, T) {
    let before = silent(wire).await;
    let answer = operation.await;
    let after = wire.counts().round_trips();
    let trips = Trips {
        waited_for: after - before,
        in_background: silent(wire).await - after,
    };
    println!(
        "{:>2} waited for, {} in the background: {name}",
        trips.waited_for, trips.in_background
    );
    (trips, answer)
}

/// The count when it has not changed for a while.
async fn silent(wire: &FaultProxy) -> u64 {
    let started = Instant::now();
    let mut trips = wire.counts().round_trips();
    loop {
        tokio::time::sleep(SILENCE).await;
        let now = wire.counts().round_trips();
        if now == trips {
            return now;
        }
        trips = now;
        assert!(started.elapsed() < SILENCE_AT_LAST, "never silent");
    }
}

/// As [`count`], for what returns nothing of interest.
async fn trips<E: std::fmt::Debug>(
    wire: &FaultProxy,
    name: &str,
    operation: impl Future<Output = Result<(), E>>,
) -> Trips {
    let (trips, done) = count(wire, name, operation).await;
    done.expect(name);
    trips
}

/// A registry with one connection, and a scope whose statement is known to the server.
async fn warm(
    world: &World,
    wire: &FaultProxy,
    options: fn(PoolOptions) -> PoolOptions,
) -> (TenantRegistry, TenantScope) {
    let registry = world
        .registry_of(
            wire.connect_options(&world.app),
            ContextSettings::default(),
            move |defaults| options(defaults.max_connections(1)),
        )
        .await;
    let a = scope(&registry, "a").await;
    notes(&a).await.expect("served");
    (registry, a)
}

/// As if nothing in these tests took longer than the 500 ms of the default.
fn never_tested(options: PoolOptions) -> PoolOptions {
    options.test_after(Duration::from_secs(3600))
}

fn tested_always(options: PoolOptions) -> PoolOptions {
    options.test_after(Duration::ZERO)
}

/// Prepared and executed: the type of the hidden argument is known by its number, also where the
/// server would call it by another name.
#[tokio::test]
async fn first_statement_of_a_connection_looks_nothing_up() {
    let world = world(&["a"]).await;
    let wire = world.slow_wire().await;
    for path in ["public", "tenantry, public"] {
        let options = wire.connect_options(&world.app);
        let options = options.options([("search_path", path)]);
        let registry = world
            .registry_of(options, ContextSettings::default(), |defaults| {
                never_tested(defaults.max_connections(1))
            })
            .await;
        let a = scope(&registry, "a").await;
        let opened = a.begin().await.expect("begun");
        opened.rollback().await.expect("rolled back");
        let first = trips(&wire, "the first statement of a connection", async {
            notes(&a).await.map(drop)
        });
        assert_eq!(first.await, Trips::waited_for(2), "{path}");
    }
}

#[tokio::test]
async fn single_statement() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let (registry, a) = warm(&world, &wire, never_tested).await;
    let one = Trips::waited_for(1);

    let known = trips(&wire, "scoped statement", async {
        notes(&a).await.map(drop)
    });
    assert_eq!(known.await, one);

    let b = scope(&registry, "b").await;
    let other = trips(&wire, "the same of another tenant", async {
        notes(&b).await.map(drop)
    });
    assert_eq!(other.await, one);

    let optional = trips(&wire, "scoped statement, fetch_optional", async {
        sqlx::query("SELECT body FROM notes ORDER BY body")
            .fetch_optional(&a)
            .await
            .map(drop)
    });
    assert_eq!(optional.await, one);

    let new = || async {
        sqlx::query("UPDATE notes SET body = body WHERE id = $1")
            .bind(1_i64)
            .execute(&a)
            .await
            .map(drop)
    };
    let first = trips(&wire, "a text that is new to the connection", new()).await;
    assert_eq!(first, Trips::waited_for(2));
    assert_eq!(trips(&wire, "the same once more", new()).await, one);

    let refused = async { sqlx::query("LISTEN news").execute(&a).await };
    let (refusal, answer) = count(&wire, "a statement that is refused", refused).await;
    assert!(answer.is_err());
    assert_eq!(refusal, Trips::waited_for(0));
}

#[tokio::test]
async fn transaction() {
    let world = world(&["a"]).await;
    let wire = world.slow_wire().await;
    let (_registry, a) = warm(&world, &wire, never_tested).await;
    let one = Trips::waited_for(1);

    let (begin, tx) = count(&wire, "begin", a.begin()).await;
    assert_eq!(begin, one);
    let mut tx = tx.expect("begun");

    let statement = trips(&wire, "statement in a transaction", async {
        notes(&mut tx).await.map(drop)
    });
    assert_eq!(statement.await, one);

    let raw = trips(&wire, "raw_sql in a transaction", async {
        sqlx::raw_sql("UPDATE notes SET body = body; SELECT body FROM notes")
            .execute(&mut tx)
            .await
            .map(drop)
    });
    assert_eq!(raw.await, one);

    let (set, savepoint) = count(&wire, "savepoint", tx.savepoint()).await;
    assert_eq!(set, one);
    let released = savepoint.expect("set").release();
    assert_eq!(trips(&wire, "release of a savepoint", released).await, one);

    let savepoint = tx.savepoint().await.expect("set");
    let undone = trips(&wire, "rollback to a savepoint", savepoint.rollback());
    assert_eq!(undone.await, one);

    assert_eq!(trips(&wire, "commit", tx.commit()).await, one);

    let tx = a.begin().await.expect("begun");
    assert_eq!(trips(&wire, "rollback", tx.rollback()).await, one);

    let (begin, tx) = count(&wire, "begin, read only", a.begin_read_only()).await;
    assert_eq!(begin, one);
    assert_eq!(
        trips(&wire, "commit, read only", tx.expect("begun").commit()).await,
        one
    );

    let whole = trips(&wire, "transaction(..) with one statement", async {
        a.transaction(Default::default(), |tx| {
            Box::pin(async move {
                notes(tx).await?;
                Ok::<_, tenantry::Error>(())
            })
        })
        .await
    });
    assert_eq!(whole.await, Trips::waited_for(3));

    // What was prepared through the hatch is forgotten once, and not again and again.
    let mut tx = a.begin().await.expect("begun");
    tx.dangerous_connection().await.expect("the connection");
    for _ in 0..2 {
        notes(&mut tx).await.expect("rows");
    }
    let after = trips(&wire, "statement a while after the hatch", async {
        notes(&mut tx).await.map(drop)
    });
    assert_eq!(after.await, one);
    tx.rollback().await.expect("rolled back");
}

#[tokio::test]
async fn acquire() {
    let world = world(&["a"]).await;
    let wire = world.slow_wire().await;

    let (registry, a) = warm(&world, &wire, never_tested).await;
    let used = trips(&wire, "statement on a connection that was in use", async {
        notes(&a).await.map(drop)
    });
    assert_eq!(used.await, Trips::waited_for(1));
    registry.close();

    let (registry, a) = warm(&world, &wire, tested_always).await;
    let tested = trips(&wire, "statement on a connection that was idle", async {
        notes(&a).await.map(drop)
    });
    assert_eq!(tested.await, Trips::waited_for(2));

    let (begin, tx) = count(&wire, "begin on a connection that was idle", a.begin()).await;
    assert_eq!(begin, Trips::waited_for(1));
    let ended = trips(&wire, "rollback", tx.expect("begun").rollback());
    assert_eq!(ended.await, Trips::waited_for(1));
    registry.close();
}

/// What is not waited for: the way back to a connection that may be handed on.
#[tokio::test]
async fn healing() {
    let world = world(&["a"]).await;
    let wire = world.slow_wire().await;
    let (_registry, a) = warm(&world, &wire, never_tested).await;
    let healed = Trips {
        waited_for: 1,
        in_background: 1,
    };

    let dropped = trips(&wire, "begin, and the transaction is dropped", async {
        a.begin().await.map(drop)
    });
    assert_eq!(dropped.await, healed);

    let failing = || async { sqlx::query("SELECT 1 / 0").execute(&a).await };
    assert!(failing().await.is_err());
    let (failed, answer) = count(&wire, "scoped statement that fails", failing()).await;
    assert!(answer.is_err());
    println!("   (its connection is handed on after: {failed:?})");
    assert_eq!(failed.waited_for, 1);

    let (left, tx) = count(&wire, "begin", a.begin()).await;
    assert_eq!(left, Trips::waited_for(1));
    let mut tx = tx.expect("begun");
    sqlx::raw_sql("LISTEN news")
        .execute(&mut tx)
        .await
        .expect("listening");
    let scrubbed = trips(
        &wire,
        "commit of a transaction that left traces",
        tx.commit(),
    );
    assert_eq!(scrubbed.await.waited_for, 1);
}

/// The same steps with sqlx alone: what the counts above compare with, and the proof that such an
/// assertion can fail.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the specimen is what sqlx does by itself"
)]
async fn sqlx_alone_waits_more_often() {
    let world = world(&["a"]).await;
    let wire = world.slow_wire().await;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(wire.connect_options(&world.app))
        .await
        .expect("a pool");

    set_config_transaction(&pool).await.expect("warm");
    notes(&pool).await.expect("warm");

    let plain = trips(&wire, "sqlx: statement without a scope", async {
        notes(&pool).await.map(drop)
    });
    let plain = plain.await;
    assert_eq!(plain.waited_for, 2, "its test of the connection");
    assert_eq!(plain.in_background, 1, "its test of what comes back");

    let bare = trips(
        &wire,
        "sqlx: begin, statement, commit without a scope",
        async {
            let mut tx = pool.begin().await?;
            notes(&mut *tx).await?;
            tx.commit().await
        },
    );
    assert_eq!(bare.await.waited_for, 4);

    let naive = trips(
        &wire,
        "sqlx: begin, SELECT set_config, statement, commit",
        set_config_transaction(&pool),
    );
    assert_eq!(naive.await.waited_for, 5);

    let batched = trips(
        &wire,
        "sqlx: begin_with the setting, statement, commit",
        async {
            let begin = AssertSqlSafe("BEGIN; SET LOCAL app.tenant_id = 'a'");
            let mut tx = pool.begin_with(begin).await?;
            notes(&mut *tx).await?;
            tx.commit().await
        },
    );
    assert_eq!(batched.await.waited_for, 4);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the specimen is what sqlx does by itself"
)]
async fn set_config_transaction(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("SELECT set_config('app.tenant_id', $1, true)")
        .bind("a")
        .execute(&mut *tx)
        .await?;
    notes(&mut *tx).await?;
    tx.commit().await
}
