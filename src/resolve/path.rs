//! The tenant is a segment of the path.

use std::borrow::Cow;

use async_trait::async_trait;

use super::{RequestHead, ResolveError, ResolveErrorKind, TenantResolver};
use crate::context::TenantContext;
use crate::error::{Error, ErrorKind};
use crate::tenant::TenantId;

/// Takes the tenant from the path: `/acme/invoices` or `/tenants/acme/invoices`.
///
/// The router, and the proxy before it, read the same path. So the segments up to the tenant's must
/// mean the same however they are read, or the request is refused: nothing in them is
/// percent-encoded, no segment before another one is empty, and nowhere in the path is there a `.`
/// or `..` segment, encoded or not, since some would resolve it (`/acme/../globex`). Behind the
/// tenant all else may stand.
///
/// A path says what somebody wants, not who asks.
///
/// ```
/// use tenantry::{PathResolver, RequestHead, TenantResolver};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let resolver = PathResolver::after("/tenants")?;
/// let head = RequestHead::new(None, "/tenants/acme/files/a%20b", &[]);
/// assert_eq!(resolver.resolve(&head).await?.tenant().as_str(), "acme");
///
/// let refused = RequestHead::new(None, "/tenants/acme/%2e%2e/globex", &[]);
/// assert!(resolver.resolve(&refused).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PathResolver {
    front: Front,
}

/// What stands before the tenant.
#[derive(Clone, Debug)]
enum Front {
    Any(usize),
    These(Vec<Box<str>>),
}

/// How often somebody behind us may decode the path, one after the other.
const MAX_DECODINGS: usize = 4;

impl PathResolver {
    /// The tenant is the segment with this index: `0` in `/acme/invoices`.
    pub fn segment(index: usize) -> Self {
        Self {
            front: Front::Any(index),
        }
    }

    /// The tenant is the segment behind `prefix`, and paths that are not below it say nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if it is no path such as `/v1/tenants`.
    pub fn after(prefix: &str) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let trimmed = prefix.strip_suffix('/').unwrap_or(prefix);
        let segments: Option<Vec<Box<str>>> = trimmed.strip_prefix('/').and_then(|segments| {
            segments
                .split('/')
                .map(|segment| {
                    let fits = !segment.is_empty()
                        && !is_dots(segment.as_bytes())
                        && segment.bytes().all(plain);
                    fits.then(|| segment.into())
                })
                .collect()
        });
        match segments {
            Some(segments) => Ok(Self {
                front: Front::These(segments),
            }),
            None => Err(Error::new(
                ErrorKind::InvalidOption,
                "what stands before the tenant is a path such as `/v1/tenants`",
            )),
        }
    }

    fn tenant(&self, path: &str) -> Result<TenantId, ResolveErrorKind> {
        let sent = segments(path).ok_or(ResolveErrorKind::Malformed)?;
        let decoded = decode(path).ok_or(ResolveErrorKind::Malformed)?;
        let read: Vec<&[u8]> = decoded
            .split(|byte| matches!(byte, b'/' | b'\\'))
            .filter(|segment| !segment.is_empty())
            .collect();
        if read.iter().any(|segment| is_dots(segment)) {
            return Err(ResolveErrorKind::Malformed);
        }
        if !self.front.leads_to(&sent) && !self.front.leads_to(&read) {
            return Err(ResolveErrorKind::Absent);
        }
        let up_to_tenant = ..=self.front.len();
        if sent.get(up_to_tenant) != read.get(up_to_tenant) {
            return Err(ResolveErrorKind::Malformed);
        }
        sent.get(self.front.len())
            .and_then(|segment| std::str::from_utf8(segment).ok())
            .and_then(|segment| segment.parse().ok())
            .ok_or(ResolveErrorKind::Malformed)
    }
}

impl Front {
    fn len(&self) -> usize {
        match self {
            Self::Any(count) => *count,
            Self::These(segments) => segments.len(),
        }
    }

    /// Whether there is a segment behind this.
    fn leads_to(&self, segments: &[&[u8]]) -> bool {
        segments.len() > self.len()
            && match self {
                Self::Any(_) => true,
                Self::These(these) => these
                    .iter()
                    .zip(segments)
                    .all(|(this, segment)| this.as_bytes() == *segment),
            }
    }
}

#[async_trait]
impl TenantResolver for PathResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
        self.tenant(request.path())
            .map(TenantContext::new)
            .map_err(ResolveError::new)
    }
}

/// The segments as they were sent. `None` if one that is not the last is empty: there are those who
/// take two slashes for one.
fn segments(path: &str) -> Option<Vec<&[u8]>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/')
        .map(|segment| (!segment.is_empty()).then_some(segment.as_bytes()))
        .collect()
}

/// The path as those read it who decode it, and then somebody again. `None` if it does not come to
/// an end.
fn decode(path: &str) -> Option<Cow<'_, [u8]>> {
    let mut path = Cow::Borrowed(path.as_bytes());
    for _ in 0..MAX_DECODINGS {
        match decode_once(&path) {
            Some(decoded) => path = Cow::Owned(decoded),
            None => return Some(path),
        }
    }
    decode_once(&path).is_none().then_some(path)
}

/// `None` if there is nothing to decode.
fn decode_once(path: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut rest = path;
    let mut found = false;
    while let Some((&first, behind)) = rest.split_first() {
        match behind {
            [high, low, behind @ ..] if first == b'%' => {
                if let Some(byte) = hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low) {
                    decoded.push(byte);
                    rest = behind;
                    found = true;
                    continue;
                }
            }
            _ => {}
        }
        decoded.push(first);
        rest = behind;
    }
    found.then_some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// `.` or `..`, also with the parameters behind it that some cut off before they resolve it.
fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next();
    matches!(name, Some(b"." | b".."))
}
