//! Texts made of what is hard to tell apart, run by SQLite itself: what is let through leaves the
//! connection as it was.

use proptest::prelude::*;
use sqlx::{AssertSqlSafe, Executor as _};

use super::inspect;
use crate::folder::Folder;
use crate::sqlite::connection::Connection;
use crate::sqlite::options::SqlitePoolOptions;
use crate::tenant::TenantId;

const PIECES: &[&str] = &[
    "COMMIT",
    "ROLLBACK",
    "END",
    "ATTACH ':memory:' AS other",
    "PRAGMA cache_size = 7",
    "SELECT 1",
    "SELECT ",
    "SELECT $a(')",
    "SELECT 1 AS [']",
    "SELECT 1 AS `'`",
    "; COMMIT",
    "; COMMIT",
    "EXPLAIN ",
    "WITH a AS (SELECT 1) ",
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN ",
    "INSERT INTO t VALUES (1)",
    ";",
    ";",
    "; ",
    "'",
    "''",
    "\"",
    "`",
    "[",
    "]",
    "--",
    "\n",
    "/*",
    "*/",
    "/",
    "$a(",
    "$a::b(",
    ":a",
    "?1",
    ")",
    "x'",
    "0x1",
    "1e",
    "1",
    ".",
    " ",
    "\u{b}",
    "\u{c}",
    "\u{feff}",
    "\u{a0}",
    "é",
];

/// What a text that was let through must not have changed.
async fn unchanged(connection: &mut Connection, text: String) -> Result<(), String> {
    let facts = "SELECT (SELECT count(*) FROM pragma_database_list) || '/' || cache_size \
                 FROM pragma_cache_size";
    let before: String = sqlx::query_scalar(facts)
        .fetch_one(&mut connection.raw)
        .await
        .expect("facts");
    connection.begins_transaction();
    // A transaction that has not written has nothing that a hook could tell of.
    connection.send("BEGIN IMMEDIATE").await.expect("begun");
    // An error is an answer as well.
    let _ = connection.raw.execute(AssertSqlSafe(text)).await;
    let ended = connection.was_rolled_back();
    connection.roll_back().await.expect("rolled back");
    let after: String = sqlx::query_scalar(facts)
        .fetch_one(&mut connection.raw)
        .await
        .expect("facts");
    match (ended, before == after) {
        (false, true) => Ok(()),
        (true, _) => Err("the transaction was ended".into()),
        (_, false) => Err(format!("{before} became {after}")),
    }
}

#[test]
fn what_is_let_through_leaves_the_connection_as_it_was() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = Folder::new();
    let connection = runtime.block_on(async {
        let options = SqlitePoolOptions::default();
        let tenant = TenantId::from(1_u64);
        let path = folder.path().join("a");
        let mut connection = Connection::create(&path, &tenant, &options)
            .await
            .expect("opened");
        let places = "CREATE TABLE t (a); DETACH tenantry_no_place_0; DETACH tenantry_no_place_1";
        connection.send(places).await.expect("room to attach");
        connection
    });
    let connection = std::cell::RefCell::new(connection);
    let texts = prop::collection::vec(prop::sample::select(PIECES), 1..12);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let taken = std::cell::Cell::new(0_u32);
    runner
        .run(&texts, |pieces| {
            let text = pieces.concat();
            if inspect(&text).is_ok() {
                taken.set(taken.get() + 1);
                let mut connection = connection.borrow_mut();
                let found = runtime.block_on(unchanged(&mut connection, text));
                prop_assert_eq!(found, Ok(()));
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(taken.get() > 500, "only {taken:?} texts were let through");
}
