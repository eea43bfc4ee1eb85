//! The original design of the report, kept as a specimen. Never do this.
//!
//! A middleware closes the connection of the tenant before, opens that of the next one, and keeps
//! it in a global variable. Whatever runs afterwards, in a handler or in the background, takes what
//! it finds there. With one request at a time it works.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tenantry::TenantId;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard, watch};
use tokio::task::JoinSet;

use crate::problem::Problem;
use crate::repository::{
    ADD, CHANGE, LOW, MOVES, OPEN_ORDERS, ORDER, PRODUCT, PRODUCTS, RECORD, SETTLE, Stock,
};
use crate::server::Databases;
use crate::service::Warehouse;
use crate::stock::{Move, NewMove, NewProduct, Order, Product, Recorded, StockError};
use crate::{tenants, worker, world};

/// Whoever asked last, and the connection to their database.
static CURRENT: Mutex<Option<(TenantId, PgConnection)>> = Mutex::const_new(None);

type Places = Arc<HashMap<TenantId, PgConnectOptions>>;

pub struct Specimen {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Specimen {
    /// Without `every` nothing runs in the background.
    pub async fn start(databases: &Databases, every: Option<Duration>) -> Self {
        let tenants = databases.tenants().iter();
        let places = tenants.map(|tenant| (tenant.clone(), databases.as_app(tenant)));
        let places: Places = Arc::new(places.collect());
        let router = Router::new()
            .route("/products", get(products).post(add_product))
            .route("/products/{sku}", get(product))
            .route("/products/{sku}/moves", get(moves).post(record_move))
            .route("/orders", get(open_orders))
            .layer(middleware::from_fn_with_state(places, replace_connection));
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if let Some(every) = every {
            for tenant in databases.tenants() {
                let warehouse = warehouse(tenant.clone());
                let stopped = stopped.clone();
                tasks.spawn(async move {
                    worker::rounds(warehouse, every, stopped).await;
                });
            }
        }
        let listener = world::listener().await;
        let address = listener.local_addr().expect("an address");
        let mut stopped = stopped;
        tasks.spawn(async move {
            let server = axum::serve(listener, router);
            tokio::select! {
                served = server.into_future() => served.expect("served"),
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
        Self {
            address,
            stop,
            tasks,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(task) = self.tasks.join_next().await {
            task.expect("no panic");
        }
        *CURRENT.lock().await = None;
    }
}

/// A tenant that asks twice in a row keeps its connection.
async fn replace_connection(
    State(places): State<Places>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let tenant = tenants::named_by(request.uri(), request.headers())?;
    let options = places.get(&tenant).ok_or(Problem::UNKNOWN_TENANT)?;
    replace(tenant, options).await.map_err(StockError::from)?;
    Ok(next.run(request).await)
}

async fn replace(tenant: TenantId, options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut current = CURRENT.lock().await;
    match current.take() {
        Some(last) if last.0 == tenant => *current = Some(last),
        last => {
            if let Some((_, connection)) = last {
                connection.close().await?;
            }
            *current = Some((tenant, options.connect().await?));
        }
    }
    Ok(())
}

async fn products(uri: Uri, headers: HeaderMap) -> Result<Json<Vec<Product>>, Problem> {
    Ok(Json(of(&uri, &headers)?.products().await?))
}

async fn product(
    uri: Uri,
    headers: HeaderMap,
    Path(sku): Path<String>,
) -> Result<Json<Product>, Problem> {
    Ok(Json(of(&uri, &headers)?.product(&sku).await?))
}

async fn add_product(
    uri: Uri,
    headers: HeaderMap,
    Json(new): Json<NewProduct>,
) -> Result<StatusCode, Problem> {
    of(&uri, &headers)?.add(&new).await?;
    Ok(StatusCode::CREATED)
}

async fn moves(
    uri: Uri,
    headers: HeaderMap,
    Path(sku): Path<String>,
) -> Result<Json<Vec<Move>>, Problem> {
    Ok(Json(of(&uri, &headers)?.moves(&sku).await?))
}

async fn record_move(
    uri: Uri,
    headers: HeaderMap,
    Path(sku): Path<String>,
    Json(new): Json<NewMove>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let recorded = of(&uri, &headers)?.record(&sku, &new).await?;
    Ok((StatusCode::CREATED, Json(recorded)))
}

async fn open_orders(uri: Uri, headers: HeaderMap) -> Result<Json<Vec<Order>>, Problem> {
    Ok(Json(of(&uri, &headers)?.open_orders().await?))
}

fn of(uri: &Uri, headers: &HeaderMap) -> Result<Warehouse<GlobalStock>, Problem> {
    Ok(warehouse(tenants::named_by(uri, headers)?))
}

fn warehouse(tenant: TenantId) -> Warehouse<GlobalStock> {
    Warehouse::over(GlobalStock { tenant })
}

/// The tenant is known, and is good for the canary only: the connection is the global one.
struct GlobalStock {
    tenant: TenantId,
}

impl GlobalStock {
    /// Whose it is, nobody asks.
    async fn connection(&self) -> Result<MappedMutexGuard<'static, PgConnection>, StockError> {
        let current = CURRENT.lock().await;
        MutexGuard::try_map(current, |current| Some(&mut current.as_mut()?.1))
            .map_err(|_| sqlx::Error::PoolClosed.into())
    }
}

/// The same statements as in the example's repository.
#[async_trait]
impl Stock for GlobalStock {
    async fn products(&self) -> Result<Vec<Product>, StockError> {
        let mut connection = self.connection().await?;
        Ok(sqlx::query_as(PRODUCTS).fetch_all(&mut *connection).await?)
    }

    async fn product(&self, sku: &str) -> Result<Option<Product>, StockError> {
        let mut connection = self.connection().await?;
        let product = sqlx::query_as(PRODUCT).bind(sku);
        Ok(product.fetch_optional(&mut *connection).await?)
    }

    async fn add(&self, product: &NewProduct) -> Result<(), StockError> {
        let mut connection = self.connection().await?;
        let add = sqlx::query(ADD)
            .bind(&product.sku)
            .bind(&product.name)
            .bind(product.reorder_point)
            .bind(self.tenant.as_str());
        add.execute(&mut *connection).await?;
        Ok(())
    }

    async fn record(
        &self,
        sku: &str,
        quantity: i32,
        reference: &str,
    ) -> Result<Recorded, StockError> {
        let mut connection = self.connection().await?;
        connection.execute("BEGIN").await?;
        let recorded = self.record_on(&mut connection, sku, quantity, reference);
        let recorded = recorded.await;
        let end = if recorded.is_ok() {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        connection.execute(end).await?;
        recorded
    }

    async fn moves(&self, sku: &str) -> Result<Vec<Move>, StockError> {
        let mut connection = self.connection().await?;
        let moves = sqlx::query_as(MOVES).bind(sku);
        Ok(moves.fetch_all(&mut *connection).await?)
    }

    async fn open_orders(&self) -> Result<Vec<Order>, StockError> {
        let mut connection = self.connection().await?;
        let orders = sqlx::query_as(OPEN_ORDERS);
        Ok(orders.fetch_all(&mut *connection).await?)
    }

    async fn low(&self) -> Result<Vec<Product>, StockError> {
        let mut connection = self.connection().await?;
        Ok(sqlx::query_as(LOW).fetch_all(&mut *connection).await?)
    }

    async fn order(&self, sku: &str, quantity: i32) -> Result<bool, StockError> {
        let mut connection = self.connection().await?;
        let order = sqlx::query(ORDER)
            .bind(sku)
            .bind(quantity)
            .bind(self.tenant.as_str());
        Ok(order.execute(&mut *connection).await?.rows_affected() == 1)
    }
}

impl GlobalStock {
    async fn record_on(
        &self,
        connection: &mut PgConnection,
        sku: &str,
        quantity: i32,
        reference: &str,
    ) -> Result<Recorded, StockError> {
        let change = sqlx::query_scalar(CHANGE).bind(sku).bind(quantity);
        let on_hand: Option<i64> = change.fetch_optional(&mut *connection).await?;
        let on_hand = on_hand.ok_or(StockError::NoSuchProduct)?;
        let record = sqlx::query_as(RECORD)
            .bind(sku)
            .bind(quantity)
            .bind(reference)
            .bind(self.tenant.as_str());
        let moved = record.fetch_one(&mut *connection).await?;
        if quantity > 0 {
            sqlx::query(SETTLE)
                .bind(sku)
                .execute(&mut *connection)
                .await?;
        }
        Ok(Recorded { moved, on_hand })
    }
}
