//! Access to the rows of all tenants: it is on record, and nothing of it reaches anybody else.

mod support;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use support::log::log;
use support::{World, empty_world, eventually, notes, scope, session, tenant, world, world_with};
use tenantry::sql::{DangerousAccess, Installation, TenantType};
use tenantry::testing::{FaultProxy, cancelled_after};
use tenantry::{
    CommitError, ConnectionBudget, DangerousRegistry, DangerousTx, Error, ErrorKind, LazyPools,
    StaticDirectory, TenantRegistry, TenantRegistryBuilder,
};

/// Whatever is secret here has this in it.
const CANARY: &str = "c4n4ry";
const ACTOR: &str = "sam 'c4n4ry' \\ \"of\" support";
const REASON: &str = "ticket 4711: it's c4n4ry's \\'); DROP TABLE notes; -- \u{e4}";

/// Roles belong to the server, which other tests use as well: each world has one of its own.
struct Dangerous {
    world: World,
    /// As the role for dangerous access.
    options: PgConnectOptions,
    role: String,
}

async fn dangerous(tenants: &[&str]) -> Dangerous {
    log();
    let world = world(tenants).await;
    let role = format!("danger_{}", database_of(&world));
    run(
        &world,
        &format!("CREATE ROLE {role} LOGIN BYPASSRLS IN ROLE app"),
    )
    .await;
    let mut admin = world.admin().await;
    DangerousAccess::new(&*role)
        .install(&mut admin)
        .await
        .expect("installed");
    admin.close().await.expect("closed");
    Dangerous {
        options: world.app.clone().username(&role),
        world,
        role,
    }
}

impl Dangerous {
    fn builder(&self) -> TenantRegistryBuilder {
        TenantRegistry::builder(StaticDirectory::new().shared_by_all(self.world.app.clone()))
            .pool_options(|_, options| options.max_connections(1))
            .dangerous(self.options.clone())
    }

    async fn registry(&self) -> TenantRegistry {
        self.builder().build().await.expect("a registry")
    }

    /// The record, as somebody reads it who may.
    async fn record(&self) -> Vec<Row> {
        let mut admin = self.world.admin().await;
        let rows = sqlx::query_as(
            "SELECT role, actor, reason, transaction::text AS number FROM tenantry.dangerous_access \
             ORDER BY id",
        )
        .fetch_all(&mut admin)
        .await
        .expect("rows");
        admin.close().await.expect("closed");
        rows
    }

    /// What the events of this world's database say, of which every one is at WARN.
    fn events(&self) -> Vec<String> {
        let of_this = format!("database={:?}", database_of(&self.world));
        let mut events = log().lines();
        events.retain(|event| event.contains(&of_this));
        for event in &events {
            assert!(event.starts_with("WARN tenantry::dangerous "), "{event}");
        }
        events
    }

    /// Sessions of the role, and how many of them are in a transaction.
    async fn sessions(&self) -> (i64, i64) {
        let mut admin = self.world.admin().await;
        let counts = sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE xact_start IS NOT NULL) \
             FROM pg_stat_activity WHERE datname = current_database() AND usename = $1",
        )
        .bind(&self.role)
        .fetch_one(&mut admin)
        .await
        .expect("counts");
        admin.close().await.expect("closed");
        counts
    }

    async fn sessions_end(&self) {
        eventually("no session of the role is left", async || {
            self.sessions().await.0 == 0
        })
        .await;
    }
}

#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
struct Row {
    role: String,
    actor: String,
    reason: String,
    number: String,
}

fn database_of(world: &World) -> String {
    world.admin.get_database().expect("named").to_owned()
}

async fn run(world: &World, sql: &str) {
    let mut admin = world.admin().await;
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut admin)
        .await
        .expect("done");
    admin.close().await.expect("closed");
}

async fn begin(registry: &TenantRegistry) -> Result<DangerousTx, Error> {
    registry.dangerous()?.begin(ACTOR, REASON).await
}

fn kind(error: sqlx::Error) -> ErrorKind {
    Error::from(error).kind()
}

/// The SQLSTATE that `sql` fails with.
async fn code<'e>(executor: impl sqlx::PgExecutor<'e>, sql: &str) -> String {
    let sql = AssertSqlSafe(sql.to_owned());
    match sqlx::raw_sql(sql).execute(executor).await {
        Ok(_) => "none: it was carried out".to_owned(),
        Err(error) => Error::from(error).code().unwrap_or_default().into_owned(),
    }
}

#[tokio::test]
async fn all_tenants_are_reached_and_it_is_on_record_with_the_same_number() {
    let dangerous = dangerous(&["a", "b"]).await;
    let registry = dangerous.registry().await;
    let mut tx = begin(&registry).await.expect("begun");
    let number = tx.number().to_owned();

    // Every way to run a statement.
    assert_eq!(
        notes(&mut tx).await.expect("rows"),
        ["a note of a", "a note of b"]
    );
    let bound = sqlx::query_scalar::<_, String>("SELECT body FROM notes WHERE tenant_id = $1")
        .bind("b")
        .fetch_optional(&mut tx);
    assert_eq!(
        bound.await.expect("a row").as_deref(),
        Some("a note of b"),
        "bound"
    );
    let streamed: Vec<_> = sqlx::query("SELECT FROM notes")
        .fetch(&mut tx)
        .try_collect()
        .await
        .expect("rows");
    assert_eq!(streamed.len(), 2);
    let raw = sqlx::raw_sql("SELECT 1; SELECT FROM notes").fetch_all(&mut tx);
    assert_eq!(raw.await.expect("rows").len(), 3);
    let prepared = tx
        .prepare(sqlx::SqlStr::from_static(
            "SELECT body FROM notes WHERE tenant_id = $1",
        ))
        .await
        .expect("prepared");
    let row = sqlx::Statement::query(&prepared)
        .bind("a")
        .fetch_one(&mut tx);
    let body: String = sqlx::Row::get(&row.await.expect("a row"), 0);
    assert_eq!(body, "a note of a");
    let changed = sqlx::query("UPDATE notes SET body = body || '!'")
        .execute(&mut tx)
        .await
        .expect("changed");
    assert_eq!(changed.rows_affected(), 2);

    assert_eq!(dangerous.record().await, [], "not before the commit");
    tx.commit().await.expect("committed");
    assert_eq!(
        dangerous.record().await,
        [Row {
            role: dangerous.role.clone(),
            actor: ACTOR.to_owned(),
            reason: REASON.to_owned(),
            number: number.clone(),
        }]
    );
    let mut admin = dangerous.world.admin().await;
    let writers: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT xmin::text FROM notes UNION ALL SELECT xmin::text FROM tenantry.dangerous_access",
    )
    .fetch_all(&mut admin)
    .await
    .expect("rows");
    assert_eq!(
        writers,
        [number.clone(), number.clone()],
        "one transaction wrote both"
    );

    let events = dangerous.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(
        events[0].contains(&format!("transaction={number}")),
        "{events:?}"
    );
}

#[tokio::test]
async fn what_is_rolled_back_is_not_on_record_and_told_twice() {
    let dangerous = dangerous(&["a", "b"]).await;
    let registry = dangerous.registry().await;
    let mut expected = 0;
    for dropped in [false, true] {
        let mut tx = begin(&registry).await.expect("begun");
        assert_eq!(notes(&mut tx).await.expect("rows").len(), 2);
        let number = tx.number().to_owned();
        match dropped {
            true => drop(tx),
            false => tx.rollback().await.expect("rolled back"),
        }
        expected += 2;
        let events = dangerous.events();
        assert_eq!(events.len(), expected, "{events:?}");
        let last = &events[expected - 1];
        assert!(last.contains("no record"), "{last}");
        assert!(last.contains(&format!("transaction={number}")), "{last}");
    }
    dangerous.sessions_end().await;
    assert_eq!(dangerous.record().await, []);
}

#[tokio::test]
async fn commit_of_what_has_failed_says_so() {
    let dangerous = dangerous(&["a"]).await;
    let registry = dangerous.registry().await;
    let mut tx = begin(&registry).await.expect("begun");
    let failed = sqlx::query("SELECT 1 / 0").execute(&mut tx).await;
    assert_eq!(failed.map_err(kind).err(), Some(ErrorKind::Database));
    let error = tx.commit().await.expect_err("aborted");
    assert!(error.is_rolled_back(), "{error:?}");
    assert_eq!(dangerous.record().await, []);
    let events = dangerous.events();
    assert!(events[1].contains("no record"), "{events:?}");

    // A deferred constraint speaks inside COMMIT.
    run(
        &dangerous.world,
        "CREATE TABLE once (body text UNIQUE DEFERRABLE INITIALLY DEFERRED); GRANT ALL ON once TO app",
    )
    .await;
    let mut tx = begin(&registry).await.expect("begun");
    tx.execute("INSERT INTO once VALUES ('x'), ('x')")
        .await
        .expect("not checked yet");
    let error = tx.commit().await.expect_err("twice");
    assert!(error.is_rolled_back(), "{error:?}");
    assert_eq!(dangerous.record().await, []);
}

#[tokio::test]
async fn connection_lost_in_commit_is_an_unknown_outcome() {
    let dangerous = dangerous(&["a"]).await;
    // It ends its own session while it is being committed.
    run(
        &dangerous.world,
        "CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
           PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER hang_up AFTER INSERT ON plain DEFERRABLE INITIALLY DEFERRED \
           FOR EACH ROW EXECUTE FUNCTION hang_up()",
    )
    .await;
    let registry = dangerous.registry().await;
    let mut tx = begin(&registry).await.expect("begun");
    tx.execute("INSERT INTO plain VALUES ('x')")
        .await
        .expect("written");
    let error = tx.commit().await.expect_err("lost");
    assert!(matches!(error, CommitError::OutcomeUnknown(_)), "{error:?}");
    let events = dangerous.events();
    assert!(events[1].contains("nobody can tell"), "{events:?}");
}

#[tokio::test]
async fn transaction_is_ended_by_methods_alone() {
    let dangerous = dangerous(&["a"]).await;
    let registry = dangerous.registry().await;
    let mut tx = begin(&registry).await.expect("begun");
    for text in [
        "COMMIT",
        "ROLLBACK; BEGIN",
        "SAVEPOINT x",
        "PREPARE TRANSACTION 'x'",
        "SELECT 1; COMMIT; SELECT 2",
        "COPY notes TO STDOUT",
        "SET standard_conforming_strings = off",
        "RESET ALL",
    ] {
        let refused = sqlx::raw_sql(text).execute(&mut tx).await;
        assert_eq!(
            refused.map_err(kind).err(),
            Some(ErrorKind::StatementRefused),
            "{text}"
        );
        let refused = tx.prepare(sqlx::SqlStr::from_static(text)).await;
        assert_eq!(
            refused.map_err(kind).err(),
            Some(ErrorKind::StatementRefused),
            "prepared: {text}"
        );
    }
    assert_eq!(notes(&mut tx).await.expect("still there").len(), 1);
    // PostgreSQL itself refuses what hides in a block.
    assert_eq!(code(&mut tx, "DO $$ BEGIN COMMIT; END $$").await, "2D000");
    assert!(tx.commit().await.expect_err("aborted").is_rolled_back());
}

/// Strings can be made to end elsewhere than the scanner believes; what was committed behind its
/// back is not reported as ours.
#[tokio::test]
async fn another_transaction_is_not_committed_as_this_one() {
    let dangerous = dangerous(&["a"]).await;
    let registry = dangerous.registry().await;
    let mut tx = begin(&registry).await.expect("begun");
    tx.execute("SELECT set_config('standard_conforming_strings', 'off', true)")
        .await
        .expect("set");
    sqlx::raw_sql("SELECT 'a\\''; ROLLBACK; BEGIN --'")
        .execute(&mut tx)
        .await
        .expect("the specimen: it gets past the scanner");
    sqlx::query("UPDATE notes SET body = 'off the record'")
        .execute(&mut tx)
        .await
        .expect("changed");
    let error = tx.commit().await.expect_err("another transaction");
    assert!(matches!(error, CommitError::OutcomeUnknown(_)), "{error:?}");
    dangerous.sessions_end().await;
    let mut admin = dangerous.world.admin().await;
    assert_eq!(notes(&mut admin).await.expect("rows"), ["a note of a"]);
    assert_eq!(dangerous.record().await, []);
}

#[tokio::test]
async fn role_cannot_touch_the_record() {
    let dangerous = dangerous(&["a"]).await;
    let registry = dangerous.registry().await;
    begin(&registry)
        .await
        .expect("begun")
        .commit()
        .await
        .expect("committed");
    let before = dangerous.record().await;
    assert_eq!(before.len(), 1);
    let attempts = [
        "SELECT FROM tenantry.dangerous_access",
        "SELECT transaction FROM tenantry.dangerous_access",
        "UPDATE tenantry.dangerous_access SET reason = 'none'",
        "DELETE FROM tenantry.dangerous_access",
        "TRUNCATE tenantry.dangerous_access",
        "DROP TABLE tenantry.dangerous_access",
        "ALTER TABLE tenantry.dangerous_access ALTER reason DROP NOT NULL",
        "INSERT INTO tenantry.dangerous_access (actor, reason) VALUES ('x', 'x') RETURNING id",
        "INSERT INTO tenantry.dangerous_access (actor, reason, at) VALUES ('x', 'x', now())",
        "INSERT INTO tenantry.dangerous_access (actor, reason, role) VALUES ('x', 'x', 'x')",
        "INSERT INTO tenantry.dangerous_access (actor, reason, transaction) VALUES ('x', 'x', '1')",
        "INSERT INTO tenantry.dangerous_access (id, actor, reason) \
           OVERRIDING SYSTEM VALUE VALUES (1, 'x', 'x')",
        "CREATE TRIGGER x BEFORE INSERT ON tenantry.dangerous_access \
           EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "SELECT setval('tenantry.dangerous_access_id_seq', 1)",
        "CREATE TABLE tenantry.another ()",
    ];
    for text in attempts {
        let mut tx = begin(&registry).await.expect("begun");
        assert_eq!(code(&mut tx, text).await, "42501", "{text}");
        drop(tx);
        let mut plain = dangerous.options.connect().await.expect("connected");
        assert_eq!(code(&mut plain, text).await, "42501", "{text}");
        // The application has even less.
        let mut app = dangerous.world.app.connect().await.expect("connected");
        assert_eq!(code(&mut app, text).await, "42501", "{text}");
    }
    let mut app = dangerous.world.app.connect().await.expect("connected");
    let insert = "INSERT INTO tenantry.dangerous_access (actor, reason) VALUES ('x', 'x')";
    assert_eq!(code(&mut app, insert).await, "42501");
    dangerous.sessions_end().await;
    assert_eq!(dangerous.record().await, before);
}

#[tokio::test]
async fn row_says_who_logged_in_and_not_whose_rights_were_taken() {
    let dangerous = dangerous(&["a"]).await;
    let role = &dangerous.role;
    run(
        &dangerous.world,
        &format!("CREATE ROLE other_{role}; GRANT other_{role} TO {role}"),
    )
    .await;
    let mut admin = dangerous.world.admin().await;
    let other = DangerousAccess::new(format!("other_{role}"));
    other.install(&mut admin).await.expect("installed");
    let mut plain = dangerous.options.connect().await.expect("connected");
    let text = format!(
        "SET ROLE other_{role}; \
         INSERT INTO tenantry.dangerous_access (actor, reason) VALUES ('x', 'x')"
    );
    plain.execute(AssertSqlSafe(text)).await.expect("written");
    let record = dangerous.record().await;
    assert_eq!(record[0].role, *role, "{record:?}");
}

#[tokio::test]
async fn row_that_is_refused_means_no_transaction() {
    let dangerous = dangerous(&["a"]).await;
    let registry = dangerous.registry().await;
    run(
        &dangerous.world,
        "ALTER TABLE tenantry.dangerous_access ADD CONSTRAINT none CHECK (false)",
    )
    .await;
    let error = begin(&registry).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Database, "{error:?}");
    assert_eq!(error.constraint(), Some("none"));
    dangerous.sessions_end().await;
    assert_eq!(dangerous.events(), [""; 0], "nothing has begun");

    run(
        &dangerous.world,
        "ALTER TABLE tenantry.dangerous_access DROP CONSTRAINT none",
    )
    .await;
    let tx = begin(&registry).await.expect("begun");
    tx.commit().await.expect("committed");
    assert_eq!(dangerous.record().await.len(), 1);
}

#[tokio::test]
async fn actor_and_reason_are_needed() {
    let dangerous = dangerous(&["a"]).await;
    let access = dangerous.registry().await.dangerous().expect("configured");
    let long = CANARY.repeat(400);
    for (actor, reason) in [
        ("", REASON),
        (ACTOR, ""),
        (ACTOR, " \n"),
        (&long, REASON),
        (ACTOR, &long),
        ("c4n4ry\0", REASON),
        (ACTOR, "c4n4ry\0"),
    ] {
        let error = access.begin(actor, reason).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error:?}");
        assert!(!format!("{error:?} {error}").contains(CANARY), "{error:?}");
    }
    assert_eq!(dangerous.sessions().await.0, 0, "nothing was opened");
}

/// With one connection in each pool, through a wire on which every answer is waited for.
#[tokio::test]
async fn begin_that_is_cancelled_leaves_nothing() {
    let dangerous = dangerous(&["a", "b"]).await;
    let wire = dangerous.world.slow_wire().await;
    let registry = dangerous
        .builder()
        .dangerous(wire.connect_options(&dangerous.options))
        .build()
        .await
        .expect("a registry");
    for polls in 0..60 {
        let begun = cancelled_after(polls, begin(&registry)).await;
        let completed = begun.is_some();
        drop(begun.map(|begun| begun.expect("begun")));
        eventually("no transaction is left", async || {
            dangerous.sessions().await.1 == 0
        })
        .await;
        assert_eq!(dangerous.record().await, [], "after {polls} polls");
        let a = scope(&registry, "a").await;
        assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
        // Whoever is next begins a transaction of its own.
        let mut next = begin(&registry).await.expect("begun");
        assert_eq!(notes(&mut next).await.expect("served").len(), 2);
        next.rollback().await.expect("rolled back");
        if completed {
            assert!(polls > 1, "an operation that never waits proves nothing");
            dangerous.sessions_end().await;
            let status = registry.status();
            assert_eq!(status.connections.in_use, 0, "{status:?}");
            return;
        }
    }
    panic!("did not complete");
}

/// Dropped while COMMIT is under way: what is told fits what is on record.
#[tokio::test]
async fn commit_that_is_cancelled_is_told_as_unknown() {
    let dangerous = dangerous(&["a"]).await;
    let wire = dangerous.world.slow_wire().await;
    let registry = dangerous
        .builder()
        .dangerous(wire.connect_options(&dangerous.options))
        .build()
        .await
        .expect("a registry");
    for polls in 0..60 {
        let tx = begin(&registry).await.expect("begun");
        let number = format!("transaction={}", tx.number());
        let committed = cancelled_after(polls, tx.commit()).await;
        dangerous.sessions_end().await;
        let events = dangerous.events();
        let last = events.iter().rfind(|event| event.contains(&number));
        let last = last.expect("an event");
        let on_record = dangerous.record().await.iter().any(|row| {
            let row = format!("transaction={}", row.number);
            row == number
        });
        match committed {
            Some(committed) => {
                committed.expect("committed");
                assert!(on_record && last.contains("has begun"), "{last}");
                assert!(polls > 1, "an operation that never waits proves nothing");
                return;
            }
            None if polls == 0 => assert!(!on_record && last.contains("no record"), "{last}"),
            None => assert!(last.contains("nobody can tell"), "{last}"),
        }
    }
    panic!("did not complete");
}

#[tokio::test]
async fn nothing_of_it_reaches_tenants_or_the_next() {
    let dangerous = dangerous(&["a", "b"]).await;
    let registry = dangerous.registry().await;
    let a = scope(&registry, "a").await;
    let before = session(&a).await.expect("served");
    let mut backends = Vec::new();
    for _ in 0..2 {
        let mut tx = begin(&registry).await.expect("begun");
        let found = session(&mut tx).await.expect("served");
        assert_eq!(found.tenant.as_deref().unwrap_or_default(), "");
        let path: String = sqlx::query_scalar("SHOW search_path")
            .fetch_one(&mut tx)
            .await
            .expect("a setting");
        assert_ne!(path, "nowhere");
        sqlx::raw_sql(
            "SELECT set_config('app.tenant_id', 'b', false); SET search_path = nowhere; LISTEN x",
        )
        .execute(&mut tx)
        .await
        .expect("set");
        tx.commit().await.expect("committed");
        backends.push(found.backend);
        dangerous.sessions_end().await;

        let after = session(&a).await.expect("served");
        assert_eq!(after.backend, before.backend, "its own connection");
        assert_eq!(after.tenant.as_deref(), Some("a"));
        assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
    }
    assert_ne!(backends[0], backends[1], "closed after each use");
    assert!(!backends.contains(&before.backend));
    let status = registry.status();
    assert_eq!(
        (status.connections.total(), status.pools),
        (1, 2),
        "{status:?}"
    );
}

#[tokio::test]
async fn it_costs_one_round_trip_to_begin_and_one_to_commit() {
    let dangerous = dangerous(&["a"]).await;
    let wire = FaultProxy::start(&dangerous.options)
        .await
        .expect("a proxy");
    let registry = dangerous
        .builder()
        .dangerous(wire.connect_options(&dangerous.options))
        .build()
        .await
        .expect("a registry");
    // One that nobody waited for to the end lies ready.
    assert!(cancelled_after(1, begin(&registry)).await.is_none());
    eventually("it is there", async || {
        registry.status().connections.idle == 2
    })
    .await;
    let opened = wire.counts().round_trips();
    let tx = begin(&registry).await.expect("begun");
    assert_eq!(wire.counts().round_trips() - opened, 1);
    tx.commit().await.expect("committed");
    assert_eq!(wire.counts().round_trips() - opened, 2);
    assert_eq!(dangerous.record().await.len(), 1);
}

/// The connection that lay ready was killed meanwhile: nothing was done, and it is begun anew.
#[tokio::test]
async fn dead_connection_is_replaced() {
    let dangerous = dangerous(&["a"]).await;
    let registry = dangerous
        .builder()
        .pool_options(|_, options| options.test_after(Duration::ZERO))
        .build()
        .await
        .expect("a registry");
    assert!(cancelled_after(1, begin(&registry)).await.is_none());
    eventually("it is there", async || {
        registry.status().connections.idle == 2
    })
    .await;
    let kill = format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{}'",
        dangerous.role
    );
    run(&dangerous.world, &kill).await;
    let tx = begin(&registry).await.expect("begun");
    tx.commit().await.expect("committed");
    assert_eq!(dangerous.record().await.len(), 1);
}

#[tokio::test]
async fn budget_counts_it() {
    let dangerous = dangerous(&["a"]).await;
    // One connection beside the session that counts.
    let registry = dangerous
        .builder()
        .budget(ConnectionBudget::per_server(2))
        .build()
        .await
        .expect("a registry");
    let a = scope(&registry, "a").await;
    notes(&a).await.expect("served");
    let mut tx = begin(&registry).await.expect("an idle one is given up");
    assert_eq!(
        (
            dangerous.sessions().await.0,
            dangerous.world.sessions().await
        ),
        (1, 0),
        "by the server's count"
    );
    let mut waiting = pin!(notes(&a));
    let first = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
    assert!(first.is_pending(), "there is one connection");
    let status = registry.status();
    let counts = status.servers.values().next().expect("a server");
    assert_eq!((counts.connections, counts.waiting), (1, 1), "{status:?}");
    notes(&mut tx).await.expect("served");
    tx.commit().await.expect("committed");
    assert_eq!(waiting.await.expect("served"), ["a note of a"]);
    assert_eq!(dangerous.sessions().await.0, 0);
}

#[tokio::test]
async fn it_gets_no_more_of_the_budget_than_a_tenant() {
    let dangerous = dangerous(&["a"]).await;
    let registry = dangerous
        .builder()
        .pool_options(|_, options| options.max_connections(9))
        .budget(ConnectionBudget::per_server(9).max_per_tenant(2))
        .build()
        .await
        .expect("a registry");
    let one = begin(&registry).await.expect("begun");
    let two = begin(&registry).await.expect("begun");
    let mut waiting = pin!(begin(&registry));
    let first = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
    assert!(first.is_pending());
    let counts = registry.status().connections;
    assert_eq!(
        (counts.in_use, counts.opening, counts.waiting),
        (2, 0, 1),
        "{counts:?}"
    );
    one.commit().await.expect("committed");
    let three = waiting.await.expect("begun");
    for tx in [two, three] {
        tx.commit().await.expect("committed");
    }
}

#[tokio::test]
async fn not_configured_says_what_to_do() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let error = registry.dangerous().expect_err("not configured");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    let text = error.to_string();
    assert!(text.contains("TenantRegistryBuilder::dangerous"), "{text}");
    assert!(
        text.contains("tenantry::sql::DangerousAccess::install"),
        "{text}"
    );
}

#[tokio::test]
async fn database_without_the_record_says_what_to_do() {
    let world = world(&["a"]).await;
    let role = format!("danger_{}", database_of(&world));
    let create = format!("CREATE ROLE {role} LOGIN BYPASSRLS IN ROLE app");
    run(&world, &create).await;
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(world.app.clone()))
        .dangerous(world.app.clone().username(&role))
        .build()
        .await
        .expect("a registry");
    for prepared_for_another in [false, true] {
        if prepared_for_another {
            run(&world, &format!("CREATE ROLE other_{role}")).await;
            let mut admin = world.admin().await;
            let access = DangerousAccess::new(format!("other_{role}"));
            access.install(&mut admin).await.expect("installed");
        }
        // After a failure the next attempt waits for a while.
        let error = eventually_refused(&registry).await;
        assert_eq!(error.kind(), ErrorKind::Installation, "{error:?}");
        let text = error.to_string();
        assert!(text.contains("DangerousAccess::install"), "{text}");
    }
    let mut admin = world.admin().await;
    DangerousAccess::new(&*role)
        .install(&mut admin)
        .await
        .expect("installed");
    eventually("what the text says helps", async || {
        begin(&registry).await.is_ok()
    })
    .await;
}

async fn eventually_refused(registry: &TenantRegistry) -> Error {
    let failures = registry.status().failures;
    for _ in 0..20 {
        let error = begin(registry).await.expect_err("refused");
        if registry.status().failures > failures {
            return error;
        }
        tokio::time::sleep(error.retry_after().unwrap_or_default()).await;
    }
    panic!("no attempt to open a connection has failed");
}

/// What the registry says to `begin` as this role.
async fn refusal(dangerous: &Dangerous, role: &str) -> String {
    let registry = dangerous
        .builder()
        .lazy(LazyPools::default())
        .dangerous(dangerous.world.app.clone().username(role))
        .build()
        .await
        .expect("a registry");
    match begin(&registry).await {
        Ok(tx) => {
            drop(tx);
            String::new()
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Preflight, "{error:?}");
            error.to_string()
        }
    }
}

#[tokio::test]
async fn role_that_could_do_away_with_its_record_is_refused() {
    let dangerous = dangerous(&["a"]).await;
    let (world, role) = (&dangerous.world, &*dangerous.role);
    let keeper = format!("keeper_{role}");
    let named = |text: &str| text.replace("KEEPER", &keeper).replace("DANGER", role);
    assert_eq!(refusal(&dangerous, role).await, "");
    run(
        world,
        &named(
            "CREATE ROLE KEEPER; GRANT KEEPER TO DANGER; GRANT CREATE ON SCHEMA tenantry TO KEEPER",
        ),
    )
    .await;
    assert_eq!(refusal(&dangerous, role).await, "");
    for (give, take, said) in [
        (
            "ALTER ROLE DANGER SUPERUSER",
            "ALTER ROLE DANGER NOSUPERUSER",
            "DANGER is a superuser",
        ),
        (
            "ALTER TABLE tenantry.dangerous_access OWNER TO KEEPER",
            "ALTER TABLE tenantry.dangerous_access OWNER TO CURRENT_USER",
            "KEEPER, a role that DANGER can become, owns the table tenantry.dangerous_access",
        ),
        (
            "ALTER SCHEMA tenantry OWNER TO KEEPER",
            "ALTER SCHEMA tenantry OWNER TO CURRENT_USER",
            "KEEPER, a role that DANGER can become, owns the schema tenantry",
        ),
        (
            "GRANT pg_write_all_data TO DANGER",
            "REVOKE pg_write_all_data FROM DANGER",
            "pg_write_all_data, a role that DANGER can become, may write every table",
        ),
        (
            "GRANT DELETE ON tenantry.dangerous_access TO KEEPER",
            "REVOKE DELETE ON tenantry.dangerous_access FROM KEEPER",
            "KEEPER holds DELETE on tenantry.dangerous_access",
        ),
        (
            "GRANT UPDATE (reason) ON tenantry.dangerous_access TO DANGER",
            "REVOKE UPDATE (reason) ON tenantry.dangerous_access FROM DANGER",
            "DANGER holds UPDATE on tenantry.dangerous_access",
        ),
        (
            "GRANT INSERT (at) ON tenantry.dangerous_access TO PUBLIC",
            "REVOKE INSERT (at) ON tenantry.dangerous_access FROM PUBLIC",
            "PUBLIC holds INSERT on tenantry.dangerous_access",
        ),
    ] {
        run(world, &named(give)).await;
        let text = refusal(&dangerous, role).await;
        assert!(text.contains(&named(said)), "{give}: {text}");
        run(world, &named(take)).await;
    }
    // That it may read is the owner's affair.
    run(
        world,
        &named(
            "GRANT SELECT ON tenantry.dangerous_access TO DANGER; GRANT pg_read_all_data TO DANGER",
        ),
    )
    .await;
    assert_eq!(refusal(&dangerous, role).await, "");
}

#[tokio::test]
async fn tenants_are_never_served_as_the_role_for_dangerous_access() {
    let dangerous = dangerous(&["a"]).await;
    // The role of the tenants' pool, which is opened when the registry is built.
    let error = dangerous
        .builder()
        .dangerous(dangerous.world.app.clone())
        .build()
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Preflight, "{error:?}");
    assert!(error.to_string().contains("a role of its own"), "{error}");

    // A tenant's own database, whose role is not looked at otherwise; opened when it is met.
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    let own = world_with(installation.database_of(tenant("c")), &["c"]).await;
    let directory =
        StaticDirectory::new().database(tenant("c"), own.app.clone().username(&dangerous.role));
    let registry = TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .dangerous(dangerous.options.clone())
        .build()
        .await
        .expect("a registry");
    let c = scope(&registry, "c").await;
    let refused = notes(&c).await.map_err(kind);
    assert_eq!(refused, Err(ErrorKind::Preflight));
    let tx = begin(&registry).await.expect("begun");
    tx.commit().await.expect("committed");
}

#[tokio::test]
async fn tenants_role_that_can_become_it_is_refused() {
    let dangerous = dangerous(&["a"]).await;
    let role = &dangerous.role;
    // NOINHERIT does not help; and without BYPASSRLS it is still the role that writes the record.
    for bypass in ["BYPASSRLS", "NOBYPASSRLS"] {
        run(
            &dangerous.world,
            &format!(
                "ALTER ROLE {role} {bypass}; \
                 CREATE ROLE {bypass}_{role} LOGIN NOINHERIT IN ROLE app, {role}; \
                 GRANT USAGE ON SCHEMA tenantry TO {bypass}_{role}; \
                 GRANT SELECT ON tenantry.installation TO {bypass}_{role}"
            ),
        )
        .await;
        let login = format!("{bypass}_{role}").to_lowercase();
        let error = TenantRegistry::builder(
            StaticDirectory::new().shared_by_all(dangerous.world.app.clone().username(&login)),
        )
        .build()
        .await
        .expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Preflight);
        let remedy = format!("mend it with: REVOKE {role} FROM {login}");
        assert!(error.to_string().contains(&remedy), "{error}");
    }
}

#[tokio::test]
async fn closed_registry_takes_no_more_and_waits_for_what_runs() {
    let dangerous = dangerous(&["a"]).await;
    let registry = dangerous.registry().await;
    let access = registry.dangerous().expect("configured");
    let mut tx = access.begin(ACTOR, REASON).await.expect("begun");
    let report = registry.shutdown(Duration::ZERO).await;
    assert_eq!(report.still_open, 1, "{report:?}");
    let refused = access.begin(ACTOR, REASON).await.map(drop);
    assert_eq!(
        refused.map_err(|error| error.kind()),
        Err(ErrorKind::Closed)
    );
    notes(&mut tx).await.expect("goes on to its end");
    tx.commit().await.expect("committed");
    dangerous.sessions_end().await;
    assert_eq!(dangerous.record().await.len(), 1);
}

#[test]
fn it_is_dropped_anywhere() {
    let asking = tokio::runtime::Runtime::new().expect("a runtime");
    let dangerous = asking.block_on(dangerous(&["a"]));
    let home = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = home.block_on(dangerous.registry());
    let held = || {
        let mut tx = home.block_on(begin(&registry)).expect("begun");
        home.block_on(tx.execute("UPDATE notes SET body = 'must not stay'"))
            .expect("written");
        tx
    };
    let tx = held();
    drop(tx);
    let tx = held();
    thread::spawn(move || drop(tx))
        .join()
        .expect("the drop does not panic");
    let tx = held();
    drop((home, registry));
    drop(tx);
    asking.block_on(async {
        dangerous.sessions_end().await;
        let mut admin = dangerous.world.admin().await;
        assert_eq!(notes(&mut admin).await.expect("rows"), ["a note of a"]);
        assert_eq!(dangerous.record().await, []);
    });
}

#[tokio::test]
async fn nothing_of_what_people_wrote_is_logged_or_shown() {
    let dangerous = dangerous(&["a"]).await;
    let options = dangerous.options.clone().password("c4n4ry password");
    let builder = dangerous.builder().dangerous(options);
    let mut shown = format!("{builder:?}");
    let registry = builder.build().await.expect("a registry");
    let access = registry.dangerous().expect("configured");
    let mut tx = access.begin(ACTOR, REASON).await.expect("begun");
    shown += &format!("{registry:?} {access:?} {tx:?}");
    let text = "DO $$ BEGIN RAISE WARNING 'c4n4ry'; END $$; SELECT 'c4n4ry'::int";
    let failed = sqlx::raw_sql(text).execute(&mut tx).await;
    let failed = Error::from(failed.expect_err("no number"));
    let error = tx.commit().await.expect_err("aborted");
    shown += &format!("{failed:?} {failed} {error:?} {error}");
    drop(access.begin(ACTOR, REASON).await.expect("begun"));
    dangerous.sessions_end().await;
    run(
        &dangerous.world,
        "ALTER TABLE tenantry.dangerous_access ADD CHECK (actor <> actor)",
    )
    .await;
    let refused = access.begin(ACTOR, REASON).await.expect_err("refused");
    shown += &format!("{refused:?} {refused}");
    assert!(!shown.contains(CANARY), "{shown}");
    assert_eq!(dangerous.events().len(), 4);
    let mut told = log().lines();
    told.retain(|event| event.contains(CANARY));
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test]
async fn installing_again_mends_its_role_and_leaves_the_rest() {
    let dangerous = dangerous(&["a"]).await;
    let (world, role) = (&dangerous.world, &dangerous.role);
    let registry = dangerous.registry().await;
    let tx = begin(&registry).await.expect("begun");
    tx.commit().await.expect("committed");
    run(
        world,
        &format!(
            "CREATE ROLE watcher_{role}; GRANT SELECT ON tenantry.dangerous_access TO watcher_{role}; \
             GRANT ALL ON tenantry.dangerous_access TO {role}; \
             REVOKE SELECT ON tenantry.installation FROM {role}, app"
        ),
    )
    .await;
    let text = DangerousAccess::new(&**role).sql().expect("its text");
    for _ in 0..2 {
        run(world, &text).await;
    }
    // Of the members of `app`, and by that.
    run(world, "GRANT SELECT ON tenantry.installation TO app").await;
    let grants = grants(world).await;
    assert_eq!(
        grants,
        [
            format!("{role} INSERT of actor"),
            format!("{role} INSERT of reason"),
            format!("watcher_{role} SELECT"),
        ]
    );
    let tx = begin(&registry).await.expect("begun");
    tx.commit().await.expect("committed");
    assert_eq!(dangerous.record().await.len(), 2);

    // The application is installed beside it, at any time.
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    let mut admin = world.admin().await;
    installation.install(&mut admin).await.expect("installed");
    let tx = begin(&registry).await.expect("begun");
    tx.commit().await.expect("committed");
}

/// Who holds what on the record beside its owner.
async fn grants(world: &World) -> Vec<String> {
    let mut admin = world.admin().await;
    sqlx::query_scalar(
        "WITH record AS (SELECT * FROM pg_class WHERE oid = 'tenantry.dangerous_access'::regclass) \
         SELECT a.grantee::regrole || ' ' || privilege_type FROM record, aclexplode(relacl) AS a \
           WHERE a.grantee <> relowner \
         UNION ALL \
         SELECT a.grantee::regrole || ' ' || privilege_type || ' of ' || attname \
           FROM record JOIN pg_attribute AS c ON attrelid = record.oid, aclexplode(attacl) AS a \
         ORDER BY 1",
    )
    .fetch_all(&mut admin)
    .await
    .expect("grants")
}

#[tokio::test]
async fn default_privileges_give_the_record_to_nobody() {
    let world = world(&["a"]).await;
    let role = format!("it's \"{}\"", database_of(&world));
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    run(
        &world,
        &format!(
            "CREATE ROLE {quoted}; \
             ALTER DEFAULT PRIVILEGES IN SCHEMA tenantry GRANT ALL ON TABLES TO PUBLIC, app, {quoted}"
        ),
    )
    .await;
    let mut admin = world.admin().await;
    let access = DangerousAccess::new(role);
    access.install(&mut admin).await.expect("installed");
    let held: Vec<_> = grants(&world).await;
    assert_eq!(held.len(), 2, "{held:?}");
    assert!(
        held.iter().all(|held| held.contains(" INSERT of ")),
        "{held:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_installed_says_why() {
    let nothing = empty_world().await;
    let mut admin = nothing.admin().await;
    let install = async |role: &str, admin: &mut PgConnection| {
        let error = DangerousAccess::new(role).install(admin).await;
        let error = error.expect_err("refused");
        (error.kind(), error.to_string())
    };
    let (kind, text) = install("app", &mut admin).await;
    assert_eq!(kind, ErrorKind::Installation);
    assert!(text.contains("run Installation::install"), "{text}");
    let (kind, text) = install("no such role", &mut admin).await;
    assert_eq!(kind, ErrorKind::Installation);
    assert!(text.contains("does not exist"), "{text}");
    for role in ["", "public", "none", "a\0b"] {
        assert_eq!(install(role, &mut admin).await.0, ErrorKind::InvalidOption);
    }

    let world = world(&["a"]).await;
    let mut admin = world.admin().await;
    let superuser = world.admin.get_username();
    let (kind, text) = install(superuser, &mut admin).await;
    assert_eq!(kind, ErrorKind::Installation);
    assert!(text.contains("is a superuser"), "{text}");
    let missing = sqlx::query("SELECT 1 FROM tenantry.dangerous_access");
    assert!(
        missing.execute(&mut admin).await.is_err(),
        "nothing was changed"
    );
}

#[test]
fn handles_and_futures_move_between_threads() {
    fn lives_anywhere<T: Send + Sync + Clone + 'static>() {}
    lives_anywhere::<DangerousRegistry>();
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    #[expect(dead_code, reason = "it is there to be compiled")]
    async fn futures(access: DangerousRegistry) -> Result<(), Error> {
        let mut tx = is_send(is_send(access.begin("a", "b")).await?);
        is_send(notes(&mut tx)).await?;
        is_send(tx.rollback()).await?;
        is_send(is_send(access.begin("a", "b")).await?.commit()).await?;
        Ok(())
    }
}
