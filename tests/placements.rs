//! Guarantee 9, and the placements side by side: what the directory says of a tenant bites at its
//! next statement, for scopes that live on as well.

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Statement as _};
use support::control::Control;
use support::fleet::Fleet;
use support::{World, notes, scope, tenant, world};
use tenantry::{
    Database, DirectoryChange, Error, ErrorKind, LazyPools, Placement, PoolOptions,
    PostgresDirectory, Reader, StaticDirectory, TenantDirectory, TenantId, TenantRecord,
    TenantRegistry, TenantScope, TenantState, TxOptions,
};

async fn lazy(directory: impl TenantDirectory) -> TenantRegistry {
    TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .pool_options(|_, options: PoolOptions| options.max_connections(2))
        .build()
        .await
        .expect("a registry")
}

fn kind(error: impl Into<Error>) -> ErrorKind {
    error.into().kind()
}

/// A change reaches the registry through a task of its own. The bound is for a test that fails.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(1), until).await;
    assert!(in_time.is_ok(), "not within a second: {what}");
}

/// Every way to send something is refused with this kind.
async fn is_refused(scope: &TenantScope, expected: ErrorKind) -> bool {
    let all = [
        notes(scope).await.map(drop).map_err(Error::from),
        notes(&mut Reader::from(scope))
            .await
            .map(drop)
            .map_err(Error::from),
        scope.begin().await.map(drop),
        scope.begin_read_only().await.map(drop),
        scope
            .transaction(TxOptions::default(), |_| {
                Box::pin(async { Ok::<_, Error>(()) })
            })
            .await,
    ];
    let refused = all
        .iter()
        .filter(|answer| answer.as_ref().is_err_and(|error| error.kind() == expected))
        .count();
    refused == all.len()
}

#[tokio::test]
async fn each_state_has_its_own_error_at_the_next_statement() {
    let fleet = Fleet::new(2).await;
    let shared = world(&["s", "other"]).await;
    let directory = fleet
        .directory()
        .shared(shared.app.clone(), [tenant("s"), tenant("other")]);
    let registry = lazy(directory.clone()).await;
    let neighbours = [
        scope(&registry, "t1").await,
        scope(&registry, "other").await,
    ];
    for id in ["t0", "s"] {
        let scope_of_it = scope(&registry, id).await;
        let expected = [format!("a note of {id}")];
        for (state, kind) in [
            (TenantState::Suspended, ErrorKind::TenantSuspended),
            (TenantState::Moving, ErrorKind::TenantMoving),
            (TenantState::Deleted, ErrorKind::TenantDeleted),
        ] {
            assert_eq!(notes(&scope_of_it).await.expect("rows"), expected);
            let mut tx = scope_of_it.begin().await.expect("begun");
            assert!(directory.set_state(&tenant(id), state));
            eventually("refused", async || is_refused(&scope_of_it, kind).await).await;
            let error = registry.scope(tenant(id)).await.expect_err("not bound");
            assert_eq!(error.kind(), kind);
            assert_eq!(error.is_retryable(), state == TenantState::Moving);
            // What was begun before it goes on to its end.
            assert_eq!(notes(&mut tx).await.expect("rows"), expected);
            tx.commit().await.expect("committed");
            for scope in &neighbours {
                notes(scope).await.expect("others are served");
            }
            directory.set_state(&tenant(id), TenantState::Active);
            eventually("served", async || notes(&scope_of_it).await.is_ok()).await;
        }
    }
    // The pool of a tenant that may not be served is given up.
    directory.set_state(&tenant("t0"), TenantState::Suspended);
    eventually("closed", async || {
        registry.tenant_status(&tenant("t0")).is_none()
    })
    .await;
    assert!(registry.status().evictions["directory"] > 0);
}

#[tokio::test]
async fn a_tenant_that_has_moved_is_served_from_its_new_place() {
    let fleet = Fleet::new(2).await;
    let directory = fleet.directory();
    let registry = lazy(directory.clone()).await;
    let scope_of_t0 = scope(&registry, "t0").await;
    notes(&scope_of_t0).await.expect("rows");

    // Another database that knows itself to be this tenant's.
    let moved = tenant("moved");
    fleet.create(&moved).await;
    let mut owner = fleet.connect(&moved).await;
    let hand_over = "ALTER DOMAIN tenantry.scope DROP CONSTRAINT tenantry_2_tenant; \
         ALTER DOMAIN tenantry.scope ADD CONSTRAINT tenantry_2_tenant CHECK (VALUE[2] = 't0'); \
         UPDATE tenantry.installation SET tenant = 't0'; \
         UPDATE notes SET body = 'from the new place'";
    owner.execute(hand_over).await.expect("handed over");
    let record = TenantRecord::new(Placement::Database {
        database: fleet.server.named(fleet.name(&moved)),
    });
    directory.put(tenant("t0"), record.clone());
    eventually("moved", async || {
        notes(&scope_of_t0).await.expect("never an error") == ["from the new place"]
    })
    .await;

    // A raised epoch alone has its connections given up.
    let opened = registry.status().pools_opened;
    directory.put(tenant("t0"), record.epoch(1));
    eventually("opened anew", async || {
        notes(&scope_of_t0).await.expect("never an error");
        registry.status().pools_opened > opened
    })
    .await;
}

/// As two processes of a service that share a table of tenants.
#[tokio::test]
async fn a_suspension_in_the_table_bites_within_a_second_in_every_process() {
    let fleet = Fleet::new(2).await;
    let mut control = Control::start().await;
    for id in ["t0", "t1"] {
        let sql = format!(
            "INSERT INTO tenantry.tenants (id, placement, server, database) \
             VALUES ('{id}', 'database', 'main', '{}')",
            fleet.name(&tenant(id))
        );
        control.run(&sql).await;
    }
    let mut processes = Vec::new();
    for _ in 0..2 {
        let directory = PostgresDirectory::builder(control.reader.clone())
            .server("main", fleet.server.clone())
            .connect()
            .await
            .expect("a directory");
        let registry = lazy(directory).await;
        let (a, b) = (scope(&registry, "t0").await, scope(&registry, "t1").await);
        assert_eq!(notes(&a).await.expect("rows"), ["a note of t0"]);
        assert_eq!(notes(&b).await.expect("rows"), ["a note of t1"]);
        processes.push((registry, a, b));
    }
    control.state("t0", "suspended").await;
    for (_, a, b) in &processes {
        eventually("refused", async || {
            is_refused(a, ErrorKind::TenantSuspended).await
        })
        .await;
        notes(b).await.expect("the other is served");
    }
    control.state("t0", "active").await;
    for (_, a, _) in &processes {
        eventually("served", async || notes(a).await.is_ok()).await;
    }
}

/// What a corrupted map looks like: whatever tenant is asked for, the answer is one database.
struct Corrupted(Mutex<Database>);

#[async_trait]
impl TenantDirectory for Corrupted {
    async fn find(&self, _: &TenantId) -> Result<Option<TenantRecord>, Error> {
        let database = self.0.lock().clone();
        Ok(Some(TenantRecord::new(Placement::Database { database })))
    }

    async fn list(&self, _: Option<&TenantId>, _: usize) -> Result<Vec<TenantId>, Error> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_directory_that_answers_with_anothers_database_reads_and_writes_nothing() {
    let fleet = Fleet::new(2).await;
    let of_b = fleet.server.named(fleet.name(&tenant("t1")));
    let registry = lazy(Corrupted(Mutex::new(of_b))).await;
    let b = scope(&registry, "t1").await;
    assert_eq!(notes(&b).await.expect("its own"), ["a note of t1"]);
    let a = scope(&registry, "t0").await;
    for _ in 0..3 {
        assert_eq!(
            kind(notes(&a).await.expect_err("not its own")),
            ErrorKind::Misrouted
        );
        let insert = sqlx::query("INSERT INTO notes (body) VALUES ('of an intruder')");
        assert_eq!(
            kind(insert.execute(&a).await.expect_err("not its own")),
            ErrorKind::Misrouted
        );
        assert_eq!(
            kind(a.begin().await.expect_err("not its own")),
            ErrorKind::Misrouted
        );
    }
    assert_eq!(notes(&b).await.expect("its own"), ["a note of t1"]);
}

#[tokio::test]
async fn an_answer_is_not_used_for_longer_than_the_directory_allows() {
    struct Forgetful(StaticDirectory);
    #[async_trait]
    impl TenantDirectory for Forgetful {
        async fn find(&self, id: &TenantId) -> Result<Option<TenantRecord>, Error> {
            self.0.find(id).await
        }
        async fn list(&self, after: Option<&TenantId>, n: usize) -> Result<Vec<TenantId>, Error> {
            self.0.list(after, n).await
        }
        // It never tells of changes.
        fn time_to_live(&self) -> Option<Duration> {
            Some(Duration::from_millis(50))
        }
    }
    let fleet = Fleet::new(1).await;
    let directory = fleet.directory();
    let registry = lazy(Forgetful(directory.clone())).await;
    let scope_of_t0 = scope(&registry, "t0").await;
    notes(&scope_of_t0).await.expect("rows");
    directory.set_state(&tenant("t0"), TenantState::Suspended);
    eventually("noticed", async || {
        is_refused(&scope_of_t0, ErrorKind::TenantSuspended).await
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_cannot_tell_harms_only_who_is_not_known_yet() {
    struct Flaky(StaticDirectory, Mutex<bool>);
    #[async_trait]
    impl TenantDirectory for Flaky {
        async fn find(&self, id: &TenantId) -> Result<Option<TenantRecord>, Error> {
            if *self.1.lock() {
                return Err(Error::directory("out of order"));
            }
            self.0.find(id).await
        }
        async fn list(&self, after: Option<&TenantId>, n: usize) -> Result<Vec<TenantId>, Error> {
            self.0.list(after, n).await
        }
    }
    let fleet = Fleet::new(2).await;
    let directory = Arc::new(Flaky(fleet.directory(), Mutex::new(false)));
    let registry = lazy(Arc::clone(&directory)).await;
    let known = scope(&registry, "t0").await;
    notes(&known).await.expect("rows");
    *directory.1.lock() = true;
    notes(&known).await.expect("rows");
    let error = registry.scope(tenant("t1")).await.expect_err("not known");
    assert_eq!(error.kind(), ErrorKind::Directory);
    assert!(error.is_retryable());
}

/// A directory that does not answer about one tenant keeps no other change from being heeded, and no
/// registry from going.
#[tokio::test]
async fn directory_that_does_not_answer_holds_nothing_up() {
    struct Stuck(StaticDirectory, Mutex<bool>);
    #[async_trait]
    impl TenantDirectory for Stuck {
        async fn find(&self, id: &TenantId) -> Result<Option<TenantRecord>, Error> {
            let is_stuck = id.as_str() == "t0" && *self.1.lock();
            if is_stuck {
                std::future::pending::<()>().await;
            }
            self.0.find(id).await
        }
        async fn list(&self, after: Option<&TenantId>, n: usize) -> Result<Vec<TenantId>, Error> {
            self.0.list(after, n).await
        }
        fn changes(&self) -> BoxStream<'static, DirectoryChange> {
            self.0.changes()
        }
    }
    let fleet = Fleet::new(2).await;
    let mut admin = fleet.superuser().await;
    let answers = fleet.directory();
    let directory = Arc::new(Stuck(answers.clone(), Mutex::new(false)));
    let registry = lazy(Arc::clone(&directory)).await;
    for id in ["t0", "t1"] {
        notes(&scope(&registry, id).await).await.expect("served");
    }
    *directory.1.lock() = true;
    for id in ["t0", "t1"] {
        assert!(answers.set_state(&tenant(id), TenantState::Suspended));
    }
    eventually("the other one's pool is given up", async || {
        registry.tenant_status(&tenant("t1")).is_none()
    })
    .await;
    assert!(registry.tenant_status(&tenant("t0")).is_some());
    drop(registry);
    support::eventually("nobody is connected", async || {
        fleet.sessions(&mut admin).await == 0
    })
    .await;
}

/// What one tenant's database said of a statement's columns is not believed of another's.
#[tokio::test]
async fn a_statement_that_one_tenant_prepared_has_the_columns_of_the_one_that_runs_it() {
    let world = world(&[]).await;
    let mut admin = world.admin().await;
    for (id, kind, value) in [("a", "bigint", "7"), ("b", "text", "'seven'")] {
        let sql = format!(
            "CREATE SCHEMA home_{id}; CREATE TABLE home_{id}.papers (body {kind}); \
             INSERT INTO home_{id}.papers VALUES ({value}); \
             GRANT USAGE ON SCHEMA home_{id} TO app; GRANT ALL ON home_{id}.papers TO app"
        );
        admin.execute(AssertSqlSafe(sql)).await.expect("a schema");
    }
    admin.close().await.expect("closed");
    let homes = [(tenant("a"), "home_a"), (tenant("b"), "home_b")];
    let directory = StaticDirectory::new().schemas(world.app.clone(), homes);
    let (first, second) = (lazy(directory.clone()).await, lazy(directory).await);
    let prepared = (&scope(&first, "a").await)
        .prepare(sqlx::SqlStr::from_static("SELECT body FROM papers"))
        .await
        .expect("prepared");
    let b = scope(&second, "b").await;
    let of_b: String = prepared
        .query_scalar()
        .fetch_one(&b)
        .await
        .expect("the type that it has there");
    assert_eq!(of_b, "seven");
    let mut tx = b.begin().await.expect("begun");
    let of_b: String = prepared
        .query_scalar()
        .fetch_one(&mut tx)
        .await
        .expect("the type that it has there");
    assert_eq!(of_b, "seven");
}

/// Two schemas with a table of the same name, and a third schema that nobody lives in.
async fn schemas(world: &World) {
    let mut admin = world.admin().await;
    for id in ["a", "b", "public_of_all"] {
        let sql = format!(
            "CREATE SCHEMA home_{id}; \
             CREATE TABLE home_{id}.papers (id bigint PRIMARY KEY, body text NOT NULL); \
             INSERT INTO home_{id}.papers VALUES (1, 'a paper of {id}'); \
             GRANT USAGE ON SCHEMA home_{id} TO app; GRANT ALL ON home_{id}.papers TO app"
        );
        admin.execute(AssertSqlSafe(sql)).await.expect("a schema");
    }
    admin.close().await.expect("closed");
}

#[tokio::test]
async fn a_schema_of_its_own_is_where_names_are_looked_up() {
    const PAPERS: &str = "SELECT body FROM papers ORDER BY id";
    let world = world(&["c"]).await;
    schemas(&world).await;
    let directory = StaticDirectory::new()
        .shared(world.app.clone(), [tenant("c")])
        .schemas(
            world.app.clone(),
            [(tenant("a"), "home_a"), (tenant("b"), "home_b")],
        );
    // One connection: whoever comes next has what the last one left.
    let registry = TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .pool_options(|_, options: PoolOptions| options.max_connections(1))
        .build()
        .await
        .expect("a registry");
    for id in ["a", "b", "a", "b"] {
        let scope_of_it = scope(&registry, id).await;
        let expected = vec![format!("a paper of {id}")];
        let seen: Vec<String> = sqlx::query_scalar(PAPERS)
            .fetch_all(&scope_of_it)
            .await
            .expect("rows");
        assert_eq!(seen, expected);
        let one: String = sqlx::query_scalar("SELECT body FROM papers WHERE id = $1")
            .bind(1_i64)
            .fetch_one(&scope_of_it)
            .await
            .expect("a row");
        assert_eq!([one], *expected);
        let context: String = sqlx::query_scalar("SELECT current_setting('app.tenant_id')")
            .fetch_one(&scope_of_it)
            .await
            .expect("a setting");
        assert_eq!(context, id);
        let mut tx = scope_of_it.begin().await.expect("begun");
        let seen: Vec<String> = sqlx::query_scalar(PAPERS)
            .fetch_all(&mut tx)
            .await
            .expect("rows");
        assert_eq!(seen, expected);
        tx.rollback().await.expect("rolled back");
        // What a statement outside `begin` writes is committed.
        sqlx::query("INSERT INTO papers SELECT max(id) + 1, $1 FROM papers")
            .bind(format!("another of {id}"))
            .execute(&scope_of_it)
            .await
            .expect("written");
        sqlx::query("DELETE FROM papers WHERE id > 1")
            .execute(&scope_of_it)
            .await
            .expect("deleted");
        let path = TxOptions::default().search_path(["home_public_of_all"]);
        let mut tx = scope_of_it.begin_with(&path).await.expect("begun");
        let seen: Vec<String> = sqlx::query_scalar(PAPERS)
            .fetch_all(&mut tx)
            .await
            .expect("rows");
        assert_eq!(seen, expected, "its own comes first");
        drop(tx);
        // Who shares the same database has no such name.
        let error = sqlx::query(PAPERS)
            .fetch_all(&scope(&registry, "c").await)
            .await;
        let error = Error::from(error.expect_err("no such table"));
        assert_eq!(error.code().as_deref(), Some("42P01"));
    }
    assert_eq!(registry.status().pools, 1);
}

/// A statement of its own is not given up because each connection has prepared it before a column
/// came: it is sent once more on the same one.
#[tokio::test]
async fn plan_that_is_stale_on_every_connection_is_replaced_in_a_schema_too() {
    let world = world(&[]).await;
    schemas(&world).await;
    let directory = StaticDirectory::new().schemas(world.app.clone(), [(tenant("a"), "home_a")]);
    let registry = lazy(directory).await;
    let a = scope(&registry, "a").await;
    let mut admin = world.admin().await;
    for (papers, column) in [
        ("SELECT * FROM papers", "one"),
        ("SELECT * FROM papers LIMIT 1", "two"),
    ] {
        let (mut first, mut second) = (
            a.begin().await.expect("begun"),
            a.begin().await.expect("begun"),
        );
        for tx in [&mut first, &mut second] {
            sqlx::query(papers).fetch_all(tx).await.expect("rows");
        }
        first.commit().await.expect("committed");
        second.commit().await.expect("committed");
        let alter = format!("ALTER TABLE home_a.papers ADD COLUMN {column} text");
        admin.execute(AssertSqlSafe(alter)).await.expect("altered");
        let query = sqlx::query(papers);
        match column {
            "one" => drop(query.fetch_all(&a).await.expect("prepared anew")),
            _ => drop(query.fetch_one(&a).await.expect("prepared anew")),
        }
    }
}
