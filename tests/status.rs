//! What a registry says that it has and has done, and what the metrics page shows of it.

mod support;

use std::time::Duration;

use support::fleet::Fleet;
use support::{eventually, notes, scope, world};
use tenantry::testing::lease_and_give_back;
use tenantry::{ConnectionBudget, LazyPools, TenantRegistry, TenantScope, TenantTx};

/// Of three tenants: `t0` has two transactions open and somebody who waits for a third, `t1` has a
/// connection that is free, and the pool of `t2` was given up.
struct Busy {
    fleet: Fleet,
    registry: TenantRegistry,
    open: Vec<TenantTx>,
    waits: tokio::task::JoinHandle<()>,
}

impl Busy {
    async fn start() -> Self {
        let fleet = Fleet::new(3).await;
        let registry = TenantRegistry::builder(fleet.directory())
            .lazy(LazyPools::default().max_pools(2))
            .pool_options(|_, options| {
                let patient = options.acquire_timeout(Duration::from_secs(60));
                patient.max_connections(2)
            })
            .budget(ConnectionBudget::per_server(7))
            .build()
            .await
            .expect("a registry");
        read(&scope(&registry, "t2").await).await;
        let busy = scope(&registry, "t0").await;
        let open = vec![
            busy.begin().await.expect("begun"),
            busy.begin().await.expect("begun"),
        ];
        let waits = tokio::spawn(async move { read(&busy).await });
        let free = scope(&registry, "t1").await;
        read(&free).await;
        read(&free).await;
        eventually("one waits, and nothing is on its way", async || {
            let now = registry.status().connections;
            (now.waiting, now.closing, now.opening) == (1, 0, 0)
        })
        .await;
        Self {
            fleet,
            registry,
            open,
            waits,
        }
    }

    /// Ends one of the transactions, so that who waited is served.
    async fn end_one(&mut self) {
        let ends = self.open.pop().expect("open");
        ends.rollback().await.expect("rolled back");
        (&mut self.waits).await.expect("served");
        eventually("what served it is free", async || {
            let now = self.registry.status().connections;
            (now.waiting, now.in_use, now.idle) == (0, 1, 2)
        })
        .await;
    }
}

async fn read(scope: &TenantScope) {
    let id = scope.tenant().clone();
    let seen = notes(scope).await.expect("rows");
    assert_eq!(seen, [format!("a note of {id}")]);
}

#[tokio::test]
async fn status_counts_what_there_is_and_what_was_done() {
    let mut busy = Busy::start().await;
    let status = busy.registry.status();
    assert_eq!((status.pools, status.max_pools), (2, Some(2)));
    let now = status.connections;
    assert_eq!((now.in_use, now.idle, now.waiting), (2, 1, 1));
    assert_eq!(now.total(), 3);
    // One who waits was not given a connection yet, and is already one who found none.
    assert_eq!((status.leases, status.misses), (5, 5));
    assert_eq!((status.pools_opened, status.connections_opened), (3, 4));
    assert_eq!(status.failures, 0);
    assert_eq!(status.evictions["capacity"], 1);
    assert_eq!(status.evictions.values().sum::<u64>(), 1);
    // The session that a budget needs for itself is in neither number.
    let [server] = Vec::from_iter(status.servers.values())[..] else {
        panic!("one server: {:?}", status.servers);
    };
    assert_eq!((server.connections, server.max_connections), (3, Some(6)));

    let of = |n: usize| busy.registry.tenant_status(&busy.fleet.tenants[n]);
    let t0 = of(0).expect("known");
    assert!(t0.has_pool);
    assert_eq!((t0.connections.in_use, t0.connections.waiting), (2, 1));
    let t1 = of(1).expect("known");
    assert_eq!((t1.connections.in_use, t1.connections.idle), (0, 1));
    assert_eq!(of(2), None);

    busy.end_one().await;
    assert_eq!(busy.registry.status().leases, 6);
}

#[tokio::test]
async fn in_a_shared_database_a_tenant_has_the_connections_that_it_uses() {
    let world = world(&["a", "b"]).await;
    let registry = world
        .registry_with(|options| options.max_connections(4))
        .await;
    let (a, b) = (scope(&registry, "a").await, scope(&registry, "b").await);
    let _open = [
        a.begin().await.expect("begun"),
        a.begin().await.expect("begun"),
        b.begin().await.expect("begun"),
    ];
    for (scope, used) in [(&a, 2), (&b, 1)] {
        let status = registry.tenant_status(scope.tenant()).expect("known");
        assert!(!status.has_pool);
        assert_eq!(status.connections.in_use, used);
        assert_eq!(status.connections.total(), used);
    }
    let nobody = support::tenant("c");
    assert_eq!(registry.tenant_status(&nobody), None);
}

/// What the benches measure.
#[tokio::test]
async fn lease_and_give_back_takes_what_is_free() {
    let world = world(&["a"]).await;
    let registry = world.registry().await;
    let a = scope(&registry, "a").await;
    notes(&a).await.expect("rows");
    let leases = registry.status().leases;
    assert!(lease_and_give_back(&registry, a.tenant()));
    assert!(lease_and_give_back(&registry, a.tenant()));
    assert_eq!(registry.status().leases, leases + 2);
    let open = a.begin().await.expect("begun");
    assert!(!lease_and_give_back(&registry, a.tenant()));
    open.rollback().await.expect("rolled back");
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn metrics_page_shows_the_status() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    let page = PrometheusBuilder::new()
        .install_recorder()
        .expect("the only recorder");
    let mut busy = Busy::start().await;
    busy.end_one().await;
    busy.registry.publish_metrics();
    let page = page.render();

    let [server] = Vec::from_iter(busy.registry.status().servers.into_keys())
        .try_into()
        .expect("one server");
    for line in [
        "tenantry_pools 2".to_owned(),
        "tenantry_pools_max 2".to_owned(),
        "tenantry_connections{state=\"in_use\"} 1".to_owned(),
        "tenantry_connections{state=\"idle\"} 2".to_owned(),
        "tenantry_connections{state=\"opening\"} 0".to_owned(),
        "tenantry_connections{state=\"closing\"} 0".to_owned(),
        "tenantry_waiting 0".to_owned(),
        "tenantry_leases_total 6".to_owned(),
        "tenantry_misses_total 5".to_owned(),
        "tenantry_pools_opened_total 3".to_owned(),
        "tenantry_connections_opened_total 4".to_owned(),
        "tenantry_connection_failures_total 0".to_owned(),
        "tenantry_evictions_total{cause=\"capacity\"} 1".to_owned(),
        "tenantry_evictions_total{cause=\"explicit\"} 0".to_owned(),
        format!("tenantry_server_connections{{server=\"{server}\"}} 3"),
        format!("tenantry_server_connections_max{{server=\"{server}\"}} 6"),
        format!("tenantry_server_waiting{{server=\"{server}\"}} 0"),
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} in\n{page}");
    }
    let name = "tenantry_acquire_wait_seconds";
    assert!(
        page.contains(&format!("{name}_count{{outcome=\"leased\"}}")),
        "{page}"
    );
    let is_a_value = |line: &&str| !line.is_empty() && !line.starts_with('#');
    for line in page.lines().filter(is_a_value) {
        let metric = line.split(['{', ' ']).next().unwrap_or_default();
        let described = metric.trim_end_matches("_count").trim_end_matches("_sum");
        assert!(page.contains(&format!("# HELP {described} ")), "{line}");
        for tenant in &busy.fleet.tenants {
            assert!(!line.contains(tenant.as_str()), "a tenant in {line}");
        }
    }
}
