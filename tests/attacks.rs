//! What somebody would try who wants one tenant to meet another: objects taken out of their places,
//! sessions left in odd states, servers that end them, and many tasks at once.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use sqlx::postgres::{PgArguments, PgTypeInfo};
use sqlx::{Arguments as _, Connection as _, Executor as _, PgConnection, Statement as _};
use support::{World, notes, scope, session, tenant, world};
use tenantry::sql::Installation;
use tenantry::testing::cancelled_after;
use tenantry::{
    CommitError, ContextSettings, Error, ErrorKind, RetryPolicy, StaticDirectory, TenantRegistry,
    TenantScope, TxOptions,
};

/// More polls than any operation here takes.
const MOST: usize = 80;

async fn count(world: &World, text: &'static str) -> i64 {
    let mut admin = world.admin().await;
    let count = sqlx::query_scalar(text).fetch_one(&mut admin).await;
    admin.close().await.expect("closed");
    count.expect("a count")
}

async fn all_sessions_end(world: &World) {
    for _ in 0..2_000 {
        if world.sessions().await == 0 {
            return;
        }
    }
    panic!("a session stayed");
}

/// B is served, alone, outside any transaction, and as the role of the application.
async fn b_is_unharmed(registry: &TenantRegistry, after: &str) {
    let b = scope(registry, "b").await;
    let first = session(&b).await.expect(after);
    let second = session(&b).await.expect(after);
    assert_eq!(first.tenant.as_deref(), Some("b"), "{after}");
    assert_ne!(first.xid, second.xid, "in a transaction: {after}");
    assert_eq!(notes(&b).await.expect(after), ["a note of b"], "{after}");
    let role: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&b)
        .await
        .expect(after);
    assert_eq!(role, "app", "{after}");
    let mut tx = b.begin().await.expect(after);
    assert_eq!(notes(&mut tx).await.expect(after), ["a note of b"]);
    tx.rollback().await.expect(after);
}

// What was in a caller's hands.

#[tokio::test]
async fn a_connection_put_in_the_place_of_ours_is_not_kept() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    for commits in [false, true] {
        let mut foreign = world.admin().await;
        let mut tx = a.begin().await.expect("begun");
        let ours = tx.dangerous_connection().await.expect("the connection");
        std::mem::swap(ours, &mut foreign);
        if commits {
            let error = tx.commit().await.expect_err("another connection");
            assert!(matches!(error, CommitError::OutcomeUnknown(_)), "{error:?}");
        } else {
            drop(tx);
        }
        b_is_unharmed(
            &registry,
            "a superuser's connection was put in the place of ours",
        )
        .await;
    }
}

#[tokio::test]
async fn what_was_prepared_by_name_is_not_found_by_the_next() {
    const LEFT: &str = "SELECT count(*) FROM pg_prepared_statements WHERE from_sql";
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);

    let mut tx = a.begin().await.expect("begun");
    let plain = tx.dangerous_connection().await.expect("the connection");
    plain
        .execute("PREPARE mine AS SELECT 'a secret of a'")
        .await
        .expect("prepared");
    tx.commit().await.expect("committed");
    let left: i64 = sqlx::query_scalar(LEFT)
        .fetch_one(&b)
        .await
        .expect("served");
    assert_eq!(left, 0, "through the hatch");

    let mut tx = a.begin().await.expect("begun");
    sqlx::query("DO $$ BEGIN EXECUTE 'PREPARE mine AS SELECT ''a secret of a'''; END $$")
        .execute(&mut tx)
        .await
        .expect("run");
    tx.commit().await.expect("committed");
    let left: i64 = sqlx::query_scalar(LEFT)
        .fetch_one(&b)
        .await
        .expect("served");
    assert_eq!(left, 0, "by a DO block");
}

#[tokio::test]
async fn the_hatch_in_odd_orders() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    for text in [
        "ROLLBACK TO SAVEPOINT tenantry_1",
        "RELEASE SAVEPOINT tenantry_1",
        "SAVEPOINT tenantry_1",
        "SAVEPOINT tenantry_commit",
        "SELECT 1/0",
        "COMMIT AND CHAIN",
        "COMMIT; BEGIN; SAVEPOINT tenantry_1",
        "SET ROLE NONE; SET app.tenant_id = 'b'; LISTEN x; SET client_min_messages = debug5",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "DEALLOCATE ALL",
        "SET standard_conforming_strings = off",
        "SET statement_timeout = 1",
    ] {
        let mut tx = a.begin().await.expect("begun");
        sqlx::query("INSERT INTO notes (body) VALUES ('kept only by an Ok')")
            .execute(&mut tx)
            .await
            .expect("inserted");
        let mut inner = tx.savepoint().await.expect("set");
        let plain = inner.dangerous_connection().await.expect("the connection");
        let _ = plain.execute(text).await;
        let plain = inner.dangerous_connection().await;
        if let Ok(plain) = plain {
            let _ = plain.execute("SELECT 1").await;
        }
        let seen = notes(&mut *inner).await;
        if let Ok(seen) = seen {
            assert!(
                !seen.contains(&"a note of b".to_owned()),
                "{text}: {seen:?}"
            );
        }
        let released = inner.release().await;
        let committed = tx.commit().await;
        let kept = count(
            &world,
            "SELECT count(*) FROM notes WHERE body = 'kept only by an Ok'",
        )
        .await;
        match committed {
            Ok(()) => assert_eq!(kept, 1, "{text}: {released:?}"),
            Err(CommitError::RolledBack(_)) => assert_eq!(kept, 0, "{text}: {released:?}"),
            Err(_) => {}
        }
        world
            .admin()
            .await
            .execute("DELETE FROM notes WHERE body = 'kept only by an Ok'")
            .await
            .expect("deleted");
        b_is_unharmed(&registry, text).await;
    }
    // COPY through the hatch, left in the middle.
    let mut tx = a.begin().await.expect("begun");
    let plain = tx.dangerous_connection().await.expect("the connection");
    let copy = plain
        .copy_in_raw("COPY plain FROM STDIN")
        .await
        .expect("begun");
    #[expect(clippy::mem_forget, reason = "the attack")]
    std::mem::forget(copy);
    assert!(tx.commit().await.expect_err("inside COPY").source_is_some());
    b_is_unharmed(&registry, "COPY left through the hatch").await;
    assert_eq!(count(&world, "SELECT count(*) FROM plain").await, 0);
}

trait Source {
    fn source_is_some(&self) -> bool;
}

impl Source for CommitError {
    fn source_is_some(&self) -> bool {
        std::error::Error::source(self).is_some()
    }
}

#[tokio::test]
#[expect(clippy::mem_forget, reason = "the attack")]
async fn guards_that_are_forgotten_or_exchanged() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry_with(|o| o.max_connections(2)).await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);

    // A forgotten savepoint is as good as released.
    let mut tx = a.begin().await.expect("begun");
    let mut forgotten = tx.savepoint().await.expect("set");
    sqlx::query("INSERT INTO notes (body) VALUES ('in a forgotten savepoint of a')")
        .execute(&mut *forgotten)
        .await
        .expect("inserted");
    std::mem::forget(forgotten);
    let outer = tx.savepoint().await.expect("another name");
    drop(outer);
    tx.commit().await.expect("committed");
    assert_eq!(notes(&a).await.expect("rows").len(), 2);

    // The transactions under two guards change places.
    let mut of_a = a.begin().await.expect("begun");
    let mut of_b = b.begin().await.expect("begun");
    let mut first = of_a.savepoint().await.expect("set");
    let mut second = of_b.savepoint().await.expect("set");
    let mut third = second.savepoint().await.expect("set");
    std::mem::swap(&mut *first, &mut *third);
    assert_eq!(notes(&mut *first).await.expect("rows"), ["a note of b"]);
    assert_eq!(notes(&mut *third).await.expect("rows").len(), 2);
    first.release().await.expect("both of b's");
    // A has no second savepoint: rolling back to the first, which is older, is all there is to do.
    drop(third);
    second.rollback().await.expect("rolled back to a's");
    let mut third = of_b.savepoint().await.expect("set");
    std::mem::swap(&mut *third, &mut of_a);
    let error = third.release().await.expect_err("b has no such savepoint");
    assert_eq!(error.code().as_deref(), Some("3B001"));
    assert!(of_b.commit().await.expect_err("failed").is_rolled_back());
    of_a.commit()
        .await
        .expect("a's, with a savepoint nobody minds");

    // A stream of rows that is forgotten leaves its rows to the next statement, which skips them.
    let mut tx = a.begin().await.expect("begun");
    {
        let mut rows =
            sqlx::query("SELECT g::text FROM generate_series(1, 10000) AS g").fetch(&mut tx);
        rows.next().await.expect("a row").expect("a row");
        std::mem::forget(rows);
    }
    assert_eq!(notes(&mut tx).await.expect("rows").len(), 2);
    // A COPY that is forgotten takes the connection with it.
    let copy = tx
        .copy_in_raw("COPY plain FROM STDIN")
        .await
        .expect("begun");
    std::mem::forget(copy);
    let error = Error::from(notes(&mut tx).await.expect_err("out of step"));
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(tx.commit().await.expect_err("lost").is_rolled_back());
    let mut tx = a.begin().await.expect("begun");
    let data = tx
        .copy_out_raw("COPY plain TO STDOUT")
        .await
        .expect("begun");
    std::mem::forget(data);
    assert!(tx.commit().await.expect_err("lost").is_rolled_back());
    for _ in 0..3 {
        b_is_unharmed(&registry, "guards were forgotten").await;
    }
}

/// The scanner reads a backslash as a server does that was not told otherwise by a function.
#[tokio::test]
async fn a_commit_that_nobody_saw_is_not_reported_as_ours() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    for hidden in [
        r"SELECT 'a\' || '; COMMIT; --'",
        r"SELECT 'a\' || '; ROLLBACK; --'",
    ] {
        let mut tx = a.begin().await.expect("begun");
        sqlx::query("SELECT set_config('standard_conforming_strings', 'off', true)")
            .execute(&mut tx)
            .await
            .expect("run");
        sqlx::raw_sql(hidden)
            .execute(&mut tx)
            .await
            .expect("two statements to the server, one to us");
        let error = tx.commit().await.expect_err("there is no transaction");
        assert!(matches!(error, CommitError::OutcomeUnknown(_)), "{error:?}");
        b_is_unharmed(&registry, hidden).await;
    }
}

// Sessions that were prepared for the attack.

#[tokio::test]
async fn a_session_that_comes_with_settings() {
    let world = world(&["a", "b"]).await;
    let mut admin = world.admin().await;
    let settings: [(&str, &str); 6] = [
        ("app.tenant_id", "a"),
        ("app.user_id", "root"),
        ("standard_conforming_strings", "off"),
        ("search_path", "evil, pg_catalog, public"),
        ("default_transaction_isolation", "serializable"),
        ("client_min_messages", "debug1"),
    ];
    admin
        .execute(
            "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC; \
             CREATE VIEW evil.pg_settings AS SELECT 'app.tenant_id'::text AS name, '0'::text AS setting; \
             CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql \
               AS $$ SELECT pg_catalog.set_config('app.tenant_id', 'a', false) $$; \
             GRANT SELECT ON evil.pg_settings TO PUBLIC; \
             CREATE DOMAIN evil.scope AS text[]; \
             CREATE TABLE evil.installation (layout int);",
        )
        .await
        .expect("the stage");
    for (name, value) in settings {
        for how in ["options", "database", "role"] {
            let mut app = world.app.clone();
            let (set, reset) = match how {
                "options" => {
                    app = app.options([(name, value.replace(' ', ""))]);
                    (String::new(), String::new())
                }
                "database" => (
                    format!(
                        "DO $d$ BEGIN EXECUTE format('ALTER DATABASE %I SET {name} = {value}', current_database()); END $d$"
                    ),
                    format!(
                        "DO $d$ BEGIN EXECUTE format('ALTER DATABASE %I RESET {name}', current_database()); END $d$"
                    ),
                ),
                _ => (
                    format!(
                        "DO $d$ BEGIN EXECUTE format('ALTER ROLE app IN DATABASE %I SET {name} = {value}', current_database()); END $d$"
                    ),
                    format!(
                        "DO $d$ BEGIN EXECUTE format('ALTER ROLE app IN DATABASE %I RESET {name}', current_database()); END $d$"
                    ),
                ),
            };
            admin.execute(sqlx::AssertSqlSafe(set)).await.expect("set");
            let registry = world
                .registry_of(app, ContextSettings::default(), |o| o.max_connections(1))
                .await;
            let a = scope(&registry, "a").await;
            b_is_unharmed(&registry, name).await;
            // A scrub resets everything to what the session came with.
            let mut tx = a.begin().await.expect("begun");
            sqlx::query("LISTEN x").execute(&mut tx).await.expect("run");
            tx.commit().await.expect("committed");
            b_is_unharmed(&registry, name).await;
            let b = scope(&registry, "b").await;
            let strings: String = sqlx::query_scalar("SHOW standard_conforming_strings")
                .fetch_one(&b)
                .await
                .expect("shown");
            assert_eq!(strings, "on", "{name} by {how}");
            let messages: String = sqlx::query_scalar("SHOW client_min_messages")
                .fetch_one(&b)
                .await
                .expect("shown");
            assert_eq!(messages, "error", "{name} by {how}");
            let mut tx = b.begin().await.expect("begun");
            sqlx::query("INSERT INTO public.plain VALUES ($1)")
                .bind("x")
                .execute(&mut tx)
                .await
                .expect("inserted");
            tx.rollback().await.expect("rolled back");
            admin
                .execute(sqlx::AssertSqlSafe(reset))
                .await
                .expect("reset");
        }
    }
}

#[tokio::test]
async fn a_pool_without_a_limit_of_its_own() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry_with(|o| o.max_connections(u32::MAX)).await;
    b_is_unharmed(&registry, "max_connections(u32::MAX)").await;
}

#[tokio::test]
async fn small_statement_caches() {
    let world = world(&["a", "b"]).await;
    for capacity in [0, 1] {
        let app = world.app.clone().statement_cache_capacity(capacity);
        let registry = world
            .registry_of(app, ContextSettings::default(), |o| o.max_connections(1))
            .await;
        let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
        for _ in 0..5 {
            for scope in [&a, &b] {
                assert_eq!(notes(scope).await.expect("rows").len(), 1);
                sqlx::query("SELECT 'a secret of a'")
                    .execute(scope)
                    .await
                    .expect("run");
                let mut tx = scope.begin().await.expect("begun");
                assert_eq!(notes(&mut tx).await.expect("rows").len(), 1);
                tx.commit().await.expect("committed");
            }
        }
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_prepared_statements")
            .fetch_one(&b)
            .await
            .expect("a count");
        assert!(
            left <= 2,
            "{left} statements left on the server with a cache of {capacity}"
        );
    }
}

// Statements in every disguise.

#[tokio::test]
async fn statements_of_one_tenant_run_by_another() {
    const TEXT: &str = "SELECT body FROM notes WHERE body <> $1";
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let prepared = (&a)
        .prepare(sqlx::SqlStr::from_static(TEXT))
        .await
        .expect("prepared");
    let other = world.registry().await;
    for scope in [&b, &scope(&other, "b").await] {
        let found: Vec<(String,)> = prepared
            .query_as()
            .bind("")
            .fetch_all(scope)
            .await
            .expect("rows");
        assert_eq!(found, [("a note of b".to_owned(),)]);
        let mut tx = scope.begin().await.expect("begun");
        let found = prepared
            .query()
            .bind("")
            .fetch_all(&mut tx)
            .await
            .expect("rows");
        assert_eq!(found.len(), 1);
        let error = prepared
            .query()
            .fetch_all(&mut tx)
            .await
            .expect_err("no bind");
        assert_eq!(Error::from(error).kind(), ErrorKind::StatementRefused);
    }
    // A text with its arguments, as sqlx takes it too; without, it is plain text.
    let mut arguments = PgArguments::default();
    arguments.add("").expect("added");
    let rows = (&b).fetch_all((TEXT, Some(arguments))).await.expect("rows");
    assert_eq!(rows.len(), 1);
    for error in [
        (&b).fetch_all(("SELECT 1", None))
            .await
            .map(drop)
            .expect_err("refused"),
        (&b).execute_many("SELECT 1")
            .next()
            .await
            .expect("an item")
            .map(drop)
            .expect_err("refused"),
    ] {
        assert_eq!(Error::from(error).kind(), ErrorKind::StatementRefused);
    }
    let mut builder = sqlx::QueryBuilder::new("SELECT body FROM notes");
    let rows = builder.build().fetch_all(&b).await.expect("no binds");
    assert_eq!(rows.len(), 1);
    // Nothing but one statement in the extended protocol; nothing behind a NUL.
    for text in [
        "SELECT 1; SELECT 2",
        "SELECT 1;;COMMIT",
        "SELECT 1 \0; SELECT 2",
        "EXPLAIN EXECUTE mine",
        "EXPLAIN ANALYZE EXECUTE mine",
        "SELECT 'unfinished",
    ] {
        let _ = sqlx::query(text).execute(&b).await.expect_err(text);
        let _ = sqlx::query(text)
            .persistent(false)
            .fetch_optional(&b)
            .await
            .expect_err(text);
        b_is_unharmed(&registry, text).await;
    }
    let long: &'static str =
        Box::leak(format!("SELECT '{}'", "x".repeat(8 << 20)).into_boxed_str());
    let row = sqlx::query(long).fetch_one(&b).await.expect("a row");
    assert_eq!(sqlx::Row::get::<String, _>(&row, 0).len(), 8 << 20);
    assert_eq!(
        sqlx::query("")
            .execute(&b)
            .await
            .expect("nothing")
            .rows_affected(),
        0
    );
    b_is_unharmed(&registry, "long and empty texts").await;
}

#[tokio::test]
async fn types_that_do_not_fit() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let b = scope(&registry, "b").await;
    for (text, types) in [
        (
            "SELECT body FROM notes WHERE $1 <> ''",
            vec![PgTypeInfo::with_name("int4")],
        ),
        (
            "SELECT body FROM notes WHERE 'x' <> $1",
            vec![PgTypeInfo::with_name("no such type")],
        ),
        (
            "SELECT body FROM notes WHERE '' <> $1",
            vec![PgTypeInfo::with_name("tenantry.scope")],
        ),
    ] {
        let _ = (&b)
            .prepare_with(sqlx::SqlStr::from_static(text), &types)
            .await;
        let _ = sqlx::query(text).bind("x").fetch_all(&b).await;
        b_is_unharmed(&registry, text).await;
    }
}

// Ends that nobody asked for.

#[tokio::test]
async fn time_outs_of_the_server() {
    let world = world(&["a", "b"]).await;
    world
        .admin()
        .await
        .execute(
            "CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER cancel AFTER INSERT ON notes \
               DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cancel();",
        )
        .await
        .expect("a trigger");
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    // Inside COMMIT. (`statement_timeout` does not reach there: the server takes it off before.)
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("INSERT INTO notes (body) VALUES ('lost')")
        .execute(&mut tx)
        .await
        .expect("run");
    let error = tx.commit().await.expect_err("cancelled");
    assert!(error.is_rolled_back(), "{error:?}");
    assert_eq!(Error::from(error).code().as_deref(), Some("57014"));
    b_is_unharmed(&registry, "a COMMIT that was cancelled").await;
    // Between two statements.
    for commits in [true, false] {
        let options =
            TxOptions::default().idle_in_transaction_session_timeout(Duration::from_millis(10));
        let mut tx = a.begin_with(&options).await.expect("begun");
        let _ = sqlx::query("SELECT 1").execute(&mut tx).await;
        all_sessions_end(&world).await;
        if commits {
            let error = tx.commit().await.expect_err("the session has ended");
            assert_eq!(Error::from(error).kind(), ErrorKind::Commit);
        } else {
            let error = Error::from(notes(&mut tx).await.expect_err("the session has ended"));
            assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error:?}");
        }
        b_is_unharmed(&registry, "idle_in_transaction_session_timeout").await;
    }
}

#[tokio::test]
async fn a_deadlock_is_told_and_solved() {
    let world = world(&["a", "b"]).await;
    world
        .admin()
        .await
        .execute("INSERT INTO notes (tenant_id, body) VALUES ('a', 'second')")
        .await
        .expect("inserted");
    let registry = world.registry_with(|o| o.max_connections(2)).await;
    let a = scope(&registry, "a").await;
    let options = TxOptions::default().retry(RetryPolicy::default().max_attempts(20));
    let meet = Arc::new(tokio::sync::Barrier::new(2));
    let work = |order: [&'static str; 2]| {
        let (a, options, meet) = (a.clone(), options.clone(), Arc::clone(&meet));
        let attempts = Arc::new(std::sync::atomic::AtomicU32::new(0));
        tokio::spawn(async move {
            let counter = Arc::clone(&attempts);
            a.transaction(options, move |tx| {
                let meet = Arc::clone(&meet);
                let attempt = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Box::pin(async move {
                    sqlx::query("UPDATE notes SET body = body WHERE body = $1")
                        .bind(order[0])
                        .execute(&mut *tx)
                        .await?;
                    if attempt == 0 {
                        meet.wait().await;
                    }
                    sqlx::query("UPDATE notes SET body = body WHERE body = $1")
                        .bind(order[1])
                        .execute(tx)
                        .await?;
                    Ok::<_, Error>(())
                })
            })
            .await
            .map(|()| attempts.load(std::sync::atomic::Ordering::SeqCst))
        })
    };
    let one = work(["a note of a", "second"]);
    let two = work(["second", "a note of a"]);
    let one = one.await.expect("no panic").expect("committed");
    let two = two.await.expect("no panic").expect("committed");
    assert_eq!(one + two, 3, "one of them was the victim, once");
}

/// The backend is ended at each poll of an operation.
#[tokio::test]
async fn a_backend_that_is_ended_at_any_moment() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    let registry = world
        .registry_of(
            wire.connect_options(&world.app),
            ContextSettings::default(),
            |o| o.max_connections(1),
        )
        .await;
    let mut admin = world.admin().await;
    for polls in 0..MOST {
        let a = scope(&registry, "a").await;
        let before = count(&world, "SELECT count(*) FROM notes WHERE body = 'written'").await;
        let mut operation = Box::pin(async {
            let mut tx = a.begin().await?;
            sqlx::query("INSERT INTO notes (body) VALUES ('written')")
                .execute(&mut tx)
                .await?;
            let savepoint = tx.savepoint().await?;
            savepoint.release().await?;
            Ok::<_, Error>(tx.commit().await)
        });
        let early = cancelled_after(polls, &mut operation).await;
        let completed = early.is_some();
        admin
            .execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE datname = current_database() AND usename = 'app'",
            )
            .await
            .expect("ended");
        let outcome = match early {
            Some(outcome) => outcome,
            None => operation.await,
        };
        let after = count(&world, "SELECT count(*) FROM notes WHERE body = 'written'").await;
        match outcome {
            Ok(Ok(())) => assert_eq!(after, before + 1, "after {polls} polls"),
            Ok(Err(CommitError::OutcomeUnknown(_))) => {}
            Ok(Err(_)) | Err(_) => assert_eq!(after, before, "after {polls} polls"),
        }
        // Whoever comes first may find the connection dead, and is told so; nobody else.
        let b = scope(&registry, "b").await;
        if let Err(error) = session(&b).await {
            assert_eq!(Error::from(error).kind(), ErrorKind::ConnectionLost);
        }
        b_is_unharmed(&registry, "the backend was ended").await;
        if completed {
            assert!(polls > 4);
            return;
        }
    }
    panic!("did not complete in {MOST} polls");
}

/// Every operation has to open a connection, or to test one, first.
#[tokio::test]
async fn dropped_while_a_connection_is_opened_or_tested() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    for opens in [true, false] {
        let registry = world
            .registry_of(
                wire.connect_options(&world.app),
                ContextSettings::default(),
                move |o| {
                    let o = o.max_connections(1);
                    match opens {
                        true => o.max_lifetime(Duration::ZERO),
                        false => o.test_after(Duration::ZERO),
                    }
                },
            )
            .await;
        for polls in 0..MOST {
            let a = scope(&registry, "a").await;
            let done = cancelled_after(polls, notes(&a)).await;
            b_is_unharmed(&registry, "dropped while opening or testing").await;
            if let Some(rows) = done {
                assert_eq!(rows.expect("rows"), ["a note of a"]);
                assert!(polls > 2);
                break;
            }
            assert!(polls < MOST - 1, "never completed");
        }
    }
}

/// Many tasks on few connections, dropped at random: each row is its tenant's, no permit is lost,
/// and when all is quiet there are no more sessions than the pool may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_dropped_operations() {
    const TENANTS: [&str; 4] = ["a", "b", "c", "d"];
    let world = world(&TENANTS).await;
    let turns = if std::env::var_os("TENANTRY_LONG").is_some() {
        2_000
    } else {
        150
    };
    for connections in 1..=4_u32 {
        let registry = world
            .registry_with(move |o| {
                o.max_connections(connections)
                    .abandoned_grace(Duration::from_secs(20))
            })
            .await;
        let tasks: Vec<_> = (0..8_u64)
            .map(|seed| {
                let registry = registry.clone();
                tokio::spawn(async move {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..turns {
                        let tenant = TENANTS[random.usize(..4)];
                        let scope = scope(&registry, tenant).await;
                        let polls = random.usize(1..25);
                        cancelled_after(polls, storm(scope, tenant, random.fork())).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        // All permits are there at once.
        let a = scope(&registry, "a").await;
        let mut all = Vec::new();
        for _ in 0..connections {
            all.push(a.begin().await.expect("a permit was lost"));
        }
        let sessions = world.sessions().await;
        assert!(
            sessions <= i64::from(connections),
            "{sessions} of {connections}"
        );
        drop(all);
        for _ in 0..connections * 2 {
            b_is_unharmed(&registry, "a storm").await;
        }
        registry.close();
        all_sessions_end(&world).await;
    }
}

async fn storm(scope: TenantScope, tenant: &str, mut random: fastrand::Rng) {
    let expected = [format!("a note of {tenant}")];
    match random.u8(..6) {
        0 => assert_eq!(notes(&scope).await.expect("rows"), expected),
        1 => {
            let mut rows =
                sqlx::query_scalar::<_, String>("SELECT body FROM notes, generate_series(1, 300)")
                    .fetch(&scope);
            for _ in 0..random.u32(..400) {
                match rows.next().await {
                    Some(row) => assert_eq!(row.expect("a row"), expected[0]),
                    None => break,
                }
            }
        }
        2 => {
            let mut tx = scope.begin().await.expect("begun");
            sqlx::query("UPDATE notes SET body = 'changed'")
                .execute(&mut tx)
                .await
                .expect("run");
            if random.bool() {
                tx.rollback().await.expect("rolled back");
            }
        }
        3 => {
            let mut tx = scope.begin().await.expect("begun");
            let mut inner = tx.savepoint().await.expect("set");
            assert_eq!(notes(&mut *inner).await.expect("rows"), expected);
            if random.bool() {
                inner.release().await.expect("released");
            } else {
                drop(inner);
            }
            tx.commit().await.expect("committed");
        }
        4 => {
            let mut tx = scope.begin().await.expect("begun");
            sqlx::raw_sql("SET work_mem = '77MB'; LISTEN x")
                .execute(&mut tx)
                .await
                .expect("run");
            tx.commit().await.expect("committed");
        }
        _ => {
            let shown = session(&scope).await.expect("served");
            assert_eq!(shown.tenant.as_deref(), Some(tenant));
            let work_mem: String = sqlx::query_scalar("SHOW work_mem")
                .fetch_one(&scope)
                .await
                .expect("shown");
            assert_ne!(work_mem, "77MB", "left by another");
        }
    }
}

/// A function that makes its own plan stale each time must not be run for ever.
#[tokio::test]
async fn a_statement_is_repeated_once() {
    let world = world(&["a", "b"]).await;
    world
        .admin()
        .await
        .execute(
            "CREATE SEQUENCE runs; \
             CREATE FUNCTION goes_stale() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
               IF nextval('runs') > 4 THEN RETURN 1; END IF; \
               BEGIN EXECUTE 'DEALLOCATE stale'; EXCEPTION WHEN OTHERS THEN NULL; END; \
               EXECUTE 'PREPARE stale AS TABLE plain'; \
               EXECUTE 'ALTER TABLE plain ADD more int'; \
               EXECUTE 'EXECUTE stale'; RETURN 0; END $$;",
        )
        .await
        .expect("a function");
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let error = sqlx::query("SELECT goes_stale()").fetch_all(&a).await;
    let error = Error::from(error.expect_err("stale each time"));
    assert_eq!(error.code().as_deref(), Some("0A000"));
    assert_eq!(count(&world, "SELECT last_value FROM runs").await, 2);
}

/// A connection that comes back while the registry is closed does not stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_leaves_no_connection() {
    let world = world(&["a"]).await;
    for _ in 0..40 {
        let registry = world.registry().await;
        let a = scope(&registry, "a").await;
        let busy = tokio::spawn(async move { while notes(&a).await.is_ok() {} });
        for _ in 0..fastrand::u32(..50) {
            tokio::task::yield_now().await;
        }
        registry.close();
        busy.await.expect("no panic");
        all_sessions_end(&world).await;
    }
}

/// The runtime that the registry lives on is gone when the guards are dropped.
#[test]
fn guards_outlive_their_runtime() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (registry, tx, read, other) = runtime.block_on(async {
        let world = world(&["a"]).await;
        let registry = world.registry_with(|o| o.max_connections(4)).await;
        let a = scope(&registry, "a").await;
        let mut tx = a.begin().await.expect("begun");
        sqlx::query("LISTEN x").execute(&mut tx).await.expect("run");
        let read = a.begin_read_only().await.expect("begun");
        let other = a.begin().await.expect("begun");
        (registry, tx, read, other)
    });
    drop(other);
    runtime.shutdown_background();
    drop(tx);
    drop(registry);
    drop(read);
}

#[tokio::test]
async fn a_user_of_the_hatch_begins_again() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    let plain: &mut PgConnection = tx.dangerous_connection().await.expect("the connection");
    #[expect(clippy::disallowed_methods, clippy::mem_forget, reason = "the attack")]
    std::mem::forget(plain.begin().await.expect("begun"));
    let _ = tx.commit().await;
    b_is_unharmed(&registry, "a forgotten transaction of sqlx").await;
    // sqlx counts how deep it is, per connection.
    let b = scope(&registry, "b").await;
    let mut tx = b.begin().await.expect("begun");
    let plain = tx.dangerous_connection().await.expect("the connection");
    assert!(!plain.is_in_transaction(), "left by another");
}

// What the pool promises.

/// An idle connection that died is replaced: by `begin` always, by a statement after the test.
#[tokio::test]
async fn an_idle_connection_that_died_is_nobodys_error() {
    let world = world(&["a", "b"]).await;
    let registry = world
        .registry_with(|o| o.max_connections(3).test_after(Duration::ZERO))
        .await;
    let a = scope(&registry, "a").await;
    let mut admin = world.admin().await;
    for in_transaction in [true, false] {
        let mut three = Vec::new();
        for _ in 0..3 {
            three.push(a.begin().await.expect("begun"));
        }
        for tx in three {
            tx.rollback().await.expect("rolled back");
        }
        admin
            .execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE datname = current_database() AND usename = 'app'",
            )
            .await
            .expect("ended");
        if in_transaction {
            let mut tx = a.begin().await.expect("begun on another connection");
            assert_eq!(notes(&mut tx).await.expect("rows"), ["a note of a"]);
        } else {
            assert_eq!(notes(&a).await.expect("rows"), ["a note of a"]);
        }
    }
    b_is_unharmed(&registry, "all connections had died").await;
}

#[tokio::test]
async fn the_connection_used_last_is_used_next_unless_it_is_too_old() {
    let world = world(&["a"]).await;
    // Old enough to be tested each time, or never: there are two ways to a connection.
    for test_after in [Duration::ZERO, Duration::MAX] {
        let registry = world
            .registry_with(move |o| o.max_connections(3).test_after(test_after))
            .await;
        let a = scope(&registry, "a").await;
        let mut transactions = Vec::new();
        for _ in 0..3 {
            let mut tx = a.begin().await.expect("begun");
            let backend = session(&mut tx).await.expect("served").backend;
            transactions.push((tx, backend));
        }
        let (_, last) = transactions[2];
        for (tx, _) in transactions {
            tx.rollback().await.expect("rolled back");
        }
        for _ in 0..3 {
            assert_eq!(session(&a).await.expect("served").backend, last);
        }
    }
    let registry = world
        .registry_with(|o| o.max_connections(1).max_lifetime(Duration::ZERO))
        .await;
    let a = scope(&registry, "a").await;
    let first = session(&a).await.expect("served").backend;
    assert_ne!(session(&a).await.expect("served").backend, first, "too old");
}

/// The database says whose it is to each connection, and not only to the first.
#[tokio::test]
async fn a_database_that_changed_hands_gets_nothing() {
    let world = support::empty_world().await;
    let installation = Installation::new("app").database_of(tenant("a"));
    let mut admin = world.admin().await;
    installation.install(&mut admin).await.expect("installed");
    let directory = StaticDirectory::new().database(tenant("a"), world.app.clone());
    let registry = TenantRegistry::builder(directory)
        .pool_options(|_, o| o.max_connections(1).max_lifetime(Duration::ZERO))
        .build()
        .await
        .expect("a registry");
    let a = scope(&registry, "a").await;
    session(&a).await.expect("served");
    admin
        .execute("UPDATE tenantry.installation SET tenant = 'b'")
        .await
        .expect("another tenant's from now on");
    let error = Error::from(session(&a).await.expect_err("refused"));
    assert!(error.is_misrouted(), "{error:?}");
    let error = a.begin().await.expect_err("refused");
    assert!(error.is_misrouted(), "{error:?}");
}

/// The context is said again at each use of the hatch, whatever a statement did to it before.
#[tokio::test]
async fn the_hatch_is_inside_the_tenants_context() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    for _ in 0..3 {
        let plain = tx.dangerous_connection().await.expect("the connection");
        assert_eq!(notes(plain).await.expect("rows"), ["a note of a"]);
        sqlx::query("SELECT set_config('app.tenant_id', 'b', true)")
            .execute(&mut tx)
            .await
            .expect("run");
    }
    tx.commit().await.expect("committed");
}

/// With as many waiting as there can be, everybody is served in turn.
#[tokio::test]
async fn those_who_wait_are_served_in_turn() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let holder = a.begin().await.expect("begun");
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for n in 0..20 {
        let (of_task, order) = (a.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let tx = of_task.begin().await.expect("begun");
            order.lock().expect("no panic").push(n);
            tx.rollback().await.expect("rolled back");
        }));
        // Each of them is in the queue before the next comes; one leaves it again.
        tokio::task::yield_now().await;
        assert!(cancelled_after(1, a.begin()).await.is_none());
    }
    drop(holder);
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(*order.lock().expect("no panic"), Vec::from_iter(0..20));
}

/// What decides about another attempt is what the server said, of a COPY too.
#[tokio::test]
async fn a_copy_that_failed_to_serialize_is_tried_again() {
    let world = world(&["a"]).await;
    world
        .admin()
        .await
        .execute(
            "CREATE SEQUENCE runs; GRANT USAGE ON SEQUENCE runs TO app; \
             CREATE FUNCTION fail_often() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF nextval('runs') % 3 <> 0 THEN RAISE SQLSTATE '40001'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER fail_often BEFORE INSERT ON plain \
               FOR EACH ROW EXECUTE FUNCTION fail_often();",
        )
        .await
        .expect("a trigger");
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let rows = a
        .transaction(TxOptions::default(), |tx| {
            Box::pin(async move {
                let mut copy = tx.copy_in_raw("COPY plain FROM STDIN").await?;
                copy.send(b"x\n").await?;
                copy.finish().await
            })
        })
        .await
        .expect("at the third attempt");
    assert_eq!(rows, 1);
}

/// Nothing can be known of a connection that went silent in the middle of something: it is closed
/// after the grace, and whoever comes next is served by another.
#[tokio::test]
async fn a_connection_that_goes_silent_holds_nobody_up() {
    let world = world(&["a", "b"]).await;
    let wire = world.slow_wire().await;
    for what in 0..6 {
        let registry = world
            .registry_of(
                wire.connect_options(&world.app),
                ContextSettings::default(),
                move |o| {
                    o.max_connections(1).test_after(match what {
                        0 => Duration::ZERO,
                        _ => Duration::from_secs(3600),
                    })
                },
            )
            .await;
        let a = scope(&registry, "a").await;
        let mut tx = match what {
            4 | 5 => Some(a.begin().await.expect("begun")),
            _ => None,
        };
        wire.freeze_existing();
        let silent = async {
            match (what, &mut tx) {
                (0 | 1, _) => notes(&a).await.map(drop).expect("never answered"),
                (2, _) => drop((&a).prepare(sqlx::SqlStr::from_static("SELECT 7")).await),
                (3, _) => drop(a.begin().await),
                (4, Some(tx)) => notes(tx).await.map(drop).expect("never answered"),
                _ => {}
            }
        };
        // One poll sends the message; nothing wakes it for another.
        let answered = cancelled_after(1, silent).await.is_some();
        assert_eq!(answered, what == 5);
        drop(tx);
        let served = tokio::time::timeout(
            Duration::from_secs(20),
            b_is_unharmed(&registry, "the wire went silent"),
        );
        served
            .await
            .unwrap_or_else(|_| panic!("held up after {what}"));
    }
}
