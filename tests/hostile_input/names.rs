//! Names of roles, tables, columns and schemas, in the scripts that install and in what begins a
//! transaction.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tenantry::sql::{ControlTables, DangerousAccess, Installation, TenantType};
use tenantry::{ErrorKind, RoleAdmin, StaticDirectory, TenantRegistry, TxOptions};

use crate::corpus::{self, is_name, shown};
use crate::support::{empty_world, scope, world};
use crate::untouched::picture;

/// A statement with a name in it as the server itself quotes names: `%I`.
pub(crate) async fn by_server(admin: &mut PgConnection, template: &str, name: &str) {
    let sql: String = sqlx::query_scalar("SELECT replace($1, '%I', quote_ident($2))")
        .bind(template)
        .bind(name)
        .fetch_one(&mut *admin)
        .await
        .expect("quoted");
    let done = admin.execute(AssertSqlSafe(sql)).await;
    done.unwrap_or_else(|error| panic!("{}: {error}", shown(name)));
}

/// Whether a role of this name can be made: it is not reserved, not even in quotes, and not there.
async fn is_free(admin: &mut PgConnection, role: &str) -> bool {
    let exists: bool = sqlx::query_scalar("SELECT to_regrole(quote_ident($1)) IS NOT NULL")
        .bind(role)
        .fetch_one(admin)
        .await
        .expect("asked");
    !exists && !matches!(role, "public" | "none") && !role.starts_with("pg_")
}

#[tokio::test]
async fn role_of_any_name_is_served_or_refused() {
    let world = empty_world().await;
    let mut admin = world.admin().await;
    let tables = "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, tenant_id text NOT NULL, \
                  body text)";
    admin.execute(tables).await.expect("a table");
    let installation =
        |role: &str| Installation::new(role).tenant_column("tenant_id", TenantType::Text);
    let mut served = 0;
    let mut before = None;
    for text in corpus::texts() {
        let scripts = [
            installation(&text).sql(),
            installation(&text).table("notes").sql(),
            ControlTables::new(&*text).sql(),
            DangerousAccess::new(&*text).sql(),
        ];
        let fits = is_name(&text) && !matches!(&*text, "public" | "none");
        for script in scripts {
            let kind = script.map(drop).map_err(|error| error.kind());
            assert_eq!(kind.is_ok(), fits, "{}", shown(&text));
            assert!(kind.is_ok() || kind == Err(ErrorKind::InvalidOption));
        }
        if !fits {
            continue;
        }
        if !is_free(&mut admin, &text).await {
            continue;
        }
        // Roles belong to the server, which all tests share: it goes when it has been looked at.
        by_server(&mut admin, "CREATE ROLE %I LOGIN", &text).await;
        let installation = installation(&text);
        installation.install(&mut admin).await.expect("installed");
        let table = installation.table("notes");
        table.apply(&mut admin).await.expect("policies");
        let reader = ControlTables::new(&*text);
        reader.install(&mut admin).await.expect("installed");
        let privileges: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT pg_get_userbyid(a.grantee)::text \
             FROM pg_class AS c, aclexplode(c.relacl) AS a \
             WHERE c.oid IN ('notes'::regclass, 'tenantry.tenants'::regclass) \
               AND a.grantee <> c.relowner",
        )
        .fetch_all(&mut admin)
        .await
        .expect("privileges");
        assert_eq!(privileges, [&*text], "granted to this one and nobody else");

        let directory = StaticDirectory::new().shared_by_all(world.admin.clone().username(&text));
        let registry = TenantRegistry::builder(directory).build().await;
        let registry = registry.unwrap_or_else(|error| panic!("{}: {error:?}", shown(&text)));
        let a = scope(&registry, "a").await;
        let mut tx = a
            .begin_with(&TxOptions::default().role(&*text))
            .await
            .expect("begun");
        sqlx::query("INSERT INTO notes (body) VALUES ($1)")
            .bind(&text)
            .execute(&mut tx)
            .await
            .expect("kept");
        let as_whom: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(&mut tx)
            .await
            .expect("a role");
        assert_eq!(as_whom, text);
        tx.commit().await.expect("committed");
        registry.shutdown(Duration::from_secs(20)).await;
        let kept: Vec<(String, String)> =
            sqlx::query_as("DELETE FROM notes RETURNING tenant_id, body")
                .fetch_all(&mut admin)
                .await
                .expect("rows");
        assert_eq!(kept, [("a".to_owned(), text.clone())]);
        by_server(&mut admin, "DROP OWNED BY %I; DROP ROLE %I", &text).await;
        served += 1;
        let after = picture(&world, &[]).await;
        match &before {
            None => before = Some(after),
            Some(before) => assert_eq!(&after, before),
        }
    }
    assert!(served > 100, "{served}");
}

/// As a developer writes a name of any characters.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[tokio::test]
async fn table_of_any_name_is_the_one_that_was_meant() {
    let world = world(&["a", "b"]).await;
    let mut admin = world.admin().await;
    let before = picture(&world, &[]).await;
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    let registry = world.registry().await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    for text in corpus::texts() {
        // Without quotes it is a plain name of a table that is not there, or none.
        for refused in [
            installation.table(&*text).apply(&mut admin).await,
            installation.reference_table(&*text).apply(&mut admin).await,
        ] {
            let kind = refused.expect_err("no such table").kind();
            let kinds = [
                ErrorKind::InvalidOption,
                ErrorKind::Installation,
                ErrorKind::Database,
            ];
            assert!(kinds.contains(&kind), "{}: {kind:?}", shown(&text));
        }
        let is_reserved = text.starts_with("pg_") || text == "public";
        if !is_name(&text) || is_reserved {
            continue;
        }
        let create = "CREATE SCHEMA %I; CREATE TABLE %I.%I (body text); \
                      CREATE TABLE %I.other (body text); GRANT USAGE ON SCHEMA %I TO app";
        by_server(&mut admin, create, &text).await;
        let name = format!("{}.{}", quoted(&text), quoted(&text));
        let table = installation.table(&*name);
        table.apply(&mut admin).await.expect("policies");
        let advice = table.advice(&mut admin).await;
        advice.expect("advice");
        let other = installation.reference_table(format!("{}.other", quoted(&text)));
        other.apply(&mut admin).await.expect("granted");
        // The search path of the transaction finds it by the same name.
        let path = TxOptions::default().search_path([&*text]);
        for scope in [&a, &b] {
            let mut tx = scope.begin_with(&path).await.expect("begun");
            let insert = format!("INSERT INTO {} (body) VALUES ($1)", quoted(&text));
            sqlx::query(AssertSqlSafe(insert))
                .bind(&text)
                .execute(&mut tx)
                .await
                .expect("kept");
            let select = format!("SELECT tenant_id, body FROM {}", quoted(&text));
            let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(select))
                .fetch_all(&mut tx)
                .await
                .expect("rows");
            let own = (scope.tenant().to_string(), text.clone());
            assert_eq!(rows, [own], "{}", shown(&text));
            tx.commit().await.expect("committed");
        }
        by_server(&mut admin, "DROP SCHEMA %I CASCADE", &text).await;
    }
    assert_eq!(picture(&world, &[]).await, before);
}

#[tokio::test]
async fn role_or_path_of_a_transaction_is_that_name_or_refused() {
    let world = world(&["a", "b"]).await;
    let before = picture(&world, &[]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    for text in corpus::texts() {
        let path = TxOptions::default().search_path(["public", &text]);
        match a.begin_with(&path).await {
            Ok(mut tx) => {
                assert!(is_name(&text), "{}", shown(&text));
                let schemas: String = sqlx::query_scalar("SELECT current_setting('search_path')")
                    .fetch_one(&mut tx)
                    .await
                    .expect("a path");
                assert_eq!(schemas, format!("public, {}", as_listed(&text)));
                tx.commit().await.expect("committed");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidOption);
                assert!(!is_name(&text), "{}", shown(&text));
            }
        }
        // The role of the application is a member of none of these but itself.
        let role = a.begin_with(&TxOptions::default().role(&*text)).await;
        match role {
            Ok(tx) => {
                assert!(["app", "none"].contains(&&*text), "{}", shown(&text));
                tx.rollback().await.expect("rolled back");
            }
            Err(error) => {
                let kinds = [ErrorKind::InvalidOption, ErrorKind::Database];
                assert!(kinds.contains(&error.kind()), "{error:?}");
                assert_eq!(error.kind() == ErrorKind::Database, is_name(&text));
            }
        }
    }
    assert_eq!(picture(&world, &[]).await, before);
}

/// As PostgreSQL writes an element of a list of names that came in quotes.
fn as_listed(name: &str) -> String {
    let plain = !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let reserved = ["null", "default", "true", "none", "current_user"];
    match plain && !reserved.contains(&name) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// The column stands in the text of triggers and functions as well, each in a database of its own.
#[tokio::test]
async fn tenant_column_of_any_name_is_that_column() {
    for column in [
        "'",
        "\"",
        "\\''; SET app.tenant_id = 'b'; --",
        "'; DROP TABLE notes; --",
        "\"; DROP TABLE notes; --",
        "$$",
        "$tenantry$; DROP TABLE notes; --",
        "$create$",
        "$function$; DROP TABLE notes; --",
        "%I",
        "%1$s",
        "{}",
        "select",
        "a\u{202e}cme",
    ] {
        let world = empty_world().await;
        let mut admin = world.admin().await;
        let notes = "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, body text)";
        admin.execute(notes).await.expect("a table");
        let installation = Installation::new("app").tenant_column(column, TenantType::Text);
        installation.install(&mut admin).await.expect("installed");
        let table = installation.table("notes");
        let authorization = installation.authorization();
        for _ in 0..2 {
            table.apply(&mut admin).await.expect("policies");
            let applied = authorization.apply(&mut admin).await;
            applied.unwrap_or_else(|error| panic!("{}: {error:?}", shown(column)));
        }
        let registry = world.registry().await;
        for id in ["a", "b"] {
            let scope = scope(&registry, id).await;
            let mut tx = scope.begin().await.expect("begun");
            sqlx::query("INSERT INTO notes (body) VALUES ($1)")
                .bind(id)
                .execute(&mut tx)
                .await
                .expect("kept");
            let mut roles = RoleAdmin::new(&mut tx);
            assert!(roles.add_member("alice").await.expect("added"));
            assert!(roles.create("clerk").await.expect("made"));
            assert!(roles.create("boss").await.expect("made"));
            assert!(roles.inherit("boss", "clerk").await.expect("inherited"));
            assert!(roles.assign("alice", "boss").await.expect("assigned"));
            tx.commit().await.expect("committed");
            let sql = format!("SELECT {}, body FROM notes", quoted(column));
            let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(sql))
                .fetch_all(&scope)
                .await
                .expect("rows");
            assert_eq!(rows, [(id.to_owned(), id.to_owned())], "{}", shown(column));
        }
        let epochs: i64 = sqlx::query_scalar("SELECT count(*) FROM tenantry.authorization_epochs")
            .fetch_one(&mut admin)
            .await
            .expect("a count");
        assert_eq!(epochs, 2, "{}", shown(column));
    }
}
