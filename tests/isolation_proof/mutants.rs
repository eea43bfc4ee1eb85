//! Every table of the examples: each policy dropped in turn, and whatever else protects it.

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::isolation::prove_isolation;

use crate::carriers::Flights;
use crate::world::{self, run, server, texts};
use crate::{legal_practice, quickstart, warehouse};

/// Something that takes protection away, and what brings it back: SQL.
struct Mutant {
    sql: String,
    back: String,
}

/// All that protects the database: of the role, of each table, of each policy; and new tables.
async fn mutants(admin: &PgConnectOptions, role: &str) -> Vec<Mutant> {
    let tables = "SELECT format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY|ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY', c.oid::regclass) \
         FROM pg_class AS c WHERE c.relrowsecurity \
         UNION ALL \
         SELECT format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY|ALTER TABLE %1$s FORCE ROW LEVEL SECURITY', c.oid::regclass) \
         FROM pg_class AS c WHERE c.relforcerowsecurity";
    // With its own expression a policy comes back as it was.
    let policies = "SELECT format('%s|DROP POLICY IF EXISTS %s; CREATE POLICY %2$s AS %s FOR %s TO %s USING (%s)%s', m.sql, \
            p.named, p.permissive, p.cmd, array_to_string(p.roles, ', '), p.qual, ' WITH CHECK (' || p.with_check || ')') \
         FROM (SELECT *, format('%I ON %I.%I', policyname, schemaname, tablename) AS named FROM pg_policies) AS p, \
         LATERAL (VALUES ('DROP POLICY ' || p.named), ('ALTER POLICY ' || p.named || ' USING (true)')) AS m (sql)";
    let mut mutants = vec![
        format!("ALTER ROLE {role} BYPASSRLS|ALTER ROLE {role} NOBYPASSRLS"),
        format!("ALTER ROLE {role} SUPERUSER|ALTER ROLE {role} NOSUPERUSER"),
        format!("CREATE ROLE {role}_b BYPASSRLS; GRANT {role}_b TO {role}|DROP ROLE {role}_b"),
    ];
    mutants.extend(texts(admin, tables).await);
    mutants.extend(texts(admin, policies).await);
    for table in [
        "CREATE TABLE another (carrier text, tenant_id text, body text)",
        "CREATE TABLE another (body text)",
        "CREATE TABLE another (carrier text, tenant_id text); ALTER TABLE another ENABLE ROW LEVEL SECURITY; \
         ALTER TABLE another FORCE ROW LEVEL SECURITY",
    ] {
        mutants.push(format!(
            "{table}; GRANT SELECT ON another TO {role}|DROP TABLE another"
        ));
    }
    let split = |mutant: String| {
        let (sql, back) = mutant.split_once('|').expect("both");
        Mutant {
            sql: sql.to_owned(),
            back: back.to_owned(),
        }
    };
    mutants.into_iter().map(split).collect()
}

/// Unchanged it is green, and with each of the mutants it is red.
async fn check(admin: &PgConnectOptions, role: &str, installation: &Installation, tables: &[&str]) {
    let pool = world::pool(admin);
    let report = prove_isolation(&pool, installation)
        .await
        .expect("a report");
    report.assert();
    assert_eq!(report.tables().collect::<Vec<_>>(), tables);
    // The application's own pool sees it, too.
    let app = world::pool(&admin.clone().username(role));
    tenantry::assert_isolated!(&app, installation);
    app.close().await;

    let mutants = mutants(admin, role).await;
    let mut survivors = Vec::new();
    for mutant in &mutants {
        run(admin, &mutant.sql).await;
        let report = prove_isolation(&pool, installation)
            .await
            .expect("a report");
        if report.is_isolated() {
            survivors.push(mutant.sql.as_str());
        }
        run(admin, &mutant.back).await;
    }
    println!(
        "{role}: {} mutants, {} not seen",
        mutants.len(),
        survivors.len()
    );
    assert!(survivors.is_empty(), "not seen:\n{}", survivors.join("\n"));
    // All came back: none was red because of the one before.
    tenantry::assert_isolated!(&pool, installation);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legal_practice() {
    let role = world::name("practice");
    let database = legal_practice::Database::prepare(server().await.connect_options(), &role)
        .await
        .expect("a database");
    let installation = Installation::new(&role).tenant_column("tenant_id", TenantType::Text);
    let tables = [
        "public.cases",
        "public.invoices",
        "public.journal_entries",
        "public.payments",
        "public.postings",
        "tenantry.authorization_epochs",
        "tenantry.member_roles",
        "tenantry.members",
        "tenantry.number_series",
        "tenantry.role_parents",
        "tenantry.role_permissions",
        "tenantry.roles",
        "tenantry.trail",
        "tenantry.void_numbers",
    ];
    check(&database.owner, &role, &installation, &tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quickstart() {
    let flights = Flights {
        carriers: Arc::new([]),
        shared: Vec::new(),
        alone: Vec::new(),
    };
    let databases = quickstart::Databases::start(&flights)
        .await
        .expect("databases");
    let installation = Installation::new("app").tenant_column("carrier", TenantType::Text);
    let shared = databases.shared().username("postgres");
    check(
        &shared,
        "app",
        &installation,
        &["public.flights", "public.remarks"],
    )
    .await;
    let alone = databases.alone().username("postgres");
    of_one_tenant(&alone, "app", &installation).await;
    databases.stop().await.expect("stopped");
}

/// Each tenant has a database, and there are no policies: what is proven is that it takes no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warehouse() {
    let prefix = world::name("warehouse");
    let tenants = warehouse::tenants(2).expect("tenants");
    let databases =
        warehouse::Databases::prepare(server().await.connect_options(), &prefix, tenants)
            .await
            .expect("databases");
    for tenant in databases.tenants() {
        let admin = databases.as_admin(tenant);
        let role = format!("{prefix}_app");
        of_one_tenant(&admin, &role, &Installation::new(&role)).await;
    }
}

async fn of_one_tenant(admin: &PgConnectOptions, role: &str, installation: &Installation) {
    let pool = world::pool(admin);
    tenantry::assert_isolated!(&pool, installation);
    let tenant = texts(admin, "SELECT tenant FROM tenantry.installation").await;
    let domain = "ALTER DOMAIN tenantry.scope";
    let whose = format!(
        "{domain} ADD CONSTRAINT tenantry_2_tenant CHECK (VALUE[2] = '{}')",
        tenant[0]
    );
    let mutants = [
        (format!("{domain} DROP CONSTRAINT tenantry_2_tenant"), whose),
        (
            format!("ALTER ROLE {role} SUPERUSER"),
            format!("ALTER ROLE {role} NOSUPERUSER"),
        ),
        (
            format!("{domain} OWNER TO {role}"),
            format!("{domain} OWNER TO postgres"),
        ),
    ];
    for (mutant, back) in mutants {
        run(admin, &mutant).await;
        let report = prove_isolation(&pool, installation)
            .await
            .expect("a report");
        assert!(!report.is_isolated(), "not seen: {mutant}");
        run(admin, &back).await;
        tenantry::assert_isolated!(&pool, installation);
    }
    pool.close().await;
}
