//! The sessions of pools that do what pools should not.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{Executor as _, PgPool};
use tenantry::audit::{Allowance, AuditConfig, AuditReport, Auditor, Severity};

use crate::pgbouncer::by_transaction;
use crate::support::{World, world};

fn config() -> AuditConfig {
    AuditConfig::new("app").setting("app.user_id")
}

async fn look(pool: &PgPool) -> AuditReport {
    let auditor = Auditor::new(config());
    auditor.sessions(pool).await.expect("looked at")
}

fn rules(report: &AuditReport) -> Vec<&str> {
    report.findings().map(|one| one.rule().id()).collect()
}

async fn pool_of(world: &World) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(3);
    pool.connect_with(world.app.clone()).await.expect("a pool")
}

#[tokio::test]
async fn nothing_is_said_of_a_pool_that_logs_in_as_the_application_role() {
    let world = world(&["a"]).await;
    let pool = pool_of(&world).await;
    for _ in 0..3 {
        // Used as it should be used.
        let mut connection = pool.acquire().await.expect("a connection");
        let work = "BEGIN; SET LOCAL app.tenant_id = 'a'; SELECT body FROM notes; COMMIT";
        connection.execute(work).await.expect("done");
        drop(connection);
        let report = look(&pool).await;
        assert_eq!(rules(&report), [""; 0], "{report}");
    }
}

/// What somebody does with a connection before it is given back, and what is found afterwards.
#[tokio::test]
async fn what_was_left_on_a_connection_is_found() {
    let world = world(&["a"]).await;
    let mut admin = world.admin().await;
    let temporary = "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO app', current_database()); END $$";
    admin.execute(temporary).await.expect("granted");
    for (left, rule) in [
        ("SET app.tenant_id = 'a'", "pool-context"),
        (
            "SELECT set_config('app.user_id', 'u', false)",
            "pool-context",
        ),
        ("BEGIN; SET LOCAL app.tenant_id = 'a'", "pool-transaction"),
        ("CREATE TEMPORARY TABLE notes (body text)", "pool-traces"),
        (
            "BEGIN; SET LOCAL app.tenant_id = 'a'; \
             DECLARE held CURSOR WITH HOLD FOR SELECT body FROM notes; COMMIT",
            "pool-traces",
        ),
        ("SELECT pg_advisory_lock(7)", "pool-traces"),
        ("LISTEN news", "pool-traces"),
        ("SET row_security = off", "pool-row-security-off"),
    ] {
        let pool = pool_of(&world).await;
        let mut connection = pool.acquire().await.expect("a connection");
        connection.execute(left).await.expect(left);
        drop(connection);
        let report = look(&pool).await;
        assert!(rules(&report).contains(&rule), "{left}:\n{report}");
        assert!(!report.to_string().contains("'a'"), "{report}");
        pool.close().await;
    }
}

#[tokio::test]
async fn the_role_that_logs_in_is_looked_at() {
    let world = world(&[]).await;
    let above = PgPoolOptions::new().max_connections(2);
    let above = above.connect_with(world.admin.clone()).await;
    let report = look(&above.expect("a pool")).await;
    assert_eq!(rules(&report), ["pool-other-role"], "{report}");
    assert!(report.has(Severity::Critical), "{report}");

    let becomes = PgPoolOptions::new().max_connections(2).after_connect(
        |connection: &mut PgConnection, _| {
            Box::pin(async move { connection.execute("SET ROLE app").await.map(drop) })
        },
    );
    let becomes = becomes.connect_with(world.admin.clone()).await;
    let report = look(&becomes.expect("a pool")).await;
    assert_eq!(rules(&report), ["pool-session-user"], "{report}");
    assert!(report.has(Severity::Critical), "{report}");
}

/// The tenant by a hook of the pool, and by default.
#[tokio::test]
async fn a_context_that_nobody_said_is_found() {
    let world = world(&["a"]).await;
    let hooked = PgPoolOptions::new().max_connections(2).before_acquire(
        |connection: &mut PgConnection, _| {
            Box::pin(async move {
                let set = connection.execute("SET app.tenant_id = 'a'").await;
                set.map(|_| true)
            })
        },
    );
    let hooked = hooked
        .connect_with(world.app.clone())
        .await
        .expect("a pool");
    // A hook is not asked for a connection that is new.
    drop(hooked.acquire().await.expect("a connection"));
    let report = look(&hooked).await;
    assert_eq!(rules(&report), ["pool-context"], "{report}");
    let finding = report.findings().next().expect("one");
    assert!(finding.why().contains("app.tenant_id"), "{finding}");

    let by_default = world.app.clone().options([("app.tenant_id", "a")]);
    let by_default = PgPool::connect_with(by_default).await.expect("a pool");
    let report = look(&by_default).await;
    assert_eq!(rules(&report), ["pool-context"], "{report}");
}

#[tokio::test]
async fn a_pooler_that_lends_sessions_is_found() {
    let world = world(&[]).await;
    let pooler = by_transaction(2).start(&world.app).await;
    let pool = PgPoolOptions::new().max_connections(6);
    let pool = pool.connect_with(pooler.before(&world.app)).await;
    let report = look(&pool.expect("a pool")).await;
    assert_eq!(rules(&report), ["pool-shares-sessions"], "{report}");
}

/// Allowances of the database are not told of as unused here, and the reverse.
#[tokio::test]
async fn allowances_are_for_the_one_or_the_other() {
    let world = world(&[]).await;
    let pool = pool_of(&world).await;
    let config = config()
        .allow(Allowance::new("pool-row-security-off", "*", "for a test"))
        .allow(Allowance::new(
            "table-unknown",
            "public.plain",
            "for a test",
        ));
    let auditor = Auditor::new(config);
    let sessions = auditor.sessions(&pool).await.expect("looked at");
    let unused: Vec<_> = sessions.unused_allowances().map(Allowance::rule).collect();
    assert_eq!(unused, ["pool-row-security-off"]);
    let admin = PgPool::connect_with(world.admin.clone()).await;
    let database = auditor.run(&admin.expect("a pool")).await.expect("audited");
    assert_eq!(database.unused_allowances().count(), 0, "{database}");
}

/// A pool that is all in use is waited for, and not for ever.
#[tokio::test]
async fn a_pool_in_use_is_given_up() {
    let world = world(&[]).await;
    let pool = pool_of(&world).await;
    let _held = pool.acquire().await.expect("a connection");
    let auditor = Auditor::new(config()).patience(Duration::from_millis(200));
    let error = auditor.sessions(&pool).await.expect_err("one is held");
    assert_eq!(error.kind(), tenantry::ErrorKind::AcquireTimeout);
    // Those that it had taken are free again.
    let given_back = async { (pool.acquire().await, pool.acquire().await) };
    let given_back = tokio::time::timeout(Duration::from_secs(10), given_back).await;
    given_back.expect("free").0.expect("a connection");
}
