//! Several servers, of which one is in trouble: whoever lives elsewhere does not notice, and whoever
//! lives there is told, and served again when it is over.

mod support;

#[path = "blast_radius/load.rs"]
mod load;
#[path = "blast_radius/site.rs"]
mod site;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use load::{Load, ask, eventually_served};
use site::{Site, Stage};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use support::server;
use tenantry::testing::PostgresServer;
use tenantry::{
    ConnectionBudget, EagerPools, Error, ErrorKind, ForEachTenant, LazyPools, PoolOptions,
    TenantRegistry, TenantRegistryBuilder,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How a registry opens its pools.
#[derive(Clone, Copy, Debug)]
enum Opening {
    Eager,
    Lazy,
    /// Lazy, with all connections of a server counted to the last.
    Budget,
}

const OPENINGS: [Opening; 3] = [Opening::Eager, Opening::Lazy, Opening::Budget];

impl Opening {
    fn of(self, builder: TenantRegistryBuilder) -> TenantRegistryBuilder {
        match self {
            Self::Eager => builder.eager(EagerPools::default()),
            Self::Lazy => builder.lazy(LazyPools::default()),
            Self::Budget => builder
                .lazy(LazyPools::default())
                .budget(ConnectionBudget::per_server(7)),
        }
    }
}

async fn registry_of(stage: &Stage, opening: Opening, acquire_timeout: Duration) -> TenantRegistry {
    let builder = TenantRegistry::builder(stage.directory.clone());
    let builder = builder.pool_options(move |_, options: PoolOptions| {
        options.max_connections(2).acquire_timeout(acquire_timeout)
    });
    opening.of(builder).build().await.expect("a registry")
}

/// For what must not be waited for; the bound is for a test that fails.
const NEVER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(60);

/// The kinds that say that a server is out of reach.
const OUT_OF_REACH: [ErrorKind; 4] = [
    ErrorKind::Connect,
    ErrorKind::ConnectionLost,
    ErrorKind::AcquireTimeout,
    ErrorKind::Saturated,
];

fn is_out_of_reach(error: &Error) -> bool {
    OUT_OF_REACH.contains(&error.kind()) && error.is_retryable()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_crashes_is_down_for_its_own_tenants_alone() {
    let troubled = PostgresServer::start().await.expect("a server");
    let stage = Stage::new(Site::direct(&troubled, "down").await).await;
    for opening in OPENINGS {
        let registry = registry_of(&stage, opening, NEVER).await;
        for id in stage.troubled.ids() {
            ask(&registry, &id).await.expect("served");
        }
        let load = Load::start(&registry, stage.sound.ids()).await;
        load.progress(20).await;

        troubled.crash().await.expect("down");
        for round in 0..6 {
            for id in stage.troubled.ids() {
                // Not after `acquire_timeout`: at once.
                let answer = timeout(SOON, ask(&registry, &id)).await.expect("an answer");
                let error = answer.expect_err("it is down");
                assert!(is_out_of_reach(&error), "{opening:?}, {round}: {error:?}");
                // The first one may have found its connection dead; from then on there is none.
                if round > 2 {
                    assert_eq!(error.kind(), ErrorKind::Connect, "{opening:?}: {error:?}");
                }
            }
        }
        load.progress(50).await;

        troubled.restart().await.expect("up again");
        for id in stage.troubled.ids() {
            eventually_served(&registry, &id).await;
        }
        load.finish(opening).await;
        registry.shutdown(SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_restarts_under_load_breaks_what_was_on_it_and_no_more() {
    let troubled = PostgresServer::start().await.expect("a server");
    let stage = Stage::new(Site::direct(&troubled, "again").await).await;
    for opening in OPENINGS {
        let registry = registry_of(&stage, opening, SOON).await;
        let load = Load::start(&registry, stage.sound.ids()).await;
        let on_it = Load::start(&registry, stage.troubled.ids()).await;
        for _ in 0..2 {
            load.progress(20).await;
            on_it.progress(20).await;
            troubled.restart().await.expect("up again");
        }
        on_it.progress(20).await;
        // Each was told the truth: what the restart broke, and never another one's rows.
        let broken = on_it.stop().await;
        assert!(!broken.errors.is_empty(), "{opening:?}: nobody noticed");
        for error in &broken.errors {
            let is_honest = is_out_of_reach(error) || error.is_outcome_unknown();
            assert!(is_honest, "{opening:?}: {error:?}");
        }
        load.finish(opening).await;
        registry.shutdown(SOON).await;
    }
}

/// Packets go nowhere, and nobody says so: what no time-out ends would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_falls_silent_holds_up_its_own_tenants_alone() {
    let stage = Stage::new(Site::behind_a_wire(server().await, "mute").await).await;
    let wire = stage.troubled.wire();
    for opening in OPENINGS {
        let registry = registry_of(&stage, opening, Duration::from_secs(1)).await;
        for id in stage.troubled.ids() {
            ask(&registry, &id).await.expect("served");
        }
        let load = Load::start(&registry, stage.sound.ids()).await;
        load.progress(20).await;

        wire.freeze();
        // Twice as many as there are connections, each with the patience of its caller. Those that
        // found a connection sent their statement, and nothing but the caller ends that.
        let patience = Duration::from_secs(2);
        let callers = stage.troubled.ids().into_iter().flat_map(|id| {
            let registry = registry.clone();
            (0..4).map(move |_| {
                let (registry, id) = (registry.clone(), id.clone());
                tokio::spawn(async move { timeout(patience, ask(&registry, &id)).await })
            })
        });
        let callers: Vec<_> = callers.collect();
        // Nor does it keep anybody from opening connections elsewhere.
        for _ in 0..3 {
            for id in stage.sound.ids() {
                registry.evict(&support::tenant(&id));
            }
            load.progress(20).await;
        }
        for caller in callers {
            if let Ok(answer) = caller.await.expect("no panic") {
                let error = answer.expect_err("nobody there");
                assert!(is_out_of_reach(&error), "{opening:?}: {error:?}");
            }
        }
        // What was given up takes nobody's place: from here on all are told by themselves.
        for _ in 0..2 {
            let ids = stage.troubled.ids();
            let answers = ids.iter().map(|id| timeout(SOON, ask(&registry, id)));
            for answer in join_all(answers).await {
                let error = answer.expect("an answer").expect_err("nobody there");
                assert!(is_out_of_reach(&error), "{opening:?}: {error:?}");
            }
        }
        load.progress(50).await;

        // Some of it arrives late, and some never.
        wire.cut();
        wire.thaw();
        for id in stage.troubled.ids() {
            eventually_served(&registry, &id).await;
        }
        load.finish(opening).await;

        // And once more, with nothing cut: what was sent meanwhile arrives.
        let load = Load::start(&registry, stage.sound.ids()).await;
        wire.freeze();
        let callers = stage.troubled.ids().into_iter().map(|id| {
            let registry = registry.clone();
            async move { timeout(patience, ask(&registry, &id)).await.map(drop) }
        });
        join_all(callers).await;
        wire.thaw();
        for id in stage.troubled.ids() {
            eventually_served(&registry, &id).await;
        }
        load.finish(opening).await;
        let report = registry.shutdown(SOON).await;
        assert!(report.is_clean(), "{opening:?}: {report:?}");
    }
}

/// The places of pools are the whole registry's: who waits for a server that says nothing keeps one
/// for as long as `acquire_timeout`, and a newcomer elsewhere gets it then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_server_gives_places_of_pools_back() {
    let stage = Stage::new(Site::behind_a_wire(server().await, "places").await).await;
    let registry = TenantRegistry::builder(stage.directory.clone())
        .lazy(LazyPools::default().max_pools(2))
        .pool_options(|_, options: PoolOptions| {
            options
                .max_connections(2)
                .acquire_timeout(Duration::from_secs(5))
        })
        .budget(ConnectionBudget::per_server(7))
        .build()
        .await
        .expect("a registry");
    let ids = stage.troubled.ids();
    for id in &ids[..2] {
        ask(&registry, id).await.expect("served");
    }
    stage.troubled.wire().freeze();
    // Their statements are on their way, and nobody gives them up.
    let (first, second) = (registry.clone(), registry.clone());
    let (one, two) = (ids[0].clone(), ids[1].clone());
    let one = tokio::spawn(async move { ask(&first, &one).await });
    let two = tokio::spawn(async move { ask(&second, &two).await });
    load::until("both are in use", || {
        registry.status().connections.in_use == 2
    })
    .await;

    let newcomer = &stage.sound.ids()[0];
    let error = ask(&registry, newcomer).await.expect_err("no place");
    assert_eq!(error.kind(), ErrorKind::Saturated, "{error:?}");
    assert!(error.retry_after().is_some());

    // Given up by its caller, the first makes room, although its server has said nothing yet.
    one.abort();
    ask(&registry, newcomer).await.expect("served");
    assert!(!two.is_finished());
    two.abort();
    stage.troubled.wire().thaw();
    eventually_served(&registry, &ids[0]).await;
}

#[tokio::test]
async fn registry_starts_without_the_server_that_is_down() {
    let troubled = PostgresServer::start().await.expect("a server");
    let stage = Stage::new(Site::direct(&troubled, "late").await).await;
    troubled.crash().await.expect("down");

    let build = |eager| {
        TenantRegistry::builder(stage.directory.clone())
            .eager(eager)
            .build()
    };
    let error = build(EagerPools::default()).await.expect_err("down");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    let registry = build(EagerPools::default().start_degraded(true))
        .await
        .expect("the rest");
    let failed: Vec<&str> = registry
        .failed_at_start()
        .iter()
        .map(|(tenant, _)| tenant.as_str())
        .collect();
    let mut expected = stage.troubled.ids();
    expected.sort();
    let mut sorted = failed.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    for id in stage.sound.ids() {
        ask(&registry, &id).await.expect("served");
    }

    // A job is done for whoever can be reached, and says for whom it was not.
    let report = registry
        .for_each_tenant(ForEachTenant::default(), |scope| async move {
            support::notes(&scope).await.map_err(Error::from)
        })
        .await;
    let done: Vec<&str> = report.done.keys().map(|id| id.as_str()).collect();
    let missed: Vec<&str> = report.failed.keys().map(|id| id.as_str()).collect();
    let mut sound = stage.sound.ids();
    sound.sort();
    assert_eq!(
        (done, missed),
        (sound.iter().map(String::as_str).collect(), sorted)
    );
    assert!(report.stopped.is_none());

    troubled.restart().await.expect("up");
    for id in stage.troubled.ids() {
        eventually_served(&registry, &id).await;
    }
}

/// The third server: what is known of tenants holds for a while, and is caught up with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory_may_be_down_while_its_tenants_are_served() {
    let control = PostgresServer::start().await.expect("a server");
    let site = Site::behind_a_wire(server().await, "known").await;
    let mut stage = Stage::with_control(site, &control).await;
    for opening in OPENINGS {
        let registry = registry_of(&stage, opening, SOON).await;
        let ids = [stage.sound.ids(), stage.troubled.ids()].concat();
        let load = Load::start(&registry, ids.clone()).await;
        load.progress(10).await;
        control.crash().await.expect("down");
        load.progress(50).await;
        // Nor does anybody need it who asks for the first time.
        let newcomer = registry_of(&stage, opening, SOON).await;
        for id in &ids {
            ask(&newcomer, id).await.expect("served");
        }
        control.restart().await.expect("up again");
        load.progress(10).await;
        load.finish(opening).await;

        stage.reconnect(&control).await;
        let (out, others) = ids.split_last().expect("tenants");
        stage.set_state(out, "suspended").await;
        let suspended = async {
            while ask(&registry, out).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, suspended).await.expect("it is heard of");
        for id in others {
            ask(&registry, id).await.expect("served");
        }
        stage.set_state(out, "active").await;
        eventually_served(&registry, out).await;
    }
}

#[tokio::test]
async fn shutdown_waits_for_a_silent_server_no_longer_than_was_said() {
    let stage = Stage::new(Site::behind_a_wire(server().await, "bye").await).await;
    for opening in OPENINGS {
        let registry = registry_of(&stage, opening, SOON).await;
        let id = stage.troubled.ids()[0].clone();
        for id in [stage.sound.ids(), stage.troubled.ids()].concat() {
            ask(&registry, &id).await.expect("served");
        }
        stage.troubled.wire().freeze();
        let busy = {
            let (registry, id) = (registry.clone(), id.clone());
            tokio::spawn(async move { ask(&registry, &id).await })
        };
        load::until("it is under way", || {
            registry.status().connections.in_use == 1
        })
        .await;
        let report = timeout(SOON, registry.shutdown(Duration::from_millis(500)));
        let report = report.await.expect("it ends");
        let tenants: Vec<&str> = report
            .still_busy
            .iter()
            .map(|(id, _)| id.as_str())
            .collect();
        assert_eq!(tenants, [&*id], "{opening:?}: {report:?}");
        busy.abort();
        stage.troubled.wire().thaw();
    }
}

/// The specimen: pools in a map behind one lock, which is held while a pool is opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_one_lock_over_all_pools_lets_one_server_stop_everybody() {
    let stage = Stage::new(Site::behind_a_wire(server().await, "naive").await).await;
    let pools: Arc<Mutex<HashMap<String, PgPool>>> = Arc::default();
    let ask = async |id: String, options| {
        let mut pools = pools.lock().await;
        if !pools.contains_key(&id) {
            let pool = PgPoolOptions::new().connect_with(options).await?;
            pools.insert(id.clone(), pool);
        }
        let pool = pools[&id].clone();
        drop(pools);
        sqlx::query("SELECT 1").execute(&pool).await
    };
    let sound = stage.sound.database(0);
    ask("sound".to_owned(), sound.clone())
        .await
        .expect("served");

    stage.troubled.wire().freeze();
    let stuck = ask("troubled".to_owned(), stage.troubled.database(0));
    let mut stuck = std::pin::pin!(stuck);
    assert!(futures_util::poll!(&mut stuck).is_pending());
    let elsewhere = timeout(Duration::from_millis(500), ask("sound".to_owned(), sound));
    assert!(
        elsewhere.await.is_err(),
        "it waits for somebody else's server"
    );
}
