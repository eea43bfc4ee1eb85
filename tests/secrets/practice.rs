//! What a practice does beside its statements: members and roles, numbers, the trail, access to all
//! tenants, jobs, the table of tenants; and what can go wrong with it.

use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};
use tenantry::sql::{DangerousAccess, Installation};
use tenantry::{
    Authorizer, Error, ErrorKind, LazyPools, NumberSeries, Permission, PostgresDirectory,
    RoleAdmin, StaticDirectory, TenantJob, TenantRegistry, TenantScope, TenantState, Trail,
    TrailEntry, TrailQuery, UniqueSeries,
};

use crate::secret;
use crate::support::control::{Control, soon};
use crate::support::{World, tenant, world};

const READ: Permission = Permission::new("invoices", "read");
const WRITE: Permission = Permission::new("invoices", "write");

/// What all of this needs in the database.
pub(crate) async fn install(world: &World, installation: &Installation) {
    let mut admin = world.admin().await;
    let authorization = installation.authorization();
    authorization.apply(&mut admin).await.expect("applied");
    let numbers = installation.number_series();
    numbers.apply(&mut admin).await.expect("applied");
    let trail = installation.trail();
    trail.apply(&mut admin).await.expect("applied");
}

/// `a` is a scope of the user whom `secrets` gives everybody.
pub(crate) async fn practice(world: &World, a: &TenantScope) -> Vec<Error> {
    let mut errors = vec![Error::directory("c4n4ry of a directory")];
    errors.extend(permissions(world, a).await);
    errors.extend(records(a).await);
    errors.extend(everybody(world).await);
    errors.extend(places(world).await);
    let job = r#"{"context":{"tenant":"c4n4ry of ours","user":"c4n4ry"},"payload":1}"#;
    let refused = serde_json::from_str::<TenantJob<u32>>(job);
    let text = refused.map(drop).expect_err("a space").to_string();
    assert!(!text.contains(super::CANARY), "{text}");
    errors
}

async fn permissions(world: &World, a: &TenantScope) -> Vec<Error> {
    let mut errors = Vec::new();
    let authorizer = Authorizer::builder().subscription(secret(world)).build();
    let authorizer = authorizer.await.expect("an authorizer");
    errors.extend(authorizer.require_member(a).await.err());
    let mut tx = a.begin().await.expect("begun");
    let mut roles = RoleAdmin::new(&mut tx);
    let all = "invoices:read".parse().expect("a pattern");
    roles.add_member("c4n4ry user").await.expect("added");
    roles.create("c4n4ry role").await.expect("made");
    roles.grant("c4n4ry role", &all).await.expect("granted");
    let assigned = roles.assign("c4n4ry user", "c4n4ry role");
    assert!(assigned.await.expect("assigned"));
    tx.commit().await.expect("committed");
    soon(async { while !authorizer.check(a, &READ).await.is_granted() {} }).await;
    errors.extend(authorizer.require(a, &WRITE).await.err());
    let mut tx = a.begin().await.expect("begun");
    let mut roles = RoleAdmin::new(&mut tx);
    let nobody = roles.assign("c4n4ry nobody", "c4n4ry role").await;
    errors.extend(nobody.err());
    drop(tx);
    // Nobody can tell while the table is locked.
    let mut owner = world.admin().await;
    let locked = owner.execute("BEGIN; LOCK TABLE tenantry.members");
    locked.await.expect("locked");
    let impatient = Authorizer::builder()
        .timeout(Duration::from_millis(50))
        .build();
    let impatient = impatient.await.expect("an authorizer");
    errors.extend(impatient.require(a, &WRITE).await.err());
    owner.execute("ROLLBACK").await.expect("free again");
    errors
}

async fn records(a: &TenantScope) -> Vec<Error> {
    let mut errors = Vec::new();
    let series = NumberSeries::new("c4n4ry");
    let mut tx = a.begin().await.expect("begun");
    let number = series.next(&mut tx).await.expect("a number");
    let voided = series.void(&mut tx, &number, "c4n4ry reason").await;
    voided.expect("void");
    let entry = TrailEntry::new("pay").object("c4n4ry", "c4n4ry");
    let entry = entry.before(json!({ "c4n4ry": "c4n4ry" }));
    Trail::record(&mut tx, &entry).await.expect("recorded");
    tx.commit().await.expect("committed");
    let query = TrailQuery::new().object("c4n4ry", "c4n4ry");
    let page = Trail::page(a.into(), &query).await.expect("a page");
    assert_eq!(page.len(), 1);
    UniqueSeries::new("c4n4ry").next(a).await.expect("a number");

    let mut tx = a.begin().await.expect("begun");
    let again = series.void(&mut tx, &number, "c4n4ry reason").await;
    errors.extend(again.err());
    drop(tx);
    for entry in [
        TrailEntry::new("pay").object("c4n4ry\0", "c4n4ry"),
        TrailEntry::new("pay").after(json!("c4n4ry\0")),
    ] {
        let mut tx = a.begin().await.expect("begun");
        errors.extend(Trail::record(&mut tx, &entry).await.err());
    }
    let mut tx = a.begin().await.expect("begun");
    for series in [
        NumberSeries::new("c4n4ry '"),
        NumberSeries::new("n").prefix("c4n4ry '"),
        NumberSeries::new("n").time_zone("c4n4ry/nowhere"),
    ] {
        errors.extend(series.next(&mut tx).await.err());
    }
    errors.extend(NumberSeries::new("n").parse("c4n4ry").err());
    errors
}

/// Access to all tenants: an event tells that it was, and not why.
async fn everybody(world: &World) -> Vec<Error> {
    let mut errors = Vec::new();
    let role = format!("danger_{}", fastrand::u64(..));
    let mut admin = world.admin().await;
    let create = format!("CREATE ROLE {role} LOGIN BYPASSRLS IN ROLE app");
    let created = admin.execute(AssertSqlSafe(create));
    created.await.expect("a role");
    let access = DangerousAccess::new(&*role);
    access.install(&mut admin).await.expect("installed");
    let registry = TenantRegistry::builder(StaticDirectory::new().shared_by_all(secret(world)))
        .settings(super::names())
        .dangerous(secret(world).username(&role))
        .build()
        .await
        .expect("a registry");
    let dangerous = registry.dangerous().expect("configured");
    let mut tx = dangerous.begin("c4n4ry", "c4n4ry").await.expect("begun");
    tx.execute("SELECT 'c4n4ry' FROM notes")
        .await
        .expect("rows");
    let failed = tx.execute("SELECT 'c4n4ry'::int").await;
    errors.push(failed.expect_err("no number").into());
    errors.extend(tx.commit().await.map_err(Error::from).err());
    errors.extend(dangerous.begin("c4n4ry", "").await.err());
    drop(dangerous.begin("c4n4ry", "c4n4ry").await.expect("begun"));
    errors
}

/// Tenants that may not be served, places that are all taken, and a table of tenants with odd rows.
async fn places(here: &World) -> Vec<Error> {
    let mut errors = Vec::new();
    let there = world(&["b"]).await;
    let directory = StaticDirectory::new()
        .shared(secret(here), [tenant("a")])
        .shared(secret(&there), [tenant("b")]);
    let registry = TenantRegistry::builder(directory.clone())
        .lazy(LazyPools::default().max_pools(1))
        .settings(super::names())
        .pool_options(|_, options| options.acquire_timeout(Duration::from_secs(2)))
        .build()
        .await
        .expect("a registry");
    let a = registry.scope(tenant("a")).await.expect("a scope");
    let b = registry.scope(tenant("b")).await.expect("a scope");
    let tx = a.begin().await.expect("begun");
    errors.extend(b.begin().await.err());
    drop(tx);
    for (state, kind) in [
        (TenantState::Suspended, ErrorKind::TenantSuspended),
        (TenantState::Moving, ErrorKind::TenantMoving),
        (TenantState::Deleted, ErrorKind::TenantDeleted),
    ] {
        directory.set_state(&tenant("a"), state);
        // It hears of the change in its own time.
        let told = async {
            loop {
                match registry.scope(tenant("a")).await {
                    Err(error) if error.kind() == kind => return error,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        errors.push(soon(told).await);
    }

    let mut control = Control::on(there.admin.clone()).await;
    control.three().await;
    control
        .run(
            "ALTER TABLE tenantry.tenants DROP CONSTRAINT tenants_placement; \
             INSERT INTO tenantry.tenants (id, placement, server, database, settings) VALUES \
               ('odd', 'c4n4ry', 'main', 'app', '{\"c4n4ry\": \"c4n4ry\"}'), \
               ('strange', 'shared', 'c4n4ry', 'c4n4ry', '{}')",
        )
        .await;
    let reader = control.reader.clone().password("c4n4ry password");
    let directory = PostgresDirectory::builder(reader)
        .server("main", secret(here))
        .server("other", secret(here))
        .connect()
        .await
        .expect("a directory");
    let registry = TenantRegistry::builder(directory)
        .lazy(LazyPools::default())
        .build()
        .await
        .expect("a registry");
    for id in ["odd", "strange"] {
        errors.extend(registry.scope(tenant(id)).await.err());
    }
    // It loses its session, and finds its way back.
    control.lock_out().await;
    control.let_in().await;
    control.wait_for_sessions(1).await;
    errors
}
