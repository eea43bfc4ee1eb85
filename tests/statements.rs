//! What sqlx offers for statements, on a scope and in a transaction: it behaves, scoped, or is
//! refused with a word on what to do instead.

mod support;

use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::{Executor as _, QueryBuilder, Row as _};
use support::{World, notes, scope, server, world, world_with};
use tenantry::sql::{Installation, TenantType};
use tenantry::{Error, ErrorKind, Reader, TenantScope};

#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
struct Note {
    id: i64,
    body: String,
}

async fn all_notes(world: &World) -> Vec<(String, String)> {
    let mut admin = world.admin().await;
    sqlx::query_as("SELECT tenant_id, body FROM notes ORDER BY tenant_id, body")
        .fetch_all(&mut admin)
        .await
        .expect("all notes")
}

#[tokio::test]
async fn every_way_to_run_a_statement_is_scoped() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;

    let found: Vec<Note> = sqlx::query_as("SELECT id, body FROM notes")
        .fetch_all(&a)
        .await
        .expect("rows");
    assert_eq!(
        found,
        [Note {
            id: 1,
            body: "a note of a".into()
        }]
    );
    let one: Note = sqlx::query_as("SELECT id, body FROM notes WHERE id = $1")
        .bind(1_i64)
        .fetch_one(&a)
        .await
        .expect("a row");
    assert_eq!(one.id, 1);
    let foreign: Option<Note> = sqlx::query_as("SELECT id, body FROM notes WHERE id = $1")
        .bind(2_i64)
        .fetch_optional(&a)
        .await
        .expect("no row");
    assert_eq!(foreign, None);
    let error = sqlx::query("SELECT 1 FROM notes WHERE id = 2")
        .fetch_one(&a)
        .await;
    assert!(
        matches!(error, Err(sqlx::Error::RowNotFound)),
        "as sqlx itself says it"
    );

    let mut builder = QueryBuilder::new("INSERT INTO notes (body) ");
    builder.push_values(["x", "y", "z"], |mut row, body| {
        row.push_bind(body);
    });
    let inserted = builder.build().execute(&a).await.expect("inserted");
    assert_eq!(inserted.rows_affected(), 3);

    let streamed: Vec<String> = sqlx::query("SELECT body FROM notes ORDER BY id")
        .fetch(&a)
        .map_ok(|row| row.get(0))
        .try_collect()
        .await
        .expect("rows");
    assert_eq!(streamed, ["a note of a", "x", "y", "z"]);
    let unnamed = sqlx::query("SELECT body FROM notes")
        .persistent(false)
        .fetch_all(&a)
        .await;
    assert_eq!(unnamed.expect("rows").len(), 4);

    for (text, rows) in [
        ("SELECT body FROM notes", 4),
        (
            "(SELECT body FROM notes) UNION ALL (SELECT body FROM notes)",
            8,
        ),
        ("WITH n AS (SELECT * FROM notes) SELECT body FROM n", 4),
        (
            "WITH n AS (UPDATE notes SET body = body RETURNING 1) SELECT * FROM n",
            4,
        ),
        ("VALUES ((SELECT count(*) FROM notes)), (7)", 2),
        ("TABLE notes", 4),
        ("SHOW app.tenant_id", 1),
        ("EXPLAIN (COSTS OFF) SELECT 1", 1),
        ("UPDATE notes SET body = body RETURNING body", 4),
        ("DELETE FROM notes WHERE body = 'z' RETURNING body", 1),
        ("INSERT INTO notes (body) VALUES ('z') RETURNING body", 1),
        ("  /* a */ -- b\n select 1", 1),
    ] {
        let found = sqlx::query(text).fetch_all(&a).await.expect(text);
        assert_eq!(found.len(), rows, "{text}");
    }
    let merge = "MERGE INTO notes USING (VALUES ('x'), ('new')) AS v (body) ON notes.body = v.body \
                 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (body) VALUES (v.body)";
    let merged = sqlx::query(merge).execute(&a).await;
    if server().await.version() >= 150_000 {
        assert_eq!(merged.expect("merged").rows_affected(), 2);
    } else {
        // It came with 15. It is sent, and refused by the server; the same in two statements.
        let error = Error::from(merged.expect_err("a syntax error"));
        assert_eq!(error.code().as_deref(), Some("42601"));
        let deleted = sqlx::query("DELETE FROM notes WHERE body = 'x'").execute(&a);
        assert_eq!(deleted.await.expect("deleted").rows_affected(), 1);
        let inserted = sqlx::query("INSERT INTO notes (body) VALUES ('new')").execute(&a);
        assert_eq!(inserted.await.expect("inserted").rows_affected(), 1);
    }
    // Not one of B's, read, changed or removed; and what was written is A's.
    assert_eq!(
        all_notes(&world).await,
        [
            ("a", "a note of a"),
            ("a", "new"),
            ("a", "y"),
            ("a", "z"),
            ("b", "a note of b")
        ]
        .map(|(tenant, body)| (tenant.to_owned(), body.to_owned()))
    );
}

/// As a caller says it: `persistent(false)` is for texts that do not come again.
#[tokio::test]
async fn what_is_not_to_be_kept_is_not_kept() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    for (persistent, expected) in [(false, 0), (true, 1)] {
        let text = "SELECT 1 AS kept_or_not";
        let done = sqlx::query(text).persistent(persistent).execute(&a).await;
        done.expect("executed");
        let kept: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_prepared_statements WHERE statement = $1")
                .bind(text)
                .fetch_one(&a)
                .await
                .expect("a count");
        assert_eq!(kept, expected, "persistent: {persistent}");
    }
}

/// What the server refuses is not sent a second time, and does not cost the connection.
#[tokio::test]
async fn refused_statement_is_sent_once() {
    let world = world(&["a"]).await;
    let mut admin = world.admin().await;
    admin
        .execute("CREATE SEQUENCE attempts; GRANT USAGE ON SEQUENCE attempts TO app")
        .await
        .expect("a sequence");
    let registry = world
        .registry_with(|options| options.max_connections(1))
        .await;
    let a = scope(&registry, "a").await;
    for _ in 0..3 {
        let refused = sqlx::query("SELECT 1 / (0 * nextval('attempts'))").execute(&a);
        let error = Error::from(refused.await.expect_err("no number"));
        assert_eq!(error.code().as_deref(), Some("22012"));
    }
    let attempts: i64 = sqlx::query_scalar("SELECT last_value FROM attempts")
        .fetch_one(&mut admin)
        .await
        .expect("a number");
    assert_eq!(attempts, 3);
    notes(&a).await.expect("served");
    assert_eq!(registry.status().connections_opened, 1);
}

#[tokio::test]
async fn another_tenants_rows_can_be_neither_written_nor_taken() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let error = sqlx::query("INSERT INTO notes (tenant_id, body) VALUES ('b', 'forged')")
        .execute(&a)
        .await
        .expect_err("refused");
    assert_eq!(Error::from(error).code().as_deref(), Some("42501"));
    let error = sqlx::query("UPDATE notes SET tenant_id = 'b'")
        .execute(&a)
        .await
        .expect_err("refused");
    assert_eq!(Error::from(error).code().as_deref(), Some("42501"));
    for text in [
        "UPDATE notes SET body = 'mine' WHERE tenant_id = 'b'",
        "DELETE FROM notes WHERE id = 2",
    ] {
        let nothing = sqlx::query(text).execute(&a).await.expect("run");
        assert_eq!(nothing.rows_affected(), 0, "{text}");
    }
}

/// sqlx's plans become generic after five executions; the tenant must not be part of one.
#[tokio::test]
async fn generic_plans_and_parallel_workers_see_the_tenant() {
    let world = world_with(
        Installation::new("app").tenant_column("tenant_id", TenantType::Text),
        &["a", "b"],
    )
    .await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "INSERT INTO notes (tenant_id, body) \
               SELECT CASE WHEN n % 10 = 0 THEN 'a' ELSE 'b' END, repeat('x', 100) \
               FROM generate_series(1, 50000) AS n; \
             ANALYZE notes; \
             DO $$ BEGIN EXECUTE format( \
               'ALTER DATABASE %I SET plan_cache_mode = force_generic_plan', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET parallel_setup_cost = 0', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET parallel_tuple_cost = 0', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET min_parallel_table_scan_size = 0', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET enable_indexscan = off', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET enable_bitmapscan = off', current_database()); \
             END $$",
        )
        .await
        .expect("many notes");
    let registry = world.registry().await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    const COUNT: &str = "SELECT count(*) FROM notes WHERE body <> $1";
    let plan: Vec<String> = sqlx::query_scalar("EXPLAIN SELECT count(*) FROM notes")
        .fetch_all(&a)
        .await
        .expect("a plan");
    assert!(
        plan.iter().any(|line| line.contains("Parallel")),
        "{plan:#?}"
    );
    for _ in 0..8 {
        for (scope, rows) in [(&a, 5_001_i64), (&b, 45_001)] {
            let count: i64 = sqlx::query_scalar(COUNT)
                .bind("")
                .fetch_one(scope)
                .await
                .expect("a count");
            assert_eq!(count, rows);
        }
    }
}

#[tokio::test]
async fn raw_sql_runs_in_transactions_only() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    for error in [
        sqlx::raw_sql("SELECT 1")
            .execute(&a)
            .await
            .map(drop)
            .expect_err("refused"),
        (&a).execute("SELECT 1")
            .await
            .map(drop)
            .expect_err("refused"),
        (&a).fetch_optional("SELECT 1")
            .await
            .map(drop)
            .expect_err("refused"),
    ] {
        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::StatementRefused);
        assert!(error.to_string().contains("TenantScope::begin"), "{error}");
    }
    let mut tx = a.begin().await.expect("begun");
    let results: Vec<u64> =
        sqlx::raw_sql("SELECT body FROM notes; UPDATE notes SET body = 'x'; SELECT 1, 2")
            .execute_many(&mut tx)
            .map_ok(|result| result.rows_affected())
            .try_collect()
            .await
            .expect("three results and not those of the context");
    assert_eq!(results, [1, 1, 1]);
    let row = sqlx::raw_sql("SELECT body FROM notes")
        .fetch_optional(&mut tx)
        .await
        .expect("a row");
    assert_eq!(row.expect("a row").get::<String, _>(0), "x");
    let cursor = sqlx::query("DECLARE c CURSOR FOR SELECT body FROM notes")
        .execute(&mut tx)
        .await;
    cursor.expect("a cursor of the transaction");
    let fetched: Vec<String> = sqlx::query_scalar("FETCH ALL FROM c")
        .fetch_all(&mut tx)
        .await
        .expect("rows");
    assert_eq!(fetched, ["x"]);
    tx.rollback().await.expect("rolled back");
}

#[tokio::test]
async fn copy_streams_in_transactions() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    const OUT: &str = "COPY (SELECT body FROM notes ORDER BY id) TO STDOUT";
    const IN: &str = "COPY plain FROM STDIN";
    for text in [OUT, IN] {
        let error = Error::from(sqlx::query(text).execute(&a).await.expect_err("refused"));
        assert_eq!(error.kind(), ErrorKind::StatementRefused);
        assert!(error.to_string().contains("copy_in_raw"), "{error}");
        let mut tx = a.begin().await.expect("begun");
        let error = Error::from(
            sqlx::raw_sql(text)
                .execute(&mut tx)
                .await
                .expect_err("refused"),
        );
        assert!(error.to_string().contains("copy_in_raw"), "{error}");
    }
    let mut tx = a.begin().await.expect("begun");
    for text in ["SELECT 1", "COPY plain TO STDOUT; COMMIT", ""] {
        let error = tx.copy_out_raw(text).await.err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::StatementRefused, "{text}");
    }
    // Even after a statement that changed the context: COPY is told again.
    sqlx::query("SELECT set_config('app.tenant_id', 'b', true)")
        .execute(&mut tx)
        .await
        .expect("run");
    let data: Vec<_> = tx
        .copy_out_raw(OUT)
        .await
        .expect("begun")
        .try_collect()
        .await
        .expect("data");
    assert_eq!(data.concat(), b"a note of a\n");
    let mut copy = tx.copy_in_raw(IN).await.expect("begun");
    copy.send(b"one\ntw").await.expect("sent");
    copy.send(b"o\n").await.expect("sent");
    assert_eq!(copy.finish().await.expect("finished"), 2);
    let plain: i64 = sqlx::query_scalar("SELECT count(*) FROM plain")
        .fetch_one(&mut tx)
        .await
        .expect("2");
    assert_eq!(plain, 2);
    // PostgreSQL refuses COPY into a table under row-level security.
    let mut inner = tx.savepoint().await.expect("set");
    let error = inner
        .copy_in_raw("COPY notes (body) FROM STDIN")
        .await
        .expect_err("refused");
    assert_eq!(error.code().as_deref(), Some("0A000"));
    inner.rollback().await.expect("rolled back to");
    // Data that does not fit, and a copy that is given up.
    let mut inner = tx.savepoint().await.expect("set");
    let mut copy = inner.copy_in_raw(IN).await.expect("begun");
    copy.send(b"two\tcolumns\n").await.expect("sent");
    assert_eq!(
        copy.finish().await.expect_err("refused").code().as_deref(),
        Some("22P04")
    );
    inner.rollback().await.expect("rolled back to");
    let mut inner = tx.savepoint().await.expect("set");
    inner
        .copy_in_raw(IN)
        .await
        .expect("begun")
        .abort()
        .await
        .expect("aborted");
    inner.rollback().await.expect("rolled back to");
    tx.commit().await.expect("committed");

    // Dropped half-way, in or out: the transaction is gone, and the next borrower unharmed.
    let mut tx = a.begin().await.expect("begun");
    let mut copy = tx.copy_in_raw(IN).await.expect("begun");
    copy.send(b"lost\n").await.expect("sent");
    drop(copy);
    let error = Error::from(notes(&mut tx).await.expect_err("out of step"));
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(tx.commit().await.expect_err("lost").is_rolled_back());
    let mut tx = a.begin().await.expect("begun");
    let many = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000)) TO STDOUT";
    let mut data = tx.copy_out_raw(many).await.expect("begun");
    data.next().await.expect("data").expect("data");
    drop(data);
    drop(tx);
    assert_eq!(notes(&b).await.expect("served"), ["a note of b"]);
    let mut admin = world.admin().await;
    let plain: i64 = sqlx::query_scalar("SELECT count(*) FROM plain")
        .fetch_one(&mut admin)
        .await
        .expect("2");
    assert_eq!(plain, 2);
}

#[tokio::test]
async fn a_reader_is_made_from_all_three_and_only_reads() {
    async fn bodies(mut reader: Reader<'_>) -> Result<Vec<String>, sqlx::Error> {
        let first = notes(&mut reader).await?;
        let again: Option<String> = sqlx::query_scalar("SELECT body FROM notes")
            .fetch_optional(&mut reader)
            .await?;
        assert_eq!(first.first(), again.as_ref());
        Ok(first)
    }
    async fn through(mut reader: Reader<'_>) -> Result<Vec<String>, sqlx::Error> {
        bodies(reader.reborrow()).await?;
        bodies(reader).await
    }
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    assert_eq!(through((&a).into()).await.expect("rows"), ["a note of a"]);
    let mut tx = a.begin().await.expect("begun");
    assert_eq!(
        through((&mut tx).into()).await.expect("rows"),
        ["a note of a"]
    );
    let mut savepoint = tx.savepoint().await.expect("set");
    assert_eq!(
        through((&mut *savepoint).into()).await.expect("rows"),
        ["a note of a"]
    );
    drop(savepoint);
    drop(tx);
    let mut tx = a.begin_read_only().await.expect("begun");
    assert_eq!(
        through((&mut tx).into()).await.expect("rows"),
        ["a note of a"]
    );
    drop(tx);
    let mut tx = a.begin().await.expect("begun");
    for text in [
        "DELETE FROM notes",
        "WITH d AS (DELETE FROM notes RETURNING 1) SELECT * FROM d",
        "EXPLAIN ANALYZE DELETE FROM notes",
        "SELECT * FROM notes FOR UPDATE",
        "LOCK TABLE notes",
    ] {
        for error in [
            sqlx::query(text)
                .execute(&mut Reader::from(&mut tx))
                .await
                .expect_err(text),
            sqlx::query(text)
                .fetch_optional(&mut Reader::from(&mut tx))
                .await
                .map(drop)
                .expect_err(text),
        ] {
            assert_eq!(
                Error::from(error).kind(),
                ErrorKind::StatementRefused,
                "{text}"
            );
        }
    }
    drop(tx);
    let error = sqlx::query("DELETE FROM notes")
        .execute(&mut Reader::from(&a))
        .await;
    assert_eq!(
        Error::from(error.expect_err("refused")).kind(),
        ErrorKind::StatementRefused
    );
    assert_eq!(all_notes(&world).await.len(), 2);
}

#[tokio::test]
async fn as_many_arguments_as_postgresql_takes_but_one() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let with = async |scope: &TenantScope, count: usize| {
        let mut builder = QueryBuilder::new("SELECT cardinality(ARRAY[");
        let mut list = builder.separated(",");
        for n in 0..count {
            list.push_bind(n as i32);
        }
        builder.push("])");
        builder
            .build_query_scalar::<i32>()
            .persistent(false)
            .fetch_one(scope)
            .await
    };
    assert_eq!(with(&a, 65_534).await.expect("fits"), 65_534);
    let error = Error::from(with(&a, 65_535).await.expect_err("refused"));
    assert_eq!(error.kind(), ErrorKind::StatementRefused);
    assert!(error.to_string().contains("65,534"), "{error}");
}

/// The macros check this text against `.sqlx/` at build time and run it as any other.
#[tokio::test]
async fn the_macros_work_unchanged() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let note = sqlx::query!("SELECT id, body FROM notes WHERE body <> $1", "x")
        .fetch_one(&a)
        .await
        .expect("a row");
    assert_eq!((note.id, note.body.as_str()), (1, "a note of a"));
    let mut tx = a.begin().await.expect("begun");
    let bodies = sqlx::query_scalar!("SELECT body FROM notes")
        .fetch_all(&mut tx)
        .await
        .expect("rows");
    assert_eq!(bodies, ["a note of a"]);
}
