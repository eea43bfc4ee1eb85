//! HTTP: each handler takes the scope of the tenant as an argument and hands it on as one.

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json, Router};
use tenantry::{TenantRegistry, TenantScope};

use crate::problem::Problem;
use crate::repository::PgStock;
use crate::service::Warehouse;
use crate::stock::{Move, NewMove, NewProduct, Order, Product, Recorded};
use crate::tenants;

pub fn router(registry: TenantRegistry) -> Router {
    Router::new()
        .route("/products", get(products).post(add_product))
        .route("/products/{sku}", get(product))
        .route("/products/{sku}/moves", get(moves).post(record_move))
        .route("/orders", get(open_orders))
        .fallback(async || Problem::NOT_FOUND)
        .method_not_allowed_fallback(async || Problem::BAD_METHOD)
        .layer(DefaultBodyLimit::max(16 * 1024))
        .with_state(registry)
}

/// The argument of a handler by which it gets at data. There is no other way to it: nothing is
/// global, and nothing is left in the request for somebody further down to pick up.
struct Tenant(TenantScope);

impl FromRequestParts<TenantRegistry> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        registry: &TenantRegistry,
    ) -> Result<Self, Problem> {
        let tenant = tenants::named_by(&parts.uri, &parts.headers)?;
        Ok(Self(registry.scope(tenant).await?))
    }
}

// Taken as results, because axum's own answers to a bad path or body are not ours.
type Sku = Result<Path<String>, PathRejection>;
type Body<T> = Result<Json<T>, JsonRejection>;

async fn products(Tenant(scope): Tenant) -> Result<Json<Vec<Product>>, Problem> {
    Ok(Json(warehouse(scope).products().await?))
}

async fn product(Tenant(scope): Tenant, sku: Sku) -> Result<Json<Product>, Problem> {
    let Path(sku) = sku.map_err(|_| Problem::NOT_FOUND)?;
    Ok(Json(warehouse(scope).product(&sku).await?))
}

async fn add_product(Tenant(scope): Tenant, body: Body<NewProduct>) -> Result<StatusCode, Problem> {
    let Json(new) = body.map_err(|_| Problem::BAD_BODY)?;
    warehouse(scope).add(&new).await?;
    Ok(StatusCode::CREATED)
}

async fn moves(Tenant(scope): Tenant, sku: Sku) -> Result<Json<Vec<Move>>, Problem> {
    let Path(sku) = sku.map_err(|_| Problem::NOT_FOUND)?;
    Ok(Json(warehouse(scope).moves(&sku).await?))
}

async fn record_move(
    Tenant(scope): Tenant,
    sku: Sku,
    body: Body<NewMove>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let Path(sku) = sku.map_err(|_| Problem::NOT_FOUND)?;
    let Json(new) = body.map_err(|_| Problem::BAD_BODY)?;
    let recorded = warehouse(scope).record(&sku, &new).await?;
    Ok((StatusCode::CREATED, Json(recorded)))
}

async fn open_orders(Tenant(scope): Tenant) -> Result<Json<Vec<Order>>, Problem> {
    Ok(Json(warehouse(scope).open_orders().await?))
}

/// Handler, service, repository: each is given what it works on.
fn warehouse(scope: TenantScope) -> Warehouse<PgStock> {
    Warehouse::over(PgStock::new(scope))
}
