//! From plain to sealed and back, and who is served meanwhile.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tenantry::sql::Installation;
use tenantry::{Error, ErrorKind, StaticDirectory, TenantRegistry};

use crate::stage::{
    builder, intruder, key, kind, plain, plain_registry, plain_world, registry, run, scope,
    sealed_world,
};
use crate::support::{World, empty_world, notes, tenant};

async fn policies(world: &World) -> String {
    let sql = "SELECT string_agg(concat_ws(' ', tablename, policyname, cmd, qual, with_check), E'\\n' ORDER BY 1) \
               FROM (SELECT * FROM pg_policies ORDER BY schemaname, tablename, policyname) AS p";
    sqlx::query_scalar(sql)
        .fetch_one(&mut world.admin().await)
        .await
        .expect("policies")
}

async fn install(world: &World, installation: &Installation) {
    installation
        .install(&mut world.admin().await)
        .await
        .expect("installed");
}

#[tokio::test]
async fn in_three_steps_while_statements_go_on() {
    let world = plain_world().await;
    let old = plain_registry(&world).await;
    let a = scope(&old, "a").await;
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);

    install(&world, &plain().prepare_seal()).await;
    Installation::add_signing_key(&mut world.admin().await, &key("k1"))
        .await
        .expect("a key");
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
    let new = registry(&world).await;
    let b = scope(&new, "b").await;
    assert_eq!(notes(&b).await.expect("served"), ["a note of b"]);
    let mut tx = b.begin().await.expect("begun");
    assert_eq!(notes(&mut tx).await.expect("served"), ["a note of b"]);
    assert_eq!(notes(&a).await.expect("both are served"), ["a note of a"]);

    // The table is in use.
    tx.commit().await.expect("committed");
    install(&world, &plain().sealed()).await;
    assert_eq!(notes(&b).await.expect("served"), ["a note of b"]);
    let error = notes(&a).await.expect_err("it does not sign");
    assert_eq!(kind(error), ErrorKind::Installation);
}

#[tokio::test]
async fn there_and_back() {
    let world = plain_world().await;
    let mut admin = world.admin().await;
    for script in [
        plain().number_series().sql(),
        plain().trail().sql(),
        plain().authorization().sql(),
    ] {
        admin
            .execute(AssertSqlSafe(script.expect("a script")))
            .await
            .expect("applied");
    }
    // Of another type and with another name for the key.
    run(
        &world,
        "CREATE TABLE numbered (id integer PRIMARY KEY, body text)",
    )
    .await;
    let numbered = plain().tenant_column("owner_id", tenantry::sql::TenantType::BigInt);
    numbered
        .table("numbered")
        .apply(&mut admin)
        .await
        .expect("applied");
    let before = policies(&world).await;
    install(&world, &plain().sealed()).await;
    let sealed = policies(&world).await;
    assert!(!sealed.contains("current_setting"), "{sealed}");
    assert!(sealed.contains("current_tenant() AS"), "{sealed}");
    assert!(
        sealed.contains("(tenantry.current_tenant())::bigint"),
        "{sealed}"
    );
    // What a table says of itself is the same.
    plain()
        .sealed()
        .table("notes")
        .apply(&mut admin)
        .await
        .expect("applied");
    assert_eq!(policies(&world).await, sealed);
    install(&world, &plain().sealed()).await;
    assert_eq!(policies(&world).await, sealed);
    install(&world, &plain().unseal()).await;
    assert_eq!(policies(&world).await, before);
    let registry = plain_registry(&world).await;
    assert_eq!(
        notes(&scope(&registry, "a").await).await.expect("served"),
        ["a note of a"]
    );
}

/// Who installs again without a word of the seal has forgotten it.
#[tokio::test]
async fn a_seal_is_taken_off_by_those_who_say_so() {
    let world = sealed_world().await;
    let mut admin = world.admin().await;
    let sealed = policies(&world).await;
    for installation in [plain(), plain().prepare_seal()] {
        let error = installation.install(&mut admin).await.expect_err("sealed");
        assert_eq!(error.kind(), ErrorKind::Installation);
        assert!(error.to_string().contains("unseal"), "{error}");
        assert_eq!(policies(&world).await, sealed);
    }
    install(&world, &plain().sealed().unseal()).await;
    assert_eq!(policies(&world).await, sealed);
    install(&world, &plain().prepare_seal().unseal()).await;
    assert_ne!(policies(&world).await, sealed);
    plain().install(&mut admin).await.expect_err("prepared");
    install(&world, &plain().unseal()).await;
    install(&world, &plain()).await;
}

#[tokio::test]
async fn tables_of_another_level_are_refused() {
    let world = sealed_world().await;
    let mut admin = world.admin().await;
    for installation in [plain(), plain().prepare_seal()] {
        let error = installation
            .table("notes")
            .apply(&mut admin)
            .await
            .expect_err("sealed");
        assert_eq!(error.kind(), ErrorKind::Installation);
        assert!(error.to_string().contains("sealed"), "{error}");
    }
    let world = plain_world().await;
    let mut admin = world.admin().await;
    let error = plain()
        .sealed()
        .table("notes")
        .apply(&mut admin)
        .await
        .expect_err("not sealed");
    assert_eq!(error.kind(), ErrorKind::Installation);
}

async fn refused(builder: tenantry::TenantRegistryBuilder) -> Error {
    builder.build().await.expect_err("a mismatch")
}

#[tokio::test]
async fn registries_that_do_not_fit() {
    let (sealed, plain) = (sealed_world().await, plain_world().await);
    let error = refused(builder(sealed.app.clone())).await;
    assert_eq!(error.kind(), ErrorKind::Installation);
    assert!(error.to_string().contains("signing_key"), "{error}");
    let error = refused(builder(plain.app.clone()).signing_key(key("k1"))).await;
    assert_eq!(error.kind(), ErrorKind::Installation);
    assert!(error.to_string().contains("sealed"), "{error}");
}

/// What somebody changed since is found when a registry is built.
#[tokio::test]
async fn what_undoes_the_seal_is_found() {
    for (undo, found) in [
        (
            "GRANT SELECT ON tenantry.server_key TO app",
            "app holds SELECT on tenantry.server_key",
        ),
        (
            "GRANT SELECT ON tenantry.signing_keys TO PUBLIC",
            "PUBLIC holds SELECT on tenantry.signing_keys",
        ),
        (
            "ALTER POLICY tenantry_backstop ON notes USING (tenant_id = current_setting('app.tenant_id', true))",
            "the policy tenantry_backstop on public.notes reads settings",
        ),
    ] {
        let world = sealed_world().await;
        run(&world, undo).await;
        if undo.starts_with("ALTER") {
            run(&world, "ALTER POLICY tenantry_backstop ON notes WITH CHECK (tenant_id = current_setting('app.tenant_id', true))").await;
        }
        let error = refused(builder(world.app.clone()).signing_key(key("k1"))).await;
        assert_eq!(error.kind(), ErrorKind::Preflight, "{undo}");
        assert!(error.to_string().contains(found), "{error}");
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_had() {
    let world = sealed_world().await;
    let missing = tenantry::Secret::environment("TENANTRY_NO_SUCH_VARIABLE");
    let key = tenantry::SigningKey::new("k1", missing).expect("a key");
    let error = refused(builder(world.app.clone()).signing_key(key)).await;
    assert_eq!(error.kind(), ErrorKind::Connect);
}

/// A tenant's own database, sealed, refuses other tenants before it verifies anything.
#[tokio::test]
async fn a_database_of_one_tenant() {
    let world = empty_world().await;
    let installation = plain().database_of(tenant("a")).sealed();
    let mut admin = world.admin().await;
    installation.install(&mut admin).await.expect("installed");
    Installation::add_signing_key(&mut admin, &key("k1"))
        .await
        .expect("a key");
    run(&world, "CREATE TABLE notes (body text); GRANT ALL ON notes TO app; INSERT INTO notes VALUES ('a note of a')").await;
    let directory = StaticDirectory::new().database(tenant("a"), world.app.clone());
    let registry = TenantRegistry::builder(directory)
        .settings(crate::stage::settings())
        .signing_key(key("k1"))
        .build()
        .await
        .expect("a registry");
    let a = scope(&registry, "a").await;
    assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
    let mut tx = a.begin().await.expect("begun");
    sqlx::raw_sql("SELECT 1")
        .execute(&mut tx)
        .await
        .expect_err("no context yet");
    assert_eq!(notes(&mut tx).await.expect("served"), ["a note of a"]);
    tx.commit().await.expect("committed");

    let mut app = intruder(&world).await;
    let other = crate::stage::signed(&world, "b", "k1", 60).await;
    let error = crate::stage::seen(&mut app, other)
        .await
        .expect_err("another tenant");
    assert_eq!(kind(error), ErrorKind::Misrouted);
}

/// Whoever owns the tables and the database, and is no superuser.
#[tokio::test]
async fn an_owner_without_special_rights() {
    let database = crate::support::database::TestDatabase::start()
        .await
        .expect("a database");
    let mut owner = database.owner().await.expect("the owner");
    let installation = Installation::new(&*database.app)
        .tenant_column("tenant_id", tenantry::sql::TenantType::Text)
        .sealed();
    installation.install(&mut owner).await.expect("installed");
    Installation::add_signing_key(&mut owner, &key("k1"))
        .await
        .expect("a key");
    owner
        .execute("CREATE SCHEMA shop; CREATE TABLE shop.notes (body text)")
        .await
        .expect("a table");
    let grant = format!("GRANT USAGE ON SCHEMA shop TO {}", database.app);
    owner.execute(AssertSqlSafe(grant)).await.expect("granted");
    installation
        .table("shop.notes")
        .apply(&mut owner)
        .await
        .expect("applied");
    let app = database.options().username(&database.app);
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(app.clone()))
        .signing_key(key("k1"))
        .build()
        .await
        .expect("a registry");
    let a = registry.scope(tenant("a")).await.expect("a scope");
    sqlx::query("INSERT INTO shop.notes (body) VALUES ($1)")
        .bind("x")
        .execute(&a)
        .await
        .expect("inserted");
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM shop.notes")
        .fetch_one(&a)
        .await
        .expect("counted");
    assert_eq!(count, 1);
    let mut intruder = app.connect().await.expect("the application connects");
    let set = "SELECT set_config('app.tenant_id', 'a', false)";
    intruder.execute(set).await.expect("set");
    let rows = sqlx::query("SELECT * FROM shop.notes")
        .fetch_all(&mut intruder)
        .await
        .expect("none");
    assert!(rows.is_empty());
    Installation::rotate_server_key(&mut owner)
        .await
        .expect("rotated");
}
