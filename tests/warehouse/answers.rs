//! What is answered, one request at a time.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use serde_json::json;
use tenantry::TenantRegistry;

use crate::app::App;
use crate::client::{Answer, Client};
use crate::problem::Problem;
use crate::stock::{Order, Product};
use crate::tenants::{self, named_by};
use crate::world::{self, World};

#[test]
fn a_tenant_is_named_once_or_alike() {
    let named = |uri: &str, named_in: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in named_in {
            headers.append(
                HeaderName::try_from(*name).expect("a name"),
                HeaderValue::try_from(*value).expect("a value"),
            );
        }
        let uri: Uri = uri.parse().expect("a URI");
        named_by(&uri, &headers).map(|tenant| tenant.to_string())
    };
    let host = "host";
    let by_header = tenants::HEADER;
    for alike in [
        &[(host, "acme.localhost:8080")][..],
        &[(host, "ACME.LocalHost")],
        &[(host, "acme.localhost.:80")],
        &[(by_header, "acme")],
        &[(host, "localhost:8080"), (by_header, "acme")],
        &[(host, "127.0.0.1:8080"), (by_header, "acme")],
        &[(host, "[::1]:8080"), (by_header, "acme")],
        &[(host, "globex.example.com"), (by_header, "acme")],
        &[(host, "acme.localhost"), (by_header, "acme")],
        &[(by_header, "acme"), (by_header, "acme")],
    ] {
        assert_eq!(
            named("/products", alike),
            Ok("acme".to_owned()),
            "{alike:?}"
        );
    }
    assert_eq!(
        named("http://acme.localhost/products", &[]),
        Ok("acme".to_owned())
    );
    for at_odds in [
        &[(host, "acme.localhost"), (by_header, "globex")][..],
        &[(host, "acme.localhost"), (by_header, "ACME")],
        &[(by_header, "acme"), (by_header, "globex")],
        &[(host, "acme.localhost"), (host, "globex.localhost")],
    ] {
        let refused = named("/products", at_odds);
        assert_eq!(refused, Err(Problem::TENANTS_DISAGREE), "{at_odds:?}");
    }
    let refused = named(
        "http://globex.localhost/products",
        &[(host, "acme.localhost")],
    );
    assert_eq!(refused, Err(Problem::TENANTS_DISAGREE));
    for nobody in [&[][..], &[(host, "localhost")], &[(host, "10.0.0.1")]] {
        assert_eq!(named("/products", nobody), Err(Problem::NO_TENANT));
    }
    for bad in [
        &[(by_header, "")][..],
        &[(by_header, "a b")],
        &[(by_header, "acme,globex")],
        &[(by_header, "\u{fc}")],
        &[(host, ".localhost")],
        &[(host, "-.localhost")],
    ] {
        assert_eq!(named("/products", bad), Err(Problem::BAD_TENANT), "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_fixed_texts() {
    let mut world = World::start(2).await;
    let (address, app) = world.serve(Duration::from_millis(5), 2).await;
    let caller = Caller { address };

    let ship = json!({"kind": "ship", "quantity": 41, "reference": "acme/1"});
    let receive = json!({"kind": "receive", "quantity": 2, "reference": "acme/2"});
    let moves = "/products/sku-1/moves";
    caller.accepts("acme", moves, Some(&receive)).await;
    for (tenant, path, body, status, problem) in [
        ("acme", moves, Some(&receive), 409, "already-there"),
        ("globex", moves, Some(&ship), 409, "not-enough"),
        ("acme", "/products/nothing", None, 404, "no-such-product"),
        ("acme", "/products/%00", None, 422, "invalid"),
        ("acme", "/products/%ff", None, 404, "not-found"),
        ("acme", "/nothing", None, 404, "not-found"),
        ("acme", "/orders", Some(&receive), 405, "bad-method"),
        (
            "acme",
            moves,
            Some(&json!({"kind": "lose"})),
            400,
            "bad-body",
        ),
        ("nobody", "/products", None, 404, "unknown-tenant"),
        ("no body", "/products", None, 400, "bad-tenant"),
    ] {
        let answer = caller.ask(tenant, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {answer:?}");
        assert_eq!(answer.problem().as_deref(), Some(problem), "{answer:?}");
        assert_eq!(answer.retry_after, None);
    }
    let huge = json!({"kind": "ship", "quantity": 1, "reference": "x".repeat(20_000)});
    let answer = caller.ask("acme", moves, Some(&huge)).await;
    assert_eq!(answer.problem().as_deref(), Some("bad-body"));

    caller.accepts("acme", moves, Some(&ship)).await;
    let product: Product = caller
        .accepts("acme", "/products/sku-1", None)
        .await
        .json()
        .expect("a product");
    assert_eq!((product.on_hand, &*product.written_by), (1, "acme"));

    // The worker orders what runs low, until the goods come in.
    let low = caller.until_ordered("acme", "sku-1").await;
    assert_eq!((low.quantity, &*low.written_by), (19, "acme"));
    let goods = json!({"kind": "receive", "quantity": 19, "reference": "acme/3"});
    caller.accepts("acme", moves, Some(&goods)).await;
    let open: Vec<Order> = caller
        .accepts("acme", "/orders", None)
        .await
        .json()
        .expect("orders");
    assert!(open.iter().all(|order| order.sku != "sku-1"), "{open:?}");

    app.stop().await.expect("stopped");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_no_connection_left_is_asked_to_come_back() {
    let world = World::start(2).await;
    let registry = TenantRegistry::builder(world.directory.clone())
        .pool_options(|_, options| {
            options
                .max_connections(1)
                .acquire_timeout(Duration::from_millis(500))
        })
        .build()
        .await
        .expect("a registry");
    let [acme, ..] = world.databases.tenants() else {
        panic!("two tenants");
    };
    let scope = registry.scope(acme.clone()).await.expect("a scope");
    let listener = world::listener().await;
    let address = listener.local_addr().expect("an address");
    let app = App::start(listener, registry, &[], Duration::from_secs(1))
        .await
        .expect("started");
    let caller = Caller { address };

    let tx = scope.begin().await.expect("the only connection");
    let answer = caller.ask("acme", "/products", None).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.problem().as_deref(), Some("saturated"));
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    caller.accepts("globex", "/products", None).await;
    tx.rollback().await.expect("rolled back");
    caller.accepts("acme", "/products", None).await;

    app.stop().await.expect("stopped");
    world.stop().await;
}

struct Caller {
    address: SocketAddr,
}

impl Caller {
    async fn ask(&self, tenant: &str, path: &str, body: Option<&serde_json::Value>) -> Answer {
        let request = Request::builder().uri(path).header(tenants::HEADER, tenant);
        let request = match body {
            None => request.body(Body::empty()),
            Some(body) => request
                .method("POST")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
        };
        let mut client = Client::new(self.address);
        let answer = client.send(request.expect("a request")).await;
        answer.expect("an answer")
    }

    async fn accepts(&self, tenant: &str, path: &str, body: Option<&serde_json::Value>) -> Answer {
        let answer = self.ask(tenant, path, body).await;
        assert!(answer.status.is_success(), "{path} {answer:?}");
        answer
    }

    async fn until_ordered(&self, tenant: &str, sku: &str) -> Order {
        let looking = async {
            loop {
                let answer = self.accepts(tenant, "/orders", None).await;
                let open: Vec<Order> = answer.json().expect("orders");
                if let Some(order) = open.into_iter().find(|order| order.sku == sku) {
                    return order;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looking)
            .await
            .expect("the worker orders")
    }
}
