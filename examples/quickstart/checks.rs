//! What is looked at when the work is done.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tenantry::testing::FaultProxy;
use tenantry::{Error, StaticDirectory, TenantRegistry, TenantScope};

use crate::Failure;
use crate::carriers::{Carrier, Fate};
use crate::server::Databases;

/// What each carrier sees when it reads everything, against what it has flown and written.
pub async fn end(registry: &TenantRegistry, carriers: &[Carrier]) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    for carrier in carriers {
        let scope = registry.scope(carrier.tenant.clone()).await?;
        flights(&scope, carrier).await?;
        remarks(&scope, carrier).await?;
        let foreign = carrier.foreign.load(Ordering::Relaxed);
        if foreign > 0 {
            wrong.push(format!("{} was given {foreign} foreign rows", carrier.code));
        }
    }
    wrong.extend(carriers.iter().flat_map(Carrier::notes));
    Ok(wrong)
}

async fn flights(scope: &TenantScope, carrier: &Carrier) -> Result<(), Error> {
    let owners: Vec<String> = sqlx::query_scalar("SELECT carrier FROM flights")
        .fetch_all(scope)
        .await?;
    carrier.look_at(owners.iter().map(String::as_str));
    let seen = owners.len() as u64;
    carrier.seen.store(seen, Ordering::Relaxed);
    if seen != carrier.expected {
        carrier.note(format!(
            "sees {seen} flights and has {} in the file",
            carrier.expected
        ));
    }
    Ok(())
}

/// Whatever was committed is there, and nothing that was rolled back.
async fn remarks(scope: &TenantScope, carrier: &Carrier) -> Result<(), Error> {
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT number, carrier FROM remarks")
        .fetch_all(scope)
        .await?;
    carrier.look_at(rows.iter().map(|(_, owner)| &**owner));
    let mut written = carrier.remarks();
    for (number, owner) in rows {
        if owner != carrier.code {
            continue;
        }
        match written.remove(&number) {
            Some(Fate::Committed) => {
                carrier.found.fetch_add(1, Ordering::Relaxed);
            }
            Some(Fate::Unknown) => {}
            fate => carrier.note(format!("remark {number} is there, and it is {fate:?}")),
        }
    }
    for (number, fate) in written {
        if fate == Fate::Committed {
            carrier.note(format!("remark {number} was committed and is not there"));
        }
    }
    Ok(())
}

/// So often each kind of operation is counted.
const SAMPLES: u32 = 50;

/// Round trips for each kind of operation, counted by a proxy between the registry and the server.
pub async fn round_trips(databases: &Databases) -> Result<Vec<(&'static str, f64)>, Failure> {
    let proxy = FaultProxy::start(&databases.shared()).await?;
    let directory =
        StaticDirectory::new().shared_by_all(proxy.connect_options(&databases.shared()));
    let registry = TenantRegistry::builder(directory)
        .pool_options(|_, options| {
            options
                .max_connections(1)
                .test_after(Duration::from_secs(60))
        })
        .build()
        .await?;
    let mut trips = [0; 4];
    // The first turn prepares the statement, as the first use on any connection does.
    for turn in 0..=SAMPLES {
        // Two carriers in turn: it costs nothing to change the tenant.
        let code = if turn % 2 == 0 { "UA" } else { "DL" };
        let scope = registry.scope(code.parse::<tenantry::TenantId>()?).await?;
        let mut at = proxy.counts().round_trips();
        let mut lap = || {
            let now = proxy.counts().round_trips();
            now - std::mem::replace(&mut at, now)
        };
        let statement = "SELECT dest FROM flights WHERE id = $1";
        let _: Option<String> = sqlx::query_scalar(statement)
            .bind(1_i64)
            .fetch_optional(&scope)
            .await?;
        let single = lap();
        let mut tx = scope.begin().await?;
        let begin = lap();
        let _: Option<String> = sqlx::query_scalar(statement)
            .bind(1_i64)
            .fetch_optional(&mut tx)
            .await?;
        let inside = lap();
        tx.commit().await?;
        let commit = lap();
        if turn > 0 {
            for (sum, lap) in trips.iter_mut().zip([single, begin, inside, commit]) {
                *sum += lap;
            }
        }
    }
    registry.close();
    let names = [
        "a single statement, tenant included",
        "begin, tenant included",
        "a statement in a transaction",
        "commit",
    ];
    let means = trips.map(|trips| trips as f64 / f64::from(SAMPLES));
    Ok(names.into_iter().zip(means).collect())
}

/// A directory that sends United to Hawaiian's database does not get as far as a statement.
pub async fn misrouted(databases: &Databases) -> Option<String> {
    let united = match "UA".parse() {
        Ok(united) => united,
        Err(error) => return Some(format!("no tenant id: {error}")),
    };
    match TenantRegistry::builder(databases.mistaken(united))
        .build()
        .await
    {
        Err(error) if error.is_misrouted() => None,
        other => Some(format!("a wrong directory was taken: {other:?}")),
    }
}
