//! Everything on tower.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use tower_layer::Layer;
use tower_service::Service;

use super::permission::{
    PermissionService, Permitted, RequirePermission, RequiredPermission, permitted,
};
use super::rejection::{CONTENT_TYPE, Rejection};
use super::request::{LazyTx, RequestTransaction, Scope, Tx};
use super::tenant::{TenantLayer, TenantService};
use super::transaction::{TransactionLayer, TransactionService};
use crate::resolve::{HeaderFields, RequestHead};
use crate::scope::TenantScope;

impl Rejection {
    /// The answer, with a body of any type that can be made of bytes. The rejection itself is in its
    /// extensions, for whoever counts them.
    pub fn response<B: From<Bytes>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(Bytes::from(self.body())));
        *response.status_mut() =
            StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge() {
            let challenge = HeaderValue::from_static(challenge);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(*self);
        response
    }
}

impl Scope {
    /// The scope of the request with these extensions.
    ///
    /// # Errors
    ///
    /// 500 where no [`TenantLayer`] is installed.
    pub fn of(request: &Extensions) -> Result<Self, Rejection> {
        Self::found(request.get::<TenantScope>())
    }
}

impl LazyTx {
    /// The transaction of the request with these extensions, to be begun.
    ///
    /// # Errors
    ///
    /// 500 where a [`TenantLayer`] or a [`TransactionLayer`] is missing.
    pub fn of(request: &Extensions) -> Result<Self, Rejection> {
        Self::found(request.get().cloned(), request.get().cloned())
    }
}

impl Tx {
    /// The transaction of the request with these extensions, which is begun if it has not been.
    ///
    /// # Errors
    ///
    /// 500 where a [`TenantLayer`] or a [`TransactionLayer`] is missing, or somebody else holds the
    /// transaction; otherwise as [`TenantScope::begin_with`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if a transaction was begun, it is rolled back, and the next one who asks begins
    /// another.
    pub fn of(
        request: &Extensions,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send + 'static {
        Self::found(request.get().cloned(), request.get().cloned())
    }
}

impl<P: RequiredPermission> Permitted<P> {
    /// The scope of the request with these extensions, if its user may.
    ///
    /// # Errors
    ///
    /// As [`Authorizer::require`](crate::Authorizer::require); 500 where there is no
    /// [`TenantLayer`] with an authorizer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn of(
        request: &Extensions,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send + 'static {
        let (scope, authorizer) = (request.get().cloned(), request.get().cloned());
        let request = request.get::<RequestTransaction>().cloned();
        // Not before it is polled: whoever takes the transaction first would wait for it.
        async move { Self::found(scope, authorizer, request.as_ref()).await }
    }
}

impl<S> Layer<S> for TenantLayer {
    type Service = TenantService<S>;

    fn layer(&self, inner: S) -> TenantService<S> {
        self.around(inner)
    }
}

impl<S, B, R> Service<Request<B>> for TenantService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that said that it is ready is called.
        let next = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match layer.admit(&head(&parts)).await {
                Ok(admitted) => {
                    parts.extensions.insert(admitted.scope);
                    if let Some(authorizer) = admitted.authorizer {
                        parts.extensions.insert(authorizer);
                    }
                }
                Err(rejection) => return Ok(rejection.response()),
            }
            inner.call(Request::from_parts(parts, body)).await
        })
    }
}

impl<S> Layer<S> for TransactionLayer {
    type Service = TransactionService<S>;

    fn layer(&self, inner: S) -> TransactionService<S> {
        self.around(inner)
    }
}

impl<S, B, R> Service<Request<B>> for TransactionService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: From<Bytes> + Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if request.extensions().get::<RequestTransaction>().is_some() {
            return Box::pin(self.inner.call(request));
        }
        let transaction = self.transaction();
        let answering = transaction.answering();
        request.extensions_mut().insert(transaction);
        let mut answer = Box::pin(self.inner.call(request));
        Box::pin(async move {
            // Dropped half-way, this comes first: the request is over before its handler is dropped.
            let answering = answering;
            let response = (&mut answer).await?;
            drop(answer);
            let status = response.status().as_u16();
            Ok(match answering.answered(status).await {
                Ok(()) => response,
                Err(rejection) => rejection.response(),
            })
        })
    }
}

impl<S> Layer<S> for RequirePermission {
    type Service = PermissionService<S>;

    fn layer(&self, inner: S) -> PermissionService<S> {
        self.around(inner)
    }
}

impl<S, B, R> Service<Request<B>> for PermissionService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let next = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, next);
        let permission = Arc::clone(&self.permission);
        let scope = request.extensions().get().cloned();
        let authorizer = request.extensions().get().cloned();
        Box::pin(async move {
            match permitted(scope, authorizer, &permission).await {
                Ok(_) => inner.call(request).await,
                Err(rejection) => Ok(rejection.response()),
            }
        })
    }
}

fn head(parts: &Parts) -> RequestHead<'_> {
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    RequestHead::new(authority, parts.uri.path(), &parts.headers)
}

impl HeaderFields for HeaderMap {
    fn each<'r>(&'r self, name: &str, each: &mut dyn FnMut(&'r [u8])) {
        self.get_all(name)
            .iter()
            .for_each(|value| each(value.as_bytes()));
    }
}
