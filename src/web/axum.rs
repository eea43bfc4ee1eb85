//! The extractors of axum.

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use super::permission::{Permitted, RequiredPermission};
use super::rejection::Rejection;
use super::request::{LazyTx, Scope, Tx};

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        self.response()
    }
}

impl<S: Sync> FromRequestParts<S> for Scope {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        Self::of(&parts.extensions)
    }
}

impl<S: Sync> FromRequestParts<S> for LazyTx {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        Self::of(&parts.extensions)
    }
}

impl<S: Sync> FromRequestParts<S> for Tx {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        Self::of(&parts.extensions).await
    }
}

impl<S: Sync, P: RequiredPermission> FromRequestParts<S> for Permitted<P> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        Self::of(&parts.extensions).await
    }
}
