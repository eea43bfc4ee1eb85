//! The tenant is the value of a header field.

use async_trait::async_trait;

use super::{RequestHead, ResolveError, ResolveErrorKind, TenantResolver};
use crate::context::TenantContext;
use crate::error::{Error, ErrorKind};
use crate::tenant::TenantId;

/// Takes the tenant from a header field, such as `X-Tenant-Id`.
///
/// The whole value is the id, as [`TenantId`](crate::TenantId) has it; a field that is there twice
/// is refused, as is a list.
///
/// Whoever sends the request writes its header. So this one is for what stands behind a gateway that
/// sets the field itself and lets nobody else's through; or as a witness beside a token,
/// `token.agrees_with(header)`.
#[derive(Clone, Debug)]
pub struct HeaderResolver {
    name: Box<str>,
}

impl HeaderResolver {
    /// Looks at the field of this name, in whatever case.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if no header field can have that name.
    pub fn new(name: &str) -> Result<Self, Error> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                "the name of a header field is one word of letters, digits and `-`",
            ));
        }
        Ok(Self {
            name: name.to_ascii_lowercase().into(),
        })
    }
}

#[async_trait]
impl TenantResolver for HeaderResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
        let value = request
            .field(&self.name)?
            .ok_or(ResolveError::new(ResolveErrorKind::Absent))?;
        value
            .parse()
            .map(|tenant: TenantId| TenantContext::new(tenant))
            .map_err(|_| ResolveError::new(ResolveErrorKind::Malformed))
    }
}
