//! The specimen of the first field report. A middleware closes the connection of the tenant before,
//! opens that of the next one and keeps it in a global variable; whatever runs afterwards takes what
//! it finds there. With one request at a time it works.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tenantry::TenantId;
use tenantry::testing::leak_hunt::{FindingKind, Subject, Turn, subject};
use tokio::sync::Mutex;

use crate::stage::{self, finds, finds_nothing, hunt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_global_connection() {
    let (fleet, canaries) = stage::fleet().await;
    let app = fleet.admin.clone().username(&fleet.role());
    let places = fleet.tenants.iter();
    let places: Places = places
        .map(|id| (id.clone(), stage::database(&app, &fleet, id)))
        .collect();

    let alone = hunt(&fleet.tenants, &canaries).tasks(1).calm();
    finds_nothing(alone, global_connection(places.clone())).await;
    let among_others = hunt(&fleet.tenants, &canaries);
    finds(
        among_others,
        FindingKind::ForeignRow,
        global_connection(places.clone()),
    )
    .await;
    // And in the end, rows of one stand in the database of another.
    let report = hunt(&fleet.tenants, &canaries)
        .operations(2_000)
        .run(global_connection(places))
        .await;
    assert!(report.has(FindingKind::StoredForAnother), "{report}");
}

type Places = HashMap<TenantId, PgConnectOptions>;
type Current = Mutex<Option<(TenantId, PgConnection)>>;

fn global_connection(places: Places) -> impl Subject {
    let current: Arc<Current> = Arc::default();
    let places = Arc::new(places);
    subject(move |turn: Turn| {
        let (places, current) = (Arc::clone(&places), Arc::clone(&current));
        async move {
            middleware(&places, &current, turn.tenant()).await?;
            handler(&current, &turn).await
        }
    })
}

async fn middleware(
    places: &Places,
    current: &Current,
    tenant: &TenantId,
) -> Result<(), sqlx::Error> {
    let mut current = current.lock().await;
    match current.take() {
        Some(last) if last.0 == *tenant => *current = Some(last),
        last => {
            if let Some((_, connection)) = last {
                connection.close().await?;
            }
            let options = places[tenant].clone().disable_statement_logging();
            *current = Some((tenant.clone(), options.connect().await?));
        }
    }
    Ok(())
}

/// Whose connection it is, nobody asks.
async fn handler(current: &Current, turn: &Turn) -> Result<(), sqlx::Error> {
    let mut current = current.lock().await;
    let (_, connection) = current.as_mut().ok_or(sqlx::Error::PoolClosed)?;
    stage::statement(turn, connection).await
}
