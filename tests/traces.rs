//! What a transaction can leave behind, line by line of what row-level security and a local
//! setting do not cover. The specimens show each on plain sqlx: a pool of one connection, tenant A,
//! then tenant B.

mod support;

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use support::{World, notes, scope, session, world};
use tenantry::{Error, ErrorKind, TenantRegistry, TenantScope};

/// A world whose role may create temporary tables: granted after the registry has looked.
async fn generous_world() -> (World, TenantRegistry) {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO app', \
             current_database()); END $$",
        )
        .await
        .expect("granted");
    (world, registry)
}

/// The naive design: the same connection, begin, set the tenant, work, commit.
struct Naive(PgPool);

impl Naive {
    async fn of(world: &World) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(world.app.clone())
            .await;
        Self(pool.expect("a pool"))
    }

    async fn transaction(&self, tenant: &str, text: &'static str) -> Result<(), sqlx::Error> {
        let begin = format!("BEGIN; SET LOCAL app.tenant_id = '{tenant}'");
        let mut connection = self.0.acquire().await?;
        connection.execute(AssertSqlSafe(begin)).await?;
        connection.execute(text).await?;
        connection.execute("COMMIT").await?;
        Ok(())
    }

    async fn answer(&self, tenant: &str, text: &'static str) -> Result<String, sqlx::Error> {
        let begin = format!("BEGIN; SET LOCAL app.tenant_id = '{tenant}'");
        let mut connection = self.0.acquire().await?;
        connection.execute(AssertSqlSafe(begin)).await?;
        let answer = sqlx::query_scalar(text).fetch_one(&mut *connection).await;
        connection.execute("ROLLBACK").await?;
        answer
    }
}

async fn transaction(scope: &TenantScope, text: &'static str) -> Result<(), Error> {
    let mut tx = scope.begin().await?;
    sqlx::raw_sql(text).execute(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}

async fn answer(scope: &TenantScope, text: &'static str) -> Result<String, Error> {
    let mut tx = scope.begin().await?;
    Ok(sqlx::query_scalar(text).fetch_one(&mut tx).await?)
}

/// A leaves something, B looks for it: the naive design must find it and ours must not.
async fn leaves_nothing(leave: &'static str, look: &'static str, found: &str) {
    let (world, registry) = generous_world().await;

    let naive = Naive::of(&world).await;
    naive
        .transaction("a", leave)
        .await
        .expect("the specimen runs");
    let leaked = naive.answer("b", look).await.expect("the specimen runs");
    assert_eq!(
        leaked, found,
        "the specimen no longer shows what this test is there for"
    );
    naive.0.close().await;

    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    transaction(&a, leave).await.expect("A's transaction");
    let before = answer(&b, look).await;
    assert_ne!(
        before.ok().as_deref(),
        Some(found),
        "B finds what A left by: {leave}"
    );
    assert_eq!(notes(&b).await.expect("the pool serves"), ["a note of b"]);
}

#[tokio::test]
async fn temporary_tables() {
    leaves_nothing(
        "CREATE TEMP TABLE mine AS SELECT 'of a' AS body",
        "SELECT body FROM mine",
        "of a",
    )
    .await;
}

#[tokio::test]
async fn temporary_tables_that_shadow_real_ones() {
    leaves_nothing(
        "CREATE TEMP TABLE plain AS SELECT 'of a' AS body",
        "SELECT body FROM plain",
        "of a",
    )
    .await;
}

#[tokio::test]
async fn select_into() {
    leaves_nothing(
        "SELECT 'of a' AS body INTO TEMP mine",
        "SELECT body FROM mine",
        "of a",
    )
    .await;
}

#[tokio::test]
async fn held_cursors() {
    leaves_nothing(
        "DECLARE mine CURSOR WITH HOLD FOR SELECT body FROM notes",
        "FETCH ALL FROM mine",
        "a note of a",
    )
    .await;
}

#[tokio::test]
async fn session_settings() {
    leaves_nothing("SET work_mem = '77MB'", "SHOW work_mem", "77MB").await;
}

#[tokio::test]
async fn settings_by_function() {
    leaves_nothing(
        "SELECT pg_catalog.set_config('work_mem', '77MB', false)",
        "SHOW work_mem",
        "77MB",
    )
    .await;
}

/// The scanner of statements reads strings as they are with this setting on.
#[tokio::test]
async fn the_setting_that_strings_are_read_by() {
    leaves_nothing(
        "SELECT set_config('standard_conforming_strings', 'off', false)",
        "SHOW standard_conforming_strings",
        "off",
    )
    .await;
}

#[tokio::test]
async fn advisory_locks_by_function() {
    leaves_nothing(
        "SELECT \"pg_advisory_lock\"(4711)",
        "SELECT count(*)::text FROM pg_locks \
         WHERE locktype = 'advisory' AND objid = 4711 AND pid = pg_backend_pid()",
        "1",
    )
    .await;
}

#[tokio::test]
async fn a_session_role() {
    let (world, registry) = generous_world().await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "DO $$ BEGIN IF to_regrole('other') IS NULL THEN CREATE ROLE other; END IF; END $$; \
             GRANT other TO app; GRANT USAGE ON SCHEMA tenantry TO other",
        )
        .await
        .expect("a role to change to");
    let naive = Naive::of(&world).await;
    naive
        .transaction("a", "SET ROLE other")
        .await
        .expect("the specimen runs");
    let leaked = naive
        .answer("b", "SELECT current_user::text")
        .await
        .expect("the specimen runs");
    assert_eq!(leaked, "other");
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    transaction(&a, "SET ROLE other")
        .await
        .expect("A's transaction");
    assert_eq!(
        answer(&b, "SELECT current_user::text")
            .await
            .expect("served"),
        "app"
    );
    admin
        .execute("REVOKE other FROM app")
        .await
        .expect("revoked");
}

#[tokio::test]
async fn session_advisory_locks() {
    leaves_nothing(
        "DO $$ BEGIN PERFORM pg_advisory_lock(4711); END $$",
        "SELECT count(*)::text FROM pg_locks \
         WHERE locktype = 'advisory' AND objid = 4711 AND pid = pg_backend_pid()",
        "1",
    )
    .await;
}

#[tokio::test]
async fn listen() {
    leaves_nothing(
        "LISTEN news_of_a",
        "SELECT coalesce(string_agg(channel, ','), '') FROM pg_listening_channels() AS channel",
        "news_of_a",
    )
    .await;
}

#[tokio::test]
async fn prepared_by_name() {
    leaves_nothing(
        "PREPARE mine AS SELECT 'of a'",
        "SELECT count(*)::text FROM pg_prepared_statements WHERE from_sql",
        "1",
    )
    .await;
}

/// All of these may leave something, or need a transaction: a scope says where they belong.
#[tokio::test]
async fn a_scope_refuses_what_may_leave_traces() {
    let (_world, registry) = generous_world().await;
    let a = scope(&registry, "a").await;
    let before = session(&a).await.expect("served").backend;
    for text in [
        "CREATE TEMP TABLE mine (x int)",
        "SELECT 1 AS x INTO TEMP mine",
        "WITH x AS (SELECT 1 AS y) SELECT y INTO mine FROM x",
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
        "SET work_mem = '77MB'",
        "SET LOCAL work_mem = '77MB'",
        "SET ROLE app",
        "RESET work_mem",
        "LISTEN mine",
        "NOTIFY mine",
        "LOCK TABLE notes",
        "PREPARE mine AS SELECT 1",
        "EXECUTE mine",
        "DEALLOCATE ALL",
        "DISCARD PLANS",
        "LOAD 'auto_explain'",
        "CALL nothing()",
        "DO $$ BEGIN END $$",
        "TRUNCATE notes",
        "VACUUM",
        "EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1",
        "SELECT set_config('work_mem', '77MB', false)",
        "SELECT 1 WHERE Pg_Catalog.SET_CONFIG('work_mem', '77MB', true) IS NULL",
        "EXPLAIN ANALYZE SELECT \"set_config\"('work_mem', '77MB', false)",
        "WITH x AS (SELECT pg_try_advisory_lock_shared(1)) SELECT * FROM x",
        "INSERT INTO plain SELECT set_config('work_mem', '77MB', false)",
        "/* SELECT */ CREATE TABLE x (y int)",
    ] {
        let error = Error::from(sqlx::query(text).execute(&a).await.expect_err(text));
        assert_eq!(error.kind(), ErrorKind::StatementRefused, "{text}");
        assert!(
            error.to_string().contains("TenantScope::begin"),
            "{text}: {error}"
        );
        assert!(!error.to_string().contains("mine"), "{error}");
    }
    // Refused before it was sent: the connection is as it was.
    assert_eq!(session(&a).await.expect("served").backend, before);
}

/// The specimen first: a BEGIN as text stays open in the pool, and the next tenant's INSERT, which
/// says Ok, is lost.
#[tokio::test]
async fn transaction_control_as_text() {
    let (world, registry) = generous_world().await;
    let naive = Naive::of(&world).await;
    sqlx::query("BEGIN")
        .execute(&naive.0)
        .await
        .expect("the specimen runs");
    sqlx::query("INSERT INTO plain VALUES ('lost')")
        .execute(&naive.0)
        .await
        .expect("says Ok");
    naive.0.close().await;
    let mut admin = world.admin().await;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM plain")
        .fetch_one(&mut admin)
        .await
        .expect("a count");
    assert_eq!(
        kept, 0,
        "the specimen no longer loses what it was told to keep"
    );

    let a = scope(&registry, "a").await;
    for text in [
        "BEGIN",
        "START TRANSACTION",
        "COMMIT",
        "END",
        "ABORT",
        "ROLLBACK",
        "rollback to savepoint x",
        "SAVEPOINT x",
        "RELEASE x",
        "COMMIT AND CHAIN",
        "PREPARE TRANSACTION 'x'",
        "COMMIT PREPARED 'x'",
        "ROLLBACK PREPARED 'x'",
        " /* SELECT */ -- SELECT\n commit",
        ";;COMMIT",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ] {
        let refused = |error: sqlx::Error| {
            let error = Error::from(error);
            assert_eq!(error.kind(), ErrorKind::StatementRefused, "{text}");
            assert!(
                error.to_string().contains("TenantTx::commit"),
                "{text}: {error}"
            );
        };
        refused(sqlx::query(text).execute(&a).await.expect_err(text));
        refused(sqlx::query(text).fetch_optional(&a).await.expect_err(text));
        refused(
            (&a).prepare(sqlx::SqlStr::from_static(text))
                .await
                .expect_err(text),
        );
        let mut tx = a.begin().await.expect("begun");
        refused(sqlx::query(text).execute(&mut tx).await.expect_err(text));
        refused(sqlx::raw_sql(text).execute(&mut tx).await.expect_err(text));
        refused((&mut tx).execute(text).await.expect_err(text));
        refused(
            (&mut tx)
                .prepare(sqlx::SqlStr::from_static(text))
                .await
                .expect_err(text),
        );
        let behind = format!("SELECT 1; {text}");
        let hidden = sqlx::raw_sql(AssertSqlSafe(behind)).execute(&mut tx).await;
        refused(hidden.expect_err(text));
        // Nothing was sent, so nothing has failed.
        tx.commit().await.expect("committed");
    }
}

/// A COMMIT inside a procedure would end the scope; in a transaction the server refuses it.
#[tokio::test]
async fn statements_that_commit_inside_themselves() {
    let (world, registry) = generous_world().await;
    world
        .admin()
        .await
        .execute(
            "CREATE PROCEDURE two_transactions() LANGUAGE plpgsql AS $$ BEGIN \
               COMMIT; INSERT INTO plain VALUES (current_setting('app.tenant_id', true)); \
             END $$",
        )
        .await
        .expect("a procedure");
    let a = scope(&registry, "a").await;
    let error = sqlx::query("CALL two_transactions()")
        .execute(&a)
        .await
        .expect_err("refused");
    assert_eq!(Error::from(error).kind(), ErrorKind::StatementRefused);
    let mut tx = a.begin().await.expect("begun");
    let error = sqlx::query("CALL two_transactions()")
        .execute(&mut tx)
        .await;
    assert_eq!(
        Error::from(error.expect_err("refused")).code().as_deref(),
        Some("2D000")
    );
    drop(tx);
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
}

/// Deferred triggers run inside COMMIT, under the value that was set last.
#[tokio::test]
async fn deferred_triggers_run_as_the_tenant() {
    const SWITCH: &str = "SELECT set_config('app.tenant_id', 'b', true)";
    let (world, registry) = generous_world().await;
    world
        .admin()
        .await
        .execute(
            "CREATE FUNCTION log_tenant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               INSERT INTO plain VALUES (current_setting('app.tenant_id')); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER log AFTER INSERT ON notes \
               DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION log_tenant();",
        )
        .await
        .expect("a trigger");
    let logged = async |world: &World| -> Vec<String> {
        let mut admin = world.admin().await;
        sqlx::query_scalar("DELETE FROM plain RETURNING body")
            .fetch_all(&mut admin)
            .await
            .expect("the log")
    };
    let naive = Naive::of(&world).await;
    naive
        .transaction(
            "a",
            "INSERT INTO notes (body) VALUES ('x'); SELECT set_config('app.tenant_id', 'b', true)",
        )
        .await
        .expect("the specimen runs");
    naive.0.close().await;
    assert_eq!(
        logged(&world).await,
        ["b"],
        "the specimen no longer runs under the last value"
    );

    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("INSERT INTO notes (body) VALUES ('y')")
        .execute(&mut tx)
        .await
        .expect("inserted");
    sqlx::query(SWITCH).execute(&mut tx).await.expect("run");
    tx.commit().await.expect("committed");
    assert_eq!(logged(&world).await, ["a"]);
}

/// Whatever a statement does to the context lasts no longer than the statement.
#[tokio::test]
async fn each_statement_says_the_context_again() {
    const SWITCH: &str = "SELECT set_config('app.tenant_id', 'b', $1)";
    const SWITCH_TEXT: &str = "SELECT set_config('app.tenant_id', 'b', true)";
    let (_world, registry) = generous_world().await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    for is_local in [true, false] {
        // In a transaction, by a statement and by plain text, to a statement and to plain text.
        let mut tx = a.begin().await.expect("begun");
        sqlx::query(SWITCH)
            .bind(is_local)
            .execute(&mut tx)
            .await
            .expect("run");
        assert_eq!(notes(&mut tx).await.expect("rows"), ["a note of a"]);
        sqlx::query(SWITCH)
            .bind(is_local)
            .execute(&mut tx)
            .await
            .expect("run");
        let rows = sqlx::raw_sql("SELECT body FROM notes")
            .fetch_all(&mut tx)
            .await
            .expect("rows");
        assert_eq!(sqlx::Row::get::<String, _>(&rows[0], 0), "a note of a");
        assert_eq!(rows.len(), 1);
        sqlx::raw_sql(SWITCH_TEXT)
            .execute(&mut tx)
            .await
            .expect("run");
        assert_eq!(notes(&mut tx).await.expect("rows"), ["a note of a"]);
        tx.commit().await.expect("committed");
        // Across transactions and statements of others, a value of the session included.
        let mut tx = b.begin().await.expect("begun");
        sqlx::query(SWITCH)
            .bind(is_local)
            .execute(&mut tx)
            .await
            .expect("run");
        tx.commit().await.expect("committed");
        assert_eq!(notes(&a).await.expect("rows"), ["a note of a"]);
        let mut tx = a.begin().await.expect("begun");
        let rows = sqlx::raw_sql("SELECT body FROM notes")
            .fetch_all(&mut tx)
            .await
            .expect("rows");
        assert_eq!(sqlx::Row::get::<String, _>(&rows[0], 0), "a note of a");
    }
}

#[tokio::test]
async fn the_context_is_not_set_as_text() {
    let (_world, registry) = generous_world().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    for text in [
        "SET app.tenant_id = 'b'",
        "SET LOCAL app.tenant_id TO 'b'",
        "set session App.Tenant_ID = 'b'",
        "SET LOCAL \"app\".\"tenant_id\" = 'b'",
        "SET \"app.tenant_id\" = 'b'",
        "RESET app.user_id",
        "RESET ALL",
        "SET standard_conforming_strings = off",
    ] {
        for error in [
            sqlx::query(text).execute(&mut tx).await.expect_err(text),
            sqlx::raw_sql(text).execute(&mut tx).await.expect_err(text),
            sqlx::query(text).execute(&a).await.expect_err(text),
        ] {
            let error = Error::from(error);
            assert_eq!(error.kind(), ErrorKind::StatementRefused, "{text}");
            assert!(error.to_string().contains("scope"), "{text}: {error}");
        }
    }
    tx.commit()
        .await
        .expect("nothing was sent, so nothing has failed");
}

/// The hidden argument is an ordinary `$n`: whoever forgets a bind would get it.
#[tokio::test]
async fn the_argument_cannot_be_mentioned() {
    let (world, registry) = generous_world().await;
    let a = scope(&registry, "a").await;
    for text in [
        "SELECT $1::text",
        "SELECT body FROM notes WHERE body = any($1)",
        "SELECT $1, $2",
    ] {
        let mut tx = a.begin().await.expect("begun");
        for error in [
            sqlx::query(text).fetch_all(&a).await.expect_err(text),
            sqlx::query(text)
                .fetch_optional(&mut tx)
                .await
                .expect_err(text),
        ] {
            let error = Error::from(error);
            assert_eq!(error.kind(), ErrorKind::StatementRefused, "{text}");
            assert!(error.to_string().contains("bound"), "{error}");
        }
    }
    let error = sqlx::query("SELECT $2::text")
        .bind(1)
        .fetch_all(&a)
        .await
        .expect_err("refused");
    assert_eq!(Error::from(error).kind(), ErrorKind::StatementRefused);
    // In a string, a comment, an identifier or a dollar quote it is no mention.
    let text = "SELECT '$1' || $a$ $2 $a$ /* $3 */ AS \"$4\" -- $5";
    let answer: String = sqlx::query_scalar(text)
        .fetch_one(&a)
        .await
        .expect("an answer");
    assert_eq!(answer, "$1 $2 ");

    // The specimen: without the refusal the caller reads the context.
    let mut connection = PgConnection::connect_with(&world.app)
        .await
        .expect("connected");
    let shown: String = sqlx::query_scalar("SELECT $1::text")
        .bind(vec!["1", "a", "user of a"])
        .fetch_one(&mut connection)
        .await
        .expect("the specimen runs");
    assert!(shown.contains("user of a"));
}

/// A text that was prepared with and without the argument on one connection.
#[tokio::test]
async fn a_text_is_cached_in_one_form_only() {
    const TEXT: &str = "SELECT body FROM notes WHERE body <> $1";
    let (world, registry) = generous_world().await;
    let a = scope(&registry, "a").await;

    // The specimen: one connection, the text plain and then with one argument more.
    let mut connection = PgConnection::connect_with(&world.app)
        .await
        .expect("connected");
    sqlx::query(TEXT)
        .bind("")
        .fetch_all(&mut connection)
        .await
        .expect("rows");
    let error = sqlx::query(TEXT)
        .bind("")
        .bind("more")
        .fetch_all(&mut connection)
        .await;
    assert_eq!(
        Error::from(error.expect_err("08P01")).code().as_deref(),
        Some("08P01")
    );

    let rows = async |scope: &TenantScope| {
        sqlx::query_scalar::<_, String>(TEXT)
            .bind("")
            .fetch_all(scope)
            .await
    };
    // `prepare` first, on the scope and in a transaction, with and without types; then execution.
    let prepared = (&a)
        .prepare(sqlx::SqlStr::from_static(TEXT))
        .await
        .expect("prepared");
    assert_eq!(rows(&a).await.expect("rows"), ["a note of a"]);
    use sqlx::Statement as _;
    let again = prepared.query().bind("").fetch_all(&a).await.expect("rows");
    assert_eq!(again.len(), 1);
    let mut tx = a.begin().await.expect("begun");
    let text = [sqlx::postgres::PgTypeInfo::with_name("text")];
    let other = sqlx::SqlStr::from_static("SELECT body FROM notes WHERE $1 <> body");
    let prepared = (&mut tx)
        .prepare_with(other, &text)
        .await
        .expect("prepared");
    let found = prepared
        .query()
        .bind("")
        .fetch_all(&mut tx)
        .await
        .expect("rows");
    assert_eq!(found.len(), 1);
    // The hatch: the same text plain, then scoped, in the transaction and after it.
    let plain = tx.dangerous_connection().await.expect("the connection");
    let found = sqlx::query(TEXT)
        .bind("")
        .fetch_all(&mut *plain)
        .await
        .expect("rows");
    assert_eq!(
        found.len(),
        1,
        "the hatch is inside the tenant's transaction"
    );
    let found = sqlx::query(TEXT)
        .bind("")
        .fetch_all(&mut tx)
        .await
        .expect("rows");
    assert_eq!(found.len(), 1);
    let plain = tx.dangerous_connection().await.expect("the connection");
    sqlx::query(TEXT)
        .bind("")
        .fetch_all(&mut *plain)
        .await
        .expect("rows");
    tx.commit().await.expect("committed");
    assert_eq!(rows(&a).await.expect("rows"), ["a note of a"]);
}
