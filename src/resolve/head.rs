//! The part of a request that resolvers look at.

use std::fmt;

use super::error::{ResolveError, ResolveErrorKind};

/// The head of a request, whatever framework it came in through.
///
/// `Debug` shows the path's length and no value: a head holds tokens.
#[derive(Clone, Copy)]
pub struct RequestHead<'r> {
    authority: Option<&'r str>,
    path: &'r str,
    fields: &'r (dyn HeaderFields + Sync),
}

impl<'r> RequestHead<'r> {
    /// The head of a request for `path`, without its query. `authority` is that of the request's
    /// target, where it has one, as in HTTP/2; the header field `Host` is looked up in `fields`.
    pub fn new(
        authority: Option<&'r str>,
        path: &'r str,
        fields: &'r (dyn HeaderFields + Sync),
    ) -> Self {
        Self {
            authority,
            path,
            fields,
        }
    }

    /// The path, as it was sent: not decoded.
    pub fn path(&self) -> &'r str {
        self.path
    }

    /// Host and port, as they were sent.
    ///
    /// # Errors
    ///
    /// [`ResolveErrorKind::Malformed`] if the request names two different ones, or one that is not
    /// ASCII.
    pub fn host(&self) -> Result<Option<&'r str>, ResolveError> {
        let field = self.field("host")?;
        match (self.authority, field) {
            (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => {
                Err(ResolveError::new(ResolveErrorKind::Malformed))
            }
            (authority, field) => Ok(authority.or(field)),
        }
    }

    /// The value of a header field. `name` is in lower case.
    ///
    /// # Errors
    ///
    /// [`ResolveErrorKind::Malformed`] if the field is there more than once, or holds anything but
    /// visible ASCII characters and spaces. Two proxies, or a proxy and a service, that each believe
    /// another one of two values are how requests get into the wrong hands.
    pub fn field(&self, name: &str) -> Result<Option<&'r str>, ResolveError> {
        let mut found = None;
        let mut count = 0;
        self.fields.each(name, &mut |value| {
            count += 1;
            found = Some(value);
        });
        let Some(value) = found else {
            return Ok(None);
        };
        if count > 1 || !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ResolveError::new(ResolveErrorKind::Malformed));
        }
        std::str::from_utf8(value)
            .map(Some)
            .map_err(|_| ResolveError::new(ResolveErrorKind::Malformed))
    }
}

impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("path_bytes", &self.path.len())
            .finish_non_exhaustive()
    }
}

/// The header fields of a request.
///
/// Each framework has a map of its own, so this asks for no more than a look-up. A slice of pairs
/// is one, for tests.
pub trait HeaderFields {
    /// Calls `each` with every value of the field `name`, which is in lower case.
    fn each<'r>(&'r self, name: &str, each: &mut dyn FnMut(&'r [u8]));
}

impl<const N: usize> HeaderFields for [(&str, &str); N] {
    fn each<'r>(&'r self, name: &str, each: &mut dyn FnMut(&'r [u8])) {
        for (field, value) in self {
            if field.eq_ignore_ascii_case(name) {
                each(value.as_bytes());
            }
        }
    }
}
