//! Numbers without gaps and without duplicates, whatever comes between, and for nobody but their
//! tenant.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use support::database::{Outcome, TestDatabase, refused, run, text, text_as};
use support::{World, scope, tenant, world_with};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::cancelled_after;
use tenantry::{
    ContextSettings, Error, ErrorKind, IsolationLevel, NumberSeries, PoolOptions, SeriesNumber,
    TenantRegistry, TenantScope, TenantTx, TxOptions, UniqueSeries,
};

const INSERT: &str =
    "INSERT INTO invoices (number) VALUES (tenantry.next_number($1)) RETURNING number";

/// Invoices under RLS, of `a` and `b`, and the counters.
async fn world() -> World {
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    let world = world_with(installation.clone(), &["a", "b"]).await;
    let mut admin = world.admin().await;
    installation
        .number_series()
        .apply(&mut admin)
        .await
        .expect("applied");
    admin
        .execute(
            "CREATE TABLE invoices (tenant_id text NOT NULL, number text NOT NULL, \
               amount integer NOT NULL DEFAULT 1 CHECK (amount > 0), \
               CONSTRAINT invoices_number UNIQUE (tenant_id, number))",
        )
        .await
        .expect("a table");
    installation
        .table("invoices")
        .apply(&mut admin)
        .await
        .expect("policies");
    admin.close().await.expect("closed");
    world
}

async fn registry(world: &World, connections: u32) -> TenantRegistry {
    world
        .registry_with(move |options: PoolOptions| options.max_connections(connections))
        .await
}

fn invoices() -> NumberSeries {
    NumberSeries::new("invoice").prefix("INV-AXO").width(5)
}

async fn take(scope: &TenantScope, series: &NumberSeries) -> Result<String, Error> {
    let mut tx = scope.begin().await?;
    let number = series.next(&mut tx).await?;
    tx.commit().await?;
    Ok(number.to_string())
}

async fn insert(scope: &TenantScope, series: &NumberSeries) -> Result<String, Error> {
    let number = sqlx::query_scalar(INSERT)
        .bind(series)
        .fetch_one(scope)
        .await?;
    Ok(number)
}

/// Takes a number and keeps its invoice, or rolls back with the number in hand.
async fn save(tx: &mut TenantTx, series: &NumberSeries) -> Result<SeriesNumber, Error> {
    let number = series.next(tx).await?;
    sqlx::query("INSERT INTO invoices (number) VALUES ($1)")
        .bind(number.as_str())
        .execute(tx)
        .await?;
    Ok(number)
}

async fn saved(scope: &TenantScope) -> Vec<String> {
    sqlx::query_scalar("SELECT number FROM invoices ORDER BY number")
        .fetch_all(scope)
        .await
        .expect("rows")
}

fn from_one_to(last: usize) -> Vec<String> {
    (1..=last).map(|n| format!("INV-AXO-{n:05}")).collect()
}

/// Somebody waits for a lock in this database.
async fn somebody_waits(admin: &mut PgConnection, how_many: i64) {
    let until = async {
        loop {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .fetch_one(&mut *admin)
            .await
            .expect("a count");
            if waiting >= how_many {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), until).await;
    assert!(in_time.is_ok(), "nobody waits");
}

fn code(error: &Error) -> String {
    error.code().unwrap_or_default().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_with_a_tenth_rolled_back_leave_no_gap() {
    let world = world().await;
    let registry = registry(&world, 40).await;
    let a = scope(&registry, "a").await;
    let series = invoices();
    let mut tasks = Vec::new();
    for n in 0..200 {
        let (a, series) = (a.clone(), series.clone());
        tasks.push(tokio::spawn(async move {
            for turn in 0..5 {
                match (n + turn) % 10 {
                    0 => {
                        let mut tx = a.begin().await?;
                        save(&mut tx, &series).await?;
                        tx.rollback().await?;
                    }
                    1 => {
                        // Refused by the table, with the number taken.
                        let refused = sqlx::query(
                            "INSERT INTO invoices (number, amount) VALUES (tenantry.next_number($1), 0)",
                        );
                        let error = refused.bind(&series).execute(&a).await.expect_err("refused");
                        assert_eq!(code(&error.into()), "23514");
                    }
                    2 => {
                        let mut tx = a.begin().await?;
                        save(&mut tx, &series).await?;
                        drop(tx);
                    }
                    3..6 => {
                        let mut tx = a.begin().await?;
                        save(&mut tx, &series).await?;
                        tx.commit().await?;
                    }
                    _ => {
                        insert(&a, &series).await?;
                    }
                }
            }
            Ok::<_, Error>(())
        }));
    }
    for task in tasks {
        task.await.expect("no panic").expect("no error");
    }
    assert_eq!(saved(&a).await, from_one_to(700));
    assert_eq!(series.last((&a).into()).await.expect("known"), Some(700));
}

/// The design that the tests here are to be seen against: two read the same number.
#[tokio::test]
async fn specimen_that_reads_the_highest_number_collides() {
    let world = world().await;
    let registry = registry(&world, 2).await;
    let a = scope(&registry, "a").await;
    let mut both = [
        a.begin().await.expect("begun"),
        a.begin().await.expect("begun"),
    ];
    let mut numbers = Vec::new();
    for tx in &mut both {
        let query = "SELECT 'INV-AXO-' || lpad((count(*) + 1)::text, 5, '0') FROM invoices";
        let next: String = sqlx::query_scalar(query)
            .fetch_one(tx)
            .await
            .expect("a number");
        numbers.push(next);
    }
    let mut ends = Vec::new();
    for (mut tx, number) in both.into_iter().zip(&numbers) {
        let insert = sqlx::query("INSERT INTO invoices (number) VALUES ($1)");
        ends.push(
            insert
                .bind(number)
                .execute(&mut tx)
                .await
                .map_err(Error::from),
        );
        tx.commit().await.ok();
    }
    assert!(ends[0].is_ok());
    let error = ends[1].as_ref().expect_err("a duplicate");
    assert_eq!(error.constraint(), Some("invoices_number"));
}

#[tokio::test]
async fn who_comes_first_of_all_is_waited_for_too() {
    let world = world().await;
    let registry = registry(&world, 6).await;
    let mut admin = world.admin().await;
    let a = scope(&registry, "a").await;
    for (commits, others) in [
        (false, ["INV-AXO-00001", "INV-AXO-00002", "INV-AXO-00003"]),
        (true, ["INV-AXO-00002", "INV-AXO-00003", "INV-AXO-00004"]),
    ] {
        let series = NumberSeries::new(format!("first-{commits}"))
            .prefix("INV-AXO")
            .width(5);
        let mut first = a.begin().await.expect("begun");
        let number = series.next(&mut first).await.expect("taken");
        assert_eq!(number.as_str(), "INV-AXO-00001");
        let waiting = [0, 1, 2].map(|n| {
            let (a, series) = (a.clone(), series.clone());
            tokio::spawn(async move {
                match n {
                    0 => take(&a, &series).await,
                    _ => {
                        let query = sqlx::query_scalar("SELECT tenantry.next_number($1)");
                        Ok(query.bind(&series).fetch_one(&a).await?)
                    }
                }
            })
        });
        somebody_waits(&mut admin, 3).await;
        match commits {
            true => first.commit().await.expect("committed"),
            false => first.rollback().await.expect("rolled back"),
        }
        let mut got = BTreeSet::new();
        for task in waiting {
            got.insert(task.await.expect("no panic").expect("no error"));
        }
        assert!(got.iter().eq(others), "{got:?}");
    }
}

#[tokio::test]
async fn numbers_are_printed_as_defined() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    let dated = |series: NumberSeries| series.dated(2026, 3);
    for (series, numbers) in [
        (NumberSeries::new("plain"), ["1", "2"]),
        (NumberSeries::new("zero").start(0).width(2), ["00", "01"]),
        (NumberSeries::new("wide").width(1).start(9), ["9", "10"]),
        (
            NumberSeries::new("wider")
                .prefix("I")
                .width(5)
                .start(99_999),
            ["I-99999", "I-100000"],
        ),
        (
            NumberSeries::new("eighteen").width(18),
            ["000000000000000001", "000000000000000002"],
        ),
        (
            dated(NumberSeries::new("year").yearly()),
            ["2026-1", "2026-2"],
        ),
        (
            dated(invoices().yearly()).start(7),
            ["INV-AXO-2026-00007", "INV-AXO-2026-00008"],
        ),
        (
            dated(NumberSeries::new("month").prefix("M/1").monthly().width(3)),
            ["M/1-2026-03-001", "M/1-2026-03-002"],
        ),
    ] {
        assert_eq!(take(&a, &series).await.expect("taken"), numbers[0]);
        let mut tx = a.begin().await.expect("begun");
        let number = series.next(&mut tx).await.expect("taken");
        assert_eq!(number.as_str(), numbers[1]);
        assert_eq!(series.parse(numbers[1]).expect("read"), number);
        let by_statement: String =
            sqlx::query_scalar("SELECT number FROM tenantry.take_number($1)")
                .bind(&series)
                .fetch_one(&mut tx)
                .await
                .expect("taken");
        assert_eq!(
            series.parse(&by_statement).expect("read").value(),
            number.value() + 1
        );
        assert_eq!(
            series.last((&mut tx).into()).await.expect("known"),
            Some(number.value() + 1)
        );
        tx.rollback().await.expect("rolled back");
        assert_eq!(insert(&a, &series).await.expect("taken"), numbers[1]);
    }
}

#[tokio::test]
async fn each_period_counts_for_itself_and_can_be_dated() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    let yearly = NumberSeries::new("yearly").yearly();
    let monthly = NumberSeries::new("monthly").monthly();
    for (series, number) in [
        (yearly.clone().dated(2025, 12), "2025-1"),
        (yearly.clone().dated(2026, 1), "2026-1"),
        (yearly.clone().dated(2025, 1), "2025-2"),
        (yearly.clone().dated(2026, 12), "2026-2"),
        (monthly.clone().dated(2026, 1), "2026-01-1"),
        (monthly.clone().dated(2026, 2), "2026-02-1"),
        (monthly.clone().dated(2026, 1), "2026-01-2"),
        (monthly.clone().dated(7, 2), "0007-02-1"),
    ] {
        assert_eq!(take(&a, &series).await.expect("taken"), number);
    }
    let last = yearly.clone().dated(2025, 5).last((&a).into()).await;
    assert_eq!(last.expect("known"), Some(2));
    assert_eq!(yearly.last((&a).into()).await.expect("known"), Some(2));
    let unknown = NumberSeries::new("x").time_zone("Nowhere/At_all");
    assert_eq!(
        code(&take(&a, &unknown).await.expect_err("refused")),
        "22023"
    );
}

/// The moment is that at which the transaction began; here somebody has set the clock.
#[tokio::test]
async fn year_and_month_begin_in_utc_or_where_it_is_said() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    let mut owner = world.admin().await;
    let eve = "SELECT replace(pg_get_functiondef('tenantry.take_number(jsonb)'::regprocedure), \
               'transaction_timestamp()', '''2025-12-31 23:30+00''::timestamptz')";
    let eve = text(&mut owner, eve).await.expect("the function");
    run(&mut owner, &eve).await.expect("the clock is set");
    for (zone, year, month) in [
        (None, "2025-1", "2025-12-1"),
        (Some("Europe/Vienna"), "2026-1", "2026-01-1"),
        (Some("America/New_York"), "2025-2", "2025-12-2"),
    ] {
        let here = |series: NumberSeries| match zone {
            Some(zone) => series.time_zone(zone),
            None => series,
        };
        for (series, number) in [
            (NumberSeries::new("y").yearly(), year),
            (NumberSeries::new("m").monthly(), month),
        ] {
            let mut tx = a.begin().await.expect("begun");
            // The session's own zone does not count.
            tx.execute("SET LOCAL TIME ZONE 'Pacific/Kiritimati'")
                .await
                .expect("set");
            let taken = here(series).next(&mut tx).await.expect("taken");
            assert_eq!(taken.as_str(), number);
            tx.commit().await.expect("committed");
        }
    }
}

#[tokio::test]
async fn definition_that_changes() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    for (series, number) in [
        (invoices(), "INV-AXO-00001"),
        (NumberSeries::new("invoice").prefix("R").width(3), "R-002"),
        (invoices().start(500), "INV-AXO-00003"),
    ] {
        assert_eq!(take(&a, &series).await.expect("taken"), number);
    }
    for series in [invoices().yearly(), invoices().monthly()] {
        let error = take(&a, &series).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(error.to_string().contains("another name"), "{error}");
        assert!(!error.is_retryable());
    }
    assert_eq!(take(&a, &invoices()).await.expect("taken"), "INV-AXO-00004");
    let yearly = NumberSeries::new("y").yearly().dated(2026, 1);
    take(&a, &yearly).await.expect("taken");
    for series in [NumberSeries::new("y"), NumberSeries::new("y").monthly()] {
        let error = take(&a, &series).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_us_and_by_the_database() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    let wrong = NumberSeries::new("invoice").prefix("I'V");
    let error = take(&a, &wrong).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(!error.to_string().contains("I'V"));
    assert!(insert(&a, &wrong).await.is_err());

    let mut tx = a.begin().await.expect("begun");
    for definition in [
        "NULL",
        "'null'",
        "'[]'",
        "'{}'",
        r#"'{"series": ""}'"#,
        r#"'{"series": "a b"}'"#,
        r#"'{"series": "a", "prefix": "-"}'"#,
        r#"'{"series": "a", "prefix": "A-"}'"#,
        r#"'{"series": "a", "prefix": "123456789012345678901234567890123"}'"#,
        r#"'{"series": "1234567890123456789012345678901234567890123456789012345678901234"}'"#,
        r#"'{"series": "a", "prefix": "I V"}'"#,
        r#"'{"series": "a", "prefix": "A\nB"}'"#,
        r#"'{"series": "a", "width": 0}'"#,
        r#"'{"series": "a", "width": 19}'"#,
        r#"'{"series": "a", "start": -1}'"#,
        r#"'{"series": "a", "reset": "week"}'"#,
        r#"'{"series": "a", "reset": "year", "month": "2026-13"}'"#,
        r#"'{"series": "a", "reset": "year", "month": "26"}'"#,
        r#"'{"series": "a", "wait": "0"}'"#,
    ] {
        let sql = format!("SELECT tenantry.next_number({definition}::jsonb)");
        let error = tx.execute(AssertSqlSafe(sql)).await.expect_err(definition);
        let error = Error::from(error);
        assert_eq!(code(&error), "TN021", "{definition}");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        tx.rollback().await.expect("rolled back");
        tx = a.begin().await.expect("begun");
    }
    // What is left out has its default.
    let plain: String = sqlx::query_scalar(r#"SELECT tenantry.next_number('{"series": "a"}')"#)
        .fetch_one(&mut tx)
        .await
        .expect("taken");
    assert_eq!(plain, "1");
}

#[tokio::test]
async fn tenants_and_series_do_not_wait_for_each_other_nor_see_each_other() {
    let world = world().await;
    let registry = registry(&world, 4).await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let mut tx = a.begin().await.expect("begun");
    for _ in 0..3 {
        invoices().next(&mut tx).await.expect("taken");
    }
    // Whoever waited would run into the time-out.
    let hasty = |series: NumberSeries| series.lock_timeout(Duration::from_millis(1));
    assert_eq!(
        insert(&b, &hasty(invoices())).await.expect("taken"),
        "INV-AXO-00001"
    );
    let other = NumberSeries::new("offer").prefix("OFF");
    assert_eq!(insert(&a, &hasty(other)).await.expect("taken"), "OFF-1");
    tx.commit().await.expect("committed");
    let all = "SELECT string_agg(concat_ws(' ', tenant, series, last), ';' ORDER BY series) \
               FROM tenantry.number_series";
    for (scope, seen) in [(&a, "a invoice 3;a offer 1"), (&b, "b invoice 1")] {
        let rows: String = sqlx::query_scalar(all)
            .fetch_one(scope)
            .await
            .expect("rows");
        assert_eq!(rows, seen);
    }
}

#[tokio::test]
async fn who_holds_a_number_is_waited_for_so_long_and_no_longer() {
    let world = world().await;
    let registry = registry(&world, 3).await;
    let a = scope(&registry, "a").await;
    insert(&a, &invoices()).await.expect("taken");
    let mut holder = a.begin().await.expect("begun");
    invoices().next(&mut holder).await.expect("taken");
    let soon = Duration::from_millis(20);
    let late = Duration::from_secs(3600);
    for (own, of_transaction) in [(soon, None), (soon, Some(late)), (late, Some(soon))] {
        let mut options = TxOptions::default();
        if let Some(timeout) = of_transaction {
            options = options.lock_timeout(timeout);
        }
        let mut tx = a.begin_with(&options).await.expect("begun");
        let error = invoices()
            .lock_timeout(own)
            .next(&mut tx)
            .await
            .expect_err("held");
        assert_eq!(code(&error), "55P03");
        assert!(error.is_retryable());
        assert!(tx.commit().await.is_err());
    }
    let error = insert(&a, &invoices().lock_timeout(soon))
        .await
        .expect_err("held");
    assert_eq!(code(&error), "55P03");
    holder.rollback().await.expect("rolled back");

    // The rest of the transaction has its own.
    for (set, shown) in [(None, "0"), (Some(7_000), "7s"), (Some(1_500), "1500ms")] {
        let mut options = TxOptions::default();
        if let Some(set) = set {
            options = options.lock_timeout(Duration::from_millis(set));
        }
        let mut tx = a.begin_with(&options).await.expect("begun");
        invoices().next(&mut tx).await.expect("taken");
        let now: String = sqlx::query_scalar("SELECT current_setting('lock_timeout')")
            .fetch_one(&mut tx)
            .await
            .expect("a setting");
        assert_eq!(now, shown);
    }
    assert_eq!(
        insert(&a, &invoices()).await.expect("taken"),
        "INV-AXO-00002"
    );
}

#[tokio::test]
async fn policy_repeats_what_is_worth_it() {
    let world = world().await;
    let registry = registry(&world, 3).await;
    let a = scope(&registry, "a").await;
    let series = invoices().lock_timeout(Duration::from_millis(10));
    insert(&a, &series).await.expect("taken");
    let holder = parking_lot::Mutex::new(Some({
        let mut tx = a.begin().await.expect("begun");
        series.next(&mut tx).await.expect("taken");
        tx
    }));
    let attempts = AtomicU32::new(0);
    let number = NumberSeries::retry_policy()
        .run(|| {
            if attempts.fetch_add(1, Ordering::SeqCst) == 2 {
                drop(holder.lock().take());
            }
            insert(&a, &series)
        })
        .await
        .expect("taken");
    assert_eq!(number, "INV-AXO-00002");
    assert!(attempts.load(Ordering::SeqCst) > 2);

    let attempts = AtomicU32::new(0);
    let mut tx = a.begin().await.expect("begun");
    series.next(&mut tx).await.expect("taken");
    let policy = NumberSeries::retry_policy().delays(Duration::ZERO, Duration::ZERO);
    let error = policy
        .run(|| {
            attempts.fetch_add(1, Ordering::SeqCst);
            insert(&a, &series)
        })
        .await
        .expect_err("held to the end");
    assert_eq!(
        (code(&error), attempts.load(Ordering::SeqCst)),
        ("55P03".to_owned(), 5)
    );

    // What is the caller's own fault is not repeated.
    let attempts = AtomicU32::new(0);
    let error = policy
        .run(|| {
            attempts.fetch_add(1, Ordering::SeqCst);
            sqlx::query("SELECT 1 / 0").execute(&a)
        })
        .await
        .expect_err("refused");
    assert_eq!(
        (code(&error), attempts.load(Ordering::SeqCst)),
        ("22012".to_owned(), 1)
    );
}

#[tokio::test]
async fn under_snapshots_a_number_taken_meanwhile_is_a_retryable_failure() {
    let world = world().await;
    let registry = registry(&world, 4).await;
    let a = scope(&registry, "a").await;
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        // Both for the row that is not there yet and for the one that is.
        let series = NumberSeries::new(format!("{level:?}"));
        for _ in 0..2 {
            let mut tx = a
                .begin_with(&TxOptions::default().isolation(level))
                .await
                .expect("begun");
            sqlx::query("SELECT 1")
                .execute(&mut tx)
                .await
                .expect("a snapshot");
            take(&a, &series).await.expect("taken");
            let error = series.next(&mut tx).await.expect_err("taken meanwhile");
            assert_eq!(code(&error), "40001");
            assert!(error.is_retryable());
        }
        assert_eq!(series.last((&a).into()).await.expect("known"), Some(2));
        // With the policy all come through.
        let options = TxOptions::default().isolation(level).retry(
            NumberSeries::retry_policy()
                .max_attempts(50)
                .delays(Duration::ZERO, Duration::ZERO),
        );
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (a, series, options) = (a.clone(), series.clone(), options.clone());
                tokio::spawn(async move {
                    a.transaction(options, move |tx| {
                        let series = series.clone();
                        Box::pin(async move { Ok::<_, Error>(series.next(tx).await?.value()) })
                    })
                    .await
                })
            })
            .collect();
        let mut got = BTreeSet::new();
        for task in tasks {
            got.insert(task.await.expect("no panic").expect("no error"));
        }
        assert!(got.into_iter().eq(3..=10));
    }
}

#[tokio::test]
async fn there_is_an_end_and_nothing_is_taken_there() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    let series = invoices().start(i64::MAX - 1);
    for last in ["INV-AXO-9223372036854775806", "INV-AXO-9223372036854775807"] {
        assert_eq!(insert(&a, &series).await.expect("taken"), last);
    }
    for _ in 0..2 {
        assert_eq!(
            code(&insert(&a, &series).await.expect_err("the end")),
            "22003"
        );
        assert_eq!(
            code(&take(&a, &series).await.expect_err("the end")),
            "22003"
        );
    }
    assert_eq!(
        series.last((&a).into()).await.expect("known"),
        Some(i64::MAX)
    );
}

#[tokio::test]
async fn void_and_reuse_are_on_record() {
    let world = world().await;
    let registry = registry(&world, 4).await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let series = invoices().yearly().dated(2026, 1);
    for _ in 0..4 {
        insert(&a, &series).await.expect("taken");
    }
    let number = |n: i64| {
        series
            .parse(&format!("INV-AXO-2026-{n:05}"))
            .expect("a number")
    };
    let mut tx = a.begin().await.expect("begun");
    assert_eq!(series.reuse(&mut tx).await.expect("asked"), None);
    for n in [3, 2] {
        series
            .void(&mut tx, &number(n), "typed twice")
            .await
            .expect("void");
    }
    tx.commit().await.expect("committed");
    // Void already, not given out, another period's, another tenant's.
    let other_year = series
        .clone()
        .dated(2025, 1)
        .parse("INV-AXO-2025-00001")
        .expect("a number");
    for (scope, refused) in [
        (&a, number(2)),
        (&a, number(5)),
        (&a, number(0)),
        (&a, other_year),
        (&b, number(1)),
    ] {
        let mut tx = scope.begin().await.expect("begun");
        let error = series
            .void(&mut tx, &refused, "x")
            .await
            .expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{refused}");
    }
    let mut of_b = b.begin().await.expect("begun");
    assert_eq!(series.reuse(&mut of_b).await.expect("asked"), None);
    drop(of_b);
    // A new prefix does not change what was printed. One who has a number in hand is passed over.
    let renamed = NumberSeries::new("invoice")
        .prefix("R")
        .yearly()
        .dated(2026, 5);
    let mut first = a.begin().await.expect("begun");
    assert_eq!(
        renamed.reuse(&mut first).await.expect("asked"),
        Some(number(2))
    );
    let mut second = a.begin().await.expect("begun");
    assert_eq!(
        renamed.reuse(&mut second).await.expect("asked"),
        Some(number(3))
    );
    let mut third = a.begin().await.expect("begun");
    assert_eq!(renamed.reuse(&mut third).await.expect("asked"), None);
    drop(third);
    first.rollback().await.expect("rolled back");
    second.commit().await.expect("committed");
    let mut tx = a.begin().await.expect("begun");
    assert_eq!(
        renamed.reuse(&mut tx).await.expect("asked"),
        Some(number(2))
    );
    assert_eq!(renamed.reuse(&mut tx).await.expect("asked"), None);
    series
        .void(&mut tx, &number(2), "again")
        .await
        .expect("void");
    tx.commit().await.expect("committed");
    assert_eq!(
        take(&a, &series).await.expect("taken"),
        "INV-AXO-2026-00005"
    );

    let record: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', number, reason, voided_by, reused_by, reused_at >= voided_at) \
         FROM tenantry.void_numbers ORDER BY value, times",
    )
    .fetch_all(&a)
    .await
    .expect("rows");
    assert_eq!(
        record,
        [
            "INV-AXO-2026-00002 typed twice user of a user of a t",
            "INV-AXO-2026-00002 again user of a",
            "INV-AXO-2026-00003 typed twice user of a user of a t",
        ]
    );
    let of_b: i64 = sqlx::query_scalar("SELECT count(*) FROM tenantry.void_numbers")
        .fetch_one(&b)
        .await
        .expect("a count");
    assert_eq!(of_b, 0);
}

/// Of two at once, one voids it.
#[tokio::test]
async fn number_is_void_once() {
    let world = world().await;
    let registry = registry(&world, 3).await;
    let mut admin = world.admin().await;
    let a = scope(&registry, "a").await;
    let series = invoices();
    insert(&a, &series).await.expect("taken");
    let number = series.parse("INV-AXO-00001").expect("a number");
    let mut first = a.begin().await.expect("begun");
    series
        .void(&mut first, &number, "first")
        .await
        .expect("void");
    let second = tokio::spawn({
        let (a, series, number) = (a.clone(), series.clone(), number.clone());
        async move {
            let mut tx = a.begin().await?;
            series.void(&mut tx, &number, "second").await
        }
    });
    somebody_waits(&mut admin, 1).await;
    first.commit().await.expect("committed");
    let error = second.await.expect("no panic").expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_was_begun_with_a_number_and_dropped_leaves_no_gap() {
    let world = world().await;
    let wire = world.slow_wire().await;
    let registry = world.registry_over(&wire).await;
    let a = scope(&registry, "a").await;
    let series = invoices();
    insert(&a, &series).await.expect("taken");
    let last = async || series.last((&a).into()).await.expect("known").unwrap_or(0);
    let mut doomed = 0;
    for polls in 0..60 {
        let before = last().await;
        let mut tx = a.begin().await.expect("begun");
        let done = cancelled_after(polls, series.next(&mut tx)).await;
        let has_number = done.is_some();
        // Whoever ignores that it was dropped cannot commit a number that nobody knows of.
        let statement = sqlx::query("SELECT 1").execute(&mut tx).await;
        let committed = tx.commit().await;
        assert_eq!(statement.is_ok(), committed.is_ok());
        match (has_number, &committed) {
            (true, Ok(())) => assert_eq!(last().await, before + 1),
            (false, _) => assert_eq!(last().await, before, "after {polls} polls"),
            (true, Err(error)) => panic!("{error}"),
        }
        if let Err(error) = committed {
            doomed += 1;
            assert!(error.is_rolled_back(), "{error:?}");
        }
        if has_number {
            assert!(
                doomed > 0,
                "dropping it at its own await must doom the transaction"
            );
            break;
        }
        assert!(polls < 59, "did not complete");
    }
    // The statement that is a transaction by itself: a number for each row, whatever was dropped.
    for polls in 0..60 {
        let done = cancelled_after(polls, insert(&a, &series)).await;
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM invoices")
            .fetch_one(&a)
            .await
            .expect("a count");
        assert_eq!(last().await, rows + 1, "after {polls} polls");
        if done.is_some() {
            return;
        }
    }
    panic!("did not complete");
}

#[tokio::test]
async fn what_was_voided_or_reused_and_dropped_is_not_committed_unknown() {
    let world = world().await;
    let wire = world.slow_wire().await;
    let registry = world.registry_over(&wire).await;
    let a = scope(&registry, "a").await;
    let series = invoices();
    insert(&a, &series).await.expect("taken");
    let number = series.parse("INV-AXO-00001").expect("a number");
    let open = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM tenantry.void_numbers WHERE reused_at IS NULL")
            .fetch_one(&a)
            .await
            .expect("a count")
    };
    for is_void in [true, false] {
        let before = open().await;
        let mut doomed = 0;
        for polls in 0..60 {
            let mut tx = a.begin().await.expect("begun");
            let done = match is_void {
                true => cancelled_after(polls, series.void(&mut tx, &number, "x"))
                    .await
                    .map(|done| done.expect("void")),
                false => cancelled_after(polls, series.reuse(&mut tx))
                    .await
                    .map(|done| drop(done.expect("asked"))),
            };
            let committed = tx.commit().await;
            doomed += usize::from(committed.is_err());
            if done.is_some() {
                assert!(committed.is_ok() && doomed > 0);
                assert_eq!(open().await, i64::from(is_void));
                break;
            }
            assert_eq!(open().await, before, "after {polls} polls");
            assert!(polls < 59, "did not complete");
        }
    }
}

#[tokio::test]
async fn each_form_waits_for_the_server_once() {
    let world = world().await;
    let wire = world.slow_wire().await;
    let registry = world
        .registry_of(
            wire.connect_options(&world.app),
            ContextSettings::default(),
            |options| {
                let never = Duration::from_secs(3600);
                options.max_connections(1).test_after(never)
            },
        )
        .await;
    let a = scope(&registry, "a").await;
    let series = invoices();
    let tickets = UniqueSeries::new("ticket").block(2);
    for known in [false, true] {
        let mut trips = Vec::new();
        let mut count = |before: u64| trips.push(wire.counts().round_trips() - before);
        let before = wire.counts().round_trips();
        insert(&a, &series).await.expect("taken");
        count(before);
        let mut tx = a.begin().await.expect("begun");
        let before = wire.counts().round_trips();
        series.next(&mut tx).await.expect("taken");
        count(before);
        tx.rollback().await.expect("rolled back");
        for _ in 0..2 {
            let before = wire.counts().round_trips();
            tickets.next(&a).await.expect("given");
            count(before);
        }
        if known {
            // One for each block, and then from memory.
            assert_eq!(trips, [1, 1, 1, 0]);
        }
    }
}

#[tokio::test]
async fn a_savepoint_gives_its_number_back() {
    let world = world().await;
    let registry = registry(&world, 1).await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    let mut savepoint = tx.savepoint().await.expect("set");
    assert_eq!(
        invoices()
            .next(&mut savepoint)
            .await
            .expect("taken")
            .value(),
        1
    );
    savepoint.rollback().await.expect("rolled back to");
    assert_eq!(invoices().next(&mut tx).await.expect("taken").value(), 1);
    tx.commit().await.expect("committed");
}

#[tokio::test]
async fn it_works_wherever_a_tenant_lives() {
    let world = world().await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "CREATE SCHEMA home_c; CREATE TABLE home_c.invoices (number text PRIMARY KEY); \
             GRANT USAGE ON SCHEMA home_c TO app; GRANT ALL ON home_c.invoices TO app",
        )
        .await
        .expect("a schema");
    let fleet = support::fleet::Fleet::new(1).await;
    let mut owner = fleet.connect(&tenant("t0")).await;
    let installation = Installation::new(fleet.role()).database_of(tenant("t0"));
    installation
        .number_series()
        .apply(&mut owner)
        .await
        .expect("applied");
    let role = fleet.role();
    let table =
        format!("CREATE TABLE invoices (number text PRIMARY KEY); GRANT ALL ON invoices TO {role}");
    owner.execute(AssertSqlSafe(table)).await.expect("a table");
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
        assert_eq!(
            insert(&scope, &invoices()).await.expect("taken"),
            "INV-AXO-00001"
        );
        let mut tx = scope.begin().await.expect("begun");
        let number = save(&mut tx, &invoices()).await.expect("taken");
        tx.commit().await.expect("committed");
        assert_eq!(number.value(), 2);
        assert_eq!(saved(&scope).await, from_one_to(2));
    }
    let rows = "SELECT string_agg(tenant || last, ',' ORDER BY tenant) FROM tenantry.number_series";
    assert_eq!(text(&mut admin, rows).await.expect("rows"), "a2,b2,c2");
    assert_eq!(text(&mut owner, rows).await.expect("rows"), "t02");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unique_numbers_differ_and_nobody_waits() {
    let world = world().await;
    let registry = registry(&world, 4).await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let here = UniqueSeries::new("invoice").prefix("T").width(4).block(7);
    let elsewhere = UniqueSeries::new("invoice").prefix("T").width(4).block(3);
    assert_eq!(here.next(&a).await.expect("given").as_str(), "T-0001");
    assert_eq!(here.next(&b).await.expect("given").as_str(), "T-0001");
    // Nobody waits for one who has a number and does not come to an end.
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("SELECT tenantry.next_number($1)")
        .bind(invoices())
        .execute(&mut tx)
        .await
        .expect("taken");
    let mut tasks = Vec::new();
    for n in 0..200 {
        let (a, series) = (
            a.clone(),
            if n % 2 == 0 {
                here.clone()
            } else {
                elsewhere.clone()
            },
        );
        tasks.push(tokio::spawn(async move { series.next(&a).await }));
    }
    let mut got = BTreeSet::from([1]);
    for task in tasks {
        let number = task.await.expect("no panic").expect("given");
        assert!(got.insert(number.value()), "{number} was given twice");
    }
    // The blocks are fetched one at a time: 101 numbers are 15 blocks of 7, 100 are 34 of 3.
    let mut admin = world.admin().await;
    let last = "SELECT last FROM tenantry.unique_series WHERE tenant = 'a'";
    assert_eq!(
        text(&mut admin, last).await.expect("a row"),
        (15 * 7 + 34 * 3).to_string()
    );
    let error = UniqueSeries::new("x")
        .block(0)
        .next(&a)
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    let hidden = sqlx::query("SELECT 1 FROM tenantry.unique_series")
        .execute(&b)
        .await;
    assert_eq!(code(&hidden.expect_err("refused").into()), "42501");
}

#[tokio::test]
async fn unique_numbers_differ_when_whoever_asks_is_dropped() {
    let world = world().await;
    let wire = world.slow_wire().await;
    let registry = world.registry_over(&wire).await;
    let a = scope(&registry, "a").await;
    let series = UniqueSeries::new("ticket").block(2);
    let mut got = BTreeSet::new();
    for polls in 0..60 {
        let done = cancelled_after(polls, series.next(&a)).await;
        let given = done.is_some();
        let after = [series.next(&a).await, series.next(&a).await];
        for number in done.into_iter().chain(after) {
            assert!(got.insert(number.expect("given").value()), "given twice");
        }
        // The next turn needs a new block.
        while got.last().is_some_and(|last| last % 2 == 1) {
            got.insert(series.next(&a).await.expect("given").value());
        }
        if given && polls > 1 {
            return;
        }
    }
    panic!("did not complete");
}

#[tokio::test]
async fn role_of_the_application_has_no_other_way() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let settings = ContextSettings::new("my.tenant", "my.user")?;
    let installation = Installation::new(&database.app).settings(settings);
    let stranger = format!("stranger_{}", database.name);
    let create = format!("CREATE ROLE {stranger} LOGIN");
    run(&mut database.superuser().await?, &create).await?;
    installation.install(&mut owner).await?;
    let app = &database.app;
    // What default privileges give away is taken back.
    run(
        &mut owner,
        &format!("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {app}, {stranger}, PUBLIC"),
    )
    .await?;
    installation.number_series().apply(&mut owner).await?;
    assert_eq!(database.given_away(&mut owner).await?, "0");
    let mut app = database.app().await?;
    let next = r#"SELECT tenantry.next_number('{"series": "invoice"}')"#;
    for context in [
        "RESET my.tenant",
        "SET my.tenant = ''",
        "SET app.tenant_id = 'other'",
    ] {
        run(&mut app, context).await?;
        for sql in [
            next,
            r#"SELECT tenantry.take_number('{"series": "invoice"}')"#,
            r#"SELECT tenantry.reuse_number('{"series": "invoice"}')"#,
            "SELECT tenantry.void_number('invoice', '', 1, '1', 'x')",
            "SELECT tenantry.take_block('invoice', 1)",
        ] {
            assert_eq!(refused(&mut app, sql).await, "TN020", "{context}: {sql}");
        }
    }
    run(&mut app, "SET my.tenant = 'a'").await?;
    assert_eq!(text(&mut app, next).await?, "1");
    for sql in [
        "UPDATE tenantry.number_series SET last = 0",
        "DELETE FROM tenantry.number_series",
        "TRUNCATE tenantry.number_series",
        "INSERT INTO tenantry.number_series VALUES ('a', 'x', '', 1, 1)",
        "SELECT 1 FROM tenantry.number_series FOR UPDATE",
        "UPDATE tenantry.void_numbers SET reason = ''",
        "INSERT INTO tenantry.void_numbers VALUES ('a', 'x', '', 1, 1, '1', '', now())",
        "DELETE FROM tenantry.void_numbers",
        "SELECT 1 FROM tenantry.unique_series",
        "UPDATE tenantry.unique_series SET last = 0",
        "ALTER TABLE tenantry.number_series DISABLE ROW LEVEL SECURITY",
        "CREATE FUNCTION tenantry.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ] {
        assert_eq!(refused(&mut app, sql).await, "42501", "{sql}");
    }
    // A path of the caller's changes nothing.
    run(
        &mut owner,
        "CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC; \
         CREATE FUNCTION trap.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT ''b''::text'; \
         CREATE FUNCTION trap.lpad(text, integer, text) RETURNS text LANGUAGE sql AS 'SELECT ''trap''::text'",
    )
    .await?;
    run(&mut app, "SET search_path = trap, pg_catalog").await?;
    assert_eq!(text(&mut app, next).await?, "2");
    let open = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'tenantry'::regnamespace \
                AND prosecdef AND (proconfig IS NULL OR proconfig <> '{\"search_path=pg_catalog, pg_temp\"}')";
    assert_eq!(text(&mut owner, open).await?, "0");
    let grant = format!("GRANT USAGE ON SCHEMA tenantry TO {stranger}");
    run(&mut owner, &grant).await?;
    let mut stranger = database.role(&stranger).await?;
    assert_eq!(refused(&mut stranger, next).await, "42501");
    Ok(())
}

#[tokio::test]
async fn twice_is_once_and_drift_is_mended() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let installation = Installation::new(&database.app);
    let tables = installation.number_series();
    let error = tables.apply(&mut owner).await.expect_err("not installed");
    assert_eq!(error.kind(), ErrorKind::Installation);
    installation.install(&mut owner).await?;
    let missing = Installation::new("no_such_role").number_series();
    let error = missing.apply(&mut owner).await.expect_err("no role");
    assert_eq!(error.kind(), ErrorKind::Installation);
    tables.apply(&mut owner).await?;
    let first = snapshot(&mut owner).await?;
    tables.apply(&mut owner).await?;
    installation.install(&mut owner).await?;
    assert_eq!(first, snapshot(&mut owner).await?);
    let app = &database.app;
    let next = r#"SELECT tenantry.next_number('{"series": "invoice"}')"#;
    for drift in [
        &format!(
            "GRANT INSERT, UPDATE ON tenantry.number_series, tenantry.unique_series TO {app}, PUBLIC"
        ),
        "GRANT EXECUTE ON FUNCTION tenantry.take_block(text, integer) TO PUBLIC",
        "ALTER TABLE tenantry.void_numbers DISABLE ROW LEVEL SECURITY",
        "ALTER FUNCTION tenantry.take_number(jsonb) RESET search_path",
        "ALTER FUNCTION tenantry.take_number(jsonb) SECURITY INVOKER",
        "DROP POLICY tenantry_tenant ON tenantry.number_series; \
         CREATE POLICY tenantry_tenant ON tenantry.number_series USING (true)",
    ] {
        run(&mut owner, drift).await?;
        assert_ne!(first, snapshot(&mut owner).await?, "{drift}");
        tables.apply(&mut owner).await?;
        assert_eq!(first, snapshot(&mut owner).await?, "{drift}");
    }
    let mut app = database.app().await?;
    assert_eq!(text_as(&mut app, "a", next).await?, "1");
    Ok(())
}

async fn snapshot(connection: &mut PgConnection) -> Outcome<String> {
    text(
        connection,
        "SELECT concat_ws('|',
           (SELECT string_agg(concat_ws(',', oid, relname, relacl, relrowsecurity), ';' ORDER BY relname)
            FROM pg_class WHERE relnamespace = 'tenantry'::regnamespace),
           (SELECT string_agg(concat_ws(',', tablename, policyname, cmd, qual), ';' ORDER BY tablename)
            FROM pg_policies WHERE schemaname = 'tenantry'),
           (SELECT string_agg(concat_ws(',', oid, proname, prosrc, proacl, prosecdef, proconfig), ';' ORDER BY proname)
            FROM pg_proc WHERE pronamespace = 'tenantry'::regnamespace))",
    )
    .await
}

/// It is shared by tasks of a service.
#[test]
fn series_travel() {
    fn travels<T: Send + Sync + Clone + 'static>() {}
    travels::<NumberSeries>();
    travels::<UniqueSeries>();
    travels::<Arc<SeriesNumber>>();
}
