//! What may be done, and what is granted or denied.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// What somebody wants to do: an action on a kind of resource, `invoices:create`.
///
/// Each part has 1 to 63 bytes of ASCII letters, digits, `-`, `_` and `.`, of which the first is a
/// letter or a digit. Parts are compared byte by byte.
///
/// ```
/// use tenantry::Permission;
///
/// // Checked when it is compiled.
/// const CREATE: Permission = Permission::new("invoices", "create");
///
/// let parsed: Permission = "invoices:create".parse()?;
/// assert_eq!(parsed, CREATE);
/// assert!("invoices:*".parse::<Permission>().is_err(), "nobody wants to do everything");
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    resource: Cow<'static, str>,
    action: Cow<'static, str>,
}

impl Permission {
    /// A permission that stands in the source. One that comes from elsewhere is parsed.
    ///
    /// # Panics
    ///
    /// If a part is not of the form described above. In a constant that is an error of the
    /// compiler.
    pub const fn new(resource: &'static str, action: &'static str) -> Self {
        assert!(is_part(resource), "{}", PART);
        assert!(is_part(action), "{}", PART);
        Self {
            resource: Cow::Borrowed(resource),
            action: Cow::Borrowed(action),
        }
    }

    /// On what.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// What is done.
    pub fn action(&self) -> &str {
        &self.action
    }
}

impl FromStr for Permission {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (resource, action) = split(text)?;
        if !is_part(resource) || !is_part(action) {
            return Err(refused(PART));
        }
        Ok(Self {
            resource: Cow::Owned(resource.to_owned()),
            action: Cow::Owned(action.to_owned()),
        })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.resource, self.action)
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permission({self})")
    }
}

/// What a role grants or denies: a permission, or many of them with `*` for either part.
///
/// ```
/// use tenantry::PermissionPattern;
///
/// let pattern: PermissionPattern = "invoices:*".parse()?;
/// assert!(pattern.covers(&"invoices:create".parse()?));
/// assert!(!pattern.covers(&"cases:create".parse()?));
/// assert!("inv*:create".parse::<PermissionPattern>().is_err(), "a part is a star or a word");
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermissionPattern {
    resource: Box<str>,
    action: Box<str>,
}

impl PermissionPattern {
    /// A resource or `*`.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// An action or `*`.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Whether the permission is one of those that are meant.
    pub fn covers(&self, permission: &Permission) -> bool {
        let covers = |mine: &str, its: &str| mine == ANY || mine == its;
        covers(&self.resource, permission.resource()) && covers(&self.action, permission.action())
    }

    pub(super) fn of(resource: &str, action: &str) -> Result<Self, Error> {
        let is_known = |part: &str| part == ANY || is_part(part);
        if !is_known(resource) || !is_known(action) {
            return Err(refused(PART));
        }
        Ok(Self {
            resource: resource.into(),
            action: action.into(),
        })
    }
}

impl FromStr for PermissionPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (resource, action) = split(text)?;
        Self::of(resource, action)
    }
}

impl From<Permission> for PermissionPattern {
    fn from(permission: Permission) -> Self {
        Self {
            resource: permission.resource.into(),
            action: permission.action.into(),
        }
    }
}

impl fmt::Display for PermissionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.resource, self.action)
    }
}

impl fmt::Debug for PermissionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PermissionPattern({self})")
    }
}

/// Stands for every resource or every action.
pub(super) const ANY: &str = "*";

const MAX_PART: usize = 63;

const PART: &str = "the resource and the action of a permission have 1 to 63 bytes of ASCII letters, digits, '-', '_' \
     and '.', the first a letter or a digit";

const fn is_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_PART || !bytes[0].is_ascii_alphanumeric() {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_' | b'.') {
            return false;
        }
        at += 1;
    }
    true
}

fn split(text: &str) -> Result<(&str, &str), Error> {
    text.split_once(':')
        .ok_or_else(|| refused("a permission is written `resource:action`"))
}

fn refused(rule: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOption, rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_its_rule_takes_and_nothing_else() {
        let long = "x".repeat(63);
        for good in ["a:b", "invoices:create", "v1.cases:re-open_all", "7:8"] {
            assert_eq!(good.parse::<Permission>().expect(good).to_string(), good);
            let pattern: PermissionPattern = good.parse().expect(good);
            assert_eq!(pattern.to_string(), good);
        }
        assert!(format!("{long}:{long}").parse::<Permission>().is_ok());
        let too_long = format!("{long}x:a");
        for bad in [
            "", ":", "a", "a:", ":a", "a:b:c", "a b:c", "-a:b", "a:.b", "é:a", "a:b\0", "a*:b",
            "**:a", "a :b", &too_long,
        ] {
            let error = bad.parse::<Permission>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            assert!(bad.len() < 3 || !error.to_string().contains(bad), "{error}");
            assert!(bad.parse::<PermissionPattern>().is_err(), "{bad}");
        }
        for many in ["*:*", "a:*", "*:a"] {
            assert!(many.parse::<Permission>().is_err(), "{many}");
            assert_eq!(
                many.parse::<PermissionPattern>().expect(many).to_string(),
                many
            );
        }
    }

    #[test]
    #[should_panic(expected = "1 to 63 bytes")]
    fn one_in_the_source_is_checked_too() {
        let _ = Permission::new("invoices", "*");
    }

    #[test]
    fn a_star_stands_for_either_part() {
        let asked = Permission::new("invoices", "create");
        let covers = |pattern: &str| {
            let pattern: PermissionPattern = pattern.parse().expect(pattern);
            pattern.covers(&asked)
        };
        for yes in ["invoices:create", "invoices:*", "*:create", "*:*"] {
            assert!(covers(yes), "{yes}");
        }
        for no in [
            "invoices:read",
            "cases:create",
            "cases:*",
            "*:read",
            "Invoices:create",
        ] {
            assert!(!covers(no), "{no}");
        }
        assert!(PermissionPattern::from(asked.clone()).covers(&asked));
    }
}
