//! What a registry serves, what it refuses to be built on, and how it ends.

mod support;

use std::future::poll_fn;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use support::fleet::Fleet;
use support::listed::Listed;
use support::silent::Silent;
use support::{World, empty_world, eventually, notes, scope, session, tenant, world, world_with};
use tenantry::sql::{Installation, TenantType};
use tenantry::{
    ContextSettings, EagerPools, Error, ErrorKind, LazyPools, PoolOptions, StaticDirectory,
    TenantContext, TenantRegistry, TenantState,
};

fn installation() -> Installation {
    Installation::new("app").tenant_column("tenant_id", TenantType::Text)
}

async fn build(options: PgConnectOptions) -> Result<TenantRegistry, Error> {
    TenantRegistry::builder(StaticDirectory::new().shared_by_all(options))
        .build()
        .await
}

async fn refusal(options: PgConnectOptions) -> (ErrorKind, String) {
    let error = build(options).await.expect_err("refused");
    (error.kind(), error.to_string())
}

async fn admin_runs(world: &World, sql: String) {
    let mut admin = world.admin().await;
    admin.execute(AssertSqlSafe(sql)).await.expect("done");
    admin.close().await.expect("closed");
}

#[tokio::test]
async fn shared_and_own_databases_are_served_side_by_side() {
    let shared = world(&["a", "b"]).await;
    let own = world_with(installation().database_of(tenant("c")), &["c"]).await;
    let directory = StaticDirectory::new()
        .shared(shared.app.clone(), [tenant("a"), tenant("b")])
        .database(tenant("c"), own.app.clone());
    let registry = TenantRegistry::builder(directory)
        .pool_options(|_, options: PoolOptions| options.max_connections(1))
        .build()
        .await
        .expect("a registry");
    for id in ["a", "b", "c", "a", "c", "b"] {
        let scope = scope(&registry, id).await;
        assert_eq!(
            notes(&scope).await.expect("rows"),
            [format!("a note of {id}")]
        );
        let mut tx = scope.begin().await.expect("begun");
        assert_eq!(
            notes(&mut tx).await.expect("rows"),
            [format!("a note of {id}")]
        );
        sqlx::query("INSERT INTO notes (body) VALUES ('b')")
            .execute(&mut tx)
            .await
            .expect("written");
        tx.rollback().await.expect("rolled back");
    }
    sqlx::query("INSERT INTO notes (body) VALUES ('another of c')")
        .execute(&scope(&registry, "c").await)
        .await
        .expect("written");
    assert_eq!(
        notes(&mut shared.admin().await).await.expect("rows").len(),
        2
    );
    assert_eq!(notes(&mut own.admin().await).await.expect("rows").len(), 2);
}

#[tokio::test]
async fn unknown_tenant_has_an_error_of_its_own() {
    let world = world(&["a"]).await;
    let directory = StaticDirectory::new().shared(world.app.clone(), [tenant("a")]);
    let registry = TenantRegistry::builder(directory)
        .build()
        .await
        .expect("a registry");
    let error = registry.scope(tenant("nobody")).await.expect_err("unknown");
    assert!(error.is_tenant_unknown(), "{error:?}");
    assert!(!error.is_retryable());

    let nobody = TenantRegistry::builder(StaticDirectory::new())
        .build()
        .await
        .expect("a registry of nobody");
    let error = nobody.scope(tenant("a")).await.expect_err("unknown");
    assert!(error.is_tenant_unknown(), "{error:?}");

    // Where everybody shares, who does not exist sees nothing.
    let registry = world.registry().await;
    let seen = notes(&scope(&registry, "nobody").await).await;
    assert_eq!(seen.expect("no error"), Vec::<String>::new());
}

/// Roles belong to the server, which other tests use as well.
#[tokio::test]
async fn role_that_can_step_out_of_the_isolation_is_refused() {
    let world = world(&["a"]).await;
    let mark = world.app.get_database().expect("named").to_owned();
    let role = |name: &str| world.app.clone().username(&format!("{name}_{mark}"));
    admin_runs(
        &world,
        format!(
            "CREATE ROLE fine_{mark} LOGIN IN ROLE app; \
             CREATE ROLE bypass_{mark} LOGIN BYPASSRLS IN ROLE app; \
             CREATE ROLE owner_{mark} LOGIN IN ROLE app; \
             CREATE ROLE member_{mark} LOGIN NOINHERIT IN ROLE owner_{mark}; \
             GRANT USAGE ON SCHEMA tenantry TO member_{mark}; \
             GRANT SELECT ON tenantry.installation TO member_{mark}; \
             CREATE ROLE becomes_{mark} LOGIN IN ROLE app, bypass_{mark};"
        ),
    )
    .await;

    build(role("fine")).await.expect("nothing is wrong with it");
    for (options, named) in [
        (world.admin.clone(), "superuser"),
        (role("bypass"), "BYPASSRLS"),
        (role("becomes"), "BYPASSRLS"),
    ] {
        let (kind, text) = refusal(options).await;
        assert_eq!(kind, ErrorKind::Preflight, "{text}");
        assert!(text.contains(named), "{named}: {text}");
    }

    build(role("owner")).await.expect("owns nothing yet");
    build(role("member")).await.expect("nor does it");
    admin_runs(&world, format!("ALTER TABLE notes OWNER TO owner_{mark}")).await;
    for name in ["owner", "member"] {
        let (kind, text) = refusal(role(name)).await;
        assert_eq!(kind, ErrorKind::Preflight, "{text}");
        assert!(text.contains("owns the table public.notes"), "{text}");
    }

    build(world.app.clone()).await.expect("no such privilege");
    admin_runs(&world, format!("GRANT TEMPORARY ON DATABASE {mark} TO app")).await;
    let (kind, text) = refusal(world.app.clone()).await;
    assert_eq!(kind, ErrorKind::Preflight, "{text}");
    assert!(
        text.contains(&format!("REVOKE TEMPORARY ON DATABASE {mark} FROM app")),
        "{text}"
    );
}

#[tokio::test]
async fn installation_that_does_not_fit_says_what_to_run() {
    let nothing = empty_world().await;
    let (kind, text) = refusal(nothing.app.clone()).await;
    assert_eq!(kind, ErrorKind::Installation, "{text}");
    assert!(
        text.contains("run tenantry::sql::Installation::install"),
        "{text}"
    );

    let installed = world(&["a"]).await;
    let with = async |settings| {
        let error =
            TenantRegistry::builder(StaticDirectory::new().shared_by_all(installed.app.clone()))
                .settings(settings)
                .build()
                .await
                .expect_err("refused");
        (error.kind(), error.to_string())
    };
    let (kind, text) = with(ContextSettings::new("x.tenant", "x.user").expect("names")).await;
    assert_eq!(kind, ErrorKind::Installation, "{text}");
    assert!(text.contains("give this registry the settings"), "{text}");

    let more = ContextSettings::default().with("app.role").expect("a name");
    let (kind, text) = with(more.clone()).await;
    assert_eq!(kind, ErrorKind::Installation, "{text}");
    assert!(
        text.contains("run tenantry::sql::Installation::install"),
        "{text}"
    );

    // And what the text says helps.
    let mut admin = installed.admin().await;
    installation()
        .settings(more.clone())
        .install(&mut admin)
        .await
        .expect("installed");
    let _ = installed
        .registry_of(installed.app.clone(), more, |o| o)
        .await;
    // A process from before the deployment goes on with what it knows.
    let _ = installed.registry().await;
}

#[tokio::test]
async fn closed_registry_takes_no_more_and_lets_the_running_end() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("INSERT INTO notes (body) VALUES ('the last one')")
        .execute(&mut tx)
        .await
        .expect("written");
    let mut waiting = pin!(notes(&a));
    let first = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
    assert!(first.is_pending(), "there is one connection");

    registry.close();
    let kind = |error: sqlx::Error| Error::from(error).kind();
    assert_eq!(waiting.await.map_err(kind), Err(ErrorKind::Closed));
    assert_eq!(notes(&a).await.map_err(kind), Err(ErrorKind::Closed));
    let begun = a.begin().await.map(drop).map_err(|error| error.kind());
    assert_eq!(begun, Err(ErrorKind::Closed));

    assert_eq!(notes(&mut tx).await.expect("still there").len(), 2);
    tx.commit().await.expect("committed");
    eventually("its connection is closed", async || {
        world.sessions().await == 0
    })
    .await;
    let mut admin = world.admin().await;
    assert_eq!(notes(&mut admin).await.expect("rows").len(), 2);
    assert_eq!(notes(&a).await.map_err(kind), Err(ErrorKind::Closed));
}

#[tokio::test]
async fn idle_connections_end_when_the_registry_is_closed() {
    let world = world(&["a"]).await;
    let registry = world
        .registry_with(|options| options.max_connections(3))
        .await;
    let a = scope(&registry, "a").await;
    let (one, two, three) = tokio::join!(a.begin(), a.begin(), a.begin());
    for tx in [one, two, three] {
        tx.expect("begun").rollback().await.expect("rolled back");
    }
    assert_eq!(world.sessions().await, 3);
    registry.close();
    eventually("all are closed", async || world.sessions().await == 0).await;
}

#[tokio::test]
async fn wait_for_a_connection_ends_at_acquire_timeout() {
    let world = world(&["a"]).await;
    let registry = world
        .registry_with(|options| {
            options
                .max_connections(1)
                .acquire_timeout(Duration::from_secs(5))
        })
        .await;
    let a = scope(&registry, "a").await;
    let tx = a.begin().await.expect("begun");
    let (statement, begin) = tokio::join!(notes(&a), a.begin());
    for error in [
        Error::from(statement.expect_err("none is free")),
        begin.expect_err("none is free"),
    ] {
        assert_eq!(error.kind(), ErrorKind::AcquireTimeout);
        assert!(error.is_retryable());
    }
    tx.rollback().await.expect("rolled back");
    notes(&a).await.expect("free again");
}

#[tokio::test]
async fn server_that_is_not_there_is_a_matter_of_connecting() {
    let world = world(&["a"]).await;
    let port = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.local_addr().expect("bound").port()
    };
    let (kind, text) = refusal(world.app.clone().port(port)).await;
    assert_eq!(kind, ErrorKind::Connect, "{text}");
    assert!(!text.contains(&port.to_string()), "{text}");

    let (kind, text) = refusal(world.app.clone().database("no_such_database")).await;
    assert_eq!(kind, ErrorKind::Connect, "{text}");
    assert!(!text.contains("no_such_database"), "{text}");
}

#[tokio::test]
async fn wrong_password_is_a_matter_of_connecting() {
    let world = world(&["a"]).await;
    let role = format!("locked_{}", world.app.get_database().expect("named"));
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'the right one' IN ROLE app");
    admin_runs(&world, create).await;
    // The server trusts everybody: it is told not to trust this role, and asked until it does not.
    let mut admin = world.admin().await;
    let file: String = sqlx::query_scalar("SHOW hba_file")
        .fetch_one(&mut admin)
        .await
        .expect("a path");
    // Read before COPY opens it to be written: what it held is for the other tests.
    let held: String = sqlx::query_scalar("SELECT pg_read_file($1)")
        .bind(&file)
        .fetch_one(&mut admin)
        .await
        .expect("its text");
    let lock = format!(
        "COPY (SELECT unnest(string_to_array('host all {role} all scram-sha-256' || E'\\n' || \
                 $hba${held}$hba$, E'\\n'))) TO '{file}'; SELECT pg_reload_conf()"
    );
    admin.execute(AssertSqlSafe(lock)).await.expect("reloaded");
    let locked = world.app.clone().username(&role);
    let wrong = locked.clone().password("the wrong one");
    eventually("the server asks for a password", async || {
        wrong.connect().await.is_err()
    })
    .await;

    let (kind, text) = refusal(wrong).await;
    assert_eq!(kind, ErrorKind::Connect, "{text}");
    assert!(!text.contains(&role) && !text.contains("wrong"), "{text}");
    build(locked.password("the right one"))
        .await
        .expect("let in");
}

#[tokio::test]
async fn further_settings_reach_every_way_and_leave_with_their_context() {
    const ROLE: &str = "SELECT current_setting('app.role', true)";
    const COPY: &str =
        "COPY (SELECT current_setting('app.role', true)) TO STDOUT (FORMAT csv, QUOTE '|')";
    let settings = ContextSettings::default()
        .with("app.role")
        .and_then(|settings| settings.with("app.request"))
        .expect("names");
    let world = world_with(installation().settings(settings.clone()), &["a"]).await;
    let one = |options: PoolOptions| options.max_connections(1);
    let registry = world.registry_of(world.app.clone(), settings, one).await;
    let clerk = TenantContext::new(tenant("a")).setting("app.role", "it's a \"clerk\" \\");
    let without = TenantContext::new(tenant("a")).setting("app.request", "7");
    for _ in 0..2 {
        for (context, expected) in [(&clerk, "it's a \"clerk\" \\"), (&without, "")] {
            let scope = registry.scope(context.clone()).await.expect("a scope");
            let seen: String = sqlx::query_scalar(ROLE)
                .fetch_one(&scope)
                .await
                .expect("a row");
            assert_eq!(seen, expected, "a statement");

            let mut tx = scope.begin().await.expect("begun");
            let seen: String = sqlx::query_scalar(ROLE)
                .fetch_one(&mut tx)
                .await
                .expect("a row");
            assert_eq!(seen, expected, "in a transaction");
            tx.commit().await.expect("committed");

            // Each in a transaction of its own: a statement before would have said it already.
            let mut tx = scope.begin().await.expect("begun");
            let rows = sqlx::raw_sql(ROLE).fetch_all(&mut tx).await.expect("a row");
            let seen: &str = sqlx::Row::get(&rows[0], 0);
            assert_eq!(seen, expected, "raw_sql");
            tx.commit().await.expect("committed");

            let mut tx = scope.begin().await.expect("begun");
            let copied: Vec<_> = tx
                .copy_out_raw(COPY)
                .await
                .expect("begun")
                .try_collect()
                .await
                .expect("copied");
            let copied = String::from_utf8(copied.concat()).expect("UTF-8");
            assert_eq!(copied.trim_end().trim_matches('|'), expected, "COPY");
            tx.commit().await.expect("committed");
        }
    }
}

#[tokio::test]
async fn setting_that_the_database_does_not_know_is_refused_in_silence() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let long = "canary".repeat(2_000);
    for context in [
        TenantContext::new(tenant("a")).setting("app.role", "canary"),
        TenantContext::new(tenant("a")).setting("app.tenant_id", "canary"),
        TenantContext::new(tenant("a")).setting("work_mem", "canary"),
        TenantContext::new(tenant("a")).user("canary\0"),
        TenantContext::new(tenant("a")).user(&long),
        TenantContext::new(tenant("a")).user(""),
    ] {
        let error = registry.scope(context).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidContext);
        assert!(
            !format!("{error} {error:?}").contains("canary"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn connection_is_used_again_until_its_lifetime_is_over() {
    let world = world(&["a"]).await;
    for (lifetime, same) in [(None, true), (Some(Duration::ZERO), false)] {
        let registry = world
            .registry_with(move |options| options.max_connections(1).max_lifetime(lifetime))
            .await;
        let a = scope(&registry, "a").await;
        let mut backends = Vec::new();
        for _ in 0..3 {
            backends.push(session(&a).await.expect("served").backend);
            let mut tx = a.begin().await.expect("begun");
            backends.push(session(&mut tx).await.expect("served").backend);
            tx.commit().await.expect("committed");
        }
        backends.dedup();
        assert_eq!(backends.len(), if same { 1 } else { 6 }, "{backends:?}");
    }
}

#[tokio::test]
async fn eager_pools_are_all_opened_or_it_is_said_which_are_not() {
    let fleet = Fleet::new(3).await;
    let mut admin = fleet.superuser().await;
    let late = tenant("late");
    let directory = || {
        fleet
            .directory()
            .database(late.clone(), fleet.server.named(fleet.name(&late)))
    };
    let error = TenantRegistry::builder(directory())
        .build()
        .await
        .expect_err("all or nothing");
    assert_eq!(error.kind(), ErrorKind::Connect);

    let registry = TenantRegistry::builder(directory())
        .eager(EagerPools::default().start_degraded(true).parallel(2))
        .build()
        .await
        .expect("starts without one");
    let failed: Vec<_> = registry
        .failed_at_start()
        .iter()
        .map(|(id, error)| (id.as_str(), error.kind()))
        .collect();
    assert_eq!(failed, [("late", ErrorKind::Connect)]);
    assert_eq!(fleet.sessions(&mut admin).await, 3);
    for n in 0..3 {
        let seen = notes(&scope(&registry, &format!("t{n}")).await).await;
        assert_eq!(seen.expect("rows"), [format!("a note of t{n}")]);
    }

    let nobody = StaticDirectory::new().database(late.clone(), fleet.server.named("nowhere"));
    TenantRegistry::builder(nobody)
        .eager(EagerPools::default().start_degraded(true))
        .build()
        .await
        .expect_err("nobody can be served");
}

#[tokio::test]
async fn eager_pools_are_opened_so_many_at_a_time() {
    for (eager, at_a_time) in [
        (EagerPools::default(), 8),
        (EagerPools::default().parallel(2), 2),
        (EagerPools::default().parallel(0), 1),
    ] {
        let silent = Silent::start(Duration::from_millis(300)).await;
        let directory = silent.tenants(at_a_time + 2);
        TenantRegistry::builder(directory)
            .eager(eager.start_degraded(true))
            .build()
            .await
            .expect_err("nobody answers");
        assert_eq!(silent.most_at_a_time(), at_a_time);
    }
}

/// They were taken away between being listed and being met.
#[tokio::test]
async fn tenant_that_is_not_served_keeps_no_registry_from_starting() {
    let fleet = Fleet::new(1).await;
    for state in [
        None,
        Some(TenantState::Suspended),
        Some(TenantState::Moving),
        Some(TenantState::Deleted),
    ] {
        let away = tenant("away");
        let mut answers = fleet.directory();
        if let Some(state) = state {
            answers = answers.database(away.clone(), fleet.server.named("nowhere"));
            assert!(answers.set_state(&away, state));
        }
        let directory = Listed {
            answers,
            tenants: vec![away, tenant("t0")],
            fails_behind: None,
        };
        let registry = TenantRegistry::builder(directory)
            .build()
            .await
            .expect("the others can be served");
        assert!(registry.failed_at_start().is_empty(), "{state:?}");
        let seen = notes(&scope(&registry, "t0").await).await;
        assert_eq!(seen.expect("rows"), ["a note of t0"]);
    }
}

#[tokio::test]
async fn registry_that_is_not_built_leaves_no_connection() {
    let fleet = Fleet::new(3).await;
    let mut admin = fleet.superuser().await;
    let missing = tenant("missing");
    let fails = fleet
        .directory()
        .database(missing, fleet.server.named("nowhere"));
    TenantRegistry::builder(fails)
        .eager(EagerPools::default().parallel(1))
        .build()
        .await
        .expect_err("all or nothing");
    eventually("nobody is connected", async || {
        fleet.sessions(&mut admin).await == 0
    })
    .await;

    let silent = Silent::start(Duration::from_secs(3600)).await;
    let waits = fleet.directory().database(tenant("z"), silent.database());
    let mut build = Box::pin(TenantRegistry::builder(waits).build());
    let opened = eventually("the others are connected", async || {
        fleet.sessions(&mut admin).await == 3
    });
    tokio::select! {
        biased;
        () = opened => {}
        _ = &mut build => panic!("nobody answers"),
    }
    drop(build);
    eventually("nobody is connected", async || {
        fleet.sessions(&mut admin).await == 0
    })
    .await;
}

#[tokio::test]
async fn debug_says_what_it_is_and_nothing_of_connections() {
    let world = empty_world().await;
    let builder = TenantRegistry::builder(
        StaticDirectory::new().database(tenant("a"), world.app.clone().password("c4n4ry")),
    )
    .lazy(LazyPools::default().max_pools(4711));
    let shown = format!("{builder:?}");
    assert!(shown.starts_with("TenantRegistryBuilder"), "{shown}");
    assert!(
        shown.contains("4711") && !shown.contains("c4n4ry"),
        "{shown}"
    );
    let shown = format!("{:?}", builder.build().await.expect("a registry"));
    assert!(shown.starts_with("TenantRegistry "), "{shown}");
    assert!(!shown.contains("c4n4ry"), "{shown}");
}
