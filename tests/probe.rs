//! The probe, on the databases of `audit/corpus`: it really gets across where there is a hole that
//! statements can use, and nowhere else.

mod support;

#[allow(dead_code, reason = "it attacks by itself")]
#[path = "audit/corpus.rs"]
mod corpus;

use std::collections::BTreeSet;

use corpus::{Bench, SOUND, Specimen};
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use support::world_with;
use tenantry::ErrorKind;
use tenantry::audit::{AuditConfig, AuditReport, Auditor, Probe, Severity};
use tenantry::sql::{Installation, TenantType};

/// Holes that it gets through, the rule of the finding that its witness goes to, and where.
#[rustfmt::skip]
const SEEN: &[(&str, &str, &str)] = &[
    ("r01", "role-superuser", "rls_app"),
    ("r02", "role-bypasses-rls", "rls_app"),
    ("r03", "role-owns-table", "app.project"),
    ("r04", "role-bypasses-rls", "rls_app"),
    ("r05", "role-owns-table", "app.project"),
    ("r08", "privilege-truncate", "app.task"),
    ("t01", "table-rls-disabled", "app.project"),
    ("t02", "view-bypasses-policies", "app.v"),
    ("t05", "policy-lets-foreign-rows-through", "app.project"),
    ("t07", "policy-lets-foreign-rows-be-written", "app.project"),
    ("t07c", "policy-lets-foreign-rows-be-written", "app.project"),
    ("t08", "policy-lets-foreign-rows-through", "app.project"),
    ("t10", "policy-lets-foreign-rows-through", "app.project"),
    ("t12", "policy-empty-tenant", "app.note"),
    ("t16", "table-partition-open", "app.ev_2"),
    // What its policy trusts: that it makes itself a member only the catalog tells.
    ("t18", "table-rls-disabled", "app.membership"),
    ("t25", "policy-lets-foreign-rows-through", "app.note"),
    ("v01", "view-bypasses-policies", "app.v"),
    ("v02", "view-materialized", "app.mv"),
    ("v03", "function-bypasses-policies", "app.search(text)"),
    ("v07", "foreign-table", "app.remote_project"),
    ("k01", "key-across-tenants", "app.project"),
    ("k01b", "key-across-tenants", "app.project"),
    ("k02", "foreign-key-across-tenants", "app.task"),
    ("k03", "foreign-key-across-tenants", "app.task"),
    ("o01", "view-bypasses-policies", "app.report"),
    ("o03", "view-bypasses-policies", "app.report"),
    ("o04", "view-bypasses-policies", "app.report"),
    ("o05", "function-bypasses-policies", "app.archived()"),
    ("x03", "policy-lets-foreign-rows-through", "app.project"),
    ("x04", "policy-lets-foreign-rows-through", "app.project"),
    ("x05", "policy-lets-foreign-rows-through", "app.doc"),
    ("x06", "policy-lets-foreign-rows-through", "app.doc"),
    ("x07", "policy-lets-foreign-rows-through", "app.\"Odd Table\""),
    ("x08", "view-bypasses-policies", "app.mine"),
    ("x09", "view-bypasses-policies", "app.mine"),
    ("x10", "view-bypasses-policies", "app.mine"),
    ("x17", "table-partition-open", "app.old_note"),
];

/// Holes that only the catalog shows, and why no statement of the probe gets through.
#[rustfmt::skip]
const UNSEEN: &[(&str, &str)] = &[
    ("r07", "it grants itself no role"),
    ("r09", "it makes no trigger"),
    ("r11", "it is another role that logs in"),
    ("r12", "it is about tables to come"),
    ("r14", "it is other roles that read"),
    ("r15", "it reads no file"),
    ("r17", "it reads no large object"),
    ("r18", "it is about other sessions"),
    ("r19", "it is about other sessions"),
    ("r20", "it decodes no log"),
    ("r22", "it is about other sessions"),
    ("r23", "it makes no function"),
    ("s04", "it is about the next transaction"),
    ("s11", "it makes no function"),
    ("t15", "no column says whose a row is"),
    ("t20", "it calls no function on rows that it does not see"),
    ("t27", "rules do not fire while triggers are put aside"),
    ("v04", "it makes no temporary table"),
    ("v06", "it calls no function on rows that it does not see"),
    ("v13", "it is about other sessions"),
    ("k05", "a sequence has no rows of tenants"),
    ("d01", "no table is made"),
    ("d02", "no table is made"),
    ("e01", "no function is replaced"),
    ("e02", "no function is replaced"),
    ("e03", "no name is put in front of another"),
    ("g01", "no parameter is set"),
    ("k14", "it makes no two rows that exclude each other"),
    ("k15", "it asks no index that is of an expression"),
    ("k10", "it is about estimates"),
    ("k10b", "it is about estimates"),
    ("k12", "a size is no row"),
    ("o02", "it returns sums, by which no row is known again"),
    ("p03", "nobody subscribes"),
    ("q01", "it is slow, and nothing else"),
    ("q02", "it is slow, and nothing else"),
    ("q03", "it is slow, and nothing else"),
    ("q04", "it is slow, and nothing else"),
    ("s17", "no transaction is prepared"),
    ("x01", "it has no tenant column"),
    ("x02", "no tenant is made up that a policy names"),
    ("x11", "it takes no row"),
    ("x12", "it takes arguments that are not made up"),
    ("x13", "a rule that takes along is not followed"),
    ("x14", "it has no tenant column"),
    ("x15", "it has no tenant column"),
    ("x16", "it has no tenant column"),
    ("x18", "no function is replaced"),
    ("p01", "nobody subscribes"),
];

/// How the witness of the probe begins.
const PROBE: &str = "the probe, ";

async fn probe(specimen: &Specimen<'_>) -> AuditReport {
    let probe = Probe::of(specimen.name()).functions();
    let auditor = Auditor::new(specimen.config());
    let report = auditor.probe(specimen.pool(), &probe).await;
    report.expect("probed")
}

fn witnessed(report: &AuditReport) -> Vec<(&str, &str)> {
    let findings = report.findings().filter(|finding| {
        let witness = finding.witness().unwrap_or_default();
        witness.contains(PROBE)
    });
    findings
        .map(|finding| (finding.rule().id(), finding.object()))
        .collect()
}

#[tokio::test]
async fn it_gets_through_each_hole_that_statements_can_use_and_leaves_nothing() {
    let bench = Bench::new().await;
    let only = std::env::var("TENANTRY_AUDIT_HOLE").ok();
    let is_meant = |id: &str| only.as_deref().is_none_or(|only| only == id);
    let mut complaints = Vec::new();
    for (id, rule, object) in SEEN.iter().filter(|(id, ..)| is_meant(id)) {
        let Some(specimen) = bench.specimen(id).await else {
            continue;
        };
        let before = snapshot(&specimen).await;
        let report = probe(&specimen).await;
        let found = witnessed(&report);
        if !found.contains(&(rule, object)) {
            complaints.push(format!(
                "{id}: not {rule} at {object}, but {found:?}:\n{report}"
            ));
        }
        // What the catalog leads to already is no second finding.
        if let Some((rule, object)) = found.iter().find(|(rule, _)| rule.starts_with("probe-")) {
            complaints.push(format!(
                "{id}: {rule} at {object} is a finding twice:\n{report}"
            ));
        }
        complaints.extend(left_behind(id, &before, &snapshot(&specimen).await));
        specimen.drop().await;
    }
    for (id, why) in UNSEEN.iter().filter(|(id, _)| is_meant(id)) {
        let Some(specimen) = bench.specimen(id).await else {
            continue;
        };
        let before = snapshot(&specimen).await;
        let report = probe(&specimen).await;
        let found = witnessed(&report);
        if !found.is_empty() {
            complaints.push(format!("{id} is seen, though {why}: {found:?}:\n{report}"));
        }
        complaints.extend(left_behind(id, &before, &snapshot(&specimen).await));
        specimen.drop().await;
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n\n"));
}

#[tokio::test]
async fn it_gets_through_nothing_that_is_sound() {
    let bench = Bench::new().await;
    let mut complaints = Vec::new();
    for id in SOUND.iter().copied().chain(["base"]) {
        let Some(specimen) = bench.specimen(id).await else {
            continue;
        };
        let before = snapshot(&specimen).await;
        let report = probe(&specimen).await;
        if report.has(Severity::Low) || !witnessed(&report).is_empty() {
            complaints.push(format!("{id}:\n{report}"));
        }
        complaints.extend(left_behind(id, &before, &snapshot(&specimen).await));
        specimen.drop().await;
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n\n"));
}

/// It puts rows in as the policies let it, and so of tenants that are there: foreign keys hold.
#[tokio::test]
async fn the_application_roles_own_pool_gets_through_as_well() {
    let bench = Bench::new().await;
    let mut complaints = Vec::new();
    for (id, rule, object) in SEEN {
        if !["r04", "r05", "t01", "t05", "t07", "t25", "v01"].contains(id) {
            continue;
        }
        let specimen = bench.specimen(id).await.expect("it needs no extension");
        let before = snapshot(&specimen).await;
        let pool = specimen.pool_of("rls_app");
        let probe = Probe::of(specimen.name());
        let tenant = |tenant| [("app.tenant_id", tenant), ("app.user_id", "1")];
        let config = specimen.config().contexts(tenant("1"), tenant("2"));
        let report = Auditor::new(config).probe(&pool, &probe).await;
        let report = report.expect("probed");
        pool.close().await;
        if !witnessed(&report).contains(&(rule, object)) {
            complaints.push(format!("{id}: not {rule} at {object}:\n{report}"));
        }
        complaints.extend(left_behind(id, &before, &snapshot(&specimen).await));
        specimen.drop().await;
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n\n"));
}

#[test]
fn every_hole_of_the_corpus_is_on_one_of_the_lists() {
    let lists = SEEN.iter().map(|(id, ..)| *id);
    let lists = lists.chain(UNSEEN.iter().map(|(id, _)| *id));
    let lists: Vec<_> = lists.chain(SOUND.iter().copied()).collect();
    let listed: BTreeSet<_> = lists.iter().map(|id| (*id).to_owned()).collect();
    assert_eq!(listed.len(), lists.len(), "one is listed twice");
    let mut files = corpus::ids();
    files.remove("base");
    assert_eq!(listed, files);
}

/// Everything that this crate makes in a database, with its default key and with others.
#[tokio::test]
async fn it_gets_through_nothing_that_this_crate_makes() {
    for kind in [TenantType::Text, TenantType::Uuid, TenantType::BigInt] {
        let installation = Installation::new("app").tenant_column("tenant_id", kind);
        let world = world_with(installation.clone(), &[]).await;
        let mut admin = world.admin().await;
        let further = "DROP TABLE plain; CREATE TABLE countries (code text PRIMARY KEY); \
                       REVOKE CREATE ON SCHEMA public FROM PUBLIC";
        admin.execute(further).await.expect("a table");
        let countries = installation.reference_table("countries");
        countries.apply(&mut admin).await.expect("applied");
        let numbers = installation.number_series();
        numbers.apply(&mut admin).await.expect("applied");
        let trail = installation.trail();
        trail.apply(&mut admin).await.expect("applied");
        let authorization = installation.authorization();
        authorization.apply(&mut admin).await.expect("applied");
        let database = world.admin.get_database().expect("it has one").to_owned();
        let auditor = Auditor::new(installation);
        for options in [&world.admin, &world.app] {
            let pool = PgPool::connect_with(options.clone()).await;
            let pool = pool.expect("connected");
            let probe = Probe::of(&database).functions();
            let report = auditor.probe(&pool, &probe).await.expect("probed");
            assert!(!report.has(Severity::Low), "{kind:?}:\n{report}");
            assert!(witnessed(&report).is_empty(), "{kind:?}:\n{report}");
        }
    }
}

/// Though nothing of it was done, and the pool goes on.
#[tokio::test]
async fn a_database_that_was_not_named_is_left_alone() {
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    let world = world_with(installation.clone(), &["one"]).await;
    let pool = PgPool::connect_with(world.admin.clone()).await;
    let pool = pool.expect("connected");
    let auditor = Auditor::new(installation);
    for name in ["production", "", "POSTGRES"] {
        let refused = auditor.probe(&pool, &Probe::of(name)).await;
        let error = refused.expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{name}");
    }
    let notes: i64 = sqlx::query_scalar("SELECT count(*) FROM notes")
        .fetch_one(&pool)
        .await
        .expect("the pool serves");
    assert_eq!(notes, 1);
}

/// What the catalog cannot tell is a finding of the probe's own; what cannot be tried is told.
#[tokio::test]
async fn what_only_the_probe_sees_is_a_finding_and_what_it_cannot_see_is_told() {
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    let world = world_with(installation, &[]).await;
    let mut admin = world.admin().await;
    // Whose rows a function reads that changes the context in a text which it puts together, no catalog
    // tells.
    let other = "EXECUTE 'SELECT set_' || 'config(''app.tenant_id'', $1, true)' USING tenant;";
    admin
        .execute(AssertSqlSafe(format!(
            "DROP TABLE plain; \
             CREATE FUNCTION kept() RETURNS SETOF notes LANGUAGE plpgsql AS $$ DECLARE tenant text; \
               BEGIN FOREACH tenant IN ARRAY ARRAY['audit_a', 'audit-b'] LOOP {other} \
                 RETURN QUERY SELECT * FROM notes; END LOOP; END $$; \
             CREATE PROCEDURE clear() LANGUAGE plpgsql AS $$ DECLARE tenant text; \
               BEGIN FOREACH tenant IN ARRAY ARRAY['audit_a', 'audit-b'] LOOP {other} \
                 DELETE FROM notes; END LOOP; END $$; \
             CREATE FUNCTION slow() RETURNS text LANGUAGE sql AS $$ SELECT pg_sleep(60)::text $$; \
             CREATE FUNCTION picky(a int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$; \
             CREATE TABLE odd (tenant_id text NOT NULL, place point NOT NULL); \
             ALTER TABLE odd ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
             CREATE POLICY own ON odd USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')); \
             GRANT SELECT ON odd TO app"
        )))
        .await
        .expect("a schema");
    let pool = PgPool::connect_with(world.admin.clone()).await;
    let pool = pool.expect("connected");
    let config = AuditConfig::new("app").tenant_column("tenant_id", "app.tenant_id");
    let auditor = Auditor::new(config);
    let database = world.admin.get_database().expect("it has one");
    let report = auditor.probe(&pool, &Probe::of(database).functions()).await;
    let report = report.expect("probed");
    assert_eq!(
        witnessed(&report),
        [
            ("probe-reads-foreign-rows", "public.kept()"),
            ("probe-writes-foreign-rows", "public.clear()"),
        ],
        "{report}"
    );
    let unseen: BTreeSet<_> = report.unseen().map(|unseen| unseen.object()).collect();
    let expected = ["public.odd", "public.picky(integer)", "public.slow()"];
    assert_eq!(unseen, BTreeSet::from(expected), "{report}");
    // Functions are called if that was asked for, and else are not.
    let report = auditor.probe(&pool, &Probe::of(database)).await;
    assert!(witnessed(&report.expect("probed")).is_empty());
}

/// Holes and designs with views through which rows can be made, and which do not show the column that is
/// counted: the server counts it.
const COUNTED: &[&str] = &["x10", "y04"];

fn left_behind(id: &str, before: &[String], after: &[String]) -> Option<String> {
    let lines = |lines: &[String]| -> BTreeSet<String> {
        let is_meant = |line: &&String| !COUNTED.contains(&id) || !line.starts_with("sequence ");
        lines.iter().filter(is_meant).cloned().collect()
    };
    let (before, after) = (lines(before), lines(after));
    let different: Vec<_> = before.symmetric_difference(&after).collect();
    (!different.is_empty()).then(|| format!("{id}: left behind {different:?}"))
}

/// How many rows there are, where sequences are, and what the catalog says.
async fn snapshot(specimen: &Specimen<'_>) -> Vec<String> {
    const CATALOG: &str = "
        SELECT concat_ws(' ', 'class', oid::regclass, relkind, relowner::regrole, relrowsecurity, relforcerowsecurity,
          relacl, relfilenode) FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'i')
        UNION ALL SELECT concat_ws(' ', 'policy', polname, polrelid::regclass, polcmd, polroles,
          pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM pg_policy
        UNION ALL SELECT concat_ws(' ', 'constraint', conname, conrelid::regclass) FROM pg_constraint
        UNION ALL SELECT concat_ws(' ', 'trigger', tgname, tgrelid::regclass, tgenabled) FROM pg_trigger
        UNION ALL SELECT concat_ws(' ', 'function', oid::regprocedure, proacl) FROM pg_proc
        UNION ALL SELECT concat_ws(' ', 'role', rolname, rolsuper, rolbypassrls, rolcreaterole) FROM pg_roles
        UNION ALL SELECT concat_ws(' ', 'member', roleid::regrole, member::regrole) FROM pg_auth_members
        UNION ALL SELECT concat_ws(' ', 'schema', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_'
        UNION ALL SELECT concat_ws(' ', 'sequence', schemaname, sequencename, last_value) FROM pg_sequences
        ORDER BY 1";
    const TABLES: &str = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
                          WHERE schemaname !~ '^(pg_|information_schema)' ORDER BY 1";
    let pool = specimen.pool();
    let mut lines: Vec<String> = sqlx::query_scalar(CATALOG)
        .fetch_all(pool)
        .await
        .expect("the catalog");
    let tables: Vec<String> = sqlx::query_scalar(TABLES)
        .fetch_all(pool)
        .await
        .expect("the tables");
    for table in tables {
        let sql = format!(
            "SELECT '{table} ' || md5(coalesce(string_agg(t::text, ' ' ORDER BY t::text), '')) FROM {table} AS t"
        );
        lines.push(
            sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(pool)
                .await
                .expect("its rows"),
        );
    }
    lines
}
