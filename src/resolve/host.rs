//! The tenant is the name in front of a domain.

use async_trait::async_trait;

use super::{RequestHead, ResolveError, ResolveErrorKind, TenantResolver};
use crate::context::TenantContext;
use crate::error::{Error, ErrorKind};
use crate::tenant::TenantId;

/// Takes the tenant from the host: `acme.example.com` is the tenant `acme`.
///
/// Exactly one label stands in front of the domain. The domain itself says nothing
/// ([`ResolveErrorKind::Absent`]); any other host is refused, an IP address, a deeper name and one
/// that merely ends in the same letters among them. Case, a port and the dot at the end of a full
/// name make no difference, so a tenant whose id has capital letters cannot be reached by its host,
/// nor one whose id has a dot. An internationalised name is its `xn--` form and no other.
///
/// A host says what somebody wants, not who asks.
///
/// ```
/// use tenantry::{HostResolver, RequestHead, TenantResolver};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let resolver = HostResolver::subdomain_of("example.com")?;
/// let tenant = async |host| {
///     let fields = [("Host", host)];
///     let context = resolver.resolve(&RequestHead::new(None, "/", &fields)).await?;
///     Ok::<_, tenantry::ResolveError>(context.tenant().to_string())
/// };
/// assert_eq!(tenant("Acme.Example.COM:8443").await?, "acme");
/// assert!(tenant("acme.evilexample.com").await.is_err());
/// assert!(tenant("a.acme.example.com").await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HostResolver {
    domain: Box<str>,
}

impl HostResolver {
    /// Tenants are the names directly below `domain`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if it is no domain: no port, no scheme, not an IP address;
    /// letters, digits and `-`.
    pub fn subdomain_of(domain: &str) -> Result<Self, Error> {
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        let top = domain.rsplit('.').next().unwrap_or(domain);
        // A name whose last label is a number is an IPv4 address to some of those who read it.
        if !is_name(domain) || top.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                "the domain that tenants are below is a name such as `example.com`, \
                 without scheme and port",
            ));
        }
        Ok(Self {
            domain: domain.to_ascii_lowercase().into(),
        })
    }

    fn tenant(&self, authority: &str) -> Result<TenantId, ResolveErrorKind> {
        let name = without_port(authority).ok_or(ResolveErrorKind::Malformed)?;
        let name = name.strip_suffix('.').unwrap_or(name);
        if !is_name(name) {
            return Err(ResolveErrorKind::Malformed);
        }
        if name.eq_ignore_ascii_case(&self.domain) {
            return Err(ResolveErrorKind::Absent);
        }
        // Whole labels are compared, from the front: no host gets in by how it ends.
        match name.split_once('.') {
            Some((label, rest)) if rest.eq_ignore_ascii_case(&self.domain) => label
                .to_ascii_lowercase()
                .parse()
                .map_err(|_| ResolveErrorKind::Malformed),
            _ => Err(ResolveErrorKind::Malformed),
        }
    }
}

#[async_trait]
impl TenantResolver for HostResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
        let authority = request
            .host()?
            .ok_or(ResolveError::new(ResolveErrorKind::Absent))?;
        self.tenant(authority)
            .map(TenantContext::new)
            .map_err(ResolveError::new)
    }
}

/// `None` if what follows the last colon is no port. An IPv6 address does not get through: what is
/// left of it is no name.
fn without_port(authority: &str) -> Option<&str> {
    match authority.rsplit_once(':') {
        None => Some(authority),
        Some((name, port)) => {
            let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5;
            (is_port && port.parse::<u16>().is_ok()).then_some(name)
        }
    }
}

/// Labels of letters, digits, `-` and `_`, and nothing else: no user, no brackets, no `%`, nothing
/// that is not ASCII.
fn is_name(name: &str) -> bool {
    name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
