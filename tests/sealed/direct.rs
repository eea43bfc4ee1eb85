//! The attacker has the password of the application role, and no key.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use tenantry::ErrorKind;
use tenantry::sql::Installation;
use tenantry::testing::PostgresServer;

use crate::stage::{Context, intruder, key, kind, run, sealed_world, seen, signed};
use crate::support::World;

async fn code(connection: &mut PgConnection, text: &str) -> String {
    match sqlx::raw_sql(AssertSqlSafe(text))
        .fetch_all(connection)
        .await
    {
        Ok(rows) => format!("{} rows", rows.len()),
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[tokio::test]
async fn settings_show_no_rows() {
    let world = sealed_world().await;
    let mut app = intruder(&world).await;
    for set in [
        "SELECT 1",
        "SELECT set_config('app.tenant_id', 'b', false)",
        "SELECT set_config('tenantry.context', '', false)",
    ] {
        app.execute(set).await.expect(set);
        assert_eq!(
            code(&mut app, "SELECT * FROM notes").await,
            "0 rows",
            "{set}"
        );
    }
    for forged in [
        "b",
        "{b,x}",
        &"0".repeat(64),
        &format!("{}{{b,x}}", "0".repeat(80)),
        &format!("{}{{b,x}}", "f".repeat(80)),
    ] {
        let set = format!("SELECT set_config('tenantry.context', '{forged}', false)");
        app.execute(AssertSqlSafe(set)).await.expect("set");
        assert_eq!(
            code(&mut app, "SELECT * FROM notes").await,
            "28000",
            "{forged}"
        );
        assert_eq!(
            code(
                &mut app,
                "INSERT INTO notes (tenant_id, body) VALUES ('b', 'x')"
            )
            .await,
            "28000"
        );
    }
}

#[tokio::test]
async fn keys_cannot_be_read() {
    let world = sealed_world().await;
    let mut app = intruder(&world).await;
    // Not even by those who may read every table.
    run(
        &world,
        "GRANT pg_read_all_data TO app; GRANT SELECT ON ALL TABLES IN SCHEMA tenantry TO app",
    )
    .await;
    for table in ["signing_keys", "server_key"] {
        let read = format!("SELECT * FROM tenantry.{table}");
        assert_eq!(code(&mut app, &read).await, "0 rows", "{table}");
        let stats = format!("SELECT * FROM pg_stats WHERE tablename = '{table}'");
        run(&world, &format!("ANALYZE tenantry.{table}")).await;
        assert_eq!(code(&mut app, &stats).await, "0 rows", "{table}");
        let mut admin = world.admin().await;
        assert_ne!(code(&mut admin, &read).await, "0 rows", "{table}");
    }
    run(
        &world,
        "REVOKE pg_read_all_data FROM app; REVOKE SELECT ON ALL TABLES IN SCHEMA tenantry FROM app",
    )
    .await;
    for refused in [
        "SELECT * FROM tenantry.signing_keys",
        "SELECT * FROM tenantry.server_key",
        "SELECT count(*) FROM tenantry.server_key",
        "INSERT INTO tenantry.signing_keys (id, inner_pad, outer_pad) VALUES ('mine', repeat('x', 64)::bytea, repeat('x', 64)::bytea)",
        "UPDATE tenantry.server_key SET inner_pad = repeat('x', 64)::bytea",
        "DELETE FROM tenantry.signing_keys",
        "CREATE FUNCTION tenantry.mine() RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
        "CREATE OR REPLACE FUNCTION tenantry.current_tenant() RETURNS text LANGUAGE sql AS $$SELECT 'b'$$",
        "ALTER FUNCTION tenantry.current_tenant() SET search_path = public",
        "ALTER POLICY tenantry_tenant ON notes USING (true)",
        "ALTER DOMAIN tenantry.scope DROP CONSTRAINT tenantry_4_seal",
        "SET SESSION AUTHORIZATION postgres",
        "COPY tenantry.server_key TO STDOUT",
    ] {
        assert_eq!(code(&mut app, refused).await, "42501", "{refused}");
    }
}

/// Neither what is installed nor what the catalog shows of it has a secret in it.
#[tokio::test]
async fn keys_are_nowhere_else() {
    let world = sealed_world().await;
    let mut admin = world.admin().await;
    let keys: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT inner_pad FROM tenantry.signing_keys UNION ALL SELECT outer_pad FROM tenantry.signing_keys \
         UNION ALL SELECT inner_pad FROM tenantry.server_key UNION ALL SELECT outer_pad FROM tenantry.server_key",
    )
    .fetch_all(&mut admin)
    .await
    .expect("keys");
    assert_eq!(keys.len(), 4);
    let shown: Vec<String> = sqlx::query_scalar(
        "SELECT p::text FROM pg_proc AS p WHERE pronamespace = 'tenantry'::regnamespace \
         UNION ALL SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef \
         UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint \
         UNION ALL SELECT coalesce(pg_get_expr(polqual, polrelid), '') FROM pg_policy \
         UNION ALL SELECT coalesce(obj_description(oid), '') FROM pg_class \
         UNION ALL SELECT query FROM pg_stat_activity",
    )
    .fetch_all(&mut admin)
    .await
    .expect("the catalog");
    let text = crate::stage::plain().sealed().sql().expect("a script");
    for shown in shown.iter().chain([&text]) {
        assert!(!shown.contains("the secret of"), "{shown}");
        for key in &keys {
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!shown.contains(&hex), "{shown}");
        }
    }
}

/// Objects of one's own in front of those that are meant.
#[tokio::test]
async fn shadows() {
    let world = sealed_world().await;
    // What the crate takes away, given back.
    run(&world, "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY, CREATE ON DATABASE %I TO app', current_database()); END $$").await;
    let mut app = intruder(&world).await;
    let setup = "CREATE SCHEMA mine;
        CREATE TEMP TABLE server_key (inner_pad bytea, outer_pad bytea, previous_inner_pad bytea, previous_outer_pad bytea);
        INSERT INTO server_key VALUES ('', '', '', ''); GRANT ALL ON server_key TO PUBLIC;
        CREATE TABLE mine.server_key AS SELECT * FROM server_key;
        CREATE TABLE mine.signing_keys AS SELECT 'k'::text AS id, ''::bytea AS inner_pad, ''::bytea AS outer_pad;
        CREATE FUNCTION mine.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$SELECT ''::bytea$$;
        CREATE FUNCTION mine.encode(bytea, text) RETURNS text LANGUAGE sql AS $$SELECT repeat('0', 64)$$;
        CREATE FUNCTION mine.texteq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION mine.pg_backend_pid() RETURNS integer LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION mine.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$SELECT 'b'$$;
        CREATE OPERATOR mine.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.texteq);
        CREATE FUNCTION mine.yes(text, unknown) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        GRANT ALL ON SCHEMA mine TO PUBLIC";
    for statement in setup.split(";\n") {
        // One or another may not be had in every version, and is left out then.
        let _ = app.execute(AssertSqlSafe(statement)).await;
    }
    let forged = format!("{}{}{{b,x,clerk}}", "0".repeat(64), "0".repeat(16));
    for path in [
        "mine, pg_temp, public, pg_catalog",
        "pg_temp, mine, pg_catalog, public, tenantry",
    ] {
        let set = format!(
            "SELECT pg_catalog.set_config('search_path', '{path}', false), \
             pg_catalog.set_config('tenantry.context', '{forged}', false), \
             pg_catalog.set_config('app.tenant_id', 'b', false)"
        );
        app.execute(AssertSqlSafe(set)).await.expect("set");
        assert_eq!(
            code(&mut app, "SELECT * FROM public.notes").await,
            "28000",
            "{path}"
        );
        assert_eq!(
            code(&mut app, "SELECT tenantry.current_tenant()").await,
            "28000",
            "{path}"
        );
        let open = "SELECT tenantry.open_context(ARRAY['sealed-1', 'b', 'x', 'clerk', 'k', '99999999999', \
                    pg_catalog.repeat('0', 64)])";
        assert_eq!(code(&mut app, open).await, "28000", "{path}");
        // And a context that is right is served.
        let context = signed(&world, "a", "k1", 60).await;
        let seen = sqlx::query_scalar::<_, String>("SELECT body FROM public.notes")
            .bind(context)
            .fetch_all(&mut app)
            .await;
        assert_eq!(seen.expect("served"), ["a note of a"], "{path}");
    }
}

/// Arrays that are no contexts, given to what opens one.
#[tokio::test]
async fn internal_functions() {
    let world = sealed_world().await;
    let mut app = intruder(&world).await;
    for argument in [
        "NULL",
        "'{}'",
        "ARRAY[NULL]::text[]",
        "ARRAY['sealed-1', 'b', 'x', 'clerk', 'k1', '99999999999', repeat('0', 64)]",
        "ARRAY['sealed-1', 'b', 'x', 'clerk', 'k1', '99999999999', NULL]",
        "ARRAY['sealed-1', 'b', 'x', 'clerk', NULL, '99999999999', repeat('0', 64)]",
        "'[0:6]={sealed-1,b,x,clerk,k1,99999999999,0}'",
        "ARRAY[ARRAY['sealed-1', 'b'], ARRAY['k1', '1']]",
    ] {
        let open = format!("SELECT tenantry.open_context({argument})");
        assert_eq!(code(&mut app, &open).await, "28000", "{argument}");
        let read = format!("SELECT * FROM notes WHERE ({argument})::tenantry.scope IS NOT NULL");
        let refused = code(&mut app, &read).await;
        assert!(
            ["28000", "23514", "23502"].contains(&&*refused),
            "{argument}: {refused}"
        );
    }
}

/// A context of another layout, or for another one.
#[tokio::test]
async fn plain_contexts() {
    let world = sealed_world().await;
    let mut app = intruder(&world).await;
    for elements in [
        &["1", "b", "x"][..],
        &["1", "b", "x", "clerk"],
        &["1", "b", "x", "clerk", "k1", "99999999999", "0"],
        &["sealed-1", "b", "x"],
        &["sealed-1", "", "x", "clerk", "k1", "99999999999", "0"],
    ] {
        let error = seen(&mut app, Context::of(elements))
            .await
            .expect_err("refused");
        assert_eq!(kind(error), ErrorKind::Installation, "{elements:?}");
    }
}

async fn parallel(world: &World) -> (PgConnection, &'static str) {
    run(world, "INSERT INTO notes (tenant_id, body) SELECT 'a', 'more of a' FROM generate_series(1, 3000); \
                INSERT INTO notes (tenant_id, body) SELECT 'b', 'more of b' FROM generate_series(1, 3000); ANALYZE notes").await;
    let mut app = intruder(world).await;
    let force = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; \
                 SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off";
    app.execute(force).await.expect("set");
    (app, "SELECT count(*) FROM notes")
}

#[tokio::test]
async fn parallel_plans() {
    let world = sealed_world().await;
    let (mut app, count) = parallel(&world).await;
    let context = signed(&world, "a", "k1", 60).await;
    let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {count}");
    let plan = sqlx::query(AssertSqlSafe(explain))
        .bind(context.clone())
        .fetch_all(&mut app)
        .await;
    let plan: Vec<String> = plan.expect("a plan").iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("Workers Launched"), "{plan}");
    assert!(plan.contains("InitPlan"), "{plan}");
    let counted: i64 = sqlx::query_scalar(count)
        .bind(context)
        .fetch_one(&mut app)
        .await
        .expect("counted");
    assert_eq!(counted, 3_001);
}

#[tokio::test]
async fn generic_plans_follow_the_seal() {
    let world = sealed_world().await;
    let mut app = intruder(&world).await;
    app.execute("SET plan_cache_mode = force_generic_plan")
        .await
        .expect("set");
    for id in ["a", "b", "a"] {
        let context = signed(&world, id, "k1", 60).await;
        let seen = seen(&mut app, context).await.expect("served");
        assert_eq!(seen, [format!("a note of {id}")]);
    }
    assert_eq!(code(&mut app, "SELECT * FROM notes").await, "0 rows");
    // The policy is asked once a statement.
    let plan = sqlx::raw_sql("EXPLAIN SELECT * FROM notes WHERE id = 1")
        .fetch_all(&mut app)
        .await;
    let plan: Vec<String> = plan.expect("a plan").iter().map(|row| row.get(0)).collect();
    let asked = plan
        .iter()
        .filter(|line| line.trim_start().starts_with("InitPlan"));
    assert_eq!(asked.count(), 1, "{plan:?}");
}

/// Everything is logged, bound arguments too, unless the server is told not to.
async fn log_of(server: &PostgresServer) -> String {
    let admin = server.create_database("logged").await.expect("a database");
    let world = World {
        app: admin.clone().username("app"),
        admin,
    };
    run(
        &world,
        "CREATE ROLE app LOGIN; CREATE TABLE notes (body text)",
    )
    .await;
    let installation = crate::stage::plain().sealed();
    let mut admin = world.admin().await;
    installation.install(&mut admin).await.expect("installed");
    installation
        .table("notes")
        .apply(&mut admin)
        .await
        .expect("applied");
    Installation::add_signing_key(&mut admin, &key("k1"))
        .await
        .expect("added");
    let outer: String = sqlx::query_scalar("SELECT current_setting('log_parameter_max_length')")
        .fetch_one(&mut admin)
        .await
        .expect("a setting");
    let registry = crate::stage::registry(&world).await;
    let a = crate::stage::scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    crate::support::notes(&mut tx).await.expect("served");
    tx.commit().await.expect("committed");

    let pads: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT inner_pad FROM tenantry.signing_keys UNION ALL SELECT outer_pad FROM tenantry.signing_keys \
         UNION ALL SELECT inner_pad FROM tenantry.server_key UNION ALL SELECT outer_pad FROM tenantry.server_key",
    )
    .fetch_all(&mut admin)
    .await
    .expect("keys");
    let log =
        std::fs::read_to_string(server.folder().expect("a folder").join("log")).expect("the log");
    assert!(
        log.contains("INSERT INTO tenantry.signing_keys"),
        "it was not logged at all"
    );
    assert!(
        log.contains("SELECT body FROM notes"),
        "it was not logged at all"
    );
    for pad in pads {
        let hex: String = pad.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!log.contains(&hex), "a key is in the log");
    }
    assert!(["-1", "0"].contains(&&*outer), "it is put back: {outer}");
    log
}

#[tokio::test]
async fn what_a_log_shows() {
    let signed = "{sealed-1,a,";
    let server = PostgresServer::builder()
        .setting("log_statement", "all")
        .start()
        .await
        .expect("a server");
    assert!(
        log_of(&server).await.contains(signed),
        "the specimen: bound arguments are logged"
    );
    server.stop().await.expect("stopped");
    let server = PostgresServer::builder()
        .setting("log_statement", "all")
        .setting("log_parameter_max_length", "0")
        .start()
        .await
        .expect("a server");
    let log = log_of(&server).await;
    assert!(!log.contains(signed), "a token is in the log");
    server.stop().await.expect("stopped");
}
