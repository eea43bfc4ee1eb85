//! What judges databases has nothing to say of a sealed one, and sees what is wrong with it.

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
#[cfg(feature = "audit")]
use tenantry::audit::{AuditConfig, Auditor};
use tenantry::testing::isolation::Isolation;
use tenantry::testing::isolation::prove_isolation;

use crate::stage::{plain, run, sealed_world};
use crate::support::{World, empty_world, tenant};

async fn pool(options: &PgConnectOptions) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(1);
    pool.connect_with(options.clone()).await.expect("a pool")
}

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
    run(&world, "DROP TABLE plain").await;
    world
}

async fn proof(options: &PgConnectOptions) -> Vec<String> {
    let report = prove_isolation(&pool(options).await, Isolation::from(plain().sealed())).await;
    let report = report.expect("a proof");
    report.findings().map(ToString::to_string).collect()
}

/// As a superuser, who can make a context up.
#[tokio::test]
async fn the_proof_of_isolation() {
    let world = furnished_world().await;
    assert_eq!(proof(&world.admin).await, [""; 0]);
    run(&world, "DROP POLICY tenantry_backstop ON notes; DROP POLICY tenantry_tenant ON notes; \
                 CREATE POLICY tenantry_tenant ON notes USING (tenant_id = (SELECT tenantry.current_tenant()) OR id > 0)").await;
    let found = proof(&world.admin).await;
    assert!(
        found.iter().any(|finding| finding.contains("notes")),
        "{found:?}"
    );
}

#[tokio::test]
async fn the_proof_of_a_database_of_one_tenant() {
    let world = empty_world().await;
    let installation = plain().database_of(tenant("a")).sealed();
    installation
        .install(&mut world.admin().await)
        .await
        .expect("installed");
    assert_eq!(proof(&world.admin).await, [""; 0]);
    run(
        &world,
        "ALTER DOMAIN tenantry.scope DROP CONSTRAINT tenantry_2_tenant",
    )
    .await;
    assert_ne!(proof(&world.admin).await, [""; 0]);
}

#[cfg(feature = "audit")]
async fn audited(options: &PgConnectOptions) -> Vec<String> {
    let config = AuditConfig::from(&plain().sealed());
    let report = Auditor::new(config)
        .run(&pool(options).await)
        .await
        .expect("a report");
    let findings = report.findings();
    findings
        .map(|finding| format!("{} {}", finding.rule(), finding.object()))
        .filter(|finding| finding.contains("policy") || finding.contains("function"))
        .collect()
}

/// As a superuser, and as the application role, who takes the crate's functions at their names.
#[cfg(feature = "audit")]
#[tokio::test]
async fn the_auditor() {
    let world = furnished_world().await;
    for options in [&world.admin, &world.app] {
        assert_eq!(audited(options).await, [""; 0]);
    }
    run(&world, "DROP POLICY tenantry_backstop ON notes; DROP POLICY tenantry_tenant ON notes; \
                 CREATE POLICY tenantry_tenant ON notes USING (tenant_id = (SELECT tenantry.current_tenant()) OR id > 0)").await;
    for options in [&world.admin, &world.app] {
        let found = audited(options).await;
        assert!(
            found.iter().any(|finding| finding.contains("notes")),
            "{found:?}"
        );
    }
    // One that lets everybody through, under the name of the crate's.
    let world = furnished_world().await;
    run(
        &world,
        "CREATE OR REPLACE FUNCTION tenantry.current_tenant() RETURNS text LANGUAGE plpgsql STABLE \
                 SECURITY DEFINER AS $$ BEGIN RETURN current_setting('app.user_id', true); END $$",
    )
    .await;
    let found = audited(&world.admin).await;
    assert!(
        found.iter().any(|finding| finding.contains("notes")),
        "{found:?}"
    );
}
