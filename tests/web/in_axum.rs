//! The service in axum.

use std::panic::AssertUnwindSafe;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tenantry::testing::cancelled_after;
use tenantry::web::{
    LazyTx, Permitted, Rejection, RequirePermission, RequiredPermission as _, Scope, Tx,
};
use tower::ServiceExt as _;

use crate::service::{
    self, AskWhenDropped, CreateNotes, Directive, Framework, Server, Service, add,
};
use crate::stage::Stage;
use crate::support::notes;

pub struct Axum;

impl Framework for Axum {
    const NAME: &str = "axum";

    async fn serve(service: Service) -> Server {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move { axum::serve(listener, router(service)).await });
        Server {
            address,
            stop: Some(Box::new(move || task.abort())),
        }
    }

    async fn post_note(
        service: Service,
        tenant: String,
        note: String,
        polls: usize,
    ) -> Option<u16> {
        let request = Request::post("/notes")
            .header("x-tenant", tenant)
            .body(Body::from(note))
            .expect("a request");
        let answer = cancelled_after(polls, router(service).oneshot(request)).await?;
        let Ok(answer) = answer;
        Some(answer.status().as_u16())
    }
}

fn router(service: Service) -> Router {
    let direct = |header| from_fn_with_state((service.stage.clone(), header), direct);
    let nested = Router::new()
        .route("/nested/notes", post(write))
        .layer(service.transactions.clone());
    let inner = Router::new()
        .route("/inner/notes", post(write))
        .layer(service.inner_tenants.clone());
    let guarded = Router::new()
        .route("/guarded/layer", post(write))
        .layer(RequirePermission::new(CreateNotes::PERMISSION));
    let served = Router::new()
        .route("/notes", get(list).post(write).options(options))
        .route("/notes-in-tx", get(list_in_tx))
        .route("/fail/{what}", post(fail))
        .route("/fail-in/{what}", post(fail_in))
        .route("/wait", post(wait))
        .route("/panic", post(panics))
        .route("/panic-later", post(panics_later))
        .route("/commit", post(commit))
        .route("/commit-ignored", post(commit_ignored))
        .route("/rollback", post(rollback))
        .route("/again", post(again))
        .route("/two", post(two))
        .route("/detach", post(detach))
        .route("/isolation", get(isolation))
        .route("/stream", post(stream_scope))
        .route("/stream-tx", post(stream_tx))
        .route("/upload", post(upload))
        .route("/lazy", post(lazy))
        .route("/ask-when-dropped", post(ask_when_dropped))
        .route("/detach-and-wait", post(detach_and_wait))
        .route("/guarded/argument", post(write_if_permitted))
        .merge(guarded)
        .merge(nested)
        .merge(inner)
        .layer(direct("x-inner"))
        .layer(service.transactions.clone())
        .layer(service.tenants.clone())
        .layer(direct("x-outer"));
    let half = Router::new()
        .route("/half/tx", post(write))
        .layer(service.tenants.clone());
    Router::new()
        .route("/bare/scope", get(list))
        .route("/bare/tx", post(write))
        .route("/bare/lazy", post(lazy))
        .merge(half)
        .merge(served)
        .with_state(service)
}

async fn direct(
    State((stage, header)): State<(Stage, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let status = |status| {
        StatusCode::from_u16(status)
            .expect("a status")
            .into_response()
    };
    let extensions = request.extensions().clone();
    let value = request.headers().get(header);
    match Directive::parse(value.and_then(|value| value.to_str().ok())) {
        Directive::Pass => next.run(request).await,
        Directive::Catch(answer) => {
            match AssertUnwindSafe(next.run(request)).catch_unwind().await {
                Ok(response) => response,
                Err(_) => status(answer),
            }
        }
        Directive::TimeOut(answer) => tokio::select! {
            response = next.run(request) => response,
            () = stage.expired() => status(answer),
        },
        Directive::Audit => match audit(&extensions).await {
            Ok(tx) => {
                drop(tx);
                next.run(request).await
            }
            Err(rejection) => rejection.into_response(),
        },
        Directive::AuditAround => match audit(&extensions).await {
            Ok(tx) => {
                let response = next.run(request).await;
                drop(tx);
                response
            }
            Err(rejection) => rejection.into_response(),
        },
        Directive::GiveUpFirst => {
            for polls in 1.. {
                if cancelled_after(polls, Tx::of(&extensions)).await.is_some() {
                    break;
                }
            }
            next.run(request).await
        }
    }
}

async fn audit(extensions: &Extensions) -> Result<Tx, Rejection> {
    let mut tx = Tx::of(extensions).await?;
    add(&mut tx, "audit").await?;
    Ok(tx)
}

fn answer(headers: &HeaderMap) -> StatusCode {
    let value = headers
        .get("x-answer")
        .and_then(|value| value.to_str().ok());
    value.map_or(StatusCode::CREATED, |value| {
        value.parse().expect("a status")
    })
}

async fn list(scope: Scope) -> Result<Json<Vec<String>>, Rejection> {
    Ok(Json(notes(&*scope).await?))
}

async fn list_in_tx(mut tx: Tx) -> Result<Json<Vec<String>>, Rejection> {
    Ok(Json(notes(&mut *tx).await?))
}

async fn options() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [(header::ALLOW, "GET, POST")])
}

async fn write(mut tx: Tx, headers: HeaderMap, note: String) -> Result<StatusCode, Rejection> {
    add(&mut tx, &note).await?;
    Ok(answer(&headers))
}

async fn fail(
    Scope(scope): Scope,
    State(service): State<Service>,
    Path(what): Path<String>,
) -> Result<(), Rejection> {
    service::fail(&service.registry, &scope, &what).await
}

async fn fail_in(
    mut tx: Tx,
    Scope(scope): Scope,
    Path(what): Path<String>,
) -> Result<(), Rejection> {
    service::fail_in(&mut tx, &scope, &what).await
}

async fn wait(mut tx: Tx, State(service): State<Service>, note: String) -> Result<(), Rejection> {
    add(&mut tx, &note).await?;
    service.stage.wait_here().await;
    Ok(())
}

async fn panics(mut tx: Tx, note: String) -> Result<(), Rejection> {
    add(&mut tx, &note).await?;
    panic!("as it was told to");
}

async fn panics_later(mut tx: Tx, note: String) -> Result<(), Rejection> {
    add(&mut tx, &note).await?;
    drop(tx);
    panic!("as it was told to");
}

async fn commit(mut tx: Tx, headers: HeaderMap, note: String) -> Result<StatusCode, Rejection> {
    add(&mut tx, &note).await?;
    tx.commit().await?;
    Ok(answer(&headers))
}

async fn commit_ignored(mut tx: Tx, note: String) -> Result<StatusCode, Rejection> {
    add(&mut tx, &note).await?;
    let told = tx.commit().await;
    Ok(match told {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::ACCEPTED,
    })
}

async fn rollback(mut tx: Tx, note: String) -> Result<(), Rejection> {
    add(&mut tx, &note).await?;
    tx.rollback().await?;
    Ok(())
}

async fn again(mut tx: Tx, extensions: Extensions, note: String) -> Result<(), Rejection> {
    add(&mut tx, &note).await?;
    tx.commit().await?;
    drop(Tx::of(&extensions).await?);
    Ok(())
}

async fn two(_: Tx, _: Tx) {}

async fn detach(mut tx: Tx, State(service): State<Service>, note: String) -> Result<(), Rejection> {
    add(&mut tx, &note).await?;
    service::detach(service.stage, tx);
    Ok(())
}

async fn detach_and_wait(
    mut tx: Tx,
    State(service): State<Service>,
    note: String,
) -> Result<(), Rejection> {
    add(&mut tx, &note).await?;
    service::detach(service.stage.clone(), tx);
    service.stage.wait_here().await;
    Ok(())
}

async fn lazy(
    tx: LazyTx,
    State(service): State<Service>,
    note: String,
) -> Result<StatusCode, Rejection> {
    service::add_lazily(tx, service.stage, &note).await?;
    Ok(StatusCode::CREATED)
}

async fn ask_when_dropped(State(service): State<Service>, extensions: Extensions) {
    let stage = service.stage;
    let take = || Tx::of(&extensions).now_or_never();
    let asks = AskWhenDropped {
        take,
        stage: stage.clone(),
    };
    stage.arrived();
    std::future::pending::<()>().await;
    drop(asks);
}

async fn write_if_permitted(
    _: Permitted<CreateNotes>,
    mut tx: Tx,
    note: String,
) -> Result<StatusCode, Rejection> {
    add(&mut tx, &note).await?;
    Ok(StatusCode::CREATED)
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
) -> Result<Response, Rejection> {
    add(&mut tx, &note).await?;
    let body = stream::once(async move {
        notes(&scope)
            .await
            .map(|notes| Bytes::from(format!("{notes:?}")))
    });
    Ok(Body::from_stream(body).into_response())
}

async fn stream_tx(mut tx: Tx, note: String) -> Result<Response, Rejection> {
    add(&mut tx, &note).await?;
    let body = stream::once(async move {
        notes(&mut *tx)
            .await
            .map(|notes| Bytes::from(format!("{notes:?}")))
    });
    Ok(Body::from_stream(body).into_response())
}

async fn upload(
    mut tx: Tx,
    State(service): State<Service>,
    body: Body,
) -> Result<StatusCode, Rejection> {
    const CUT_OFF: Rejection = Rejection::new(400, "cut-off", "the body was cut off");
    add(&mut tx, "uploaded").await?;
    service.stage.arrived();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| CUT_OFF)?;
        let note = String::from_utf8(chunk.into()).map_err(|_| CUT_OFF)?;
        add(&mut tx, &note).await?;
    }
    Ok(StatusCode::CREATED)
}
