//! What `ControlTables` makes in a database, what it refuses, and that it can be made again.

mod support;

use sqlx::PgConnection;
use support::database::{Outcome, TestDatabase, refused, run, text};
use tenantry::ErrorKind;
use tenantry::sql::{ControlTables, Installation};

async fn snapshot(connection: &mut PgConnection) -> Outcome<String> {
    text(
        connection,
        "SELECT (SELECT c::text FROM tenantry.control AS c)
         || (SELECT string_agg(concat_ws(',', oid, relname, relacl), ';' ORDER BY relname)
             FROM pg_class WHERE relnamespace = 'tenantry'::regnamespace)
         || (SELECT string_agg(concat_ws(',', oid, tgname, tgtype, tgenabled), ';' ORDER BY tgname)
             FROM pg_trigger WHERE tgrelid = 'tenantry.tenants'::regclass)
         || (SELECT string_agg(concat_ws(',', oid, proname, prosrc, proacl), ';' ORDER BY proname)
             FROM pg_proc WHERE pronamespace = 'tenantry'::regnamespace)
         || (SELECT nspacl::text FROM pg_namespace WHERE nspname = 'tenantry')
         || current_setting('search_path')",
    )
    .await
}

const ROW: &str = "INSERT INTO tenantry.tenants (id, placement, server, database, schema) VALUES ";

#[tokio::test]
async fn twice_is_once_and_drift_is_mended() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let tables = ControlTables::new(&database.app);
    tables.install(&mut owner).await?;
    run(
        &mut owner,
        &format!("{ROW} ('a', 'shared', 'main', 'app', NULL)"),
    )
    .await?;
    let first = snapshot(&mut owner).await?;
    tables.install(&mut owner).await?;
    assert_eq!(first, snapshot(&mut owner).await?);
    // As a migration tool runs it.
    run(&mut owner, "BEGIN; SET LOCAL search_path = app, public").await?;
    run(&mut owner, &tables.sql()?).await?;
    assert_eq!(text(&mut owner, "SHOW search_path").await?, "app, public");
    run(&mut owner, "COMMIT").await?;
    assert_eq!(first, snapshot(&mut owner).await?);

    let app = &database.app;
    for drift in [
        &format!("GRANT INSERT, UPDATE ON tenantry.tenants TO {app}, PUBLIC"),
        "CREATE OR REPLACE FUNCTION tenantry.tenant_changed() RETURNS trigger \
         LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    ] {
        run(&mut owner, drift).await?;
        assert_ne!(first, snapshot(&mut owner).await?, "{drift}");
        tables.install(&mut owner).await?;
        assert_eq!(first, snapshot(&mut owner).await?, "{drift}");
    }
    let triggers = "SELECT string_agg(concat(tgname, tgtype, tgenabled), ';' ORDER BY tgname) \
                    FROM pg_trigger WHERE tgrelid = 'tenantry.tenants'::regclass";
    let first = text(&mut owner, triggers).await?;
    for drift in [
        "ALTER TABLE tenantry.tenants DISABLE TRIGGER tenantry_2_update",
        "DROP TRIGGER tenantry_4_truncate ON tenantry.tenants",
        "DROP TRIGGER tenantry_1_changes ON tenantry.tenants; \
         CREATE TRIGGER tenantry_1_changes AFTER UPDATE ON tenantry.tenants \
         EXECUTE FUNCTION tenantry.tenant_changed()",
    ] {
        run(&mut owner, drift).await?;
        assert_ne!(first, text(&mut owner, triggers).await?, "{drift}");
        tables.install(&mut owner).await?;
        assert_eq!(first, text(&mut owner, triggers).await?, "{drift}");
    }
    assert_eq!(
        text(&mut owner, "SELECT count(*) FROM tenantry.tenants").await?,
        "1"
    );
    Ok(())
}

#[tokio::test]
async fn the_table_takes_what_a_directory_understands_and_nothing_else() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    ControlTables::new(&database.app)
        .install(&mut owner)
        .await?;
    let long = "x".repeat(64);
    let good = [
        "'a', 'shared', 'main', 'app', NULL",
        "'A.b_c-9', 'database', 'main', 'app', NULL",
        "'9', 'schema', 'main', 'app', 's'",
        &format!("'{}', 'shared', 'main', 'app', NULL", &long[..63]),
        "'abcdef00-1122-3344-5566-778899aabbcc', 'shared', 'main', 'app', NULL",
    ];
    for row in good {
        run(&mut owner, &format!("{ROW} ({row})")).await?;
    }
    let bad = [
        "'', 'shared', 'main', 'app', NULL",
        "'-a', 'shared', 'main', 'app', NULL",
        "'a b', 'shared', 'main', 'app', NULL",
        "'é', 'shared', 'main', 'app', NULL",
        "E'a\\n', 'shared', 'main', 'app', NULL",
        &format!("'{long}', 'shared', 'main', 'app', NULL"),
        "'ABCDEF00-1122-3344-5566-778899AABBCC', 'shared', 'main', 'app', NULL",
        "'b', 'moon', 'main', 'app', NULL",
        "'b', 'shared', '', 'app', NULL",
        "'b', 'shared', 'main', '', NULL",
        &format!("'b', 'shared', 'main', '{long}', NULL"),
        "'b', 'shared', 'main', 'app', 's'",
        "'b', 'schema', 'main', 'app', NULL",
        "'b', 'schema', 'main', 'app', ''",
    ];
    for row in bad {
        assert_eq!(
            refused(&mut owner, &format!("{ROW} ({row})")).await,
            "23514",
            "{row}"
        );
    }
    for set in ["state = 'asleep'", "epoch = -1, id = 'z'"] {
        let sql = format!("UPDATE tenantry.tenants SET {set} WHERE id = 'a'");
        let code = refused(&mut owner, &sql).await;
        // The epoch does not fall, whatever is written.
        assert_eq!(code == "23514", set.starts_with("state"), "{set}: {code}");
    }
    Ok(())
}

#[tokio::test]
async fn the_epoch_rises_with_each_move_and_never_falls() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    ControlTables::new(&database.app)
        .install(&mut owner)
        .await?;
    run(
        &mut owner,
        &format!("{ROW} ('a', 'shared', 'main', 'app', NULL)"),
    )
    .await?;
    for (set, epoch) in [
        ("server = 'other'", 1),
        ("database = 'new'", 2),
        ("placement = 'schema', schema = 's'", 3),
        ("schema = 't'", 4),
        ("placement = 'database', schema = NULL, epoch = 0", 5),
        ("state = 'suspended', settings = '{\"a\": 1}'", 5),
        ("database = database", 5),
        ("epoch = 9", 9),
        ("epoch = 2", 9),
        ("database = 'newer', epoch = 20", 20),
    ] {
        run(&mut owner, &format!("UPDATE tenantry.tenants SET {set}")).await?;
        let is = text(&mut owner, "SELECT epoch FROM tenantry.tenants").await?;
        assert_eq!(is, epoch.to_string(), "{set}");
    }
    let changed = "SELECT changed_at > created_at FROM tenantry.tenants";
    assert_eq!(text(&mut owner, changed).await?, "t");
    Ok(())
}

#[tokio::test]
async fn the_reader_reads_and_does_nothing_else() -> Outcome {
    for installation_first in [true, false] {
        let database = TestDatabase::start().await?;
        let mut owner = database.owner().await?;
        let tables = ControlTables::new(&database.app);
        let installation = Installation::new(&database.app);
        if installation_first {
            installation.install(&mut owner).await?;
            tables.install(&mut owner).await?;
        } else {
            tables.install(&mut owner).await?;
            installation.install(&mut owner).await?;
        }
        let mut app = database.app().await?;
        text(&mut app, "SELECT count(*) FROM tenantry.tenants").await?;
        text(&mut app, "SELECT layout FROM tenantry.installation").await?;
        for sql in [
            &format!("{ROW} ('a', 'shared', 'main', 'app', NULL)"),
            "UPDATE tenantry.tenants SET state = 'active'",
            "DELETE FROM tenantry.tenants",
            "TRUNCATE tenantry.tenants",
            "UPDATE tenantry.control SET layout = 0",
            "SELECT 1 FROM tenantry.tenants FOR UPDATE",
        ] {
            assert_eq!(refused(&mut app, sql).await, "42501", "{sql}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_it_refuses_changes_nothing() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    for role in ["", "public", "none", "a\0b"] {
        let error = ControlTables::new(role).sql().expect_err(role);
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{role:?}");
    }
    let missing = ControlTables::new("no_such_role").install(&mut owner).await;
    let error = missing.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Installation);
    assert!(
        error
            .to_string()
            .contains("that reads the table of tenants"),
        "{error}"
    );
    assert_eq!(
        text(&mut owner, "SELECT to_regnamespace('tenantry')").await?,
        "NULL"
    );

    let tables = ControlTables::new(&database.app);
    tables.install(&mut owner).await?;
    run(
        &mut owner,
        "UPDATE tenantry.control SET layout = layout + 1",
    )
    .await?;
    let before = snapshot(&mut owner).await?;
    let error = tables.install(&mut owner).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Installation);
    assert!(error.to_string().contains("newer release"), "{error}");
    assert_eq!(before, snapshot(&mut owner).await?);
    Ok(())
}
