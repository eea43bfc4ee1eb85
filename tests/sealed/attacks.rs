//! The attacker has the whole text of one statement of tenant `a`, through the crate.

use sqlx::{AssertSqlSafe, Row as _};
use tenantry::{ErrorKind, TenantScope, TenantTx};

use crate::stage::{kind, plain_registry, plain_world, registry, scope, sealed_world};
use crate::support::notes;

/// A statement that returns bodies of notes, and changes the context on its way. `query_to_xml` and
/// `EXECUTE` have its parts out of the sight of the scanner of statements.
struct Attack {
    name: &'static str,
    text: &'static str,
    /// Whether it gets notes of `b` where there is no seal.
    leaks: bool,
}

const SINGLE: &[Attack] = &[
    Attack {
        name: "the plain setting",
        text: "WITH x AS MATERIALIZED (SELECT query_to_xml($q$SELECT set_config('app.tenant_id', 'b', true)$q$, \
               true, true, '') AS x) SELECT body FROM x, LATERAL (SELECT length(x::text)) AS l, notes",
        leaks: true,
    },
    Attack {
        name: "another reader of the plain setting",
        text: "SELECT unnest(xpath('//body/text()', query_to_xml($q$SELECT set_config('app.tenant_id', 'b', true)$q$ \
               || $q$, n.body FROM (SELECT set_config('app.tenant_id', 'b', true) OFFSET 0) AS s, notes AS n$q$, \
               true, true, '')))::text AS body",
        leaks: true,
    },
    Attack {
        name: "a forged seal",
        text: "WITH x AS MATERIALIZED (SELECT query_to_xml($q$SELECT set_config('app.tenant_id', 'b', true), \
               set_config('tenantry.context', repeat('0', 64) || substr(current_setting('tenantry.context', true), 65, 16) \
               || '{b,\"user of b\",clerk}', true)$q$, true, true, '') AS x) \
               SELECT body FROM x, LATERAL (SELECT length(x::text)) AS l, notes",
        leaks: true,
    },
    Attack {
        name: "an edited body",
        text: "WITH x AS MATERIALIZED (SELECT query_to_xml($q$SELECT set_config('app.tenant_id', 'b', true), \
               set_config('tenantry.context', replace(current_setting('tenantry.context', true), '{a,', '{b,'), true)$q$, \
               true, true, '') AS x) SELECT body FROM x, LATERAL (SELECT length(x::text)) AS l, notes",
        leaks: true,
    },
    Attack {
        name: "no context",
        text: "WITH x AS MATERIALIZED (SELECT query_to_xml($q$SELECT set_config('app.tenant_id', '', true), \
               set_config('tenantry.context', '', true)$q$, true, true, '') AS x) \
               SELECT body FROM x, LATERAL (SELECT length(x::text)) AS l, notes",
        leaks: false,
    },
    Attack {
        name: "the setting through pg_settings",
        text: "WITH x AS MATERIALIZED (SELECT query_to_xml($q$UPDATE pg_settings SET setting = 'b' \
               WHERE name IN ('app.tenant_id', 'tenantry.context')$q$, true, true, '') AS x) \
               SELECT body FROM x, LATERAL (SELECT length(x::text)) AS l, notes",
        leaks: false,
    },
];

fn has_notes_of_b(bodies: &[String]) -> bool {
    bodies.iter().any(|body| body.contains("note of b"))
}

async fn single(attack: &Attack, scope: &TenantScope) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query(attack.text).fetch_all(scope).await?;
    rows.iter().map(|row| row.try_get("body")).collect()
}

#[tokio::test]
async fn single_statements() {
    let (world, plain) = (sealed_world().await, plain_world().await);
    let (registry, plain) = (registry(&world).await, plain_registry(&plain).await);
    for attack in SINGLE {
        let a = scope(&plain, "a").await;
        let leaks = single(attack, &a).await.is_ok_and(|b| has_notes_of_b(&b));
        assert_eq!(leaks, attack.leaks, "without a seal: {}", attack.name);

        let a = scope(&registry, "a").await;
        if let Ok(bodies) = single(attack, &a).await {
            assert!(!has_notes_of_b(&bodies), "{}", attack.name);
        }
        // Whoever comes next is served, and by its own context.
        for id in ["a", "b"] {
            let next = notes(&scope(&registry, id).await).await;
            assert_eq!(next.expect(attack.name), [format!("a note of {id}")]);
        }
    }
}

/// What is executed in a transaction of `a`, before another statement of the same transaction.
const EARLIER: &[(&str, &str)] = &[
    (
        "the plain setting of the session",
        "DO $$ BEGIN PERFORM set_config('app.tenant_id', 'b', false); END $$",
    ),
    (
        "a forged seal of the session",
        "DO $$ BEGIN PERFORM set_config('tenantry.context', repeat('0', 80) || '{b,x,clerk}', false); END $$",
    ),
    (
        "the seal of the transaction, kept for the session",
        "DO $$ BEGIN PERFORM set_config('tenantry.context', current_setting('tenantry.context'), false); END $$",
    ),
    (
        "no seal",
        "DO $$ BEGIN PERFORM set_config('tenantry.context', '', false); END $$",
    ),
    (
        "a wrong seal of the same body and time",
        "DO $$ BEGIN PERFORM set_config('tenantry.context', repeat('0', 64) || \
           substr(current_setting('tenantry.context'), 65), true); END $$",
    ),
    (
        "another search path",
        "DO $$ BEGIN PERFORM set_config('search_path', 'public, pg_catalog', true); END $$",
    ),
    (
        "another encoding of binary values",
        "DO $$ BEGIN PERFORM set_config('bytea_output', 'escape', true), \
           set_config('extra_float_digits', '-15', true), set_config('DateStyle', 'German', true); END $$",
    ),
];

#[tokio::test]
async fn earlier_statements_of_the_same_transaction() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    for (name, text) in EARLIER {
        let a = scope(&registry, "a").await;
        let mut tx = a.begin().await.expect("begun");
        assert_eq!(notes(&mut tx).await.expect(name), ["a note of a"]);
        sqlx::raw_sql(*text).execute(&mut tx).await.expect(name);
        // Seen by what says the context once more, and by what does not.
        let raw = "SELECT body FROM notes WHERE tenant_id = 'b'";
        match sqlx::raw_sql(raw).fetch_all(&mut tx).await {
            Ok(rows) => {
                assert!(rows.is_empty(), "{name}");
                let bodies = notes(&mut tx).await;
                assert!(
                    bodies.is_err() || bodies.is_ok_and(|b| b == ["a note of a"]),
                    "{name}"
                );
            }
            Err(error) => assert_eq!(kind(error), ErrorKind::ContextRefused, "{name}"),
        }
        drop(tx);
        for id in ["b", "a"] {
            let next = scope(&registry, id).await;
            let own = [format!("a note of {id}")];
            assert_eq!(notes(&next).await.expect(name), own, "{name}");
            let mut tx = next.begin().await.expect(name);
            assert_eq!(notes(&mut tx).await.expect(name), own, "{name}");
            tx.commit().await.expect(name);
        }
    }
}

async fn seal_of(tx: &mut TenantTx) -> String {
    let seal = sqlx::query_scalar("SELECT current_setting('tenantry.context')");
    seal.fetch_one(tx).await.expect("a seal")
}

/// A seal of `b` that somebody wrote down is none in a transaction of `a`, on the same connection.
#[tokio::test]
async fn a_seal_of_an_earlier_transaction() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let mut tx = b.begin().await.expect("begun");
    let seal = seal_of(&mut tx).await;
    tx.commit().await.expect("committed");

    let mut tx = a.begin().await.expect("begun");
    let own = seal_of(&mut tx).await;
    // As it was, and with the time of this transaction.
    for forged in [
        seal.clone(),
        format!("{}{}{}", &seal[..64], &own[64..80], &seal[80..]),
    ] {
        let mut savepoint = tx.savepoint().await.expect("a savepoint");
        let set =
            format!("DO $$ BEGIN PERFORM set_config('tenantry.context', '{forged}', true); END $$");
        let set = sqlx::raw_sql(AssertSqlSafe(set))
            .execute(&mut *savepoint)
            .await;
        set.expect("anybody may set it");
        let read = sqlx::raw_sql("SELECT body FROM notes")
            .fetch_all(&mut *savepoint)
            .await;
        let error = read.expect_err("a seal of another transaction");
        assert_eq!(kind(error), ErrorKind::ContextRefused);
        savepoint.rollback().await.expect("rolled back");
    }
    assert_eq!(notes(&mut tx).await.expect("served"), ["a note of a"]);
    tx.rollback().await.expect("rolled back");
}

/// Rows are written for nobody else either.
#[tokio::test]
async fn writes() {
    let (world, plain) = (sealed_world().await, plain_world().await);
    let forge = "DO $$ BEGIN PERFORM set_config('app.tenant_id', 'b', true); \
                 INSERT INTO notes (body) VALUES ('planted'); \
                 UPDATE notes SET body = 'changed'; DELETE FROM notes WHERE body = 'changed'; END $$";
    for (registry, is_sealed) in [
        (registry(&world).await, true),
        (plain_registry(&plain).await, false),
    ] {
        let a = scope(&registry, "a").await;
        let mut tx = a.begin().await.expect("begun");
        notes(&mut tx).await.expect("served");
        let done = sqlx::raw_sql(forge).execute(&mut tx).await;
        assert_eq!(done.is_err(), is_sealed);
        let _ = tx.commit().await;
        let b = notes(&scope(&registry, "b").await).await.expect("served");
        assert_eq!(b == ["a note of b"], is_sealed, "{b:?}");
    }
}

/// What goes to the hidden argument's place.
#[tokio::test]
async fn texts_that_mention_the_hidden_argument() {
    let world = sealed_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry, "a").await;
    for text in [
        "SELECT $1::text",
        "SELECT ($1::tenantry.scope)::text",
        "SELECT 1 WHERE $1 IS NOT NULL",
    ] {
        let error = sqlx::query(text).fetch_all(&a).await.expect_err(text);
        assert_eq!(kind(error), ErrorKind::StatementRefused, "{text}");
    }
    // Nothing in the session tells what it was.
    for text in [
        "SELECT coalesce(string_agg(statement, ' '), '') FROM pg_prepared_statements",
        "SELECT coalesce(string_agg(query, ' '), '') FROM pg_stat_activity",
        "SELECT current_query()",
        "SELECT coalesce(string_agg(setting, ' '), '') FROM pg_settings",
    ] {
        let found: String = sqlx::query_scalar(text).fetch_one(&a).await.expect(text);
        assert!(!found.contains("sealed-1"), "{text}: {found}");
        assert!(!found.contains("k1"), "{text}: {found}");
    }
}
