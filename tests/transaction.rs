//! `TenantTx`: guarantee 3 (an honest commit), its options, savepoints, locks, retries and ends.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use support::{World, notes, scope, session, world};
use tenantry::testing::{FaultProxy, cancelled_after};
use tenantry::{
    CommitError, Error, ErrorKind, IsolationLevel, RetryPolicy, TenantScope, TxOptions,
};

async fn show(tx: &mut tenantry::TenantTx, setting: &str) -> String {
    let text = format!("SHOW {setting}");
    sqlx::query_scalar(AssertSqlSafe(text))
        .fetch_one(tx)
        .await
        .expect("shown")
}

async fn bodies(world: &World) -> Vec<String> {
    let mut admin = world.admin().await;
    sqlx::query_scalar("SELECT body FROM notes ORDER BY body")
        .fetch_all(&mut admin)
        .await
        .expect("all notes")
}

#[tokio::test]
async fn commit_keeps_and_rollback_and_drop_do_not() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    for (text, end) in [("kept", 0), ("rolled back", 1), ("dropped", 2)] {
        let mut tx = a.begin().await.expect("begun");
        sqlx::query("INSERT INTO notes (body) VALUES ($1)")
            .bind(text)
            .execute(&mut tx)
            .await
            .expect("inserted");
        match end {
            0 => tx.commit().await.expect("committed"),
            1 => tx.rollback().await.expect("rolled back"),
            _ => drop(tx),
        }
    }
    assert_eq!(notes(&a).await.expect("rows"), ["a note of a", "kept"]);
}

/// sqlx says `Ok` here and keeps nothing.
#[tokio::test]
async fn commit_of_an_aborted_transaction_is_an_error() {
    let world = world(&["a"]).await;
    let mut specimen = world.admin().await;
    #[expect(clippy::disallowed_methods, reason = "the specimen")]
    {
        let mut tx = specimen.begin().await.expect("begun");
        tx.execute("SELECT 1/0")
            .await
            .expect_err("division by zero");
        tx.commit().await.expect("sqlx says that it has committed");
    }

    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("INSERT INTO notes (body) VALUES ('lost')")
        .execute(&mut tx)
        .await
        .expect("run");
    sqlx::query("SELECT 1/0")
        .execute(&mut tx)
        .await
        .expect_err("division by zero");
    let error = tx.commit().await.expect_err("nothing to commit");
    assert!(matches!(error, CommitError::RolledBack(_)), "{error:?}");
    assert_eq!(Error::from(error).code().as_deref(), Some("25P02"));
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
}

#[tokio::test]
async fn a_deferred_constraint_that_fails_is_an_error() {
    let world = world(&["a"]).await;
    world
        .admin()
        .await
        .execute("ALTER TABLE notes ADD CONSTRAINT once UNIQUE (tenant_id, body) DEFERRABLE INITIALLY DEFERRED")
        .await
        .expect("a constraint");
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    for _ in 0..2 {
        sqlx::query("INSERT INTO notes (body) VALUES ('twice')")
            .execute(&mut tx)
            .await
            .expect("run");
    }
    let error = tx.commit().await.expect_err("refused at the end");
    assert!(error.is_rolled_back(), "{error:?}");
    let error = Error::from(error);
    assert_eq!(
        (error.code().as_deref(), error.constraint()),
        (Some("23505"), Some("once"))
    );
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
}

/// The session ends inside COMMIT: the client cannot know how far it got.
#[tokio::test]
async fn a_connection_lost_in_commit_is_an_unknown_outcome() {
    let world = world(&["a"]).await;
    world
        .admin()
        .await
        .execute(
            "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER leave AFTER INSERT ON notes \
               DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION leave();",
        )
        .await
        .expect("a trigger");
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("INSERT INTO notes (body) VALUES ('x')")
        .execute(&mut tx)
        .await
        .expect("run");
    let error = tx.commit().await.expect_err("the session ended");
    assert!(matches!(error, CommitError::OutcomeUnknown(_)), "{error:?}");
    assert!(Error::from(error).is_outcome_unknown());
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
}

#[tokio::test]
async fn a_lost_connection_poisons_the_guard() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("INSERT INTO notes (body) VALUES ('lost')")
        .execute(&mut tx)
        .await
        .expect("run");
    let backend = session(&mut tx).await.expect("served").backend;
    let mut admin = world.admin().await;
    sqlx::query("SELECT pg_terminate_backend($1, 5000)")
        .bind(backend)
        .execute(&mut admin)
        .await
        .expect("ended");
    for _ in 0..3 {
        let error = Error::from(notes(&mut tx).await.expect_err("poisoned"));
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    }
    let error = tx.savepoint().await.expect_err("poisoned");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    let error = tx.commit().await.expect_err("poisoned");
    assert!(error.is_rolled_back(), "COMMIT was never sent: {error:?}");
    assert_eq!(
        notes(&a).await.expect("served on another connection"),
        ["a note of a"]
    );
}

#[tokio::test]
async fn options_travel_with_begin_and_end_with_the_transaction() {
    let world = world(&["a"]).await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "DO $$ BEGIN IF to_regrole('lesser') IS NULL THEN CREATE ROLE lesser; END IF; END $$; \
             GRANT lesser TO app; GRANT USAGE ON SCHEMA tenantry TO lesser; \
             CREATE SCHEMA \"Odd \"\"Name\"",
        )
        .await
        .expect("a role and a schema");
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let options = TxOptions::default()
        .serializable()
        .read_only()
        .deferrable()
        .statement_timeout(Duration::from_micros(2_500_100))
        .lock_timeout(Duration::from_secs(3))
        .idle_in_transaction_session_timeout(Duration::from_secs(4))
        .search_path(["public", "Odd \"Name"])
        .role("lesser");
    let settings = [
        ("transaction_isolation", "serializable"),
        ("transaction_read_only", "on"),
        ("transaction_deferrable", "on"),
        ("statement_timeout", "2501ms"),
        ("lock_timeout", "3s"),
        ("idle_in_transaction_session_timeout", "4s"),
        ("search_path", "public, \"Odd \"\"Name\""),
        ("role", "lesser"),
    ];
    let mut tx = a.begin_with(&options).await.expect("begun");
    for (setting, value) in settings {
        assert_eq!(show(&mut tx, setting).await, value, "{setting}");
    }
    assert_eq!(show(&mut tx, "app.tenant_id").await, "a");
    tx.commit().await.expect("committed");
    let mut tx = a.begin().await.expect("begun");
    for (setting, value) in settings {
        assert_ne!(
            show(&mut tx, setting).await,
            value,
            "{setting} outlived its transaction"
        );
    }
    drop(tx);
    admin
        .execute("REVOKE lesser FROM app")
        .await
        .expect("revoked");
}

#[tokio::test]
async fn isolation_level_is_the_one_that_was_asked_for() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let options = TxOptions::default;
    for (options, level) in [
        (options(), "read committed"),
        (options().repeatable_read(), "repeatable read"),
        (options().serializable(), "serializable"),
        (
            options().isolation(IsolationLevel::RepeatableRead),
            "repeatable read",
        ),
    ] {
        let mut tx = a.begin_with(&options).await.expect("begun");
        assert_eq!(show(&mut tx, "transaction_isolation").await, level);
        tx.rollback().await.expect("rolled back");
    }
}

/// A scope that is 100 ms away from its server.
async fn far_away(world: &World) -> (FaultProxy, TenantScope) {
    let wire = world.slow_wire().await;
    let registry = world.registry_over(&wire).await;
    let a = scope(&registry, "a").await;
    wire.set_latency(Duration::from_millis(50));
    (wire, a)
}

async fn can_be_had(admin: &mut PgConnection, lock: &str) {
    admin.execute("BEGIN").await.expect("begun");
    let had = admin.execute(AssertSqlSafe(lock)).await;
    had.expect("the lock is gone");
    admin.execute("ROLLBACK").await.expect("rolled back");
}

/// Nobody finds its locks when it returns, on however slow a wire.
#[tokio::test]
async fn rollback_waits_until_the_server_has_done_so() {
    const LOCK: &str = "LOCK TABLE notes IN SHARE MODE NOWAIT";
    let world = world(&["a"]).await;
    let mut admin = world.admin().await;
    let (_wire, a) = far_away(&world).await;
    for _ in 0..3 {
        let mut tx = a.begin().await.expect("begun");
        sqlx::query("UPDATE notes SET body = body")
            .execute(&mut tx)
            .await
            .expect("locked");
        admin.execute(LOCK).await.expect_err("it is locked");
        tx.rollback().await.expect("rolled back");
        can_be_had(&mut admin, LOCK).await;
    }
}

#[tokio::test]
async fn end_of_a_read_only_transaction_waits_for_the_server_too() {
    const LOCK: &str = "LOCK TABLE notes NOWAIT";
    let world = world(&["a"]).await;
    let mut admin = world.admin().await;
    let (_wire, a) = far_away(&world).await;
    for is_committed in [true, false] {
        let mut tx = a.begin_read_only().await.expect("begun");
        notes(&mut tx).await.expect("rows");
        admin.execute(LOCK).await.expect_err("it is read");
        if is_committed {
            tx.commit().await.expect("committed");
        } else {
            tx.rollback().await.expect("rolled back");
        }
        can_be_had(&mut admin, LOCK).await;
    }
}

/// What the server has not heard of it rolls back by itself, but nobody knows when.
#[tokio::test]
async fn rollback_says_that_the_connection_was_lost() {
    let world = world(&["a"]).await;
    let (wire, a) = far_away(&world).await;
    let tx = a.begin().await.expect("begun");
    wire.cut();
    let error = tx.rollback().await.expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
}

/// A setting that the server refuses must not leave the connection in a failed transaction, as it
/// does behind BEGIN in one message (25P02 for every later borrower).
#[tokio::test]
async fn a_refused_option_leaves_no_transaction() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let backend = session(&b).await.expect("served").backend;
    let refused = TxOptions::default().role("nobody of this name");
    let error = a.begin_with(&refused).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Database);
    let first = session(&b).await.expect("served");
    assert_eq!(
        (first.backend, first.tenant.as_deref()),
        (backend, Some("b"))
    );
    assert_ne!(first.xid, session(&b).await.expect("served").xid);
    for (bad, rule) in [
        (TxOptions::default().role(""), "63 bytes"),
        (TxOptions::default().role("x\0y"), "NUL"),
        (
            TxOptions::default().search_path(["a", &"x".repeat(64)]),
            "63 bytes",
        ),
        (
            TxOptions::default().lock_timeout(Duration::from_secs(1 << 40)),
            "24 days",
        ),
    ] {
        let error = a.begin_with(&bad).await.expect_err(rule);
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(error.to_string().contains(rule), "{error}");
    }
    let longest = TxOptions::default().search_path(["x".repeat(63)]);
    let mut tx = a.begin_with(&longest).await.expect("begun");
    assert_eq!(show(&mut tx, "search_path").await, "x".repeat(63));
    tx.rollback().await.expect("rolled back");
}

#[tokio::test]
async fn a_read_only_transaction_is_read_only_to_the_server() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin_read_only().await.expect("begun");
    assert_eq!(notes(&mut tx).await.expect("rows"), ["a note of a"]);
    let error = sqlx::query("DELETE FROM notes")
        .execute(&mut tx)
        .await
        .expect_err("refused");
    assert_eq!(Error::from(error).code().as_deref(), Some("25006"));
    tx.rollback().await.expect("rolled back");
    let tx = a
        .begin_read_only_with(TxOptions::default().serializable())
        .await
        .expect("begun");
    tx.commit().await.expect("committed");
}

/// LOCK TABLE, then read what was committed before the lock was had: under REPEATABLE READ only if
/// nothing took the snapshot before, and the conversion of an argument would.
#[tokio::test]
async fn locking_a_table_takes_no_snapshot() {
    let world = world(&["a"]).await;
    world
        .admin()
        .await
        .execute("GRANT UPDATE, DELETE ON notes TO app")
        .await
        .expect("granted");
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a
        .begin_with(&TxOptions::default().repeatable_read())
        .await
        .expect("begun");
    sqlx::query("LOCK TABLE plain")
        .execute(&mut tx)
        .await
        .expect("locked");
    world
        .admin()
        .await
        .execute("INSERT INTO notes (tenant_id, body) VALUES ('a', 'newer')")
        .await
        .expect("inserted");
    assert_eq!(
        notes(&mut tx).await.expect("rows"),
        ["a note of a", "newer"]
    );
    tx.rollback().await.expect("rolled back");
}

#[tokio::test]
async fn savepoints() {
    const INSERT: &str = "INSERT INTO notes (body) VALUES ($1)";
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");

    let mut kept = tx.savepoint().await.expect("set");
    sqlx::query(INSERT)
        .bind("1 released")
        .execute(&mut *kept)
        .await
        .expect("run");
    kept.release().await.expect("released");

    let mut undone = tx.savepoint().await.expect("set");
    sqlx::query(INSERT)
        .bind("rolled back")
        .execute(&mut *undone)
        .await
        .expect("run");
    undone.rollback().await.expect("rolled back to");

    // Dropped, also with a failure, also with another inside it.
    let mut outer = tx.savepoint().await.expect("set");
    sqlx::query(INSERT)
        .bind("dropped")
        .execute(&mut *outer)
        .await
        .expect("run");
    let mut inner = outer.savepoint().await.expect("set");
    sqlx::query(INSERT)
        .bind("dropped too")
        .execute(&mut *inner)
        .await
        .expect("run");
    inner
        .execute(sqlx::query("SELECT 1/0"))
        .await
        .expect_err("division by zero");
    drop(inner);
    drop(outer);

    // The inner one dropped, the outer one kept.
    let mut outer = tx.savepoint().await.expect("set");
    let mut inner = outer.savepoint().await.expect("set");
    sqlx::query(INSERT)
        .bind("inner")
        .execute(&mut *inner)
        .await
        .expect("run");
    drop(inner);
    sqlx::query(INSERT)
        .bind("2 outer")
        .execute(&mut *outer)
        .await
        .expect("run");
    outer.release().await.expect("released");

    // After a failure `release` says so, and the transaction goes on without it.
    let mut failed = tx.savepoint().await.expect("set");
    failed
        .execute(sqlx::query("SELECT 1/0"))
        .await
        .expect_err("division by zero");
    let error = failed.release().await.expect_err("nothing to release");
    assert_eq!(error.code().as_deref(), Some("25P02"));

    sqlx::query(INSERT)
        .bind("3 last")
        .execute(&mut tx)
        .await
        .expect("run");
    // Dropped just before the commit, which then has it in its message.
    let mut last = tx.savepoint().await.expect("set");
    sqlx::query(INSERT)
        .bind("dropped at the end")
        .execute(&mut *last)
        .await
        .expect("run");
    drop(last);
    tx.commit().await.expect("committed");
    assert_eq!(
        bodies(&world).await,
        ["1 released", "2 outer", "3 last", "a note of a"]
    );
}

/// Up to PostgreSQL 16 pg_stat_statements keeps each name as a statement of its own: a loop over
/// savepoints must not fill it.
#[tokio::test]
async fn names_of_savepoints_are_used_again() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let mut admin = world.admin().await;
    let mut tx = scope(&registry, "a").await.begin().await.expect("begun");
    let backend = session(&mut tx).await.expect("served").backend;
    for end in ["released", "rolled back to", "dropped", "at last"] {
        let mut outer = tx.savepoint().await.expect("set");
        let inner = outer.savepoint().await.expect("set");
        let message: String =
            sqlx::query_scalar("SELECT query FROM pg_stat_activity WHERE pid = $1")
                .bind(backend)
                .fetch_one(&mut admin)
                .await
                .expect("what it was told last");
        assert_eq!(message, "SAVEPOINT tenantry_2", "{end}");
        match end {
            "released" => {
                inner.release().await.expect(end);
                outer.release().await.expect(end);
            }
            "rolled back to" => {
                inner.rollback().await.expect(end);
                outer.rollback().await.expect(end);
            }
            _ => drop(inner),
        }
    }
    tx.commit().await.expect("committed");
}

/// `SET LOCAL` inside a savepoint survives its release, and rolling back restores what was before
/// it: neither brings another tenant.
#[tokio::test]
async fn no_savepoint_brings_another_context() {
    const SWITCH: &str = "SELECT set_config('app.tenant_id', 'b', true)";
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let tenant_of = async |tx: &mut tenantry::TenantTx| -> String {
        let row = sqlx::raw_sql("SELECT current_setting('app.tenant_id')")
            .fetch_one(tx)
            .await;
        sqlx::Row::get(&row.expect("a row"), 0)
    };
    let mut tx = a.begin().await.expect("begun");
    let mut inside = tx.savepoint().await.expect("set");
    let error = sqlx::query("SET LOCAL app.tenant_id = 'b'")
        .execute(&mut *inside)
        .await;
    assert_eq!(
        Error::from(error.expect_err("refused")).kind(),
        ErrorKind::StatementRefused
    );
    sqlx::query(SWITCH)
        .execute(&mut *inside)
        .await
        .expect("run");
    inside.release().await.expect("released");
    assert_eq!(tenant_of(&mut tx).await, "a", "after a release");
    sqlx::query(SWITCH).execute(&mut tx).await.expect("run");
    let inside = tx.savepoint().await.expect("set");
    inside.rollback().await.expect("rolled back to");
    assert_eq!(tenant_of(&mut tx).await, "a", "after a rollback to one");
    sqlx::query(SWITCH).execute(&mut tx).await.expect("run");
    drop(tx.savepoint().await.expect("set"));
    assert_eq!(
        notes(&mut tx).await.expect("rows"),
        ["a note of a"],
        "after a dropped one"
    );
    tx.commit().await.expect("committed");
}

/// Abandoned half-way, nobody knows where the transaction is: it must not claim to have committed.
#[tokio::test]
async fn an_abandoned_savepoint_cannot_be_committed() {
    let world = world(&["a"]).await;
    let wire = world.slow_wire().await;
    let app = wire.connect_options(&world.app);
    let registry = world
        .registry_of(app, Default::default(), |o| o.max_connections(1))
        .await;
    let a = scope(&registry, "a").await;
    for polls in 1..20 {
        let mut tx = a.begin().await.expect("begun");
        sqlx::query("INSERT INTO notes (body) VALUES ('lost')")
            .execute(&mut tx)
            .await
            .expect("run");
        if cancelled_after(polls, tx.savepoint()).await.is_some() {
            assert!(polls > 1);
            return;
        }
        let error = Error::from(notes(&mut tx).await.expect_err("refused"));
        assert_eq!(error.kind(), ErrorKind::TransactionAborted);
        let error = tx.commit().await.expect_err("cannot be committed");
        assert!(error.is_rolled_back(), "{error:?}");
        assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
    }
    panic!("a savepoint never came about");
}

#[tokio::test]
async fn advisory_locks_are_the_tenants_own() {
    let world = world(&["a", "b"]).await;
    let registry = world
        .registry_with(|options| options.max_connections(3))
        .await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let mut holder = a.begin().await.expect("begun");
    holder.advisory_lock("numbers").await.expect("taken");
    let mut other = a.begin().await.expect("begun");
    assert!(!other.try_advisory_lock("numbers").await.expect("asked"));
    assert!(other.try_advisory_lock("letters").await.expect("asked"));
    let mut foreign = b.begin().await.expect("begun");
    assert!(
        foreign.try_advisory_lock("numbers").await.expect("asked"),
        "another tenant's"
    );
    holder.commit().await.expect("committed");
    assert!(
        other.try_advisory_lock("numbers").await.expect("asked"),
        "gone with its transaction"
    );
}

/// The next borrower does not wait for the end of an abandoned statement, nor gets its connection,
/// and the server stops it.
#[tokio::test]
async fn an_abandoned_statement_is_stopped() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let backend = session(&a).await.expect("served").backend;
    let asleep = async |world: &World| -> i64 {
        let mut admin = world.admin().await;
        sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND state = 'active' AND wait_event = 'PgSleep'",
        )
        .fetch_one(&mut admin)
        .await
        .expect("a count")
    };
    let begun = tokio::time::Instant::now();
    for in_transaction in [false, true] {
        let sleep = async {
            let statement = sqlx::query("SELECT pg_sleep(600)");
            if in_transaction {
                let mut tx = a.begin().await.expect("begun");
                statement.execute(&mut tx).await.map(drop)
            } else {
                statement.execute(&a).await.map(drop)
            }
        };
        let abandoned = tokio::select! {
            _ = sleep => false,
            () = async {
                while asleep(&world).await == 0 {
                    tokio::task::yield_now().await;
                }
            } => true,
        };
        assert!(abandoned);
        let next = session(&b).await.expect("served");
        assert_ne!(next.backend, backend, "handed on while the statement runs");
        while asleep(&world).await > 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the server goes on with it"
            );
            tokio::task::yield_now().await;
        }
    }
}

/// A short one is let end, and its connection is kept.
#[tokio::test]
async fn a_stream_dropped_half_way_costs_no_connection() {
    use futures_util::StreamExt as _;
    let world = world(&["a", "b"]).await;
    let registry = world
        .registry_with(|options| {
            options
                .max_connections(1)
                .abandoned_grace(Duration::from_secs(20))
        })
        .await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let backend = session(&b).await.expect("served").backend;
    {
        let mut rows = sqlx::query("SELECT * FROM generate_series(1, 100000)").fetch(&a);
        rows.next().await.expect("a row").expect("a row");
    }
    assert_eq!(session(&b).await.expect("served").backend, backend);
}

#[tokio::test]
async fn transaction_commits_on_ok_and_rolls_back_on_err_and_panic() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let insert = |text: &'static str, result: fn() -> Result<u8, Error>| {
        let a = a.clone();
        async move {
            a.transaction(TxOptions::default(), |tx| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO notes (body) VALUES ($1)")
                        .bind(text)
                        .execute(tx)
                        .await?;
                    result()
                })
            })
            .await
        }
    };
    assert_eq!(insert("kept", || Ok(7)).await.expect("committed"), 7);
    let error = insert("err", || "".parse::<tenantry::TenantId>().map(|_| 0)).await;
    assert_eq!(
        error.expect_err("as returned").kind(),
        ErrorKind::InvalidTenantId
    );
    let panicked = tokio::spawn(insert("panic", || panic!("on purpose"))).await;
    assert!(panicked.expect_err("panicked").is_panic());
    assert_eq!(notes(&a).await.expect("served"), ["a note of a", "kept"]);
}

/// Two that read and write the same under SERIALIZABLE: without another attempt one fails.
#[tokio::test]
async fn transaction_is_repeated_after_a_serialization_failure() {
    let world = world(&["a"]).await;
    world
        .admin()
        .await
        .execute("ALTER TABLE notes ADD n int NOT NULL DEFAULT 0")
        .await
        .expect("n");
    let registry = world
        .registry_with(|options| options.max_connections(8))
        .await;
    let a = scope(&registry, "a").await;
    for (attempts, all_must_succeed) in [(1, false), (50, true)] {
        let policy = RetryPolicy::default()
            .max_attempts(attempts)
            .max_elapsed(Duration::from_secs(60))
            .delays(Duration::from_millis(2), Duration::from_millis(40));
        let options = TxOptions::default().serializable().retry(policy);
        let failed = Arc::new(AtomicU32::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (a, options, failed) = (a.clone(), options.clone(), Arc::clone(&failed));
                tokio::spawn(async move {
                    for _ in 0..10 {
                        let done = a
                            .transaction(options.clone(), |tx| {
                                Box::pin(async move {
                                    let n: i32 = sqlx::query_scalar("SELECT n FROM notes")
                                        .fetch_one(&mut *tx)
                                        .await?;
                                    sqlx::query("UPDATE notes SET n = $1")
                                        .bind(n + 1)
                                        .execute(tx)
                                        .await?;
                                    Ok::<_, Error>(())
                                })
                            })
                            .await;
                        if let Err(error) = done {
                            assert!(error.is_retryable(), "{error:?}");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let failed = failed.load(Ordering::Relaxed);
        assert_eq!(
            failed == 0,
            all_must_succeed,
            "{failed} failed with {attempts} attempts"
        );
        let n: i32 = sqlx::query_scalar("UPDATE notes SET n = 0 RETURNING (SELECT n FROM notes)")
            .fetch_one(&a)
            .await
            .expect("the count");
        assert_eq!(n as u32, 80 - failed, "lost or doubled");
    }
}

/// A note that is the code of an error is refused with it, in COMMIT.
async fn refuse_codes(world: &World) {
    let mut admin = world.admin().await;
    admin
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               RAISE EXCEPTION USING ERRCODE = NEW.body; END $$; \
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED \
               FOR EACH ROW WHEN (NEW.body ~ '^[0-9P]{5}$') EXECUTE FUNCTION refuse()",
        )
        .await
        .expect("a trigger");
}

/// SERIALIZABLE may fail as late as in COMMIT; here a deferred trigger does.
#[tokio::test]
async fn transaction_is_repeated_after_a_commit_that_failed() {
    let world = world(&["a"]).await;
    refuse_codes(&world).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let retry = RetryPolicy::default().delays(Duration::ZERO, Duration::ZERO);
    for (code, outcome) in [
        ("40001", (true, 2)),
        ("40P01", (true, 2)),
        ("23514", (false, 1)),
    ] {
        let attempts = Arc::new(AtomicU32::new(0));
        let done = a
            .transaction(TxOptions::default().retry(retry.clone()), |tx| {
                let attempt = attempts.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move {
                    let body = if attempt == 0 { code } else { "in order" };
                    sqlx::query("INSERT INTO notes (body) VALUES ($1)")
                        .bind(body)
                        .execute(tx)
                        .await?;
                    Ok::<_, Error>(())
                })
            })
            .await;
        let attempts = attempts.load(Ordering::Relaxed);
        assert_eq!((done.is_ok(), attempts), outcome, "{code}");
    }
}

/// What a COPY has failed with counts as what a statement has.
#[tokio::test]
async fn copy_that_fails_is_repeated() {
    let world = world(&["a"]).await;
    let mut admin = world.admin().await;
    admin
        .execute("CREATE UNIQUE INDEX bodies ON plain (body); INSERT INTO plain VALUES ('1')")
        .await
        .expect("an index");
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let retry = RetryPolicy::default().on_unique_violation("bodies");
    let mut attempts = 0;
    a.transaction(TxOptions::default().retry(retry), |tx| {
        attempts += 1;
        let body = format!("{attempts}\n");
        Box::pin(async move {
            let mut copy = tx.copy_in_raw("COPY plain FROM STDIN").await?;
            copy.send(body.as_bytes()).await?;
            copy.finish().await
        })
    })
    .await
    .expect("another number");
    assert_eq!(attempts, 2);
}

#[tokio::test]
async fn statement_is_repeated_as_often_as_the_policy_says() {
    let world = world(&["a"]).await;
    refuse_codes(&world).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    for (code, allowed, made) in [("40001", 1, 1), ("40001", 3, 3), ("23514", 3, 1)] {
        let policy = RetryPolicy::default()
            .max_attempts(allowed)
            .delays(Duration::ZERO, Duration::ZERO);
        let attempts = AtomicU32::new(0);
        let error = policy
            .run(|| {
                attempts.fetch_add(1, Ordering::Relaxed);
                sqlx::query("INSERT INTO notes (body) VALUES ($1)")
                    .bind(code)
                    .execute(&a)
            })
            .await
            .expect_err("refused each time");
        assert_eq!(error.code().as_deref(), Some(code));
        assert_eq!(attempts.load(Ordering::Relaxed), made, "{code}");
    }
}

#[tokio::test]
async fn transaction_is_not_repeated_for_nothing() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let attempts = async |policy: RetryPolicy, code: &'static str| {
        let counter = AtomicU32::new(0);
        let seen = &counter;
        let options = TxOptions::default().retry(policy);
        let error = a
            .transaction(options, |tx| {
                seen.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move {
                    let text = format!("DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$");
                    sqlx::query(AssertSqlSafe(text)).execute(tx).await?;
                    Ok::<_, Error>(())
                })
            })
            .await
            .expect_err("always");
        assert_eq!(error.code().as_deref(), Some(code));
        counter.load(Ordering::Relaxed)
    };
    let quick =
        || RetryPolicy::default().delays(Duration::from_millis(1), Duration::from_millis(2));
    assert_eq!(attempts(quick(), "40001").await, 5);
    assert_eq!(attempts(quick().max_attempts(3), "40P01").await, 3);
    assert_eq!(
        attempts(quick().max_elapsed(Duration::ZERO), "40001").await,
        1
    );
    assert_eq!(attempts(quick(), "55P03").await, 1);
    assert_eq!(attempts(quick().on_lock_timeout(), "55P03").await, 5);
    assert_eq!(attempts(quick(), "23505").await, 1);
    assert_eq!(attempts(quick(), "22012").await, 1);
}

/// A commit whose outcome is unknown is not repeated: it may have been carried out.
#[tokio::test]
async fn the_hatch_is_checked_at_commit() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    // Used decently.
    let mut tx = a.begin().await.expect("begun");
    let plain = tx.dangerous_connection().await.expect("the connection");
    assert_eq!(notes(&mut *plain).await.expect("rows"), ["a note of a"]);
    plain
        .execute("INSERT INTO notes (body) VALUES ('through the hatch')")
        .await
        .expect("run");
    plain.execute("SET work_mem = '77MB'").await.expect("set");
    tx.commit().await.expect("committed");
    let mut tx = a.begin().await.expect("begun");
    assert_ne!(
        show(&mut tx, "work_mem").await,
        "77MB",
        "the connection was not scrubbed"
    );
    tx.commit().await.expect("committed");
    // The transaction ended behind our back, with and without another in its place.
    for text in ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "ROLLBACK AND CHAIN"] {
        let mut tx = a.begin().await.expect("begun");
        let plain = tx.dangerous_connection().await.expect("the connection");
        plain.execute(text).await.expect("run");
        let error = tx.commit().await.expect_err(text);
        assert!(
            matches!(error, CommitError::OutcomeUnknown(_)),
            "{text}: {error:?}"
        );
        assert_eq!(
            session(&scope(&registry, "b").await)
                .await
                .expect("served")
                .tenant
                .as_deref(),
            Some("b")
        );
    }
}

/// A column is added while statements are prepared.
#[tokio::test]
async fn a_stale_plan_is_replaced() {
    const ALL: &str = "SELECT * FROM notes";
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    sqlx::query(ALL).fetch_all(&a).await.expect("rows");
    let mut admin = world.admin().await;
    admin
        .execute("ALTER TABLE notes ADD more int")
        .await
        .expect("altered");
    let row = sqlx::query(ALL).fetch_one(&a).await.expect("prepared anew");
    assert_eq!(sqlx::Row::len(&row), 4);
    admin
        .execute("ALTER TABLE notes ADD still_more int")
        .await
        .expect("altered");
    let rows = sqlx::query(ALL).fetch_all(&a).await.expect("prepared anew");
    assert_eq!(sqlx::Row::len(&rows[0]), 5);
    admin
        .execute("ALTER TABLE notes ADD even_more int")
        .await
        .expect("altered");
    let mut tx = a.begin().await.expect("begun");
    let error = Error::from(
        sqlx::query(ALL)
            .fetch_all(&mut tx)
            .await
            .expect_err("stale"),
    );
    assert!(error.is_retryable(), "{error:?}");
    drop(tx);
    sqlx::query(ALL).fetch_all(&a).await.expect("prepared anew");
    admin
        .execute("ALTER TABLE notes ADD last int")
        .await
        .expect("altered");
    let columns = a
        .transaction(TxOptions::default(), |tx| {
            Box::pin(async move {
                Ok::<_, Error>(sqlx::Row::len(&sqlx::query(ALL).fetch_one(tx).await?))
            })
        })
        .await
        .expect("at the second attempt");
    assert_eq!(columns, 7);
}

/// What was done through the hatch may have been committed there.
#[tokio::test]
async fn transaction_that_used_the_hatch_is_not_repeated() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let attempts = AtomicU32::new(0);
    let seen = &attempts;
    let error = a
        .transaction(TxOptions::default(), |tx| {
            seen.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                tx.dangerous_connection().await?;
                sqlx::query("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
                    .execute(tx)
                    .await?;
                Ok::<_, Error>(())
            })
        })
        .await
        .expect_err("always");
    assert_eq!(error.code().as_deref(), Some("40001"));
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
}
