//! What a client is told when it is refused: fixed texts, as `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tenantry::{Error, ErrorKind};

use crate::stock::StockError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    /// The end of its `type`, by which a client tells it.
    name: &'static str,
    title: &'static str,
    retry_after: Option<Duration>,
}

impl Problem {
    pub const NO_TENANT: Self = Self::new(
        StatusCode::BAD_REQUEST,
        "no-tenant",
        "name the tenant by the host, TENANT.localhost, or by the header x-tenant",
    );
    pub const BAD_TENANT: Self = Self::new(
        StatusCode::BAD_REQUEST,
        "bad-tenant",
        "what the host or the header x-tenant names cannot be a tenant",
    );
    pub const TENANTS_DISAGREE: Self = Self::new(
        StatusCode::BAD_REQUEST,
        "tenants-disagree",
        "the request names more than one tenant",
    );
    pub const BAD_BODY: Self = Self::new(
        StatusCode::BAD_REQUEST,
        "bad-body",
        "the body is not the JSON that belongs here",
    );
    pub const NOT_FOUND: Self = Self::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "there is nothing at this path",
    );
    pub const BAD_METHOD: Self = Self::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "bad-method",
        "this path does not take this method",
    );
    pub const UNKNOWN_TENANT: Self = Self::new(
        StatusCode::NOT_FOUND,
        "unknown-tenant",
        "there is no such tenant",
    );
    const SUSPENDED: Self = Self::new(
        StatusCode::FORBIDDEN,
        "suspended",
        "this tenant is suspended",
    );
    const DELETED: Self = Self::new(StatusCode::GONE, "deleted", "this tenant has been deleted");
    const SATURATED: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "saturated",
        "too much is going on; try again later",
    );
    const UNAVAILABLE: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "the data cannot be reached; nothing was kept; try again later",
    );
    const OUTCOME_UNKNOWN: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "outcome-unknown",
        "nobody can tell whether this was kept; look before you do it again",
    );
    const NO_SUCH_PRODUCT: Self = Self::new(
        StatusCode::NOT_FOUND,
        "no-such-product",
        "there is no product with this sku",
    );
    const NOT_ENOUGH: Self = Self::new(
        StatusCode::CONFLICT,
        "not-enough",
        "there is not enough of it in stock",
    );
    const ALREADY_THERE: Self = Self::new(
        StatusCode::CONFLICT,
        "already-there",
        "this sku, or this reference, is there already",
    );
    const INTERNAL: Self = Self::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "something is wrong on our side",
    );

    const fn new(status: StatusCode, name: &'static str, title: &'static str) -> Self {
        Self {
            status,
            name,
            title,
            retry_after: None,
        }
    }

    fn later(self, after: Option<Duration>) -> Self {
        let retry_after = Some(after.unwrap_or(Duration::from_secs(1)));
        Self {
            retry_after,
            ..self
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidTenantId => Self::BAD_TENANT,
            ErrorKind::TenantUnknown => Self::UNKNOWN_TENANT,
            ErrorKind::TenantSuspended => Self::SUSPENDED,
            ErrorKind::TenantDeleted => Self::DELETED,
            ErrorKind::Saturated | ErrorKind::AcquireTimeout => {
                Self::SATURATED.later(error.retry_after())
            }
            ErrorKind::TenantMoving
            | ErrorKind::Directory
            | ErrorKind::Connect
            | ErrorKind::ConnectionLost
            | ErrorKind::Closed => Self::UNAVAILABLE.later(error.retry_after()),
            kind => {
                // For us and not for the client; the error's own words hold no data either.
                eprintln!("internal error of kind {kind:?}: {error}");
                Self::INTERNAL
            }
        }
    }
}

impl From<StockError> for Problem {
    fn from(error: StockError) -> Self {
        match error {
            StockError::Invalid(rule) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", rule)
            }
            StockError::NoSuchProduct => Self::NO_SUCH_PRODUCT,
            StockError::NotEnough => Self::NOT_ENOUGH,
            StockError::AlreadyThere => Self::ALREADY_THERE,
            StockError::OutcomeUnknown => Self::OUTCOME_UNKNOWN,
            StockError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("/problems/{}", self.name),
            "title": self.title,
            "status": self.status.as_u16(),
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(after) = self.retry_after {
            // Whole seconds, and never "at once".
            let seconds = (after.as_millis().div_ceil(1000) as u64).max(1);
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
