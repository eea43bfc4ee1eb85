//! A directory that is a table: what it answers, how soon it hears of a change, and what it does
//! when it hears nothing.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use sqlx::{AssertSqlSafe, Executor as _};
use support::control::{Control, NEVER, builder, connect, find, list, server, soon, state, told};
use support::log::log;
use support::tenant;
use tenantry::sql::ControlTables;
use tenantry::testing::{FaultProxy, PostgresServer};
use tenantry::{
    Database, DirectoryChange, Error, ErrorKind, Placement, PostgresDirectory, Secret, SecretError,
    SecretResolver, SecretString, TenantDirectory, TenantId, TenantState,
};

#[tokio::test]
async fn each_placement_and_state_is_found_and_listed() {
    let mut control = Control::start().await;
    control.three().await;
    for state in ["suspended", "moving", "deleted"] {
        control
            .run(&format!(
                "INSERT INTO tenantry.tenants (id, placement, server, database, state) \
                 VALUES ('{state}', 'shared', 'main', 'app', '{state}')"
            ))
            .await;
    }
    let directory = control.directory().await;

    let main = Database::new(server("db-1.invalid"));
    let other = Database::new(server("db-2.invalid"));
    for (id, placement) in [
        (
            "a",
            Placement::Shared {
                database: main.named("app"),
            },
        ),
        (
            "B",
            Placement::Database {
                database: main.named("app_b"),
            },
        ),
        (
            "c",
            Placement::Schema {
                database: other.named("app"),
                schema: "tenant_c".into(),
            },
        ),
    ] {
        let record = find(&directory, id).await.expect(id);
        assert!(*record.placement() == placement, "{id}: {record:?}");
        assert_eq!(record.tenant_state(), TenantState::Active);
        assert_eq!(record.placement_epoch(), 0);
    }
    assert_eq!(state(&directory, "suspended").await, TenantState::Suspended);
    assert_eq!(state(&directory, "moving").await, TenantState::Moving);
    assert_eq!(state(&directory, "deleted").await, TenantState::Deleted);
    assert_eq!(
        find(&directory, "b").await,
        None,
        "ids are compared by bytes"
    );

    // In order of bytes: upper case first.
    assert_eq!(list(&directory, None, 10).await, ["B", "a", "c"]);
    assert_eq!(list(&directory, None, 2).await, ["B", "a"]);
    assert_eq!(list(&directory, Some("a"), 2).await, ["c"]);
    assert_eq!(list(&directory, Some("b"), 2).await, ["c"]);
    assert!(list(&directory, Some("c"), 2).await.is_empty());
}

#[tokio::test]
async fn a_change_is_known_everywhere_within_a_second() {
    let mut control = Control::start().await;
    control.three().await;
    let directories = [control.directory().await, control.directory().await];
    let mut streams = directories.each_ref().map(TenantDirectory::changes);
    let mut took = Vec::new();
    for turn in 0..20 {
        let (text, expected) = match turn % 2 {
            0 => ("suspended", TenantState::Suspended),
            _ => ("active", TenantState::Active),
        };
        let begun = Instant::now();
        control.state("B", text).await;
        for (directory, stream) in directories.iter().zip(&mut streams) {
            told(stream, "B").await;
            assert_eq!(state(directory, "B").await, expected);
        }
        took.push(begun.elapsed());
    }
    took.sort();
    println!(
        "known by two directories after {:?}, at most {:?}",
        took[10], took[19]
    );
    // One may be late on a busy machine; half of them are not.
    assert!(took[10] < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn every_kind_of_change_is_told() {
    let mut control = Control::start().await;
    control.three().await;
    let directory = control.directory().await;
    let mut changes = directory.changes();

    control
        .run("INSERT INTO tenantry.tenants VALUES ('d', 'shared', 'main', 'app')")
        .await;
    told(&mut changes, "d").await;
    assert_eq!(state(&directory, "d").await, TenantState::Active);

    let moves = "UPDATE tenantry.tenants SET server = 'other', database = 'new' WHERE id = 'a'";
    control.run(moves).await;
    told(&mut changes, "a").await;
    let moved = find(&directory, "a").await.expect("a");
    let database = Database::new(server("db-2.invalid")).named("new");
    assert!(*moved.placement() == Placement::Shared { database });
    assert_eq!(moved.placement_epoch(), 1, "the trigger has raised it");

    control
        .run("UPDATE tenantry.tenants SET id = 'e' WHERE id = 'd'")
        .await;
    told(&mut changes, "e").await;
    assert_eq!(find(&directory, "d").await, None);
    assert_eq!(state(&directory, "e").await, TenantState::Active);

    control
        .run("DELETE FROM tenantry.tenants WHERE id = 'e'")
        .await;
    told(&mut changes, "e").await;
    assert_eq!(find(&directory, "e").await, None);

    control.run("TRUNCATE tenantry.tenants").await;
    told(&mut changes, "c").await;
    assert!(list(&directory, None, 10).await.is_empty());
}

#[tokio::test]
async fn a_flood_of_changes_arrives_whole() {
    let mut control = Control::start().await;
    let directory = control.directory().await;
    let mut changes = directory.changes();
    for ids in ["1, 50", "51, 2500", "2501, 2501"] {
        control
            .run(&format!(
                "INSERT INTO tenantry.tenants (id, placement, server, database) \
                 SELECT 't' || n, 'shared', 'main', 'app' FROM generate_series({ids}) AS n"
            ))
            .await;
    }
    told(&mut changes, "t2501").await;
    soon(async {
        while list(&directory, None, 5_000).await.len() < 2_501 {
            changes.next().await;
        }
    })
    .await;
    // One transaction each, so that they come one by one.
    for n in 1..=300 {
        control.state(&format!("t{n}"), "suspended").await;
    }
    soon(async {
        while state(&directory, "t300").await != TenantState::Suspended {
            changes.next().await;
        }
    })
    .await;
    for n in 1..=300 {
        assert_eq!(
            state(&directory, &format!("t{n}")).await,
            TenantState::Suspended
        );
    }
}

#[tokio::test]
async fn what_happened_while_nobody_listened_is_read_afterwards() {
    let mut control = Control::start().await;
    control.three().await;
    let directory = control.directory().await;
    let mut changes = directory.changes();
    control.lock_out().await;
    control.state("a", "suspended").await;
    control
        .run("DELETE FROM tenantry.tenants WHERE id = 'B'")
        .await;
    control
        .run("INSERT INTO tenantry.tenants VALUES ('d', 'shared', 'main', 'app')")
        .await;
    assert_eq!(
        state(&directory, "a").await,
        TenantState::Active,
        "the last that is known"
    );
    control.let_in().await;
    // Only what is different is told.
    let mut heard: Vec<TenantId> = Vec::new();
    while heard.len() < 3 {
        match soon(changes.next()).await {
            Some(DirectoryChange::Tenant(id)) => heard.push(id),
            other => panic!("{other:?}"),
        }
    }
    heard.sort();
    assert_eq!(heard, [tenant("B"), tenant("a"), tenant("d")]);
    assert_eq!(state(&directory, "a").await, TenantState::Suspended);
    assert_eq!(find(&directory, "B").await, None);
    assert_eq!(list(&directory, None, 9).await, ["c", "d"]);
    // And it listens again.
    control.state("c", "moving").await;
    told(&mut changes, "c").await;
}

/// A change that is committed when the first reading has begun, and that it therefore cannot see.
#[tokio::test]
async fn nothing_is_missed_while_it_connects() {
    let mut control = Control::start().await;
    control.three().await;
    control
        .run(
            "CREATE FUNCTION gate() RETURNS boolean LANGUAGE plpgsql AS \
               'BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN true; END'; \
             ALTER TABLE tenantry.tenants ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY gate ON tenantry.tenants USING (gate()); \
             SELECT pg_advisory_lock(77)",
        )
        .await;
    let connecting = tokio::spawn(control.builder().time_to_live(NEVER).connect());
    soon(async {
        let waits = "SELECT count(*) FROM pg_stat_activity \
                     WHERE usename = $1 AND wait_event_type = 'Lock'";
        loop {
            let query = sqlx::query_scalar::<_, i64>(waits).bind(&control.role);
            if query.fetch_one(&mut control.admin).await.expect("a count") == 1 {
                break;
            }
        }
    })
    .await;
    control.state("a", "suspended").await;
    control.run("SELECT pg_advisory_unlock(77)").await;
    let directory = soon(connecting)
        .await
        .expect("no panic")
        .expect("a directory");
    let mut changes = directory.changes();
    while state(&directory, "a").await != TenantState::Suspended {
        soon(changes.next()).await;
    }
}

#[tokio::test]
async fn a_restart_of_the_server_is_survived() {
    log();
    let server = PostgresServer::start().await.expect("a server");
    let mut control = Control::on(server.create_database("control").await.expect("one")).await;
    control.three().await;
    let directory = control.directory().await;
    let mut changes = directory.changes();
    for crash in [false, true] {
        match crash {
            false => server.restart().await.expect("restarted"),
            true => {
                server.crash().await.expect("crashed");
                server.restart().await.expect("recovered");
            }
        }
        let admin = server.connect_options().database("control");
        control.admin = connect(&admin).await;
        control
            .state("a", if crash { "moving" } else { "suspended" })
            .await;
        told(&mut changes, "a").await;
        let expected = if crash {
            TenantState::Moving
        } else {
            TenantState::Suspended
        };
        assert_eq!(state(&directory, "a").await, expected);
    }
}

#[tokio::test]
async fn silence_on_the_wire_is_noticed() {
    let mut control = Control::start().await;
    control.three().await;
    let proxy = FaultProxy::start(&control.reader).await.expect("a proxy");
    let directory = builder(&proxy.connect_options(&control.reader))
        .time_to_live(NEVER)
        .connect()
        .await
        .expect("a directory");
    let mut changes = directory.changes();
    proxy.freeze_existing();
    control.state("a", "suspended").await;
    told(&mut changes, "a").await;
    assert_eq!(state(&directory, "a").await, TenantState::Suspended);
}

#[tokio::test]
async fn answers_run_out_neither_at_once_nor_never() {
    let mut control = Control::start().await;
    control.three().await;
    let patient = control.directory().await;
    let short = control
        .builder()
        .time_to_live(NEVER)
        .stale_after(Duration::from_secs(2));
    let short = short.connect().await.expect("a directory");
    // A connection that works keeps them fresh, though nothing happens.
    let fresh_until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < fresh_until {
        assert_eq!(state(&short, "a").await, TenantState::Active);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    control.lock_out().await;
    let error = soon(async {
        loop {
            match short.find(&tenant("a")).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => break error,
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Directory);
    assert!(error.is_retryable());
    let listed = short.list(None, 1).await.expect_err("stale");
    assert_eq!(listed.kind(), ErrorKind::Directory);
    let unknown = short.find(&tenant("nobody")).await.expect_err("stale");
    assert_eq!(unknown.kind(), ErrorKind::Directory);
    // The other has heard nothing for as long.
    assert_eq!(state(&patient, "a").await, TenantState::Active);

    control.let_in().await;
    soon(async {
        while short.find(&tenant("a")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_time_to_live_finds_what_no_trigger_told() {
    let mut control = Control::start().await;
    control.three().await;
    let directory = control.builder().time_to_live(Duration::from_millis(300));
    let directory = directory.connect().await.expect("a directory");
    assert_eq!(directory.time_to_live(), Some(Duration::from_millis(300)));
    let mut changes = directory.changes();
    control.run("SET session_replication_role = replica").await;
    control.state("a", "suspended").await;
    told(&mut changes, "a").await;
    assert_eq!(state(&directory, "a").await, TenantState::Suspended);
}

#[tokio::test]
async fn a_bad_row_makes_one_tenant_unavailable() {
    let mut control = Control::start().await;
    control.three().await;
    control
        .run(
            "ALTER TABLE tenantry.tenants DROP CONSTRAINT tenants_id; \
             INSERT INTO tenantry.tenants (id, placement, server, database) VALUES \
             ('bad-row-of-' || current_database(), 'shared', 'main', 'app'), \
             ('bad id of ' || current_database(), 'shared', 'main', 'app')",
        )
        .await;
    control
        .run("UPDATE tenantry.tenants SET server = 'moon' WHERE id LIKE 'bad-row-of-%'")
        .await;
    let directory = control.directory().await;
    let mut changes = directory.changes();
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut control.admin)
        .await
        .expect("a name");
    let bad = format!("bad-row-of-{name}");
    let error = directory.find(&tenant(&bad)).await.expect_err("unusable");
    assert_eq!(error.kind(), ErrorKind::Directory);
    assert!(error.to_string().contains("its server is none"), "{error}");
    assert_eq!(list(&directory, None, 9).await, ["B", "a", "c"]);
    let warned = |what: &str| {
        let lines = log().lines();
        lines
            .iter()
            .filter(|line| line.starts_with("WARN") && line.contains(what))
            .count()
    };
    assert_eq!(warned(&bad), 1);
    assert_eq!(warned(&format!("bad id of {name}")), 1);

    // Others go on as they did, and it comes back when it is mended.
    control.state("a", "suspended").await;
    told(&mut changes, "a").await;
    let mend = format!("UPDATE tenantry.tenants SET server = 'main' WHERE id = '{bad}'");
    control.run(&mend).await;
    told(&mut changes, &bad).await;
    assert_eq!(state(&directory, &bad).await, TenantState::Active);
    // Said once, however often they are read.
    control.lock_out().await;
    control.state("a", "active").await;
    control.let_in().await;
    told(&mut changes, "a").await;
    assert_eq!(warned(&format!("bad id of {name}")), 1);
}

#[tokio::test]
async fn the_task_ends_with_the_last_clone() {
    let mut control = Control::start().await;
    control.three().await;
    let directory = control.directory().await;
    let mut changes = directory.changes();
    let clone = directory.clone();
    assert_eq!(control.sessions().await, 1);
    drop(directory);
    control.state("a", "suspended").await;
    told(&mut changes, "a").await;
    assert_eq!(state(&clone, "a").await, TenantState::Suspended);
    drop(clone);
    control.wait_for_sessions(0).await;
    assert_eq!(soon(changes.next()).await, None);

    // Also where it is busy connecting again.
    let directory = control.directory().await;
    let mut changes = directory.changes();
    control.lock_out().await;
    drop(directory);
    assert_eq!(soon(changes.next()).await, None);
}

#[tokio::test]
async fn what_is_missing_is_said_at_the_start() {
    log();
    let world = support::empty_world().await;
    let kind = |result: Result<PostgresDirectory, Error>| result.expect_err("refused").kind();
    let absent = builder(&world.app).connect().await;
    assert_eq!(kind(absent), ErrorKind::Installation);
    let mut admin = connect(&world.admin).await;
    let other = format!("other_{}", std::process::id());
    admin
        .execute(AssertSqlSafe(format!("CREATE ROLE {other} LOGIN")))
        .await
        .expect("a role");
    ControlTables::new("app")
        .install(&mut admin)
        .await
        .expect("installed");
    builder(&world.app).connect().await.expect("a directory");
    let not_granted = world.app.clone().username(&other);
    assert_eq!(
        kind(builder(&not_granted).connect().await),
        ErrorKind::Installation
    );
    let no_role = world.app.clone().username("no_such_role");
    assert_eq!(kind(builder(&no_role).connect().await), ErrorKind::Connect);

    let refused = [
        PostgresDirectory::builder(world.app.clone()),
        builder(&world.app).server("main", world.app.clone()),
        builder(&world.app).time_to_live(Duration::ZERO),
        builder(&world.app).stale_after(Duration::ZERO),
    ];
    for builder in refused {
        assert_eq!(kind(builder.connect().await), ErrorKind::InvalidOption);
    }
}

struct Vault;

#[async_trait]
impl SecretResolver for Vault {
    async fn resolve(&self, reference: &str) -> Result<SecretString, SecretError> {
        match reference {
            "control" => Ok("hunter2-secret".into()),
            _ => Err("no such secret".into()),
        }
    }
}

#[tokio::test]
async fn nothing_secret_is_shown_or_logged() {
    let mut control = Control::start().await;
    control.three().await;
    control
        .run("INSERT INTO tenantry.tenants VALUES ('d', 'shared', 'moon', 'app')")
        .await;
    let secret = Secret::resolver(Arc::new(Vault), "control");
    let database = Database::new(control.reader.clone()).password(secret);
    let plain = server("db-secret.invalid").password("plain-secret");
    let builder = PostgresDirectory::builder(database).server("main", plain);
    let mut shown = format!("{builder:?}");
    let directory = builder
        .time_to_live(NEVER)
        .connect()
        .await
        .expect("a directory");
    let mut changes = directory.changes();
    control.lock_out().await;
    control.let_in().await;
    control.state("a", "suspended").await;
    told(&mut changes, "a").await;
    shown += &format!("{directory:?}");
    shown += &format!("{:?}", find(&directory, "a").await);
    shown += &format!("{:?}", directory.find(&tenant("d")).await);

    let wrong = Secret::resolver(Arc::new(Vault), "another");
    let database = Database::new(control.reader.clone()).password(wrong);
    let failed = PostgresDirectory::builder(database)
        .server("main", server("h"))
        .connect();
    let failed = failed.await.expect_err("no password");
    assert_eq!(failed.kind(), ErrorKind::Connect);
    shown += &format!("{failed} {failed:?}");

    let log = log().lines().join("\n");
    for text in [&shown, &log] {
        for secret in [
            "hunter2-secret",
            "plain-secret",
            "db-secret",
            "FROM tenantry.tenants",
        ] {
            let at = text.find(secret).map(|at| &text[at.saturating_sub(200)..]);
            assert_eq!(at, None, "{secret}");
        }
    }
    assert!(
        log.contains("the directory lost the control database"),
        "the log listens"
    );
}
