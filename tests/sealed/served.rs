//! What the crate is made of works on a sealed database as on any other.

use sqlx::Executor as _;
use tenantry::repository::{Page, PageRequest, Pager};
use tenantry::{
    Authorizer, Decision, Error, ErrorKind, NumberSeries, Permission, Pooler, Reader,
    StaticDirectory, TenantRegistry, Trail, TrailEntry, TrailQuery, UniqueSeries,
};

use crate::pgbouncer::by_transaction;
use crate::stage::{builder, key, kind, plain, registry, run, scope, sealed_world, settings};
use crate::support::{World, notes};

async fn furnished_world() -> World {
    let world = sealed_world().await;
    let mut admin = world.admin().await;
    let installation = plain().sealed();
    installation
        .number_series()
        .apply(&mut admin)
        .await
        .expect("applied");
    installation
        .trail()
        .apply(&mut admin)
        .await
        .expect("applied");
    installation
        .authorization()
        .apply(&mut admin)
        .await
        .expect("applied");
    world
}

#[tokio::test]
async fn statements() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    let (tenant, user, role, none): (Option<String>, Option<String>, Option<String>, Option<String>) = sqlx::query_as(
        "SELECT tenantry.current_tenant(), tenantry.current_user_id(), tenantry.context_setting('app.role'), \
         tenantry.context_setting('app.other')",
    )
    .fetch_one(&a)
    .await
    .expect("a context");
    assert_eq!(
        [
            tenant.as_deref(),
            user.as_deref(),
            role.as_deref(),
            none.as_deref()
        ],
        [Some("a"), Some("user of a"), Some("clerk"), None]
    );
    let inserted = sqlx::query(
        "INSERT INTO notes (body) SELECT 'note ' || g FROM generate_series(1, $1) AS g",
    )
    .bind(50_i32)
    .execute(&a)
    .await
    .expect("inserted");
    assert_eq!(inserted.rows_affected(), 50);
    let updated =
        sqlx::query("UPDATE notes SET body = body || '!' WHERE body LIKE $1").bind("note 1%");
    assert_eq!(
        updated.execute(&a).await.expect("updated").rows_affected(),
        11
    );
    let deleted = sqlx::query("DELETE FROM notes WHERE body <> $1").bind("a note of a");
    assert_eq!(
        deleted.execute(&a).await.expect("deleted").rows_affected(),
        50
    );
    let planted =
        sqlx::query("INSERT INTO notes (tenant_id, body) VALUES ('b', $1)").bind("planted");
    assert_eq!(
        kind(planted.execute(&a).await.expect_err("another's")),
        ErrorKind::Database
    );
    assert_eq!(
        notes(&scope(&registry, "b").await).await.expect("served"),
        ["a note of b"]
    );
}

/// Odd values are said and read as they are.
#[tokio::test]
async fn values_of_any_kind() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    for value in [
        "",
        "a,b",
        "{x}",
        "\"q\"",
        "back\\slash",
        "NULL",
        "null",
        " ",
        "\u{1f980}",
        "'; --",
        "a\nb",
    ] {
        let context = tenantry::TenantContext::new(crate::support::tenant("a"))
            .setting("app.role", value)
            .user(format!("u{value}"));
        let scope = registry.scope(context).await.expect("a scope");
        let mut tx = scope.begin().await.expect("begun");
        for _ in 0..2 {
            let (user, role): (Option<String>, Option<String>) = sqlx::query_as(
                "SELECT tenantry.current_user_id(), tenantry.context_setting('app.role')",
            )
            .fetch_one(&mut tx)
            .await
            .expect(value);
            assert_eq!(user, Some(format!("u{value}")));
            assert_eq!(role.unwrap_or_default(), value);
        }
        tx.commit().await.expect(value);
    }
}

/// Who does not know all settings yet is served, with the others empty.
#[tokio::test]
async fn a_process_with_fewer_settings() {
    let world = sealed_world().await;
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(world.app.clone()))
        .signing_key(key("k1"))
        .build()
        .await
        .expect("a registry");
    let a = registry
        .scope(crate::support::tenant("a"))
        .await
        .expect("a scope");
    let seen: (Option<String>, Option<String>, Option<String>) = sqlx::query_as(
        "SELECT tenantry.current_tenant(), tenantry.current_user_id(), tenantry.context_setting('app.role')",
    )
    .fetch_one(&a)
    .await
    .expect("a context");
    assert_eq!(seen, (Some("a".to_owned()), None, None));
}

#[tokio::test]
async fn numbers_and_the_trail() {
    let world = furnished_world().await;
    let registry = registry(&world).await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let series = NumberSeries::new("invoice").prefix("INV");
    for (scope, expected) in [(&a, "INV-1"), (&a, "INV-2"), (&b, "INV-1")] {
        let mut tx = scope.begin().await.expect("begun");
        let number = series.next(&mut tx).await.expect("a number");
        assert_eq!(number.as_str(), expected);
        // It has said the context for what cannot.
        sqlx::raw_sql("SELECT body FROM notes")
            .execute(&mut tx)
            .await
            .expect("rows");
        Trail::record(&mut tx, &TrailEntry::new("took"))
            .await
            .expect("recorded");
        tx.commit().await.expect("committed");
    }
    UniqueSeries::new("unique")
        .next(&a)
        .await
        .expect("a number");
    assert_eq!(
        series.last(Reader::from(&a)).await.expect("a number"),
        Some(2)
    );
    let page = Trail::page(Reader::from(&b), &TrailQuery::new())
        .await
        .expect("a page");
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].actor(), Some("user of b"));
    assert!(
        Trail::verify(Reader::from(&a))
            .await
            .expect("verified")
            .is_sound()
    );

    // And for no context that was forged.
    let mut app = crate::stage::intruder(&world).await;
    app.execute("SELECT set_config('app.tenant_id', 'b', false), set_config('tenantry.context', repeat('0', 80) || '{b,x}', false)")
        .await
        .expect("set");
    for text in [
        "SELECT tenantry.record_in_trail('forged', NULL, NULL, NULL, NULL)",
        "SELECT tenantry.next_number('{\"series\": \"invoice\"}')",
        "SELECT tenantry.take_block('x', 1)",
        "SELECT tenantry.void_number('invoice', '', 1, 'INV-1', 'forged')",
        "SELECT tenantry.verify_trail(0, '')",
        "SELECT * FROM tenantry.trail",
        "SELECT * FROM tenantry.number_series",
        "SELECT * FROM tenantry.authorization_epochs",
        "SELECT * FROM tenantry.members",
    ] {
        let error = sqlx::raw_sql(text)
            .fetch_all(&mut app)
            .await
            .map(|rows| rows.len());
        match error {
            Err(error) => assert_eq!(kind(error), ErrorKind::ContextRefused, "{text}"),
            Ok(rows) => assert_eq!(rows, 0, "{text}"),
        }
    }
}

#[tokio::test]
async fn permissions() {
    let world = furnished_world().await;
    run(
        &world,
        "INSERT INTO tenantry.members (tenant_id, user_id) VALUES ('a', 'user of a');
         INSERT INTO tenantry.roles (tenant_id, role) VALUES ('a', 'clerk');
         INSERT INTO tenantry.role_permissions (tenant_id, role, resource, action, effect)
           VALUES ('a', 'clerk', 'invoices', 'read', 'grant');
         INSERT INTO tenantry.member_roles (tenant_id, user_id, role) VALUES ('a', 'user of a', 'clerk');",
    )
    .await;
    let registry = registry(&world).await;
    let authorizer = Authorizer::builder().build().await.expect("an authorizer");
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    const READ: Permission = Permission::new("invoices", "read");
    const WRITE: Permission = Permission::new("invoices", "write");
    for _ in 0..2 {
        assert_eq!(authorizer.check(&a, &READ).await, Decision::Granted);
        assert_eq!(authorizer.check(&a, &WRITE).await, Decision::Denied);
        assert_ne!(authorizer.check(&b, &READ).await, Decision::Granted);
    }
}

async fn page(mut reader: Reader<'_>, request: &PageRequest) -> Result<Page<(i64, String)>, Error> {
    let pager = Pager::<i64>::new(reader.context(), "notes", request)?;
    let rows = sqlx::query_as("SELECT id, body FROM notes WHERE id > $1 ORDER BY id LIMIT $2")
        .bind(pager.after().copied().unwrap_or_default())
        .bind(pager.fetch())
        .fetch_all(&mut reader)
        .await?;
    pager.page(rows, |row: &(i64, String)| row.0)
}

#[tokio::test]
async fn readers_and_pages() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    let insert =
        sqlx::query("INSERT INTO notes (body) SELECT 'note ' || g FROM generate_series(1, 5) AS g");
    insert.execute(&a).await.expect("inserted");
    let first = page(Reader::from(&a), &PageRequest::default().limit(4))
        .await
        .expect("a page");
    assert_eq!(first.items.len(), 4);
    let mut tx = a.begin_read_only().await.expect("begun");
    let next = PageRequest::default().limit(4).after(first.next.clone());
    let second = page(Reader::from(&mut tx), &next).await.expect("a page");
    assert_eq!(second.items.len(), 2);
    tx.rollback().await.expect("rolled back");
}

/// A scope that lives longer than its tokens goes on.
#[tokio::test]
async fn a_scope_outlives_its_tokens() {
    let world = sealed_world().await;
    let short = key("k1").token_lifetime(std::time::Duration::from_secs(4));
    let registry = builder(world.app.clone())
        .signing_key(short)
        .build()
        .await
        .expect("built");
    let a = scope(&registry, "a").await;
    for _ in 0..6 {
        assert_eq!(notes(&a).await.expect("served"), ["a note of a"]);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// The seal names the server's process, whoever is in between.
#[tokio::test]
async fn through_a_pooler_by_transaction() {
    let world = sealed_world().await;
    let pooler = by_transaction(2).start(&world.app).await;
    let database = tenantry::Database::new(pooler.before(&world.app)).pooler(Pooler::Detect);
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(database))
        .settings(settings())
        .signing_key(key("k1"))
        .pool_options(|_, defaults| defaults.max_connections(6))
        .build()
        .await
        .expect("a registry");
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..6 {
        let scope = scope(&registry, ["a", "b"][client % 2]).await;
        tasks.spawn(async move {
            let own = [format!("a note of {}", scope.tenant())];
            for _ in 0..20 {
                assert_eq!(notes(&scope).await.expect("served"), own);
                let mut tx = scope.begin().await.expect("begun");
                assert_eq!(notes(&mut tx).await.expect("served"), own);
                let raw = sqlx::raw_sql("SELECT body FROM notes").fetch_all(&mut tx).await;
                assert_eq!(raw.expect("served").len(), 1);
                // Left for whoever has the server's session next.
                let leave = "DO $$ BEGIN PERFORM set_config('tenantry.context', current_setting('tenantry.context'), false); END $$";
                let _ = sqlx::raw_sql(leave).execute(&mut tx).await;
                tx.commit().await.expect("committed");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no statement failed");
    }
}
