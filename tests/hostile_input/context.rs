//! Users and settings: every way in which a context reaches the server.

use serde_json::json;
use sqlx::{Executor as _, PgConnection};
use tenantry::sql::{Installation, TenantType};
use tenantry::{
    ContextSettings, Error, ErrorKind, Reader, StaticDirectory, TenantContext, TenantJob,
    TenantRegistry, TenantScope,
};

use crate::corpus::{self, NO_TEXT, shown};
use crate::support::{World, empty_world, tenant, world_with};
use crate::untouched::picture;

fn is_user(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains('\0')
}

fn is_value(text: &str) -> bool {
    text.len() <= 8_192 && !text.contains('\0')
}

fn names() -> ContextSettings {
    ContextSettings::default().with("app.role").expect("a name")
}

fn installation() -> Installation {
    Installation::new("app")
        .tenant_column("tenant_id", TenantType::Text)
        .settings(names())
}

/// A table in which the database itself writes down who acts: at once, and at the commit.
const ACTS: &str = "CREATE TABLE acts (id bigint GENERATED ALWAYS AS IDENTITY, \
       tenant text DEFAULT current_setting('app.tenant_id'), \
       who text DEFAULT current_setting('app.user_id'), \
       role text DEFAULT current_setting('app.role'), late text); \
     GRANT ALL ON acts TO app; \
     CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
       UPDATE public.acts SET late = current_setting('app.user_id') WHERE id = new.id; \
       RETURN NULL; END $$; \
     CREATE CONSTRAINT TRIGGER late AFTER INSERT ON acts DEFERRABLE INITIALLY DEFERRED \
       FOR EACH ROW EXECUTE FUNCTION late(); \
     DO $$ BEGIN EXECUTE format('ALTER ROLE app IN DATABASE %I SET standard_conforming_strings = off', \
       current_database()); EXECUTE format('ALTER ROLE app IN DATABASE %I SET client_encoding = GBK', \
       current_database()); END $$";

/// A tenant in a shared table, one in a schema and one in a database of its own. The role has
/// settings in which a backslash, or half of a character, could eat up a quote.
struct Stage {
    shared: World,
    registry: TenantRegistry,
    /// Superusers in the database that is shared, and in the other one.
    admins: [PgConnection; 2],
}

impl Stage {
    async fn new() -> Self {
        let shared = world_with(installation(), &["a", "b"]).await;
        let own = empty_world().await;
        let mut admins = [shared.admin().await, own.admin().await];
        installation()
            .database_of(tenant("own"))
            .install(&mut admins[1])
            .await
            .expect("installed");
        for admin in &mut admins {
            admin.execute(ACTS).await.expect("a table");
        }
        let schema = admins[0].execute("CREATE SCHEMA of_s");
        schema.await.expect("a schema");
        let directory = StaticDirectory::new()
            .shared(shared.app.clone(), [tenant("a"), tenant("b")])
            .schemas(shared.app.clone(), [(tenant("s"), "of_s")])
            .database(tenant("own"), own.app.clone());
        let registry = TenantRegistry::builder(directory)
            .settings(names())
            .pool_options(|_, options| options.max_connections(1))
            .build()
            .await
            .expect("a registry");
        Self {
            shared,
            registry,
            admins,
        }
    }
}

const SEEN: &str = "SELECT current_setting('app.tenant_id') AS tenant, \
     current_setting('app.user_id') AS who, current_setting('app.role') AS role";

#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
struct Seen {
    tenant: String,
    who: String,
    role: String,
}

impl Seen {
    /// What has to arrive.
    fn of(context: &TenantContext) -> Self {
        Self {
            tenant: context.tenant().to_string(),
            who: context.user_id().unwrap_or_default().to_owned(),
            role: context.value("app.role").unwrap_or_default().to_owned(),
        }
    }
}

/// What the server has of the context, by each way that it goes there; or, where it is `hatch`, as
/// BEGIN has set it, before a statement says it again.
async fn arrivals(scope: &TenantScope, hatch: bool) -> Result<Vec<Seen>, Error> {
    let seen = || sqlx::query_as::<_, Seen>(SEEN);
    let mut all = vec![
        seen().fetch_one(scope).await?,
        seen().persistent(false).fetch_one(scope).await?,
        seen().fetch_one(&mut Reader::from(scope)).await?,
    ];
    let mut tx = scope.begin_read_only().await?;
    all.push(seen().fetch_one(&mut tx).await?);
    tx.commit().await?;
    let mut tx = scope.begin().await?;
    if hatch {
        let plain = tx.dangerous_connection().await?;
        all.push(seen().fetch_one(&mut *plain).await?);
    }
    let row = sqlx::raw_sql(SEEN).fetch_one(&mut tx).await?;
    all.push(sqlx::FromRow::from_row(&row)?);
    let mut savepoint = tx.savepoint().await?;
    all.push(seen().fetch_one(&mut *savepoint).await?);
    savepoint.release().await?;
    tx.commit().await?;
    Ok(all)
}

/// Nobody else's is there, and this one's arrives as it is.
async fn arrives(stage: &mut Stage, context: TenantContext, places: &[&str], text: &str) {
    for id in places.iter().copied() {
        let mut context = serde_json::to_value(&context).expect("JSON");
        context["tenant"] = json!(id);
        let job = json!({ "context": context, "payload": null }).to_string();
        let job: TenantJob<()> = serde_json::from_str(&job).expect("a job");
        let (scope, ()) = job.bind(&stage.registry).await.expect("a scope");
        let expected = Seen::of(scope.context());
        assert_eq!(expected.tenant, id);
        // The connection is closed behind the hatch: not in each case.
        let all = arrivals(&scope, text.len() < 50 && id == "own").await;
        for (way, seen) in all.expect("it arrives").into_iter().enumerate() {
            assert_eq!(seen, expected, "{id}, way {way}: {}", shown(text));
        }
        if id == "s" {
            continue;
        }
        let mut tx = scope.begin().await.expect("begun");
        tx.execute("INSERT INTO acts DEFAULT VALUES")
            .await
            .expect("kept");
        tx.commit().await.expect("committed");
        let admin = &mut stage.admins[usize::from(id == "own")];
        let (tenant, who, role, late): (String, String, String, String) =
            sqlx::query_as("DELETE FROM acts RETURNING tenant, who, role, late")
                .fetch_one(admin)
                .await
                .expect("one row");
        let late_as_well = late == who;
        assert_eq!(Seen { tenant, who, role }, expected, "{}", shown(text));
        assert!(late_as_well, "{}", shown(text));
    }
}

#[tokio::test]
async fn user_or_setting_arrives_as_it_is_or_is_refused() {
    let mut stage = Stage::new().await;
    let before = picture(&stage.shared, &[]).await;
    for text in corpus::texts() {
        let plain = TenantContext::new(tenant("a"));
        let as_user = plain.clone().user(&text);
        let as_value = plain.setting("app.role", &text);
        for (context, fits, places) in [
            (as_user.clone(), is_user(&text), &["a"][..]),
            (as_value, is_value(&text), &["own"][..]),
            (
                as_user.setting("app.role", &text),
                is_user(&text) && is_value(&text),
                &["a", "s", "own"][..],
            ),
        ] {
            match stage.registry.scope(context.clone()).await {
                Ok(_) => assert!(fits, "{}", shown(&text)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidContext);
                    assert!(!fits, "{}", shown(&text));
                    continue;
                }
            }
            arrives(&mut stage, context, places, &text).await;
        }
        // As the name of a setting it is none that anybody knows.
        let named = TenantContext::new(tenant("a")).setting(&text, "x");
        let error = stage.registry.scope(named).await.expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::InvalidContext);
    }
    assert_eq!(picture(&stage.shared, &[]).await, before);
}

#[test]
fn names_of_settings_are_plain() {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.as_bytes()[0].is_ascii_digit()
            && part
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    for text in corpus::texts() {
        for name in [text.clone(), format!("app.{text}")] {
            let fits = name.len() <= 63 && name.contains('.') && name.split('.').all(is_part);
            let fits = fits && name != "app.tenant_id";
            let named = ContextSettings::default().with(&*name);
            assert_eq!(named.is_ok(), fits, "{}", shown(&name));
            assert_eq!(
                ContextSettings::new(&*name, "other.user").is_ok(),
                fits || name == "app.tenant_id",
                "{}",
                shown(&name)
            );
        }
    }
}

#[test]
fn job_of_bytes_that_are_no_text_is_nobodys() {
    for bytes in NO_TEXT {
        for (before, after) in [
            (r#"{"context":{"tenant":"a","user":""#, r#""},"payload":0}"#),
            (
                r#"{"context":{"tenant":"a","settings":{"app.role":""#,
                r#""}},"payload":0}"#,
            ),
        ] {
            let job = [before.as_bytes(), bytes, after.as_bytes()].concat();
            assert!(serde_json::from_slice::<TenantJob<u32>>(&job).is_err());
        }
    }
}
