//! Guarantee 6: a map that answers with the wrong database cannot contaminate. What reaches the
//! database of another tenant is refused there, in every way a statement can be sent.

mod support;

use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use support::{World, scope, tenant, world, world_with};
use tenantry::sql::{Installation, TenantType};
use tenantry::{
    Error, ErrorKind, PoolOptions, Reader, StaticDirectory, TenantRegistry, TenantScope, TxOptions,
};

/// A database that belongs to one tenant. `plain` has no row-level security: only the database's
/// own word stands between its rows and another tenant.
async fn database_of(owner: &str) -> World {
    let installation = Installation::new("app")
        .tenant_column("tenant_id", TenantType::Text)
        .database_of(tenant(owner));
    let world = world_with(installation, &[owner]).await;
    let mut admin = world.admin().await;
    admin
        .execute("INSERT INTO plain VALUES ('of the owner')")
        .await
        .expect("a row");
    world
}

async fn registry_of(world: &World, id: &str) -> Result<TenantRegistry, Error> {
    TenantRegistry::builder(StaticDirectory::new().database(tenant(id), world.app.clone()))
        .pool_options(|_, options: PoolOptions| options.max_connections(1))
        .build()
        .await
}

/// The database changes hands while a registry holds a connection to it, which the installation
/// refuses to do: by hand, then. What the process learnt when it connected is wrong from here on.
async fn hand_over(world: &World, to: &str) {
    let mut admin = world.admin().await;
    let sql = format!(
        "BEGIN; ALTER DOMAIN tenantry.scope DROP CONSTRAINT tenantry_2_tenant; \
         ALTER DOMAIN tenantry.scope ADD CONSTRAINT tenantry_2_tenant \
           CHECK (VALUE[2] = '{to}' COLLATE \"C\"); \
         UPDATE tenantry.installation SET tenant = '{to}'; COMMIT"
    );
    admin
        .execute(AssertSqlSafe(sql))
        .await
        .expect("handed over");
    admin.close().await.expect("closed");
}

/// Every way to send something.
const ATTEMPTS: [&str; 14] = [
    "select",
    "insert",
    "update",
    "delete",
    "with",
    "stream",
    "reader",
    "statement in a transaction",
    "raw_sql",
    "raw_sql that writes",
    "copy out",
    "copy in",
    "read-only transaction",
    "the hatch",
];

/// How many rows it got to see or to write.
async fn attempt(name: &str, scope: &TenantScope) -> Result<u64, Error> {
    match name {
        "select" => statement(scope, "SELECT body FROM plain WHERE $1").await,
        "insert" => statement(scope, "INSERT INTO plain SELECT 'of an intruder' WHERE $1").await,
        "update" => statement(scope, "UPDATE plain SET body = 'of an intruder' WHERE $1").await,
        "delete" => statement(scope, "DELETE FROM plain WHERE $1 AND body = 'nothing'").await,
        "with" => {
            let sql = "WITH w AS (INSERT INTO plain SELECT 'of an intruder' WHERE $1 \
                       RETURNING body) SELECT body FROM w";
            statement(scope, sql).await
        }
        "stream" => stream(scope).await,
        "reader" => reader(scope).await,
        "statement in a transaction" => in_transaction(scope).await,
        "raw_sql" => raw_sql(scope).await,
        "raw_sql that writes" => raw_sql_writes(scope).await,
        "copy out" => copy_out(scope).await,
        "copy in" => copy_in(scope).await,
        "read-only transaction" => read_only(scope).await,
        "the hatch" => hatch(scope).await,
        other => panic!("{other} is no attempt"),
    }
}

async fn statement(scope: &TenantScope, sql: &'static str) -> Result<u64, Error> {
    let rows = sqlx::query(sql).bind(true).fetch_all(scope).await?;
    Ok(rows.len() as u64)
}

async fn stream(scope: &TenantScope) -> Result<u64, Error> {
    let first = sqlx::query("SELECT body FROM plain").fetch(scope);
    Ok(first.take(1).try_collect::<Vec<_>>().await?.len() as u64)
}

async fn reader(scope: &TenantScope) -> Result<u64, Error> {
    let row = sqlx::query("SELECT body FROM plain")
        .fetch_optional(&mut Reader::from(scope))
        .await?;
    Ok(row.into_iter().count() as u64)
}

async fn in_transaction(scope: &TenantScope) -> Result<u64, Error> {
    let mut tx = scope.begin().await?;
    let done = sqlx::query("UPDATE plain SET body = 'of an intruder'")
        .execute(&mut tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected())
}

async fn raw_sql(scope: &TenantScope) -> Result<u64, Error> {
    let mut tx = scope.begin().await?;
    let rows = sqlx::raw_sql("SELECT body FROM plain")
        .fetch_all(&mut tx)
        .await?;
    Ok(rows.len() as u64)
}

async fn raw_sql_writes(scope: &TenantScope) -> Result<u64, Error> {
    let mut tx = scope.begin().await?;
    let done = sqlx::raw_sql("INSERT INTO plain VALUES ('of an intruder')")
        .execute(&mut tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected())
}

async fn copy_out(scope: &TenantScope) -> Result<u64, Error> {
    let mut tx = scope.begin().await?;
    let chunks: Vec<_> = tx
        .copy_out_raw("COPY plain TO STDOUT")
        .await?
        .try_collect()
        .await?;
    Ok(chunks.len() as u64)
}

async fn copy_in(scope: &TenantScope) -> Result<u64, Error> {
    let mut tx = scope.begin().await?;
    let mut copy = tx.copy_in_raw("COPY plain FROM STDIN").await?;
    copy.send(b"of an intruder\n").await?;
    let rows = copy.finish().await?;
    tx.commit().await?;
    Ok(rows)
}

async fn read_only(scope: &TenantScope) -> Result<u64, Error> {
    let mut tx = scope.begin_read_only().await?;
    let rows = sqlx::query("SELECT body FROM plain")
        .fetch_all(&mut tx)
        .await?;
    Ok(rows.len() as u64)
}

async fn hatch(scope: &TenantScope) -> Result<u64, Error> {
    let mut tx = scope.begin().await?;
    let plain = tx.dangerous_connection().await?;
    let rows = sqlx::query("SELECT body FROM plain")
        .fetch_all(plain)
        .await?;
    Ok(rows.len() as u64)
}

async fn rows(world: &World) -> Vec<String> {
    let mut admin = world.admin().await;
    sqlx::query_scalar("SELECT body FROM plain ORDER BY body")
        .fetch_all(&mut admin)
        .await
        .expect("rows")
}

#[tokio::test]
async fn options_of_another_tenants_database_end_in_no_registry() {
    let world = database_of("a").await;
    let error = registry_of(&world, "b").await.expect_err("not b's");
    assert!(error.is_misrouted(), "{error:?}");

    let directory = StaticDirectory::new().shared(world.app.clone(), [tenant("a"), tenant("b")]);
    let error = TenantRegistry::builder(directory)
        .build()
        .await
        .expect_err("not to be shared");
    assert!(error.is_misrouted(), "{error:?}");

    let registry = registry_of(&world, "a").await.expect("a's");
    let a = scope(&registry, "a").await;
    assert_eq!(support::notes(&a).await.expect("rows"), ["a note of a"]);
}

/// Each attempt on a connection that was opened before: a new one is refused when it is opened,
/// whatever it is for.
#[tokio::test]
async fn database_that_changed_hands_refuses_whatever_is_sent() {
    let world = database_of("a").await;
    for name in ATTEMPTS {
        let registry = registry_of(&world, "a").await.expect("a's");
        let a = scope(&registry, "a").await;
        // What was prepared before is refused as well.
        let seen = attempt(name, &a).await;
        seen.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let mut admin = world.admin().await;
        admin
            .execute("DELETE FROM plain; INSERT INTO plain VALUES ('of the owner')")
            .await
            .expect("as before");
        // The hatch closes the connection that it was on.
        support::notes(&a).await.expect("served");

        hand_over(&world, "b").await;
        let opened = registry.status().connections_opened;
        let error = attempt(name, &a).await.expect_err(name);
        assert!(error.is_misrouted(), "{name}: {error:?}");
        let status = registry.status();
        let tried = (status.connections_opened, status.failures);
        assert_eq!(tried, (opened, 0), "{name}");
        assert_eq!(rows(&world).await, ["of the owner"], "{name}");
        hand_over(&world, "a").await;
    }
}

/// A transaction that is under way when the database changes hands.
#[tokio::test]
async fn statement_after_the_change_of_hands_is_refused_in_an_open_transaction() {
    let world = database_of("a").await;
    let registry = registry_of(&world, "a").await.expect("a's");
    let mut tx = scope(&registry, "a").await.begin().await.expect("begun");
    hand_over(&world, "b").await;
    let seen = sqlx::query("SELECT body FROM plain")
        .fetch_all(&mut tx)
        .await
        .map_err(Error::from);
    assert!(seen.expect_err("refused").is_misrouted());
}

/// Asking the database first takes a snapshot, which must not be the transaction's.
#[tokio::test]
async fn own_database_takes_every_kind_of_transaction() {
    let world = database_of("a").await;
    let registry = registry_of(&world, "a").await.expect("a's");
    let a = scope(&registry, "a").await;
    let serializable = TxOptions::default().serializable();
    for options in [
        TxOptions::default(),
        TxOptions::default().repeatable_read(),
        serializable.clone(),
        serializable.read_only().deferrable(),
    ] {
        let mut tx = a.begin_with(&options).await.expect("begun");
        let mut admin = world.admin().await;
        admin
            .execute("INSERT INTO plain VALUES ('after BEGIN')")
            .await
            .expect("a row");
        let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM plain WHERE body = 'after BEGIN'")
            .fetch_one(&mut tx)
            .await
            .expect("a count");
        assert!(seen > 0, "{options:?}");
        tx.commit().await.expect("committed");
        admin.execute("TRUNCATE plain").await.expect("emptied");
    }
}

/// The shared database is given to one tenant while a registry serves all of them from it.
#[tokio::test]
async fn shared_database_that_is_given_to_one_tenant_refuses_the_others() {
    let world = world(&["a", "b"]).await;
    let registry = world.registry().await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    support::notes(&b).await.expect("served");
    let mut admin = world.admin().await;
    Installation::new("app")
        .tenant_column("tenant_id", TenantType::Text)
        .database_of(tenant("a"))
        .install(&mut admin)
        .await
        .expect("installed");
    assert_eq!(support::notes(&a).await.expect("rows"), ["a note of a"]);
    let error = Error::from(support::notes(&b).await.expect_err("refused"));
    assert!(error.is_misrouted(), "{error:?}");
}

/// The specimen: with the database's own check taken away, the same attempts see and write rows.
#[tokio::test]
async fn without_the_check_every_attempt_gets_through() {
    let world = database_of("a").await;
    let registry = registry_of(&world, "a").await.expect("a's");
    let a = scope(&registry, "a").await;
    hand_over(&world, "b").await;
    let mut admin = world.admin().await;
    admin
        .execute("ALTER DOMAIN tenantry.scope DROP CONSTRAINT tenantry_2_tenant")
        .await
        .expect("dropped");
    for name in ATTEMPTS {
        let seen = attempt(name, &a).await;
        seen.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    assert!(rows(&world).await.contains(&"of an intruder".to_owned()));
}

#[tokio::test]
async fn own_database_that_does_not_know_whose_it_is_is_no_placement() {
    let world = world(&["a"]).await;
    let error = registry_of(&world, "a").await.expect_err("nobody's");
    assert_eq!(error.kind(), ErrorKind::Installation);
    assert!(error.to_string().contains("database_of"), "{error}");
}
