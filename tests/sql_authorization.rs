//! The tables of roles: whose rows they are, what they refuse, and that each change is told.

mod support;

use sqlx::PgConnection;
use sqlx::postgres::PgListener;
use support::database::{A, B, Outcome, TestDatabase, refused, run, text};
use tenantry::ErrorKind;
use tenantry::sql::Installation;

async fn installed(database: &TestDatabase) -> Outcome<PgConnection> {
    let mut owner = database.owner().await?;
    let installation = Installation::new(&database.app);
    installation.install(&mut owner).await?;
    installation.authorization().apply(&mut owner).await?;
    Ok(owner)
}

/// Begins a transaction of this tenant, as the application does.
async fn begin(app: &mut PgConnection, tenant: &str) -> Outcome {
    run(app, &format!("BEGIN; SET LOCAL app.tenant_id = '{tenant}'")).await
}

async fn change(app: &mut PgConnection, tenant: &str, sql: &str) -> Outcome {
    begin(app, tenant).await?;
    run(app, sql).await?;
    run(app, "COMMIT").await
}

const FOUR_ROLES: &str = "INSERT INTO tenantry.roles (role) VALUES ('a'), ('b'), ('c'), ('d')";

async fn epoch(database: &TestDatabase, tenant: &str) -> Outcome<String> {
    let sql = format!(
        "SELECT epoch || ' ' || mark FROM tenantry.authorization_epochs WHERE tenant = '{tenant}' \
         UNION ALL SELECT 'none'"
    );
    let mut admin = database.superuser().await?;
    let mut rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .fetch_all(&mut admin)
        .await?;
    use sqlx::Row as _;
    Ok(rows.remove(0).try_get(0)?)
}

async fn snapshot(connection: &mut PgConnection) -> Outcome<String> {
    text(
        connection,
        "SELECT (SELECT a::text FROM tenantry.authorization AS a)
         || (SELECT string_agg(concat_ws(',', oid, relname, relacl, relrowsecurity, relforcerowsecurity), ';' ORDER BY relname)
             FROM pg_class WHERE relnamespace = 'tenantry'::regnamespace)
         || (SELECT string_agg(concat_ws(',', tgrelid::regclass, tgname, tgtype, tgenabled), ';' ORDER BY tgrelid, tgname)
             FROM pg_trigger WHERE NOT tgisinternal)
         || (SELECT string_agg(concat_ws(',', oid, proname, prosrc, proacl, prosecdef), ';' ORDER BY proname)
             FROM pg_proc WHERE pronamespace = 'tenantry'::regnamespace)
         || (SELECT string_agg(concat_ws(',', polrelid::regclass, polname, polcmd, pg_get_expr(polqual, polrelid)), ';' ORDER BY polrelid, polname)
             FROM pg_policy)
         || current_setting('search_path')",
    )
    .await
}

#[tokio::test]
async fn twice_is_once_and_drift_is_mended() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = installed(&database).await?;
    let authorization = Installation::new(&database.app).authorization();
    let first = snapshot(&mut owner).await?;
    authorization.apply(&mut owner).await?;
    assert_eq!(first, snapshot(&mut owner).await?);
    let app = &database.app;
    for drift in [
        &format!("GRANT INSERT, UPDATE, DELETE ON tenantry.authorization_epochs TO {app}, PUBLIC"),
        "ALTER TABLE tenantry.roles NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE tenantry.authorization_epochs DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE tenantry.members DISABLE TRIGGER tenantry_1_delete",
        "DROP TRIGGER tenantry_2_acyclic_insert ON tenantry.role_parents",
        "CREATE OR REPLACE FUNCTION tenantry.authorization_changed() RETURNS trigger \
         LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    ] {
        run(&mut owner, drift).await?;
        assert_ne!(first, snapshot(&mut owner).await?, "{drift}");
        authorization.apply(&mut owner).await?;
        assert_eq!(first, snapshot(&mut owner).await?, "{drift}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_missing_or_newer_is_said() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let installation = Installation::new(&database.app);
    let missing = installation.authorization().apply(&mut owner).await;
    let missing = missing.expect_err("there is no installation");
    assert_eq!(missing.kind(), ErrorKind::Installation, "{missing}");
    installation.install(&mut owner).await?;
    installation.authorization().apply(&mut owner).await?;
    run(&mut owner, "UPDATE tenantry.authorization SET layout = 99").await?;
    let newer = installation.authorization().apply(&mut owner).await;
    let newer = newer.expect_err("it is of a newer release");
    assert_eq!(newer.kind(), ErrorKind::Installation, "{newer}");
    Ok(())
}

#[tokio::test]
async fn rows_belong_to_their_tenant() -> Outcome {
    let database = TestDatabase::start().await?;
    installed(&database).await?;
    let mut app = database.app().await?;
    let all = format!(
        "{FOUR_ROLES}; INSERT INTO tenantry.members (user_id) VALUES ('u');
         INSERT INTO tenantry.member_roles (user_id, role) VALUES ('u', 'a');
         INSERT INTO tenantry.role_parents (role, parent) VALUES ('a', 'b');
         INSERT INTO tenantry.role_permissions (role, resource, action, effect) VALUES ('b', '*', 'x', 'deny')"
    );
    change(&mut app, A, &all).await?;
    for table in [
        "members",
        "roles",
        "member_roles",
        "role_parents",
        "role_permissions",
        "authorization_epochs",
    ] {
        let count = format!("SELECT count(*)::text FROM tenantry.{table}");
        for (context, expected) in [(A, true), (B, false)] {
            begin(&mut app, context).await?;
            let seen = text(&mut app, &count).await? != "0";
            assert_eq!(seen, expected, "{table}");
            run(&mut app, "ROLLBACK").await?;
        }
        assert_eq!(
            text(&mut app, &count).await?,
            "0",
            "{table} without a context"
        );
    }
    begin(&mut app, B).await?;
    let foreign = format!("INSERT INTO tenantry.roles (tenant_id, role) VALUES ('{A}', 'z')");
    assert_eq!(refused(&mut app, &foreign).await, "42501");
    run(&mut app, "ROLLBACK").await?;
    begin(&mut app, B).await?;
    // The role is there, but not here.
    let foreign = "INSERT INTO tenantry.role_permissions VALUES (DEFAULT, 'a', 'r', 'a', 'grant')";
    assert_eq!(refused(&mut app, foreign).await, "23503");
    run(&mut app, "ROLLBACK").await?;
    Ok(())
}

#[tokio::test]
async fn nobody_writes_epochs_by_hand() -> Outcome {
    let database = TestDatabase::start().await?;
    installed(&database).await?;
    let mut app = database.app().await?;
    change(&mut app, A, FOUR_ROLES).await?;
    for sql in [
        "UPDATE tenantry.authorization_epochs SET epoch = 1",
        "DELETE FROM tenantry.authorization_epochs",
        "TRUNCATE tenantry.authorization_epochs",
        "INSERT INTO tenantry.authorization_epochs (tenant) VALUES ('x')",
        "UPDATE tenantry.authorization SET layout = 1",
        "TRUNCATE tenantry.members CASCADE",
        "ALTER TABLE tenantry.members DISABLE TRIGGER ALL",
        "CREATE TRIGGER mine AFTER INSERT ON tenantry.roles EXECUTE FUNCTION tenantry.authorization_changed()",
        "SET session_replication_role = replica",
    ] {
        begin(&mut app, A).await?;
        assert_eq!(refused(&mut app, sql).await, "42501", "{sql}");
        run(&mut app, "ROLLBACK").await?;
    }
    Ok(())
}

const CIRCLE: &str = "23514";

#[tokio::test]
async fn no_role_inherits_from_itself() -> Outcome {
    let database = TestDatabase::start().await?;
    installed(&database).await?;
    let mut app = database.app().await?;
    for tenant in [A, B] {
        change(&mut app, tenant, FOUR_ROLES).await?;
    }
    let line = "INSERT INTO tenantry.role_parents (role, parent) VALUES ('a', 'b'), ('b', 'c'), ('a', 'c')";
    change(&mut app, A, line).await?;
    // The same the other way round is no circle: it is another tenant's.
    let reverse = "INSERT INTO tenantry.role_parents (role, parent) VALUES ('c', 'b'), ('b', 'a')";
    change(&mut app, B, reverse).await?;
    for (sql, code) in [
        (
            "INSERT INTO tenantry.role_parents (role, parent) VALUES ('a', 'a')",
            CIRCLE,
        ),
        (
            "INSERT INTO tenantry.role_parents (role, parent) VALUES ('b', 'a')",
            CIRCLE,
        ),
        (
            "INSERT INTO tenantry.role_parents (role, parent) VALUES ('c', 'a')",
            CIRCLE,
        ),
        (
            "INSERT INTO tenantry.role_parents (role, parent) VALUES ('c', 'd'), ('d', 'a')",
            CIRCLE,
        ),
        (
            "UPDATE tenantry.role_parents SET parent = 'a' WHERE role = 'b'",
            CIRCLE,
        ),
        (
            "INSERT INTO tenantry.role_parents (role, parent) VALUES ('c', 'd'), ('d', 'd')",
            CIRCLE,
        ),
        (
            "INSERT INTO tenantry.role_parents (role, parent) VALUES ('d', 'a')",
            "none: it was carried out",
        ),
    ] {
        begin(&mut app, A).await?;
        assert_eq!(refused(&mut app, sql).await, code, "{sql}");
        run(&mut app, "ROLLBACK").await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_halves_of_a_circle_are_refused_at_once_too() -> Outcome {
    let database = TestDatabase::start().await?;
    installed(&database).await?;
    let (mut first, mut second) = (database.app().await?, database.app().await?);
    change(&mut first, A, FOUR_ROLES).await?;
    for (isolation, code) in [
        ("READ COMMITTED", CIRCLE),
        ("REPEATABLE READ", "40001"),
        ("SERIALIZABLE", "40001"),
    ] {
        for connection in [&mut first, &mut second] {
            run(connection, &format!("BEGIN ISOLATION LEVEL {isolation}")).await?;
            run(connection, &format!("SET LOCAL app.tenant_id = '{A}'")).await?;
            // The snapshot of both is from before either half.
            run(connection, "SELECT FROM tenantry.role_parents").await?;
        }
        run(
            &mut first,
            "INSERT INTO tenantry.role_parents (role, parent) VALUES ('a', 'b')",
        )
        .await?;
        let other = tokio::spawn(async move {
            let half = "INSERT INTO tenantry.role_parents (role, parent) VALUES ('b', 'a')";
            let code = refused(&mut second, half).await;
            (second, code)
        });
        let mut admin = database.superuser().await?;
        let waits = "SELECT count(*)::text FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while !other.is_finished() && text(&mut admin, waits).await? == "0" {
            tokio::task::yield_now().await;
        }
        run(&mut first, "COMMIT").await?;
        let (back, refusal) = other.await?;
        second = back;
        assert_eq!(refusal, code, "{isolation}");
        run(&mut second, "ROLLBACK").await?;
        change(&mut first, A, "DELETE FROM tenantry.role_parents").await?;
    }
    Ok(())
}

#[tokio::test]
async fn each_change_raises_the_epoch_and_is_told_when_it_is_committed() -> Outcome {
    let database = TestDatabase::start().await?;
    installed(&database).await?;
    let mut app = database.app().await?;
    let mut admin = database.superuser().await?;
    let pool = sqlx::postgres::PgPoolOptions::new();
    let mut listener = {
        let pool = pool
            .max_connections(1)
            .connect_with(database.options())
            .await?;
        PgListener::connect_with(&pool).await?
    };
    listener.listen("tenantry_authorization").await?;
    let changes = [
        "INSERT INTO tenantry.members (user_id) VALUES ('u'), ('v')",
        FOUR_ROLES,
        "INSERT INTO tenantry.role_parents (role, parent) VALUES ('a', 'b')",
        "INSERT INTO tenantry.role_permissions (role, resource, action, effect) VALUES ('b', 'r', 'x', 'grant')",
        "INSERT INTO tenantry.member_roles (user_id, role) VALUES ('u', 'a')",
        "UPDATE tenantry.members SET joined_at = now()",
        "UPDATE tenantry.role_permissions SET effect = 'deny'",
        "UPDATE tenantry.role_parents SET parent = 'c'",
        "UPDATE tenantry.member_roles SET role = 'b'",
        "UPDATE tenantry.roles SET role = 'e' WHERE role = 'd'",
        "INSERT INTO tenantry.role_permissions AS p VALUES (DEFAULT, 'b', 'r', 'x', 'grant') \
         ON CONFLICT ON CONSTRAINT role_permissions_pkey DO UPDATE SET effect = EXCLUDED.effect",
        "DELETE FROM tenantry.role_permissions",
        "DELETE FROM tenantry.role_parents",
        "DELETE FROM tenantry.member_roles",
        "DELETE FROM tenantry.members WHERE user_id = 'v'",
        "DELETE FROM tenantry.roles WHERE role = 'a'",
    ];
    for sql in changes {
        let before = epoch(&database, A).await?;
        begin(&mut app, A).await?;
        run(&mut app, sql).await?;
        run(&mut app, "ROLLBACK").await?;
        assert_eq!(epoch(&database, A).await?, before, "rolled back: {sql}");
        change(&mut app, A, sql).await?;
        let after = epoch(&database, A).await?;
        let parts = |epoch: &str| -> (i64, String) {
            let (number, mark) = epoch.split_once(' ').unwrap_or(("0", ""));
            (number.parse().expect("a number"), mark.to_owned())
        };
        assert!(parts(&after).0 > parts(&before).0, "{sql}");
        assert_ne!(parts(&after).1, parts(&before).1, "{sql}");
        // Only those that were committed are told, and each of them is.
        assert_eq!(listener.recv().await?.payload(), A, "{sql}");
        assert_eq!(epoch(&database, B).await?, "none");
    }
    let before = epoch(&database, A).await?;
    let nothing = "INSERT INTO tenantry.members (user_id) VALUES ('u') ON CONFLICT DO NOTHING; \
                   DELETE FROM tenantry.members WHERE user_id = 'nobody'";
    change(&mut app, A, nothing).await?;
    assert_eq!(epoch(&database, A).await?, before);
    // Past the policies, for two tenants at once, and for all.
    let both =
        format!("INSERT INTO tenantry.roles (tenant_id, role) VALUES ('{B}', 'x'), ('{A}', 'x')");
    run(&mut admin, &both).await?;
    let mut told =
        [listener.recv().await?, listener.recv().await?].map(|it| it.payload().to_owned());
    told.sort();
    assert_eq!(told, [A, B]);
    let before = (epoch(&database, A).await?, epoch(&database, B).await?);
    run(&mut admin, "TRUNCATE tenantry.role_permissions").await?;
    assert_eq!(listener.recv().await?.payload(), "");
    assert_ne!(epoch(&database, A).await?, before.0);
    assert_ne!(epoch(&database, B).await?, before.1);
    Ok(())
}
