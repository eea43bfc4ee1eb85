//! What `Installation` makes in a database, and that it can be made again while in use.

mod support;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{Encode, PgConnection, Postgres, Type};
use support::database::{A, Outcome, TestDatabase, refused, run, text};
use tenantry::sql::Installation;
use tenantry::{ContextSettings, ErrorKind};

/// The hidden argument, as its text.
struct Scope(&'static str);

impl Type<Postgres> for Scope {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("tenantry.scope")
    }
}

impl Encode<'_, Postgres> for Scope {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // sqlx sends arguments in binary: one dimension, no NULL, the OID of text, then the
        // elements.
        let elements: Vec<&str> = self.0.split('|').collect();
        for number in [1, 0, 25, elements.len() as i32, 1] {
            buffer.extend_from_slice(&number.to_be_bytes());
        }
        for element in elements {
            buffer.extend_from_slice(&(element.len() as i32).to_be_bytes());
            buffer.extend_from_slice(element.as_bytes());
        }
        Ok(IsNull::No)
    }
}

/// What a statement with the argument sees of tenant, user and `app.role`.
async fn seen(connection: &mut PgConnection, scope: &'static str) -> Result<String, sqlx::Error> {
    let sql = "SELECT concat_ws('|', current_setting('app.tenant_id', true), \
               current_setting('app.user_id', true), current_setting('app.role', true))";
    sqlx::query_scalar(sql)
        .bind(Scope(scope))
        .fetch_one(connection)
        .await
}

async fn code(connection: &mut PgConnection, scope: &'static str) -> String {
    match seen(connection, scope).await {
        Ok(seen) => seen,
        Err(error) => {
            let error = tenantry::Error::from(error);
            format!(
                "{:?} {}",
                error.kind(),
                error.constraint().unwrap_or_default()
            )
        }
    }
}

/// The catalog rows of everything that an installation makes.
async fn snapshot(connection: &mut PgConnection) -> Outcome<String> {
    text(
        connection,
        "SELECT (SELECT i::text FROM tenantry.installation AS i)
         || (SELECT string_agg(conname || pg_get_constraintdef(oid), ';' ORDER BY conname)
             FROM pg_constraint WHERE contypid = 'tenantry.scope'::regtype)
         || (SELECT string_agg(concat_ws(',', oid, relname, relacl), ';' ORDER BY relname)
             FROM pg_class WHERE relnamespace = 'tenantry'::regnamespace)
         || (SELECT concat_ws(',', oid, typnotnull) FROM pg_type WHERE oid = 'tenantry.scope'::regtype)
         || (SELECT nspacl::text FROM pg_namespace WHERE nspname = 'tenantry')
         || (SELECT datacl::text FROM pg_database WHERE datname = current_database())
         || current_setting('search_path')",
    )
    .await
}

#[tokio::test]
async fn twice_is_once() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let installation = Installation::new(&database.app);
    installation.install(&mut owner).await?;
    let first = snapshot(&mut owner).await?;
    installation.install(&mut owner).await?;
    assert_eq!(first, snapshot(&mut owner).await?);
    // As a migration tool runs it: inside a transaction, with a search_path of its own.
    run(&mut owner, "BEGIN; SET LOCAL search_path = app, public").await?;
    run(&mut owner, &installation.sql()?).await?;
    assert_eq!(text(&mut owner, "SHOW search_path").await?, "app, public");
    run(&mut owner, "COMMIT").await?;
    assert_eq!(first, snapshot(&mut owner).await?);
    Ok(())
}

#[tokio::test]
async fn two_at_once() -> Outcome {
    let database = TestDatabase::start().await?;
    let installation = Installation::new(&database.app);
    for _ in 0..5 {
        let (mut one, mut two) = (database.owner().await?, database.owner().await?);
        let (a, b) = tokio::join!(
            installation.install(&mut one),
            installation.install(&mut two)
        );
        a?;
        b?;
        run(&mut one, "DROP SCHEMA tenantry CASCADE").await?;
    }
    // Deterministically: the second waits for the first, which has made everything and not committed.
    let (mut one, mut two) = (database.owner().await?, database.owner().await?);
    run(&mut one, "BEGIN").await?;
    installation.install(&mut one).await?;
    let finish = async {
        while text(
            &mut database.superuser().await?,
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
        )
        .await?
            == "0"
        {}
        run(&mut one, "COMMIT").await
    };
    let (second, finished) = tokio::join!(installation.install(&mut two), finish);
    second?;
    finished?;
    Ok(())
}

#[tokio::test]
async fn the_argument_sets_the_context_of_its_statement() -> Outcome {
    let database = TestDatabase::start().await?;
    let settings = ContextSettings::default().with("app.role")?;
    let installation = Installation::new(&database.app).settings(settings);
    installation.install(&mut database.owner().await?).await?;
    let mut app = database.app().await?;
    assert_eq!(seen(&mut app, "1|acme|ann|clerk").await?, "acme|ann|clerk");
    // The value of a statement that sent more must not stand for one that sends less.
    run(&mut app, "BEGIN").await?;
    assert_eq!(seen(&mut app, "1|acme|ann|clerk").await?, "acme|ann|clerk");
    assert_eq!(seen(&mut app, "1|acme|").await?, "acme||");
    run(&mut app, "COMMIT").await?;
    assert_eq!(
        text(&mut app, "SELECT current_setting('app.tenant_id', true)").await?,
        ""
    );
    for wrong in [
        "1|acme",
        "1||ann",
        "1|acme|ann|clerk|more",
        "2|acme|ann",
        "|acme|ann",
        "acme|ann|x",
    ] {
        assert_eq!(
            code(&mut app, wrong).await,
            "Installation tenantry_1_layout",
            "{wrong}"
        );
    }
    for wrong in [
        "NULL",
        "'{}'",
        "'{1,a,NULL}'",
        "'{{1,a,b}}'",
        "'[0:2]={1,a,b}'",
        "'[2:4]={1,a,b}'",
    ] {
        let sql = format!("SELECT {wrong}::tenantry.scope");
        let expected = if wrong == "NULL" { "23502" } else { "23514" };
        assert_eq!(refused(&mut app, &sql).await, expected, "{wrong}");
    }
    Ok(())
}

#[tokio::test]
async fn a_database_of_one_tenant_refuses_the_others() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let mut app = database.app().await?;
    let installation = Installation::new(&database.app);
    installation
        .clone()
        .database_of("o.b-k".parse()?)
        .install(&mut owner)
        .await?;
    assert_eq!(seen(&mut app, "1|o.b-k|").await?, "o.b-k|");
    assert_eq!(
        code(&mut app, "1|acme|ann").await,
        "Misrouted tenantry_2_tenant"
    );
    assert_eq!(
        text(
            &mut app,
            "SELECT coalesce(current_setting('app.tenant_id', true), '')"
        )
        .await?,
        ""
    );
    // An argument that cannot be read is not blamed on the tenant.
    assert_eq!(
        code(&mut app, "2|acme|ann").await,
        "Installation tenantry_1_layout"
    );

    for other in [
        installation.clone().database_of("acme".parse()?),
        installation,
    ] {
        let error = other.install(&mut owner).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Installation);
        assert!(
            error.to_string().contains("belongs to one tenant"),
            "{error}"
        );
    }
    assert_eq!(seen(&mut app, "1|o.b-k|").await?, "o.b-k|");
    Ok(())
}

/// The rolling deploy: a connection that was open, and had its statement prepared, before the
/// installation grew goes on with the shorter argument.
#[tokio::test]
async fn open_connections_live_through_an_upgrade() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let installation = Installation::new(&database.app);
    installation.install(&mut owner).await?;
    // The CHECK of an imaginary release before this one, whose layout was called 0.
    run(
        &mut owner,
        "BEGIN; ALTER DOMAIN tenantry.scope DROP CONSTRAINT tenantry_1_layout;
         ALTER DOMAIN tenantry.scope ADD CONSTRAINT tenantry_1_layout CHECK (VALUE[1] = ANY ('{0,1}') AND cardinality(VALUE) = 3);
         UPDATE tenantry.installation SET layout = 0, oldest_layout = 0, version = '0.0.1'; COMMIT",
    )
    .await?;
    let mut open = database.app().await?;
    assert_eq!(seen(&mut open, "1|acme|ann").await?, "acme|ann");
    assert_eq!(
        code(&mut open, "1|acme|ann|clerk").await,
        "Installation tenantry_1_layout"
    );

    let more = installation
        .clone()
        .settings(ContextSettings::default().with("app.role")?);
    more.install(&mut owner).await?;
    assert_eq!(
        text(
            &mut owner,
            "SELECT concat_ws(',', layout, further_settings) FROM tenantry.installation"
        )
        .await?,
        "1,{app.role}"
    );
    assert_eq!(seen(&mut open, "1|acme|ann").await?, "acme|ann|");
    assert_eq!(seen(&mut open, "1|acme|ann|clerk").await?, "acme|ann|clerk");
    assert_eq!(
        seen(&mut database.app().await?, "1|acme|ann|clerk").await?,
        "acme|ann|clerk"
    );
    // The layout that is no longer on the list.
    assert_eq!(
        code(&mut open, "0|acme|ann").await,
        "Installation tenantry_1_layout"
    );

    // Specimen: what would happen if the domain were made anew.
    run(&mut owner, "DROP DOMAIN tenantry.scope").await?;
    more.install(&mut owner).await?;
    let broken = seen(&mut open, "1|acme|ann").await.unwrap_err().to_string();
    assert!(broken.contains("cache lookup failed"), "{broken}");
    Ok(())
}

#[tokio::test]
async fn what_others_depend_on_is_not_changed() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let settings = ContextSettings::default()
        .with("app.role")?
        .with("app.request")?;
    let installation = Installation::new(&database.app).settings(settings);
    installation.install(&mut owner).await?;
    let before = snapshot(&mut owner).await?;
    let fewer = ContextSettings::default().with("app.role")?;
    let swapped = ContextSettings::default()
        .with("app.request")?
        .with("app.role")?;
    for (settings, part) in [
        (ContextSettings::default(), "append"),
        (fewer, "append"),
        (swapped, "append"),
        (
            ContextSettings::new("app.tenant", "app.user_id")?,
            "other names",
        ),
        (
            ContextSettings::new("app.tenant_id", "app.user")?,
            "other names",
        ),
    ] {
        let changed = installation.clone().settings(settings);
        let error = changed.install(&mut owner).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Installation);
        assert!(error.to_string().contains(part), "{error}");
        // The text refuses as well, for it is the same.
        assert!(refused(&mut owner, &changed.sql()?).await.starts_with("TN"));
    }
    run(&mut owner, "UPDATE tenantry.installation SET layout = 2").await?;
    let error = installation.install(&mut owner).await.unwrap_err();
    assert!(error.to_string().contains("newer release"), "{error}");
    run(&mut owner, "UPDATE tenantry.installation SET layout = 1").await?;
    assert_eq!(before, snapshot(&mut owner).await?);
    Ok(())
}

#[tokio::test]
async fn the_application_role_reads_and_does_not_write() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut app = database.app().await?;
    // What a server gives everybody, unless told otherwise.
    run(&mut app, "CREATE TEMPORARY TABLE shadow ()").await?;
    Installation::new(&database.app)
        .install(&mut database.owner().await?)
        .await?;
    assert_eq!(
        text(&mut app, "SELECT version FROM tenantry.installation").await?,
        env!("CARGO_PKG_VERSION")
    );
    for sql in [
        "CREATE TEMPORARY TABLE shadow2 ()",
        "UPDATE tenantry.installation SET tenant = 'x'",
        "DELETE FROM tenantry.installation",
        "INSERT INTO tenantry.reference_tables VALUES ('pg_class')",
        "CREATE TABLE tenantry.mine ()",
        "ALTER DOMAIN tenantry.scope DROP CONSTRAINT tenantry_3_context",
    ] {
        assert_eq!(refused(&mut app, sql).await, "42501", "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_installed_is_refused() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let kind = |error: tenantry::Error| (error.kind(), error.to_string());
    for name in ["", "public", "none", "a\0b", &"x".repeat(64)] {
        assert_eq!(
            kind(Installation::new(name).sql().unwrap_err()).0,
            ErrorKind::InvalidOption,
            "{name:?}"
        );
    }
    let (refusal, message) = kind(
        Installation::new("nobody_of_this_name")
            .install(&mut owner)
            .await
            .unwrap_err(),
    );
    assert_eq!(refusal, ErrorKind::Installation);
    assert!(message.contains("role does not exist"), "{message}");
    assert_eq!(
        text(&mut owner, "SELECT to_regnamespace('tenantry')").await?,
        "NULL"
    );

    run(
        &mut owner,
        "CREATE SCHEMA tenantry; CREATE DOMAIN tenantry.scope AS text",
    )
    .await?;
    let (_, message) = kind(
        Installation::new(&database.app)
            .install(&mut owner)
            .await
            .unwrap_err(),
    );
    assert!(message.contains("did not make"), "{message}");
    run(&mut owner, "DROP SCHEMA tenantry CASCADE").await?;

    // A role that may make schemas and does not own the database.
    let mut admin = database.superuser().await?;
    run(
        &mut admin,
        &format!(
            "GRANT CREATE ON DATABASE {} TO {}",
            database.name, database.app
        ),
    )
    .await?;
    let (_, message) = kind(
        Installation::new(&database.owner)
            .install(&mut database.app().await?)
            .await
            .unwrap_err(),
    );
    assert!(
        message.contains("TEMPORARY") || message.contains("refused a statement"),
        "{message}"
    );
    Ok(())
}

/// Operators and functions are those of pg_catalog, whoever stands in front of it.
#[tokio::test]
async fn a_hostile_search_path_changes_nothing() -> Outcome {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    run(
        &mut owner,
        "CREATE SCHEMA evil;
         CREATE FUNCTION evil.yes(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql RETURN true;
         CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
         CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql RETURN 'nothing';
         CREATE FUNCTION evil.cardinality(text[]) RETURNS int LANGUAGE sql RETURN 3;
         CREATE TABLE evil.t (tenant_id text);
         SET search_path = evil, pg_catalog",
    )
    .await?;
    let installation = Installation::new(&database.app)
        .tenant_column("tenant_id", tenantry::sql::TenantType::Text)
        .database_of(A.parse()?);
    installation.install(&mut owner).await?;
    installation.table("t").apply(&mut owner).await?;
    run(&mut owner, "RESET search_path").await?;
    let depends = "SELECT count(*) FROM pg_depend AS d JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass \
                   AND d.refobjid = p.oid AND p.pronamespace = 'evil'::regnamespace \
                   WHERE d.classid <> 'pg_operator'::regclass";
    assert_eq!(text(&mut owner, depends).await?, "0");
    let mut app = database.app().await?;
    assert_eq!(
        code(&mut app, "1|bbbb|").await,
        "Misrouted tenantry_2_tenant"
    );
    Ok(())
}
