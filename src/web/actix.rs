//! The middleware and the extractors of actix.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse, ResponseError};
use futures_core::future::LocalBoxFuture;

use super::permission::{
    PermissionService, Permitted, RequirePermission, RequiredPermission, permitted,
};
use super::rejection::{CONTENT_TYPE, Rejection};
use super::request::{LazyTx, RequestTransaction, Scope, Tx};
use super::tenant::{TenantLayer, TenantService};
use super::transaction::{TransactionLayer, TransactionService};
use crate::resolve::{HeaderFields, RequestHead};
use crate::scope::TenantScope;

impl ResponseError for Rejection {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut answer = HttpResponse::build(self.status_code());
        answer
            .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
            .insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(challenge) = self.challenge() {
            answer.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if let Some(seconds) = self.retry_after() {
            answer.insert_header((header::RETRY_AFTER, seconds));
        }
        answer.body(self.body())
    }
}

impl FromRequest for Scope {
    type Error = Rejection;
    type Future = Ready<Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::found(request.extensions().get::<TenantScope>()))
    }
}

impl FromRequest for LazyTx {
    type Error = Rejection;
    type Future = Ready<Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let extensions = request.extensions();
        let transaction = extensions.get::<RequestTransaction>().cloned();
        ready(Self::found(extensions.get().cloned(), transaction))
    }
}

impl FromRequest for Tx {
    type Error = Rejection;
    type Future = LocalBoxFuture<'static, Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let extensions = request.extensions();
        let transaction = extensions.get::<RequestTransaction>().cloned();
        Box::pin(Self::found(extensions.get().cloned(), transaction))
    }
}

impl<P: RequiredPermission> FromRequest for Permitted<P> {
    type Error = Rejection;
    type Future = LocalBoxFuture<'static, Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let extensions = request.extensions();
        let (scope, authorizer) = (extensions.get().cloned(), extensions.get().cloned());
        Box::pin(Self::found(scope, authorizer, extensions.get()))
    }
}

impl<S, B> Transform<S, ServiceRequest> for TenantLayer
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = TenantService<Rc<S>>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(self.around(Rc::new(inner))))
    }
}

impl<S, B> Service<ServiceRequest> for TenantService<Rc<S>>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let (inner, layer) = (Rc::clone(&self.inner), self.layer.clone());
        Box::pin(async move {
            let admitted = layer.admit(&head(&request)).await;
            match admitted {
                Ok(admitted) => {
                    let mut extensions = request.extensions_mut();
                    extensions.insert(admitted.scope);
                    if let Some(authorizer) = admitted.authorizer {
                        extensions.insert(authorizer);
                    }
                }
                Err(rejection) => return Ok(refused(request.into_parts().0, rejection)),
            }
            Ok(inner.call(request).await?.map_into_left_body())
        })
    }
}

impl<S, B> Transform<S, ServiceRequest> for TransactionLayer
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = TransactionService<Rc<S>>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(self.around(Rc::new(inner))))
    }
}

impl<S, B> Service<ServiceRequest> for TransactionService<Rc<S>>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        if request.extensions().contains::<RequestTransaction>() {
            let answer = self.inner.call(request);
            return Box::pin(async move { Ok(answer.await?.map_into_left_body()) });
        }
        let transaction = self.transaction();
        let answering = transaction.answering();
        request.extensions_mut().insert(transaction);
        let mut answer = Box::pin(self.inner.call(request));
        Box::pin(async move {
            // Dropped half-way, this comes first: the request is over before its handler is dropped.
            let answering = answering;
            let response = (&mut answer).await;
            drop(answer);
            // An error is an answer as well, and nothing keeps it from being a success. It is asked
            // for its status alone: some give their answer away only once.
            let status = match &response {
                Ok(response) => response.status(),
                Err(error) => error.as_response_error().status_code(),
            };
            match (answering.answered(status.as_u16()).await, response) {
                (Ok(()), response) => Ok(response?.map_into_left_body()),
                (Err(rejection), Ok(response)) => Ok(refused(response.into_parts().0, rejection)),
                (Err(rejection), Err(_)) => Err(rejection.into()),
            }
        })
    }
}

impl<S, B> Transform<S, ServiceRequest> for RequirePermission
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = PermissionService<Rc<S>>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(self.around(Rc::new(inner))))
    }
}

impl<S, B> Service<ServiceRequest> for PermissionService<Rc<S>>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let (inner, permission) = (Rc::clone(&self.inner), Arc::clone(&self.permission));
        let scope = request.extensions().get().cloned();
        let authorizer = request.extensions().get().cloned();
        Box::pin(async move {
            match permitted(scope, authorizer, &permission).await {
                Ok(_) => Ok(inner.call(request).await?.map_into_left_body()),
                Err(rejection) => Ok(refused(request.into_parts().0, rejection)),
            }
        })
    }
}

/// As an answer and not as an error, so that middleware around this one sees it as it is.
fn refused<B>(request: HttpRequest, rejection: Rejection) -> ServiceResponse<EitherBody<B>> {
    ServiceResponse::new(request, HttpResponse::from_error(rejection)).map_into_right_body()
}

fn head(request: &ServiceRequest) -> RequestHead<'_> {
    let uri = request.uri();
    let authority = uri.authority().map(|authority| authority.as_str());
    RequestHead::new(authority, uri.path(), request.headers())
}

impl HeaderFields for HeaderMap {
    fn each<'r>(&'r self, name: &str, each: &mut dyn FnMut(&'r [u8])) {
        self.get_all(name).for_each(|value| each(value.as_bytes()));
    }
}
