use super::*;
use crate::database::{Outcome, TestDatabase, run};
use crate::sql::Installation;

/// What `check_role` says of the application role after the superuser has run `sql`, in which APP,
/// MASTER (the owner) and DB stand for the names of this test.
async fn findings(sql: &str) -> Outcome<String> {
    let database = prepared().await?;
    let names = |text: &str| {
        text.replace("APP", &database.app)
            .replace("MASTER", &database.owner)
            .replace("DB", &database.name)
    };
    run(&mut database.superuser().await?, &names(sql)).await?;
    let found = check_role(&mut database.app().await?).await;
    // A test that fails must not leave a superuser in a server that others use.
    let _ = run(
        &mut database.superuser().await?,
        &names("ALTER ROLE APP NOSUPERUSER NOBYPASSRLS NOCREATEROLE"),
    )
    .await;
    Ok(match found {
        Ok(()) => String::new(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Preflight);
            let names = [
                (&database.app, "APP"),
                (&database.owner, "MASTER"),
                (&database.name, "DB"),
            ];
            names.iter().fold(error.to_string(), |text, (name, mark)| {
                text.replace(*name, mark)
            })
        }
    })
}

async fn prepared() -> Outcome<TestDatabase> {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let installation = Installation::new(&database.app);
    installation.install(&mut owner).await?;
    run(
        &mut owner,
        "CREATE SCHEMA app; CREATE TABLE app.invoices (id bigint)",
    )
    .await?;
    installation.table("app.invoices").apply(&mut owner).await?;
    Ok(database)
}

/// One finding and no other.
fn assert_only(message: &str, problem: &str, remedy: &str) {
    assert_eq!(
        message,
        format!(
            "the role of the connection can step out of the isolation:\n- {problem}; mend it with: {remedy}"
        )
    );
}

#[tokio::test]
async fn a_clean_role_passes() -> Outcome {
    assert_eq!(findings("").await?, "");
    // A role that can only read, and a table that nobody protects, are no way around anything.
    assert_eq!(
        findings(
            "GRANT pg_read_all_data TO APP; CREATE TABLE open (); ALTER TABLE open OWNER TO APP"
        )
        .await?,
        ""
    );
    Ok(())
}

#[tokio::test]
async fn what_the_role_is() -> Outcome {
    assert_only(
        &findings("ALTER ROLE APP SUPERUSER").await?,
        "APP is a superuser",
        "ALTER ROLE APP NOSUPERUSER;",
    );
    assert_only(
        &findings("ALTER ROLE APP BYPASSRLS").await?,
        "APP has BYPASSRLS",
        "ALTER ROLE APP NOBYPASSRLS;",
    );
    Ok(())
}

#[tokio::test]
async fn a_role_that_grants_itself_roles() -> Outcome {
    let message = findings("ALTER ROLE APP CREATEROLE").await?;
    let mut connection = TestDatabase::start().await?.app().await?;
    let sql = "SELECT current_setting('server_version_num')::int < 160000";
    if crate::database::text(&mut connection, sql).await? == "t" {
        assert_only(
            &message,
            "APP has CREATEROLE and can grant itself any role that is no superuser",
            "ALTER ROLE APP NOCREATEROLE;",
        );
    } else {
        assert_eq!(message, "");
    }
    Ok(())
}

/// NOINHERIT does not help, and neither does a detour.
#[tokio::test]
async fn what_the_role_can_become() -> Outcome {
    let message = findings(
        "CREATE ROLE APP_far BYPASSRLS; CREATE ROLE APP_near; ALTER ROLE APP NOINHERIT;
         GRANT APP_far TO APP_near; GRANT APP_near TO APP",
    );
    assert_only(
        &message.await?,
        "APP_far, a role that APP can become, has BYPASSRLS",
        "REVOKE APP_near FROM APP;",
    );
    let message = findings("CREATE ROLE APP_boss SUPERUSER; GRANT APP_boss TO APP").await?;
    assert_only(
        &message,
        "APP_boss, a role that APP can become, is a superuser",
        "REVOKE APP_boss FROM APP;",
    );
    Ok(())
}

#[tokio::test]
async fn tables_it_owns() -> Outcome {
    assert_only(
        &findings("ALTER TABLE app.invoices OWNER TO APP").await?,
        "APP owns the table app.invoices and can undo what protects it",
        "ALTER TABLE app.invoices OWNER TO a role that APP cannot become;",
    );
    // Switched off, the policies are still what its isolation is meant to be.
    assert_only(
        &findings("ALTER TABLE app.invoices OWNER TO APP; ALTER TABLE app.invoices DISABLE ROW LEVEL SECURITY").await?,
        "APP owns the table app.invoices and can undo what protects it",
        "ALTER TABLE app.invoices OWNER TO a role that APP cannot become;",
    );
    // Policies of somebody else's making count as well.
    assert_only(
        &findings("CREATE TABLE notes (); ALTER TABLE notes OWNER TO APP; ALTER TABLE notes ENABLE ROW LEVEL SECURITY").await?,
        "APP owns the table public.notes and can undo what protects it",
        "ALTER TABLE public.notes OWNER TO a role that APP cannot become;",
    );
    let message = findings(
        "CREATE ROLE APP_ddl; GRANT APP_ddl TO APP; ALTER TABLE app.invoices OWNER TO APP_ddl",
    )
    .await?;
    assert_only(
        &message,
        "APP_ddl, a role that APP can become, owns the table app.invoices and can undo what protects it",
        "REVOKE APP_ddl FROM APP;",
    );
    Ok(())
}

#[tokio::test]
async fn privileges_on_the_database_and_the_installation() -> Outcome {
    for (sql, problem, remedy) in [
        (
            "GRANT TEMPORARY ON DATABASE DB TO PUBLIC",
            "PUBLIC holds TEMPORARY on this database: temporary tables outlive a transaction",
            "REVOKE TEMPORARY ON DATABASE DB FROM PUBLIC;",
        ),
        (
            "GRANT TEMPORARY ON DATABASE DB TO APP",
            "APP holds TEMPORARY on this database: temporary tables outlive a transaction",
            "REVOKE TEMPORARY ON DATABASE DB FROM APP;",
        ),
        (
            "GRANT CREATE ON SCHEMA tenantry TO APP",
            "APP may CREATE in the schema tenantry",
            "REVOKE CREATE ON SCHEMA tenantry FROM APP;",
        ),
        (
            "GRANT UPDATE, DELETE ON tenantry.installation TO PUBLIC",
            "PUBLIC holds DELETE, UPDATE on tenantry.installation",
            "REVOKE DELETE, UPDATE ON tenantry.installation FROM PUBLIC;",
        ),
        (
            "GRANT UPDATE (tenant) ON tenantry.installation TO APP",
            "APP holds UPDATE on tenantry.installation",
            "REVOKE UPDATE ON tenantry.installation FROM APP;",
        ),
        (
            "GRANT pg_write_all_data TO APP",
            "pg_write_all_data, a role that APP can become, may write every table, those of the schema tenantry too",
            "REVOKE pg_write_all_data FROM APP;",
        ),
        (
            "ALTER SCHEMA tenantry OWNER TO APP",
            "APP owns the schema tenantry",
            "ALTER SCHEMA tenantry OWNER TO a role that APP cannot become;",
        ),
        (
            "ALTER DOMAIN tenantry.scope OWNER TO APP",
            "APP owns the type tenantry.scope",
            "ALTER DOMAIN tenantry.scope OWNER TO a role that APP cannot become;",
        ),
    ] {
        assert_only(&findings(sql).await?, problem, remedy);
    }
    Ok(())
}

#[tokio::test]
async fn the_tables_of_roles_are_the_tenants_own() -> Outcome {
    let database = prepared().await?;
    let authorization = Installation::new(&database.app).authorization();
    authorization.apply(&mut database.owner().await?).await?;
    check_role(&mut database.app().await?).await?;
    for more in [
        "GRANT TRUNCATE ON tenantry.members TO APP",
        "GRANT INSERT ON tenantry.roles TO PUBLIC",
        "GRANT INSERT ON tenantry.authorization_epochs TO APP",
    ] {
        let more = more.replace("APP", &database.app);
        run(&mut database.superuser().await?, &more).await?;
        assert!(
            check_role(&mut database.app().await?).await.is_err(),
            "{more}"
        );
        let less = more.replace("GRANT", "REVOKE").replace(" TO ", " FROM ");
        run(&mut database.superuser().await?, &less).await?;
    }
    check_role(&mut database.app().await?).await?;
    Ok(())
}

#[tokio::test]
async fn the_owner_of_the_database_is_told_of_all_at_once() -> Outcome {
    let message = findings("GRANT MASTER TO APP").await?;
    for part in [
        "owns this database",
        "owns the table app.invoices",
        "owns the schema tenantry",
        "holds TEMPORARY",
    ] {
        assert!(message.contains(part), "{part} is missing in {message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_login_that_only_plays_the_role() -> Outcome {
    let database = prepared().await?;
    let (owner, app) = (&database.owner, &database.app);
    run(
        &mut database.superuser().await?,
        &format!("GRANT {app} TO {owner}"),
    )
    .await?;
    let mut connection = database.owner().await?;
    run(&mut connection, &format!("SET ROLE {app}")).await?;
    let message = check_role(&mut connection).await.unwrap_err().to_string();
    assert!(
        message.contains(&format!("it logged in as {owner} and acts as {app}")),
        "{message}"
    );
    // What the login owns counts, because RESET ROLE leads back to it.
    assert!(message.contains("owns the table app.invoices"), "{message}");
    Ok(())
}

#[tokio::test]
async fn many_findings_are_counted() -> Outcome {
    let message = findings(
        "DO $$ BEGIN FOR i IN 1..60 LOOP
           EXECUTE format('CREATE TABLE t%s (); ALTER TABLE t%1$s ENABLE ROW LEVEL SECURITY; ALTER TABLE t%1$s OWNER TO APP', i);
         END LOOP; END $$",
    );
    assert!(message.await?.ends_with("\n- and 10 more"));
    Ok(())
}

#[tokio::test]
async fn the_installation_is_described() -> Outcome {
    let database = prepared().await?;
    let mut app = database.app().await?;
    let installed = check_installation(&mut app, &ContextSettings::default()).await?;
    let oid = crate::database::text(&mut app, "SELECT 'tenantry.scope'::regtype::oid").await?;
    assert_eq!(installed.scope_oid.0.to_string(), oid);
    assert_eq!(installed.tenant, None);
    assert!(installed.server_version > 140_000);

    let installation = Installation::new(&database.app).database_of("acme".parse()?);
    installation.install(&mut database.owner().await?).await?;
    let installed = check_installation(&mut app, &ContextSettings::default()).await?;
    assert_eq!(installed.tenant.as_deref(), Some("acme"));
    Ok(())
}

/// What `check_installation` says after the superuser has run `sql`.
async fn refusal_after(sql: &str, settings: &ContextSettings) -> Outcome<String> {
    let database = prepared().await?;
    run(
        &mut database.superuser().await?,
        &sql.replace("APP", &database.app),
    )
    .await?;
    let error = check_installation(&mut database.app().await?, settings)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Installation);
    Ok(error.to_string())
}

#[tokio::test]
async fn what_is_missing_is_said() -> Outcome {
    let settings = ContextSettings::default();
    for sql in [
        "DROP SCHEMA tenantry CASCADE",
        "DROP TABLE tenantry.installation",
        "DROP DOMAIN tenantry.scope",
        "ALTER DOMAIN tenantry.scope DROP CONSTRAINT tenantry_3_context",
        "DELETE FROM tenantry.installation",
        "ALTER TABLE tenantry.installation DROP COLUMN oldest_layout",
    ] {
        let message = refusal_after(sql, &settings).await?;
        assert!(
            message.contains("no installation of tenantry"),
            "{sql}: {message}"
        );
    }
    for sql in [
        "REVOKE ALL ON SCHEMA tenantry FROM APP",
        "REVOKE ALL ON tenantry.installation FROM APP",
    ] {
        let message = refusal_after(sql, &settings).await?;
        assert!(message.contains("may not read"), "{sql}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn what_differs_is_said() -> Outcome {
    let settings = ContextSettings::default();
    let same = "SELECT";
    for (sql, settings, part) in [
        (
            "UPDATE tenantry.installation SET layout = 0",
            settings.clone(),
            "an older release",
        ),
        (
            "UPDATE tenantry.installation SET layout = 9, oldest_layout = 8",
            settings.clone(),
            "no longer takes",
        ),
        (
            same,
            ContextSettings::new("app.tenant", "app.user_id")?,
            "other names",
        ),
        (
            same,
            ContextSettings::new("app.tenant_id", "app.user")?,
            "other names",
        ),
        (same, settings.clone().with("app.role")?, "does not know"),
        (
            "UPDATE tenantry.installation SET further_settings = '{app.a,app.b}'",
            settings.clone().with("app.b")?,
            "in another order",
        ),
    ] {
        let message = refusal_after(sql, &settings).await?;
        assert!(message.contains(part), "{sql}: {message}");
    }
    Ok(())
}

/// A release that changes the layout takes the one before, so this release goes on working.
#[tokio::test]
async fn the_next_release_may_have_installed_already() -> Outcome {
    let database = prepared().await?;
    let next =
        "UPDATE tenantry.installation SET layout = 2, further_settings = '{app.role,app.new}'";
    run(&mut database.superuser().await?, next).await?;
    let settings = ContextSettings::default().with("app.role")?;
    check_installation(&mut database.app().await?, &settings).await?;
    Ok(())
}
