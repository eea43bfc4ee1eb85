//! The service in actix-web.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service as _, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::guard::{Any, Get, Head};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Bytes, Data, Json, Path, Payload};
use actix_web::{App, Error, FromRequest as _, HttpRequest, HttpResponse, HttpServer, test};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tenantry::testing::cancelled_after;
use tenantry::web::{
    LazyTx, Permitted, Rejection, RequirePermission, RequiredPermission as _, Scope, Tx,
};

use crate::service::{
    self, AskWhenDropped, CreateNotes, Directive, Framework, Server, Service, add,
};
use crate::support::notes;

pub struct Actix;

impl Framework for Actix {
    const NAME: &str = "actix";

    async fn serve(service: Service) -> Server {
        let (told, started) = mpsc::channel();
        std::thread::spawn(move || {
            let half_closed_is_gone = service.half_closed_is_gone;
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || app!(service.clone()))
                    .workers(1)
                    .disable_signals()
                    .h1_allow_half_closed(!half_closed_is_gone)
                    .bind(("127.0.0.1", 0))
                    .expect("a port");
                let address = server.addrs()[0];
                let server = server.run();
                told.send((address, server.handle())).expect("waited for");
                server.await.expect("served to the end");
            });
        });
        let started = tokio::task::spawn_blocking(move || started.recv());
        let (address, handle) = started.await.expect("no panic").expect("started");
        Server {
            address,
            // The command is given when it is called, and nobody waits for its end.
            stop: Some(Box::new(move || drop(handle.stop(false)))),
        }
    }

    async fn post_note(
        service: Service,
        tenant: String,
        note: String,
        polls: usize,
    ) -> Option<u16> {
        let served = test::init_service(app!(service)).await;
        let request = test::TestRequest::post()
            .uri("/notes")
            .insert_header(("x-tenant", tenant))
            .set_payload(note)
            .to_request();
        let answer = cancelled_after(polls, served.call(request)).await?;
        Some(answer.expect("an answer").status().as_u16())
    }
}

/// Its type has no name that could be written down.
macro_rules! app {
    ($service:expr) => {{
        let service: Service = $service;
        let reads = || web::route().guard(Any(Get()).or(Head()));
        let half = web::scope("/half")
            .wrap(service.tenants.clone())
            .route("/tx", web::post().to(write));
        let bare = web::scope("/bare")
            .route("/scope", web::get().to(list))
            .route("/tx", web::post().to(write))
            .route("/lazy", web::post().to(lazy));
        let nested = web::scope("/nested")
            .wrap(service.transactions.clone())
            .route("/notes", web::post().to(write));
        let inner = web::scope("/inner")
            .wrap(service.inner_tenants.clone())
            .route("/notes", web::post().to(write));
        let guarded = web::scope("/guarded")
            .service(
                web::resource("/layer")
                    .wrap(RequirePermission::new(CreateNotes::PERMISSION))
                    .route(web::post().to(write)),
            )
            .route("/argument", web::post().to(write_if_permitted))
            .route("/argument-after", web::post().to(write_if_permitted_after));
        let served = web::scope("")
            .wrap(from_fn(|request, next: Next<_>| {
                direct("x-inner", request, next)
            }))
            .wrap(service.transactions.clone())
            .wrap(service.tenants.clone())
            .wrap(from_fn(|request, next: Next<_>| {
                direct("x-outer", request, next)
            }))
            .service(guarded)
            .service(nested)
            .route("/lazy", web::post().to(lazy))
            .route("/ask-when-dropped", web::post().to(ask_when_dropped))
            .route("/detach-and-wait", web::post().to(detach_and_wait))
            .service(inner)
            .route("/notes", reads().to(list))
            .route("/notes", web::post().to(write))
            .route(
                "/notes",
                web::method(actix_web::http::Method::OPTIONS).to(options),
            )
            .route("/notes-in-tx", web::get().to(list_in_tx))
            .route("/fail/{what}", web::post().to(fail))
            .route("/fail-in/{what}", web::post().to(fail_in))
            .route("/wait", web::post().to(wait))
            .route("/panic", web::post().to(panics))
            .route("/panic-later", web::post().to(panics_later))
            .route("/commit", web::post().to(commit))
            .route("/commit-ignored", web::post().to(commit_ignored))
            .route("/rollback", web::post().to(rollback))
            .route("/again", web::post().to(again))
            .route("/two", web::post().to(two))
            .route("/detach", web::post().to(detach))
            .route("/isolation", web::get().to(isolation))
            .route("/stream", web::post().to(stream_scope))
            .route("/stream-tx", web::post().to(stream_tx))
            .route("/upload", web::post().to(upload));
        App::new()
            .app_data(Data::new(service))
            .service(half)
            .service(bare)
            .service(served)
    }};
}
use app;

async fn direct<B: MessageBody + 'static>(
    header: &'static str,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // As an error: the request is gone, and a clone of it would stop the routing.
    let status = |status| -> Error {
        let status = StatusCode::from_u16(status).expect("a status");
        InternalError::from_response("", HttpResponse::new(status)).into()
    };
    let stage = service(request.request()).stage.clone();
    let value = request.headers().get(header);
    let response = match Directive::parse(value.and_then(|value| value.to_str().ok())) {
        Directive::Pass => next.call(request).await?,
        Directive::Catch(answer) => AssertUnwindSafe(next.call(request))
            .catch_unwind()
            .await
            .map_err(|_| status(answer))??,
        Directive::TimeOut(answer) => tokio::select! {
            response = next.call(request) => response?,
            () = stage.expired() => return Err(status(answer)),
        },
        Directive::Audit => {
            drop(audit(request.request()).await?);
            next.call(request).await?
        }
        Directive::AuditAround => {
            let tx = audit(request.request()).await?;
            let response = next.call(request).await?;
            drop(tx);
            response
        }
        Directive::GiveUpFirst => {
            for polls in 1.. {
                let begun = cancelled_after(polls, Tx::extract(request.request()));
                if begun.await.is_some() {
                    break;
                }
            }
            next.call(request).await?
        }
    };
    Ok(response.map_into_boxed_body())
}

async fn audit(request: &HttpRequest) -> Result<Tx, Rejection> {
    let mut tx = Tx::extract(request).await?;
    add(&mut tx, "audit").await?;
    Ok(tx)
}

fn service(request: &HttpRequest) -> &Service {
    request.app_data::<Data<Service>>().expect("put there")
}

fn answer(request: &HttpRequest) -> HttpResponse {
    let value = request.headers().get("x-answer");
    let value = value.and_then(|value| value.to_str().ok());
    let status = value.map_or(StatusCode::CREATED, |value| {
        value.parse().expect("a status")
    });
    HttpResponse::new(status)
}

async fn list(scope: Scope) -> Result<Json<Vec<String>>, Rejection> {
    Ok(Json(notes(&*scope).await?))
}

async fn list_in_tx(mut tx: Tx) -> Result<Json<Vec<String>>, Rejection> {
    Ok(Json(notes(&mut *tx).await?))
}

async fn options() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ALLOW, "GET, POST"))
        .finish()
}

async fn write(mut tx: Tx, request: HttpRequest, note: String) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    Ok(answer(&request))
}

async fn fail(
    Scope(scope): Scope,
    service: Data<Service>,
    what: Path<String>,
) -> Result<HttpResponse, Rejection> {
    service::fail(&service.registry, &scope, &what).await?;
    Ok(HttpResponse::Ok().finish())
}

async fn fail_in(
    mut tx: Tx,
    Scope(scope): Scope,
    what: Path<String>,
) -> Result<HttpResponse, Rejection> {
    service::fail_in(&mut tx, &scope, &what).await?;
    Ok(HttpResponse::Ok().finish())
}

async fn wait(mut tx: Tx, service: Data<Service>, note: String) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    service.stage.wait_here().await;
    Ok(HttpResponse::Ok().finish())
}

async fn panics(mut tx: Tx, note: String) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    panic!("as it was told to");
}

async fn panics_later(mut tx: Tx, note: String) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    drop(tx);
    panic!("as it was told to");
}

async fn commit(mut tx: Tx, request: HttpRequest, note: String) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    tx.commit().await?;
    Ok(answer(&request))
}

async fn commit_ignored(mut tx: Tx, note: String) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    let told = tx.commit().await;
    Ok(match told {
        Ok(()) => HttpResponse::Ok().finish(),
        Err(_) => HttpResponse::Accepted().finish(),
    })
}

async fn rollback(mut tx: Tx, note: String) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    tx.rollback().await?;
    Ok(HttpResponse::Ok().finish())
}

async fn again(mut tx: Tx, request: HttpRequest, note: String) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    tx.commit().await?;
    drop(Tx::extract(&request).await?);
    Ok(HttpResponse::Ok().finish())
}

async fn two(_: Tx, _: Tx) -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn detach(
    mut tx: Tx,
    service: Data<Service>,
    note: String,
) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    service::detach(service.stage.clone(), tx);
    Ok(HttpResponse::Ok().finish())
}

async fn detach_and_wait(
    mut tx: Tx,
    service: Data<Service>,
    note: String,
) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    service::detach(service.stage.clone(), tx);
    service.stage.wait_here().await;
    Ok(HttpResponse::Ok().finish())
}

async fn lazy(tx: LazyTx, service: Data<Service>, note: String) -> Result<HttpResponse, Rejection> {
    service::add_lazily(tx, service.stage.clone(), &note).await?;
    Ok(HttpResponse::Created().finish())
}

async fn ask_when_dropped(service: Data<Service>, request: HttpRequest) -> HttpResponse {
    let stage = service.stage.clone();
    let take = || Tx::extract(&request).now_or_never();
    let asks = AskWhenDropped {
        take,
        stage: stage.clone(),
    };
    stage.arrived();
    std::future::pending::<()>().await;
    drop(asks);
    HttpResponse::Ok().finish()
}

async fn write_if_permitted(
    _: Permitted<CreateNotes>,
    mut tx: Tx,
    note: String,
) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    Ok(HttpResponse::Created().finish())
}

async fn write_if_permitted_after(
    tx: Tx,
    permitted: Permitted<CreateNotes>,
    note: String,
) -> Result<HttpResponse, Rejection> {
    write_if_permitted(permitted, tx, note).await
}

async fn isolation(mut tx: Tx) -> Result<String, Rejection> {
    Ok(sqlx::query_scalar("SHOW transaction_isolation")
        .fetch_one(&mut *tx)
        .await?)
}

async fn stream_scope(
    mut tx: Tx,
    Scope(scope): Scope,
    note: String,
) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    let body = stream::once(async move {
        notes(&scope)
            .await
            .map(|notes| Bytes::from(format!("{notes:?}")))
    });
    Ok(HttpResponse::Ok().streaming(body))
}

async fn stream_tx(mut tx: Tx, note: String) -> Result<HttpResponse, Rejection> {
    add(&mut tx, &note).await?;
    let body = stream::once(async move {
        notes(&mut *tx)
            .await
            .map(|notes| Bytes::from(format!("{notes:?}")))
    });
    Ok(HttpResponse::Ok().streaming(Box::pin(body)))
}

async fn upload(
    mut tx: Tx,
    service: Data<Service>,
    mut body: Payload,
) -> Result<HttpResponse, Rejection> {
    const CUT_OFF: Rejection = Rejection::new(400, "cut-off", "the body was cut off");
    add(&mut tx, "uploaded").await?;
    service.stage.arrived();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| CUT_OFF)?;
        let note = String::from_utf8(chunk.into()).map_err(|_| CUT_OFF)?;
        add(&mut tx, &note).await?;
    }
    Ok(HttpResponse::Created().finish())
}
