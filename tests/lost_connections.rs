//! Connections that die: idle ones are replaced unseen, and a transaction never goes on in another
//! session.

mod support;

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _};
use support::{World, notes, scope, session, world};
use tenantry::testing::PostgresServer;
use tenantry::{
    CommitError, Error, ErrorKind, StaticDirectory, TenantRegistry, TenantScope, TenantTx,
};

const NEVER: Duration = Duration::from_secs(3_600);

/// Ends every session of the application, and returns when they are gone.
async fn kill_all(world: &World) {
    let mut admin = world.admin().await;
    for _ in 0..1_000 {
        // Each time: one that was being opened may come after the others have gone.
        admin
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND usename = 'app'",
            )
            .await
            .expect("told to end");
        if world.sessions().await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the sessions do not end");
}

async fn registry(world: &World, connections: u32, test_after: Duration) -> TenantRegistry {
    world
        .registry_with(move |options| options.max_connections(connections).test_after(test_after))
        .await
}

#[tokio::test]
async fn begin_replaces_what_died_while_idle() {
    let world = world(&["a"]).await;
    for test_after in [Duration::ZERO, NEVER] {
        let registry = registry(&world, 3, test_after).await;
        let a = scope(&registry, "a").await;
        let (one, two, three) = tokio::join!(a.begin(), a.begin(), a.begin());
        let mut before = Vec::new();
        for tx in [one, two, three] {
            let mut tx = tx.expect("begun");
            before.push(session(&mut tx).await.expect("served").backend);
            tx.commit().await.expect("committed");
        }
        kill_all(&world).await;
        let mut tx = a.begin().await.expect("begun on another connection");
        let session = session(&mut tx).await.expect("served");
        assert!(!before.contains(&session.backend));
        assert_eq!(session.tenant.as_deref(), Some("a"));
        tx.commit().await.expect("committed");
        drop(registry);
    }
}

#[tokio::test]
async fn single_statement_replaces_what_died_if_it_tests_first() {
    let world = world(&["a"]).await;
    let testing = registry(&world, 2, Duration::ZERO).await;
    let a = scope(&testing, "a").await;
    let (one, two) = tokio::join!(a.begin(), a.begin());
    for tx in [one, two] {
        tx.expect("begun").rollback().await.expect("rolled back");
    }
    kill_all(&world).await;
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);

    // Without the test the first one to come finds out, and only that one.
    let trusting = registry(&world, 1, NEVER).await;
    let a = scope(&trusting, "a").await;
    notes(&a).await.expect("served");
    kill_all(&world).await;
    let error = Error::from(notes(&a).await.expect_err("it had died"));
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(error.is_retryable());
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
}

/// Nothing is tried on it first.
#[tokio::test]
async fn connection_that_was_lost_under_a_statement_is_given_up_at_once() {
    let world = world(&["a"]).await;
    let registry = registry(&world, 1, NEVER).await;
    let a = scope(&registry, "a").await;
    let ended = sqlx::query("SELECT pg_terminate_backend(pg_backend_pid())").execute(&a);
    let error = Error::from(ended.await.expect_err("lost"));
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(registry.status().connections.in_use, 0);
}

/// The methods of a transaction, each as the one that finds the connection dead.
#[derive(Clone, Copy, Debug)]
enum Method {
    Execute,
    FetchOptional,
    RawSql,
    Prepare,
    Savepoint,
    CopyIn,
    CopyOut,
    Lock,
    TryLock,
    Hatch,
}

const METHODS: [Method; 10] = [
    Method::Execute,
    Method::FetchOptional,
    Method::RawSql,
    Method::Prepare,
    Method::Savepoint,
    Method::CopyIn,
    Method::CopyOut,
    Method::Lock,
    Method::TryLock,
    Method::Hatch,
];

impl Method {
    async fn call(self, tx: &mut TenantTx) -> Result<(), Error> {
        const INSERT: &str = "INSERT INTO notes (body) VALUES ('must not be')";
        match self {
            Self::Execute => sqlx::query(INSERT).execute(tx).await.map(drop)?,
            Self::FetchOptional => sqlx::query(INSERT).fetch_optional(tx).await.map(drop)?,
            Self::RawSql => sqlx::raw_sql(INSERT).execute(tx).await.map(drop)?,
            Self::Prepare => tx
                .prepare(sqlx::SqlStr::from_static(INSERT))
                .await
                .map(drop)?,
            Self::Savepoint => tx.savepoint().await?.release().await?,
            Self::CopyIn => {
                tx.copy_in_raw("COPY plain FROM STDIN")
                    .await?
                    .abort()
                    .await?
            }
            Self::CopyOut => tx.copy_out_raw("COPY plain TO STDOUT").await.map(drop)?,
            Self::Lock => tx.advisory_lock("must not be").await?,
            Self::TryLock => tx.try_advisory_lock("must not be").await.map(drop)?,
            Self::Hatch => {
                let plain = tx.dangerous_connection().await?;
                sqlx::query("INSERT INTO plain VALUES ('must not be')")
                    .execute(plain)
                    .await?;
            }
        }
        Ok(())
    }
}

/// A transaction that has written a note, and whose backend is gone.
async fn orphan(world: &World, a: &TenantScope) -> TenantTx {
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("INSERT INTO notes (body) VALUES ('goes with its transaction')")
        .execute(&mut tx)
        .await
        .expect("written");
    kill_all(world).await;
    tx
}

async fn only_the_first_note_is_there(world: &World) {
    let mut admin = world.admin().await;
    assert_eq!(notes(&mut admin).await.expect("rows"), ["a note of a"]);
    let plain: i64 = sqlx::query_scalar("SELECT count(*) FROM plain")
        .fetch_one(&mut admin)
        .await
        .expect("a count");
    assert_eq!(plain, 0);
}

#[tokio::test]
async fn transaction_ends_with_its_session() {
    let world = world(&["a"]).await;
    let registry = registry(&world, 2, NEVER).await;
    let a = scope(&registry, "a").await;
    for first in METHODS {
        let mut tx = orphan(&world, &a).await;
        // The registry has live connections, so that there is somewhere to go on by mistake.
        drop(a.begin().await.expect("begun"));
        let error = first.call(&mut tx).await.expect_err("the session is gone");
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionLost,
            "{first:?}: {error:?}"
        );
        for next in METHODS {
            let error = next.call(&mut tx).await.expect_err("the session is gone");
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionLost,
                "{first:?}, {next:?}"
            );
        }
        // COMMIT has never been sent.
        let error = tx.commit().await.expect_err("nothing to commit");
        assert!(
            matches!(error, CommitError::RolledBack(_)),
            "{first:?}: {error:?}"
        );
    }
    only_the_first_note_is_there(&world).await;
}

#[tokio::test]
async fn end_of_a_transaction_whose_session_is_gone_is_honest() {
    let world = world(&["a"]).await;
    let registry = registry(&world, 1, NEVER).await;
    let a = scope(&registry, "a").await;

    let error = orphan(&world, &a).await.commit().await.expect_err("gone");
    assert!(matches!(error, CommitError::OutcomeUnknown(_)), "{error:?}");
    assert!(!error.is_rolled_back());
    assert!(error.to_string().contains("nobody can tell"), "{error}");

    // What has failed is kept by no COMMIT, whether it arrives or not.
    let mut tx = a.begin().await.expect("begun");
    let failed = sqlx::query("SELECT 1 / 0").execute(&mut tx).await;
    failed.expect_err("refused");
    kill_all(&world).await;
    let error = tx.commit().await.expect_err("gone");
    assert!(matches!(error, CommitError::RolledBack(_)), "{error:?}");
    assert!(error.is_rolled_back());
    assert!(error.to_string().contains("rolled back"), "{error}");

    let error = orphan(&world, &a).await.rollback().await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);

    let mut tx = orphan(&world, &a).await;
    let error = tx.savepoint().await.map(drop).expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    let error = tx.rollback().await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);

    drop(orphan(&world, &a).await);
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
    only_the_first_note_is_there(&world).await;
}

/// A server of its own, because it goes down.
#[tokio::test]
async fn registry_serves_again_after_the_server_was_down() {
    let server = PostgresServer::start().await.expect("a server");
    let app = app_database(&server).await;
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(app))
        .pool_options(|_, options| options.max_connections(2).test_after(Duration::ZERO))
        .build()
        .await
        .expect("a registry");
    let a = scope(&registry, "a").await;
    sqlx::query("SELECT 1").execute(&a).await.expect("served");

    let mut tx = a.begin().await.expect("begun");
    session(&mut tx).await.expect("served");
    server.restart().await.expect("up again");
    let error = Error::from(session(&mut tx).await.expect_err("gone"));
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    drop(tx);
    session(&a).await.expect("served again");
    a.begin()
        .await
        .expect("begun")
        .commit()
        .await
        .expect("committed");

    server.crash().await.expect("down");
    let error = Error::from(session(&a).await.expect_err("down"));
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    let error = a.begin().await.expect_err("down");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    assert!(error.is_retryable());
    server.restart().await.expect("up again");
    let first = session(&a).await.expect("served again");
    assert_eq!(first.tenant.as_deref(), Some("a"));
    a.begin()
        .await
        .expect("begun")
        .commit()
        .await
        .expect("committed");
}

async fn app_database(server: &PostgresServer) -> PgConnectOptions {
    let options = server.create_database("outage").await.expect("a database");
    let mut admin = sqlx::PgConnection::connect_with(&options)
        .await
        .expect("connected");
    admin
        .execute("CREATE ROLE app LOGIN")
        .await
        .expect("a role");
    tenantry::sql::Installation::new("app")
        .install(&mut admin)
        .await
        .expect("installed");
    options.username("app")
}
