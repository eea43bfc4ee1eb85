//! The routes in axum.

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use tenantry::jwt::JwtResolver;
use tenantry::repository::{Page, PageRequest};
use tenantry::web::{LazyTx, Permitted, Rejection, TenantLayer, TransactionLayer, Tx};
use uuid::Uuid;

use super::{
    BAD_BODY, BAD_METHOD, BAD_QUERY, CaseChange, CreateCases, CreateInvoices, CreatePayments,
    DeleteCases, EditCases, EditMembers, NO_SUCH_PATH, SignIn, SignedIn, Version, ViewAccounts,
    ViewCases, ViewInvoices, ViewMembers, ViewTrail, description,
};
use crate::cases::{Case, NewCase};
use crate::invoices::{Invoice, NewInvoice};
use crate::members::Member;
use crate::payments::{Balance, NewPayment, Payment};
use crate::practice::Practice;
use crate::record::{Entry, Older, Verification};
use crate::tokens;

type Answer<T> = Result<Json<T>, Rejection>;
type Created<T> = Result<(StatusCode, Json<T>), Rejection>;

pub fn router(practice: Practice, resolver: JwtResolver) -> Router {
    let tenants = TenantLayer::new(practice.registry.clone(), resolver)
        .authorizer(practice.authorizer.clone());
    let members = put(assign_role).delete(revoke_role);
    Router::new()
        .route("/cases", get(list_cases).post(open_case))
        .route(
            "/cases/{id}",
            get(show_case).put(change_case).delete(remove_case),
        )
        .route("/invoices", get(list_invoices).post(issue_invoice))
        .route("/invoices/{id}", get(show_invoice))
        .route("/invoices/{id}/payments", post(receive_payment))
        .route("/accounts", get(list_accounts))
        .route("/trail", get(list_trail))
        .route("/trail/verification", get(verify_trail))
        .route("/members", get(list_members))
        .route("/members/{user}", axum::routing::delete(remove_member))
        .route("/members/{user}/roles/{role}", members)
        .fallback(no_such_path)
        .method_not_allowed_fallback(bad_method)
        .layer(TransactionLayer::new())
        .layer(tenants)
        .route("/sign-in", post(sign_in))
        .route("/openapi.json", get(description))
        .method_not_allowed_fallback(bad_method)
        .with_state(practice)
}

async fn sign_in(State(practice): State<Practice>, Body(body): Body<SignIn>) -> Answer<SignedIn> {
    let token = practice.sign_in(&body.user, &body.organisation).await?;
    Ok(Json(SignedIn {
        token,
        expires_in: tokens::LIFETIME.as_secs(),
    }))
}

async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(description::document())
}

async fn list_cases(
    State(practice): State<Practice>,
    scope: Permitted<ViewCases>,
    Query(query): Query<PageRequest>,
) -> Answer<Page<Case>> {
    Ok(Json(practice.cases(&scope, &query).await?))
}

async fn open_case(
    State(practice): State<Practice>,
    _: Permitted<CreateCases>,
    tx: LazyTx,
    Body(body): Body<NewCase>,
) -> Created<Case> {
    let mut tx = tx.begin().await?;
    let case = practice.open_case(&mut tx, &body).await?;
    Ok((StatusCode::CREATED, Json(case)))
}

async fn show_case(
    State(practice): State<Practice>,
    scope: Permitted<ViewCases>,
    Path(id): Path<Uuid>,
) -> Answer<Case> {
    Ok(Json(practice.case(&scope, id).await?))
}

async fn change_case(
    State(practice): State<Practice>,
    _: Permitted<EditCases>,
    Path(id): Path<Uuid>,
    tx: LazyTx,
    Body(body): Body<CaseChange>,
) -> Answer<Case> {
    let mut tx = tx.begin().await?;
    let case = body.of(id);
    Ok(Json(practice.change_case(&mut tx, &case).await?))
}

async fn remove_case(
    State(practice): State<Practice>,
    _: Permitted<DeleteCases>,
    Path(id): Path<Uuid>,
    Query(query): Query<Version>,
    mut tx: Tx,
) -> Answer<()> {
    Ok(Json(
        practice.remove_case(&mut tx, id, query.version).await?,
    ))
}

async fn list_invoices(
    State(practice): State<Practice>,
    scope: Permitted<ViewInvoices>,
    Query(query): Query<PageRequest>,
) -> Answer<Page<Invoice>> {
    Ok(Json(practice.invoices(&scope, &query).await?))
}

async fn issue_invoice(
    State(practice): State<Practice>,
    scope: Permitted<CreateInvoices>,
    Body(body): Body<NewInvoice>,
) -> Created<Invoice> {
    let invoice = practice.issue_invoice(&scope, &body).await?;
    Ok((StatusCode::CREATED, Json(invoice)))
}

async fn show_invoice(
    State(practice): State<Practice>,
    scope: Permitted<ViewInvoices>,
    Path(id): Path<Uuid>,
) -> Answer<Invoice> {
    Ok(Json(practice.invoice(&scope, id).await?))
}

async fn receive_payment(
    State(practice): State<Practice>,
    _: Permitted<CreatePayments>,
    Path(id): Path<Uuid>,
    tx: LazyTx,
    Body(body): Body<NewPayment>,
) -> Created<Payment> {
    let mut tx = tx.begin().await?;
    let payment = practice.receive_payment(&mut tx, id, &body).await?;
    Ok((StatusCode::CREATED, Json(payment)))
}

async fn list_accounts(
    State(practice): State<Practice>,
    scope: Permitted<ViewAccounts>,
) -> Answer<Vec<Balance>> {
    Ok(Json(practice.balances(&scope).await?))
}

async fn list_trail(
    State(practice): State<Practice>,
    scope: Permitted<ViewTrail>,
    Query(query): Query<Older>,
) -> Answer<Vec<Entry>> {
    Ok(Json(practice.trail(&scope, &query).await?))
}

async fn verify_trail(
    State(practice): State<Practice>,
    scope: Permitted<ViewTrail>,
) -> Answer<Verification> {
    Ok(Json(practice.verify_trail(&scope).await?))
}

async fn list_members(
    State(practice): State<Practice>,
    scope: Permitted<ViewMembers>,
) -> Answer<Vec<Member>> {
    Ok(Json(practice.members(&scope).await?))
}

async fn remove_member(
    State(practice): State<Practice>,
    _: Permitted<EditMembers>,
    Path(user): Path<String>,
    mut tx: Tx,
) -> Answer<()> {
    Ok(Json(practice.remove_member(&mut tx, &user).await?))
}

async fn assign_role(
    State(practice): State<Practice>,
    _: Permitted<EditMembers>,
    Path((user, role)): Path<(String, String)>,
    mut tx: Tx,
) -> Answer<()> {
    Ok(Json(practice.assign_role(&mut tx, &user, &role).await?))
}

async fn revoke_role(
    State(practice): State<Practice>,
    _: Permitted<EditMembers>,
    Path((user, role)): Path<(String, String)>,
    mut tx: Tx,
) -> Answer<()> {
    Ok(Json(practice.revoke_role(&mut tx, &user, &role).await?))
}

async fn no_such_path() -> Rejection {
    NO_SUCH_PATH
}

async fn bad_method() -> Rejection {
    BAD_METHOD
}

/// A body in JSON.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Rejection> {
        let body = Json::from_request(request, state).await;
        body.map(|Json(body)| Self(body)).map_err(|_| BAD_BODY)
    }
}

/// The part of the address behind `?`.
struct Query<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|_| BAD_QUERY)
    }
}

/// What is variable in the path.
struct Path<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(path)| Self(path))
            .map_err(|_| NO_SUCH_PATH)
    }
}
