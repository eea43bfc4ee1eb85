//! Through PgBouncer, which lends the sessions of a server by transaction.
//!
//! Every answer says which statement it belongs to: where two statements have the same answer, it
//! does not show that the wrong one has run.
//!
//! `TENANTRY_PGBOUNCER` names another one than that of the system; what only 1.21 and later can do
//! is tested where it is one of these.

#[path = "support/folder.rs"]
mod folder;
#[path = "support/pgbouncer.rs"]
mod pgbouncer;
#[path = "pgbouncer/refusing.rs"]
mod refusing;
mod support;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use pgbouncer::{PgBouncer, by_transaction};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, PgPool, Row as _, SqlSafeStr as _,
    Statement as _,
};
use support::{World, notes, scope, session, tenant, world, world_with};
use tenantry::sql::{ControlTables, DangerousAccess, Installation, TenantType};
use tenantry::testing::leak_hunt::{
    Canaries, Disturbance, LeakHunt, RegistrySubject, Subject, Turn,
};
use tenantry::testing::{Direction, FaultProxy, PostgresServer, cancelled_after};
use tenantry::{
    Authorizer, CommitError, ConnectionBudget, Database, Error, ErrorKind, Pooler,
    PostgresDirectory, StaticDirectory, TenantRegistry, TenantScope, TxOptions,
};

const A: &str = "acorn";
const B: &str = "birch";

/// More than there are sessions of the server, so that sessions change hands all the time.
const CLIENTS: usize = 8;
const SESSIONS: usize = 2;
const ROUNDS: usize = 60;

/// A registry through the pooler, with so many connections.
async fn registry(pooler: &PgBouncer, world: &World, connections: u32) -> TenantRegistry {
    registry_of(pooler.before(&world.app), Pooler::Detect, connections).await
}

async fn registry_of(app: PgConnectOptions, pooler: Pooler, connections: u32) -> TenantRegistry {
    let database = Database::new(app).pooler(pooler);
    TenantRegistry::builder(StaticDirectory::new().shared_by_all(database))
        .pool_options(move |_, defaults| defaults.max_connections(connections))
        .build()
        .await
        .expect("a registry")
}

/// What became of statements of which each has an answer of its own.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    right: usize,
    wrong: usize,
    failed: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.failed += other.failed;
    }
}

/// As often as there are rounds, in as many tasks as there are clients.
async fn tally<F>(mut ask: impl FnMut(usize, usize) -> F) -> Tally
where
    F: Future<Output = Result<bool, sqlx::Error>> + Send + 'static,
{
    let mut total = Tally::default();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let asked: Vec<_> = (0..ROUNDS).map(|round| ask(client, round)).collect();
        clients.spawn(async move {
            let mut tally = Tally::default();
            for answer in asked {
                match answer.await {
                    Ok(true) => tally.right += 1,
                    Ok(false) => tally.wrong += 1,
                    Err(_) => tally.failed += 1,
                }
            }
            tally
        });
    }
    while let Some(tally) = clients.join_next().await {
        total += tally.expect("no panic");
    }
    total
}

/// A text that says who it is of, and what it answers if it is the one that has run.
fn statement(client: usize, round: usize) -> (String, [i32; 2]) {
    let text = client * 100 + round % 7;
    let sql = format!("SELECT {text}::int4 AS text, $1::int4 AS argument");
    (sql, [text as i32, round as i32])
}

async fn is_right(
    executor: impl sqlx::PgExecutor<'_>,
    client: usize,
    round: usize,
    named: bool,
) -> Result<bool, sqlx::Error> {
    let (sql, expected) = statement(client, round);
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(round as i32)
        .persistent(named)
        .fetch_one(executor)
        .await?;
    Ok([row.try_get(0)?, row.try_get::<i32, _>(1)?] == expected)
}

async fn plain_pool(pooler: &PgBouncer, world: &World) -> PgPool {
    PgPoolOptions::new()
        .max_connections(CLIENTS as u32)
        .test_before_acquire(false)
        .connect_with(pooler.before(&world.app).disable_statement_logging())
        .await
        .expect("a pool")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_named_statements_of_sqlx_are_wrong() {
    let world = world(&[A]).await;
    let pooler = by_transaction(SESSIONS).start(&world.app).await;
    let pool = plain_pool(&pooler, &world).await;
    let tally = tally(move |client, round| {
        let pool = pool.clone();
        async move { is_right(&pool, client, round, true).await }
    })
    .await;
    println!("named statements of sqlx: {tally:?}");
    assert!(tally.wrong > 0 && tally.failed > 0, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_unnamed_statements_in_autocommit_are_wrong() {
    let world = world(&[A]).await;
    let pooler = by_transaction(SESSIONS).start(&world.app).await;
    let pool = plain_pool(&pooler, &world).await;
    let tally = tally(move |client, round| {
        let pool = pool.clone();
        async move { is_right(&pool, client, round, false).await }
    })
    .await;
    println!("unnamed statements in autocommit: {tally:?}");
    assert!(tally.wrong > 0, "{tally:?}");
}

/// The statement, whose tenant it ran for, and whose rows it saw.
async fn is_right_for(
    executor: impl sqlx::PgExecutor<'_>,
    tenant: &str,
    client: usize,
    round: usize,
) -> Result<bool, sqlx::Error> {
    let text = client * 100 + round % 7;
    let sql = format!(
        "SELECT {text}::int4, $1::int4, current_setting('app.tenant_id'), \
                (SELECT string_agg(body, '|') FROM notes)"
    );
    let row: (i32, i32, String, Option<String>) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(round as i32)
        .fetch_one(executor)
        .await?;
    let expected = (
        text as i32,
        round as i32,
        tenant.to_owned(),
        Some(format!("a note of {tenant}")),
    );
    Ok(row == expected)
}

/// Statements on scopes of two tenants, in autocommit and in transactions, all at once.
async fn storm(registry: &TenantRegistry) -> Tally {
    let scopes = [scope(registry, A).await, scope(registry, B).await];
    tally(move |client, round| {
        let scope = scopes[client % 2].clone();
        async move {
            let tenant = scope.tenant().to_string();
            if round % 3 > 0 {
                return is_right_for(&scope, &tenant, client, round).await;
            }
            let mut tx = scope.begin().await?;
            let right = is_right_for(&mut tx, &tenant, client, round).await?;
            match round % 2 {
                0 => tx.commit().await.map_err(Error::from)?,
                _ => tx.rollback().await?,
            }
            Ok(right)
        }
    })
    .await
}

const ALL_RIGHT: Tally = Tally {
    right: CLIENTS * ROUNDS,
    wrong: 0,
    failed: 0,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_of_its_statement_and_of_its_tenant() {
    let world = world(&[A, B]).await;
    let ignoring = by_transaction(SESSIONS).ignoring("extra_float_digits, options");
    let wrongly_told = by_transaction(SESSIONS);
    // Refused, ignored, and told of.
    for (configuration, setting) in [
        (by_transaction(SESSIONS), Pooler::Detect),
        (ignoring, Pooler::Detect),
        (wrongly_told, Pooler::Transaction),
    ] {
        let pooler = configuration.start(&world.app).await;
        let registry = registry_of(pooler.before(&world.app), setting, CLIENTS as u32).await;
        // From the first connection on, while nobody else is there.
        let mut tx = scope(&registry, A).await.begin().await.expect("begun");
        let error = tx.execute("SET work_mem = '5MB'").await;
        let error = Error::from(error.expect_err("refused"));
        assert_eq!(error.kind(), ErrorKind::StatementRefused, "{setting:?}");
        drop(tx);
        assert_eq!(storm(&registry).await, ALL_RIGHT, "{setting:?}");
        no_statement_stays(&world).await;
    }
}

#[tokio::test]
async fn tenants_with_a_database_or_a_schema_of_their_own() {
    let text = |role| Installation::new(role).tenant_column("tenant_id", TenantType::Text);
    let world = world_with(text("app").database_of(tenant(A)), &[A]).await;
    let pooler = by_transaction(SESSIONS).start(&world.app).await;
    let directory = StaticDirectory::new().database(tenant(A), pooler.before(&world.app));
    let registry = TenantRegistry::builder(directory).build().await;
    let ours = scope(&registry.expect("a registry"), A).await;
    assert_eq!(notes(&ours).await.expect("notes").len(), 1);
    // It changes hands while we hold a connection: the database's own word holds.
    let mut admin = world.admin().await;
    admin
        .execute(
            "ALTER DOMAIN tenantry.scope DROP CONSTRAINT tenantry_2_tenant; \
             ALTER DOMAIN tenantry.scope ADD CONSTRAINT tenantry_2_tenant \
               CHECK (VALUE[2] = 'birch' COLLATE \"C\")",
        )
        .await
        .expect("handed over");
    let error = Error::from(notes(&ours).await.expect_err("refused"));
    assert_eq!(error.kind(), ErrorKind::Misrouted, "{error}");
    let error = ours.begin().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Misrouted, "{error}");

    let world = support::world(&[]).await;
    let mut admin = world.admin().await;
    for id in [A, B] {
        let sql = format!(
            "CREATE SCHEMA of_{id}; CREATE TABLE of_{id}.things AS SELECT '{id}'::text AS id; \
             GRANT USAGE ON SCHEMA of_{id} TO app; GRANT SELECT ON of_{id}.things TO app"
        );
        admin.execute(AssertSqlSafe(sql)).await.expect("a schema");
    }
    let directory = StaticDirectory::new().schemas(
        pooler.before(&world.app),
        [A, B].map(|id| (tenant(id), format!("of_{id}"))),
    );
    let registry = TenantRegistry::builder(directory).build().await;
    let registry = registry.expect("a registry");
    for id in [A, B, A] {
        let things: Vec<String> = sqlx::query_scalar("SELECT id FROM things")
            .fetch_all(&scope(&registry, id).await)
            .await
            .expect("things");
        assert_eq!(things, [id]);
    }
}

/// None has a name on any session that the pooler has, and none of their settings was changed.
async fn no_statement_stays(world: &World) {
    let pooler = by_transaction(1).start(&world.app).await;
    let registry = registry(&pooler, world, 2).await;
    let scope = scope(&registry, A).await;
    is_right(&scope, 1, 1, true).await.expect("an answer");
    let mut tx = scope.begin().await.expect("a transaction");
    is_right(&mut tx, 1, 1, true).await.expect("an answer");
    tx.commit().await.expect("committed");
    // The only session that there is.
    let mut plain = pooler
        .before(&world.app)
        .connect()
        .await
        .expect("connected");
    let row = plain
        .fetch_one(sqlx::raw_sql(
            "SELECT (SELECT count(*) FROM pg_prepared_statements), \
                    current_setting('client_min_messages'), \
                    coalesce(current_setting('app.tenant_id', true), ''), \
                    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')",
        ))
        .await
        .expect("an answer");
    let found: (i64, String, String, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    assert_eq!(found, (0, "notice".to_owned(), String::new(), 0));
}

#[tokio::test]
async fn start_up_parameter_that_is_refused_is_told_with_what_to_set() {
    let world = world(&[A]).await;
    let strict = by_transaction(1).ignoring("").start(&world.app).await;
    let app = strict.before(&world.app);
    let refusal = async |app: PgConnectOptions| {
        let database = Database::new(app);
        let error = TenantRegistry::builder(StaticDirectory::new().shared_by_all(database))
            .build()
            .await
            .expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Connect);
        error.to_string()
    };
    let told = refusal(app.clone()).await;
    assert!(
        told.contains("ignore_startup_parameters = extra_float_digits"),
        "{told}"
    );

    let without = app.extra_float_digits(None);
    let told = refusal(without.clone().options([("work_mem", "5MB")])).await;
    assert!(
        told.contains("ignore_startup_parameters = options"),
        "{told}"
    );

    let registry = registry_of(without, Pooler::Detect, 1).await;
    let seen = notes(&scope(&registry, A).await).await.expect("notes");
    assert_eq!(seen, [format!("a note of {A}")]);
}

/// Whatever the words, who refuses what PostgreSQL takes is not PostgreSQL.
#[tokio::test]
async fn pooler_that_refuses_options_as_a_feature_is_found_out() {
    let world = world(&[A]).await;
    let pooler = refusing::Refusing::start(&world.app).await;
    let registry = registry_of(pooler.before(&world.app), Pooler::Detect, 1).await;
    let scope = scope(&registry, A).await;
    assert_eq!(notes(&scope).await.expect("notes"), ["a note of acorn"]);
    let mut tx = scope.begin().await.expect("begun");
    let refused = sqlx::raw_sql("SET work_mem = '8MB'").execute(&mut tx).await;
    let refused = Error::from(refused.expect_err("the session is not ours"));
    assert_eq!(refused.kind(), ErrorKind::StatementRefused, "{refused}");
}

/// A scope through a pooler with one session, and another client that gets whatever is left there.
async fn through_one(world: &World) -> (PgBouncer, TenantScope) {
    let pooler = by_transaction(1).start(&world.app).await;
    let registry = registry(&pooler, world, 1).await;
    let scope = scope(&registry, A).await;
    (pooler, scope)
}

#[tokio::test]
async fn what_leaves_something_on_the_session_is_refused() {
    let world = world(&[A]).await;
    let (_pooler, scope) = through_one(&world).await;
    let mut tx = scope.begin().await.expect("a transaction");
    for text in [
        "SET work_mem = '5MB'",
        "SET SESSION work_mem = '5MB'",
        "RESET work_mem",
        "LISTEN somebody",
        "CREATE TEMP TABLE mine (id int)",
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
        "PREPARE mine AS SELECT 1",
        "DO $$ BEGIN PERFORM 1; END $$",
        "SELECT pg_advisory_lock(1)",
        "SELECT set_config('work_mem', '5MB', false)",
        "SET LOCAL work_mem = '5MB'; SET work_mem = '5MB'",
    ] {
        let error = Error::from(tx.execute(text).await.expect_err(text));
        assert_eq!(error.kind(), ErrorKind::StatementRefused, "{text}");
        assert!(error.to_string().contains("pooler"), "{text}: {error}");
    }
    let error = tx.dangerous_connection().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::StatementRefused);
    let refused = tx.prepare("SELECT 1".into_sql_str()).await;
    let error = Error::from(refused.expect_err("refused"));
    assert_eq!(error.kind(), ErrorKind::StatementRefused);
    // And nothing of this has touched the transaction; what ends with it is taken.
    for text in [
        "SET LOCAL work_mem = '5MB'",
        "SET LOCAL lock_timeout TO 100",
        "SET CONSTRAINTS ALL DEFERRED",
        "LOCK TABLE notes IN SHARE MODE",
        "NOTIFY somebody",
    ] {
        tx.execute(text).await.expect(text);
    }
    tx.advisory_lock("mine").await.expect("locked");
    let work_mem: String = sqlx::query_scalar("SHOW work_mem")
        .fetch_one(&mut tx)
        .await
        .expect("an answer");
    assert_eq!(work_mem, "5MB");
    tx.commit().await.expect("committed");
    let work_mem: String = sqlx::query_scalar("SHOW work_mem")
        .fetch_one(&scope)
        .await
        .expect("an answer");
    assert_eq!(work_mem, "4MB");
    let refused = scope.prepare("SELECT 1".into_sql_str()).await;
    let error = Error::from(refused.expect_err("refused"));
    assert!(error.to_string().contains("prepare"), "{error}");
}

/// sqlx asks for types that it does not know between preparing a statement and running it.
#[tokio::test]
async fn types_of_the_database_are_known_beforehand() {
    let world = world(&[A]).await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "CREATE TYPE mood AS ENUM ('calm', 'wild'); CREATE TYPE pair AS (a mood, b int); \
             CREATE DOMAIN short AS text CHECK (length(VALUE) < 9); \
             CREATE SCHEMA \"o'dd\"; CREATE TYPE \"o'dd\".\"Ty\\pe\" AS ENUM ('x'); \
             GRANT USAGE ON SCHEMA \"o'dd\" TO app;",
        )
        .await
        .expect("types");
    const TEXT: &str = "SELECT 'wild'::mood, ARRAY['calm'::mood], ROW('calm', 1)::pair, \
        'abc'::short, 'notes'::regclass, '1/2'::pg_lsn, 'a'::tsvector, \
        'x'::\"o'dd\".\"Ty\\pe\", ARRAY['x'::\"o'dd\".\"Ty\\pe\"]";

    // The specimen, without any pooler.
    let mut plain = world.app.connect().await.expect("connected");
    let error = sqlx::query(TEXT)
        .persistent(false)
        .fetch_one(&mut plain)
        .await;
    let error = error.expect_err("forgotten");
    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("26000"));

    let (_pooler, scope) = through_one(&world).await;
    let mut tx = scope.begin().await.expect("a transaction");
    sqlx::query(TEXT)
        .fetch_one(&mut tx)
        .await
        .expect("an answer");
    tx.commit().await.expect("committed");

    // Of one that came later the connection does not know: a statement of its own is repeated.
    admin
        .execute("CREATE TYPE later AS ENUM ('a'); CREATE TYPE sooner AS ENUM ('a')")
        .await
        .expect("a type");
    let query = sqlx::query("SELECT 'a'::later");
    query.fetch_one(&scope).await.expect("an answer");
    let query = sqlx::query("SELECT 'a'::sooner");
    let rows: Vec<_> = query.fetch(&scope).try_collect().await.expect("an answer");
    assert_eq!(rows.len(), 1);
    // In a transaction that is for whoever retries.
    admin
        .execute("CREATE TYPE latest AS ENUM ('a')")
        .await
        .expect("a type");
    let mut tx = scope.begin().await.expect("a transaction");
    let query = sqlx::query("SELECT 'a'::latest").fetch_one(&mut tx).await;
    assert!(Error::from(query.expect_err("forgotten")).is_retryable());
    drop(tx);
    scope
        .transaction(TxOptions::default(), |tx| {
            Box::pin(async move {
                // A row of a table is not among what is known beforehand.
                let query = sqlx::query("SELECT 'a'::latest, notes FROM notes");
                query.fetch_one(tx).await.map_err(Error::from)
            })
        })
        .await
        .expect("an answer");
}

/// Every operation dropped at each of its polls; whoever comes next, here or at the only session of
/// the server, finds nothing.
#[tokio::test]
async fn dropped_at_each_poll_it_leaves_nothing() {
    let world = world(&[A, B]).await;
    let pooler = by_transaction(1).start(&world.app).await;
    let app = pooler.before(&world.app);
    let wire = FaultProxy::start(&app).await.expect("a port");
    wire.set_latency(Duration::from_millis(1));
    let registry = registry_of(wire.connect_options(&app), Pooler::Detect, 1).await;
    let (ours, next) = (scope(&registry, A).await, scope(&registry, B).await);
    for operation in 0..4 {
        for polls in 0.. {
            let ours = ours.clone();
            let work = async move {
                match operation {
                    0 => drop(notes(&ours).await.expect("notes")),
                    1 => {
                        let insert = sqlx::query("INSERT INTO notes (body) VALUES ('new')");
                        insert.execute(&ours).await.expect("a note");
                    }
                    2 => {
                        let mut tx = ours.begin().await.expect("a transaction");
                        notes(&mut tx).await.expect("notes");
                        tx.commit().await.expect("committed");
                    }
                    _ => {
                        let mut tx = ours.begin().await.expect("a transaction");
                        let insert = "INSERT INTO notes (body) VALUES ('never')";
                        tx.execute(insert).await.expect("a note");
                        let mut savepoint = tx.savepoint().await.expect("a savepoint");
                        notes(&mut *savepoint).await.expect("notes");
                        savepoint.rollback().await.expect("rolled back");
                        tx.rollback().await.expect("rolled back");
                    }
                }
            };
            let completed = cancelled_after(polls, work).await.is_some();
            let seen = notes(&next).await.expect("notes");
            assert_eq!(
                seen,
                [format!("a note of {B}")],
                "{operation} after {polls}"
            );
            let [one, other] = [session(&next).await, session(&next).await];
            let (one, other) = (one.expect("a session"), other.expect("a session"));
            assert_eq!(one.tenant.as_deref(), Some(B));
            assert_ne!(
                one.xid, other.xid,
                "{operation} after {polls}: left in a transaction"
            );
            if completed {
                break;
            }
        }
    }
    let never: i64 = sqlx::query_scalar("SELECT count(*) FROM notes WHERE body = 'never'")
        .fetch_one(&mut world.admin().await)
        .await
        .expect("a count");
    assert_eq!(
        never, 0,
        "what was rolled back was committed by whoever came next"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budget_counts_connections_to_the_pooler_and_waits_for_no_session() {
    let world = world(&[A, B]).await;
    let pooler = by_transaction(SESSIONS).start(&world.app).await;
    for setting in [Pooler::Detect, Pooler::Transaction] {
        let app = Database::new(pooler.before(&world.app)).pooler(setting);
        let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(app))
            .pool_options(|_, defaults| {
                defaults
                    .max_connections(3)
                    .max_lifetime(Duration::from_millis(50))
            })
            .budget(ConnectionBudget::per_server(4).max_per_tenant(3))
            .build()
            .await
            .expect("a registry");
        let scope = scope(&registry, A).await;
        // Each grows too old for the next, whose place it has.
        for _ in 0..5 {
            for connections in 1..=3 {
                let mut open = Vec::new();
                for _ in 0..connections {
                    open.push(scope.clone());
                }
                let asked = open.iter().map(notes);
                for seen in futures_util::future::join_all(asked).await {
                    assert_eq!(seen.expect("notes").len(), 1, "{setting:?}");
                }
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        let shutdown = registry.shutdown(Duration::from_secs(30));
        tokio::time::timeout(Duration::from_secs(60), shutdown)
            .await
            .expect("nobody waits for sessions that are the pooler's");
    }
}

#[tokio::test]
async fn dangerous_access_works_and_is_on_record() {
    let world = world(&[A, B]).await;
    let mut admin = world.admin().await;
    admin
        .execute("DROP ROLE IF EXISTS support; CREATE ROLE support LOGIN BYPASSRLS IN ROLE app")
        .await
        .expect("a role");
    DangerousAccess::new("support")
        .install(&mut admin)
        .await
        .expect("installed");
    admin
        .execute("GRANT SELECT ON notes TO support; CREATE TYPE shade AS ENUM ('red')")
        .await
        .expect("granted");
    let pooler = by_transaction(1).start(&world.app).await;
    let app = pooler.before(&world.app);
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(app.clone()))
        .dangerous(app.clone().username("support"))
        .build()
        .await
        .expect("a registry");
    let dangerous = registry.dangerous().expect("there is access");
    let mut tx = dangerous.begin("sam", "4711").await.expect("begun");
    sqlx::query("SELECT 'red'::shade")
        .fetch_one(&mut tx)
        .await
        .expect("an answer");
    let error = Error::from(
        tx.execute("SET work_mem = '5MB'")
            .await
            .expect_err("refused"),
    );
    assert_eq!(error.kind(), ErrorKind::StatementRefused);
    assert!(tx.prepare("SELECT 1".into_sql_str()).await.is_err());
    let number = tx.number().to_owned();
    tx.commit().await.expect("committed");
    let support = app.clone().username("support");
    let mut plain = support.connect().await.expect("connected");
    let named = plain
        .fetch_one("SELECT count(*) FROM pg_prepared_statements")
        .await
        .expect("an answer");
    assert_eq!(
        named.get::<i64, _>(0),
        0,
        "on the only session that there is"
    );
    let tx = dangerous.begin("sam", "rolled back").await.expect("begun");
    drop(tx);
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT reason, transaction::text FROM tenantry.dangerous_access")
            .fetch_all(&mut admin)
            .await
            .expect("the record");
    assert_eq!(rows, [("4711".to_owned(), number)]);
    let seen = notes(&scope(&registry, A).await).await.expect("notes");
    assert_eq!(seen, [format!("a note of {A}")]);
}

#[tokio::test]
async fn who_listens_needs_a_session_of_its_own() {
    let world = world(&[A]).await;
    let mut admin = world.admin().await;
    ControlTables::new("app")
        .install(&mut admin)
        .await
        .expect("installed");
    let authorization = Installation::new("app")
        .tenant_column("tenant_id", TenantType::Text)
        .authorization();
    authorization.apply(&mut admin).await.expect("installed");
    let directory = async |database: Database| {
        let server = world.app.clone();
        let builder = PostgresDirectory::builder(database).server("main", server);
        builder.connect().await.map(drop)
    };
    let authorizer = async |database: Database| {
        let builder = Authorizer::builder().subscription(database);
        builder.build().await.map(drop)
    };

    let lends = by_transaction(1).start(&world.app).await;
    let through = Database::new(lends.before(&world.app));
    let ignoring = by_transaction(1).ignoring("extra_float_digits, options");
    let ignoring = ignoring.start(&world.app).await;
    let keeps = by_transaction(4).by_session().start(&world.app).await;
    let keeping = Database::new(keeps.before(&world.app));
    for refused in [
        through.clone(),
        through.pooler(Pooler::Transaction),
        Database::new(ignoring.before(&world.app)),
        keeping.clone(),
    ] {
        for error in [directory(refused.clone()).await, authorizer(refused).await] {
            let error = error.expect_err("refused");
            assert!(error.to_string().contains("Pooler::Session"), "{error}");
        }
    }
    let keeping = keeping.pooler(Pooler::Session);
    directory(keeping.clone()).await.expect("it listens");
    authorizer(keeping).await.expect("it listens");
}

/// What a pooler by session can do is as without one, once it is told; until then it is as by
/// transaction.
#[tokio::test]
async fn by_session_it_is_as_without_once_it_is_told() {
    let world = world(&[A, B]).await;
    let pooler = by_transaction(CLIENTS).by_session().start(&world.app).await;
    let careful = registry(&pooler, &world, 2).await;
    let tx = scope(&careful, A).await.begin().await.expect("begun");
    assert!({ tx }.execute("SET work_mem = '5MB'").await.is_err());
    careful.shutdown(Duration::from_secs(5)).await;

    let app = pooler.before(&world.app);
    let told = registry_of(app, Pooler::Session, 2).await;
    assert_eq!(storm(&told).await, ALL_RIGHT);
    let mut tx = scope(&told, A).await.begin().await.expect("begun");
    tx.execute("SET work_mem = '5MB'").await.expect("set");
    tx.commit().await.expect("committed");
}

/// Told of the wrong pooler, a connection finds another session than its own, and is not used
/// again; nor is one opened.
#[tokio::test]
async fn another_session_than_before_is_noticed() {
    let world = world(&[A]).await;
    let pooler = by_transaction(2).start(&world.app).await;
    let app = pooler.before(&world.app);
    let database = Database::new(app.clone()).pooler(Pooler::Session);
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(database))
        .pool_options(|_, defaults| defaults.max_connections(1).test_after(Duration::ZERO))
        .build()
        .await
        .expect("it is believed");
    let scope = scope(&registry, A).await;
    notes(&scope).await.expect("notes");
    // Whoever else comes now gets the session that it has used, and keeps it.
    let mut other = app.connect().await.expect("connected");
    other.execute("BEGIN").await.expect("begun");
    let error = Error::from(notes(&scope).await.expect_err("noticed"));
    assert_eq!(error.kind(), ErrorKind::Preflight, "{error}");
    assert!(error.to_string().contains("Pooler"), "{error}");
}

/// The pooler tells of it in words of its own, with a code that a refusal could have as well.
#[tokio::test]
async fn commit_whose_answer_the_pooler_lost_is_unknown() {
    let world = world(&[A]).await;
    let wire = FaultProxy::start(&world.app).await.expect("a port");
    let pooler = by_transaction(1);
    let pooler = pooler.start(&wire.connect_options(&world.app)).await;
    let registry = registry(&pooler, &world, 1).await;
    let scope = scope(&registry, A).await;
    let insert = "INSERT INTO notes (body) VALUES ('new')";
    let mut tx = scope.begin().await.expect("a transaction");
    tx.execute(insert).await.expect("a note");
    wire.cut_after_messages(Direction::ToClient, 0);
    let error = tx.commit().await.expect_err("nobody knows");
    assert!(matches!(error, CommitError::OutcomeUnknown(_)), "{error:?}");
    assert_eq!(notes(&scope).await.expect("notes").len(), 2);

    // In each message of a single statement: it is there, or it is said that nobody knows.
    for messages in 0.. {
        let before = notes(&scope).await.expect("notes").len();
        wire.cut_after_messages(Direction::ToClient, messages);
        let done = sqlx::query(insert).execute(&scope).await;
        let was_cut = done.is_err();
        wire.disarm();
        let after = notes(&scope).await.expect("notes").len();
        match done.map_err(Error::from) {
            Ok(_) => assert_eq!(after, before + 1, "{messages}"),
            Err(error) if error.is_outcome_unknown() => {}
            Err(error) => assert_eq!(after, before, "{messages}: {error}"),
        }
        if !was_cut {
            break;
        }
    }
}

/// Other programs with the same role leave what they like on a session.
#[tokio::test]
async fn what_others_left_on_a_session_does_not_decide_who_we_are() {
    let world = world(&[A]).await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.notes (body text); \
             GRANT USAGE ON SCHEMA elsewhere TO app; GRANT SELECT ON elsewhere.notes TO app; \
             DROP ROLE IF EXISTS visitor; CREATE ROLE visitor; GRANT visitor TO app;",
        )
        .await
        .expect("another schema, another role");
    let (pooler, scope) = through_one(&world).await;
    let mut other = pooler
        .before(&world.app)
        .connect()
        .await
        .expect("connected");
    other
        .execute(
            "SET ROLE visitor; SET search_path TO elsewhere; SET app.tenant_id TO 'birch'; \
             SET client_min_messages TO debug1",
        )
        .await
        .expect("set");
    assert_eq!(
        notes(&scope).await.expect("notes"),
        [format!("a note of {A}")]
    );
    let as_whom: String =
        sqlx::query_scalar("SELECT current_user || ' ' || current_setting('client_min_messages')")
            .fetch_one(&scope)
            .await
            .expect("an answer");
    assert_eq!(as_whom, "app error");
}

/// From 1.21 on PgBouncer knows what its clients have prepared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PgBouncer 1.21 or later: TENANTRY_PGBOUNCER=.. cargo test --test pgbouncer -- --ignored"]
async fn with_prepared_statements_statements_have_names() {
    assert!(
        pgbouncer::version() >= (1, 21),
        "{:?}",
        pgbouncer::version()
    );
    let world = world(&[A, B]).await;
    let pooler = by_transaction(SESSIONS).prepared_statements(20);
    let pooler = pooler.start(&world.app).await;
    let setting = Pooler::TransactionWithPreparedStatements;
    let registry = registry_of(pooler.before(&world.app), setting, CLIENTS as u32).await;
    assert_eq!(storm(&registry).await, ALL_RIGHT);
    let scope = scope(&registry, A).await;
    let mut admin = world.admin().await;
    for column in ["one", "two"] {
        let prepared = scope.prepare("SELECT * FROM notes".into_sql_str()).await;
        let prepared = prepared.expect("prepared");
        for _ in 0..3 {
            let rows = prepared.query().fetch_all(&scope).await.expect("notes");
            assert_eq!(rows.len(), 1);
        }
        // What was prepared is stale now, wherever it was.
        let alter = format!("ALTER TABLE notes ADD COLUMN {column} text");
        admin.execute(AssertSqlSafe(alter)).await.expect("altered");
    }
    let mut tx = scope.begin().await.expect("a transaction");
    assert!(tx.execute("SET work_mem = '5MB'").await.is_err());
}

/// Whatever the leak hunt knows, through a pooler with fewer sessions than there are tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leak_hunt_passes_through() {
    // A server of its own: the hunt ends sessions of the role in all its databases.
    let server = PostgresServer::start().await.expect("a server");
    let admin = server.create_database("hunt").await.expect("a database");
    let mut owner = admin.connect().await.expect("connected");
    owner
        .execute("CREATE ROLE app LOGIN")
        .await
        .expect("a role");
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    installation.install(&mut owner).await.expect("installed");
    let canaries = Canaries::new(&installation).shared(admin.clone());
    canaries.install().await.expect("installed");
    let app = admin.clone().username("app");
    let pooler = by_transaction(4).start(&app).await;
    let tenants = [A, B, "cedar"].map(tenant);
    let directory = StaticDirectory::new().shared(pooler.before(&app), tenants.clone());
    let registry = TenantRegistry::builder(directory)
        .build()
        .await
        .expect("a registry");
    let report = LeakHunt::new(tenants)
        .canaries(canaries)
        .disturbance(Disturbance::killed_backends(admin, "app"))
        .run(Refused(RegistrySubject::new(&registry)))
        .await;
    println!("{report}");
    report.assert_clean();
}

/// Everything, and what a pooler does not take counts as done when it was refused.
struct Refused(RegistrySubject);

#[async_trait]
impl Subject for Refused {
    fn operations(&self) -> &[&'static str] {
        self.0.operations()
    }

    async fn work(&self, turn: Turn) -> Result<(), Error> {
        let operation = turn.operation();
        match self.0.work(turn).await {
            Err(error) if error.kind() == ErrorKind::StatementRefused => {
                assert!(
                    ["careless", "hatch", "prepared"].contains(&operation),
                    "{operation}"
                );
                Ok(())
            }
            done => done,
        }
    }

    async fn at_rest(&self, patience: Duration) -> Result<(), String> {
        self.0.at_rest(patience).await
    }
}
