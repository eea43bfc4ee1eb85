//! The routes in actix.

use std::net::TcpListener;

use actix_web::dev::Server;
use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, JsonConfig, Path, PathConfig, Query, QueryConfig, ServiceConfig};
use actix_web::{App, HttpRequest, HttpServer, Resource, web};
use tenantry::jwt::JwtResolver;
use tenantry::repository::{Page, PageRequest};
use tenantry::web::{LazyTx, Permitted, Rejection, TenantLayer, TransactionLayer, Tx};
use uuid::Uuid;

use super::{
    BAD_BODY, BAD_METHOD, BAD_QUERY, CaseChange, CreateCases, CreateInvoices, CreatePayments,
    DeleteCases, EditCases, EditMembers, NO_SUCH_PATH, SignIn, SignedIn, Version, ViewAccounts,
    ViewCases, ViewInvoices, ViewMembers, ViewTrail, description,
};
use crate::Failure;
use crate::cases::{Case, NewCase};
use crate::invoices::{Invoice, NewInvoice};
use crate::members::Member;
use crate::payments::{Balance, NewPayment, Payment};
use crate::practice::Practice;
use crate::record::{Entry, Older, Verification};
use crate::tokens;

type Answer<T> = Result<Json<T>, Rejection>;
type Created<T> = Result<(Json<T>, StatusCode), Rejection>;

/// Serves until it is stopped through its handle.
pub fn serve(
    listener: TcpListener,
    practice: Practice,
    resolver: JwtResolver,
) -> Result<Server, Failure> {
    let server = HttpServer::new(move || {
        let tenants = TenantLayer::new(practice.registry.clone(), resolver.clone())
            .authorizer(practice.authorizer.clone());
        App::new()
            .app_data(Data::new(practice.clone()))
            .app_data(JsonConfig::default().error_handler(bad_body))
            .app_data(QueryConfig::default().error_handler(bad_query))
            .app_data(PathConfig::default().error_handler(bad_path))
            .service(resource("/sign-in").route(web::post().to(sign_in)))
            .service(resource("/openapi.json").route(web::get().to(description)))
            .service(
                web::scope("")
                    .configure(routes)
                    .default_service(web::to(no_such_path))
                    .wrap(TransactionLayer::new())
                    .wrap(tenants),
            )
    });
    Ok(server
        .workers(WORKERS)
        // A client that hangs up ends its request, and rolls its transaction back.
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)?
        .run())
}

const WORKERS: usize = 2;

fn resource(path: &str) -> Resource {
    web::resource(path).default_service(web::to(bad_method))
}

fn routes(service: &mut ServiceConfig) {
    service
        .service(
            resource("/cases")
                .route(web::get().to(list_cases))
                .route(web::post().to(open_case)),
        )
        .service(
            resource("/cases/{id}")
                .route(web::get().to(show_case))
                .route(web::put().to(change_case))
                .route(web::delete().to(remove_case)),
        )
        .service(
            resource("/invoices")
                .route(web::get().to(list_invoices))
                .route(web::post().to(issue_invoice)),
        )
        .service(resource("/invoices/{id}").route(web::get().to(show_invoice)))
        .service(resource("/invoices/{id}/payments").route(web::post().to(receive_payment)))
        .service(resource("/accounts").route(web::get().to(list_accounts)))
        .service(resource("/trail").route(web::get().to(list_trail)))
        .service(resource("/trail/verification").route(web::get().to(verify_trail)))
        .service(resource("/members").route(web::get().to(list_members)))
        .service(resource("/members/{user}").route(web::delete().to(remove_member)))
        .service(
            resource("/members/{user}/roles/{role}")
                .route(web::put().to(assign_role))
                .route(web::delete().to(revoke_role)),
        );
}

async fn sign_in(practice: Data<Practice>, body: Json<SignIn>) -> Answer<SignedIn> {
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
    practice: Data<Practice>,
    scope: Permitted<ViewCases>,
    query: Query<PageRequest>,
) -> Answer<Page<Case>> {
    Ok(Json(practice.cases(&scope, &query).await?))
}

async fn open_case(
    practice: Data<Practice>,
    _: Permitted<CreateCases>,
    body: Json<NewCase>,
    tx: LazyTx,
) -> Created<Case> {
    let mut tx = tx.begin().await?;
    let case = practice.open_case(&mut tx, &body).await?;
    Ok((Json(case), StatusCode::CREATED))
}

async fn show_case(
    practice: Data<Practice>,
    scope: Permitted<ViewCases>,
    id: Path<Uuid>,
) -> Answer<Case> {
    Ok(Json(practice.case(&scope, *id).await?))
}

async fn change_case(
    practice: Data<Practice>,
    _: Permitted<EditCases>,
    id: Path<Uuid>,
    body: Json<CaseChange>,
    tx: LazyTx,
) -> Answer<Case> {
    let mut tx = tx.begin().await?;
    let case = body.into_inner().of(*id);
    Ok(Json(practice.change_case(&mut tx, &case).await?))
}

async fn remove_case(
    practice: Data<Practice>,
    _: Permitted<DeleteCases>,
    id: Path<Uuid>,
    query: Query<Version>,
    mut tx: Tx,
) -> Answer<()> {
    Ok(Json(
        practice.remove_case(&mut tx, *id, query.version).await?,
    ))
}

async fn list_invoices(
    practice: Data<Practice>,
    scope: Permitted<ViewInvoices>,
    query: Query<PageRequest>,
) -> Answer<Page<Invoice>> {
    Ok(Json(practice.invoices(&scope, &query).await?))
}

async fn issue_invoice(
    practice: Data<Practice>,
    scope: Permitted<CreateInvoices>,
    body: Json<NewInvoice>,
) -> Created<Invoice> {
    let invoice = practice.issue_invoice(&scope, &body).await?;
    Ok((Json(invoice), StatusCode::CREATED))
}

async fn show_invoice(
    practice: Data<Practice>,
    scope: Permitted<ViewInvoices>,
    id: Path<Uuid>,
) -> Answer<Invoice> {
    Ok(Json(practice.invoice(&scope, *id).await?))
}

async fn receive_payment(
    practice: Data<Practice>,
    _: Permitted<CreatePayments>,
    id: Path<Uuid>,
    body: Json<NewPayment>,
    tx: LazyTx,
) -> Created<Payment> {
    let mut tx = tx.begin().await?;
    let payment = practice.receive_payment(&mut tx, *id, &body).await?;
    Ok((Json(payment), StatusCode::CREATED))
}

async fn list_accounts(
    practice: Data<Practice>,
    scope: Permitted<ViewAccounts>,
) -> Answer<Vec<Balance>> {
    Ok(Json(practice.balances(&scope).await?))
}

async fn list_trail(
    practice: Data<Practice>,
    scope: Permitted<ViewTrail>,
    query: Query<Older>,
) -> Answer<Vec<Entry>> {
    Ok(Json(practice.trail(&scope, &query).await?))
}

async fn verify_trail(
    practice: Data<Practice>,
    scope: Permitted<ViewTrail>,
) -> Answer<Verification> {
    Ok(Json(practice.verify_trail(&scope).await?))
}

async fn list_members(
    practice: Data<Practice>,
    scope: Permitted<ViewMembers>,
) -> Answer<Vec<Member>> {
    Ok(Json(practice.members(&scope).await?))
}

async fn remove_member(
    practice: Data<Practice>,
    _: Permitted<EditMembers>,
    user: Path<String>,
    mut tx: Tx,
) -> Answer<()> {
    Ok(Json(practice.remove_member(&mut tx, &user).await?))
}

async fn assign_role(
    practice: Data<Practice>,
    _: Permitted<EditMembers>,
    path: Path<(String, String)>,
    mut tx: Tx,
) -> Answer<()> {
    let (user, role) = path.into_inner();
    Ok(Json(practice.assign_role(&mut tx, &user, &role).await?))
}

async fn revoke_role(
    practice: Data<Practice>,
    _: Permitted<EditMembers>,
    path: Path<(String, String)>,
    mut tx: Tx,
) -> Answer<()> {
    let (user, role) = path.into_inner();
    Ok(Json(practice.revoke_role(&mut tx, &user, &role).await?))
}

async fn no_such_path() -> Answer<()> {
    Err(NO_SUCH_PATH)
}

async fn bad_method() -> Answer<()> {
    Err(BAD_METHOD)
}

fn bad_body(_: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    BAD_BODY.into()
}

fn bad_query(_: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    BAD_QUERY.into()
}

fn bad_path(_: PathError, _: &HttpRequest) -> actix_web::Error {
    NO_SUCH_PATH.into()
}
