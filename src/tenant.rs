//! Whose data it is.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::error::{Error, ErrorKind};

/// The name of a tenant, parsed once and never a bare string afterwards.
///
/// 1 to 63 bytes of ASCII letters, digits, `-`, `_` and `.`, of which the first is a letter or a
/// digit. That takes UUIDs, integers, slugs and the ids that identity providers hand out, and
/// nothing that means something to SQL, to a shell, to a path or to a host name's parser.
///
/// Ids are compared byte by byte, and `Acme` is another tenant than `acme`. The one exception is
/// a UUID in its hyphenated form, which is kept in lower case, as PostgreSQL prints it.
///
/// Cloning copies a pointer.
///
/// ```
/// use tenantry::{ErrorKind, TenantId};
///
/// let acme: TenantId = "acme-gmbh".parse()?;
/// let seven = TenantId::from(7_u64);
/// assert_eq!(seven.as_str(), "7");
///
/// let refused = "'; DROP TABLE invoices".parse::<TenantId>().unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::InvalidTenantId);
/// assert!(!refused.to_string().contains("DROP"));
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// How long an id may be, in bytes.
    pub const MAX_LEN: usize = 63;

    /// The id as text, as it stands in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |rule| Err(Error::new(ErrorKind::InvalidTenantId, rule));
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return refuse("a tenant id has 1 to 63 bytes");
        }
        if !text.as_bytes()[0].is_ascii_alphanumeric() {
            return refuse("a tenant id begins with an ASCII letter or digit");
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !text.bytes().all(allowed) {
            return refuse("a tenant id holds only ASCII letters, digits, '-', '_' and '.'");
        }
        // Upper and lower case name the same UUID, so they must not name two tenants.
        if text.len() == 36 && Uuid::try_parse(text).is_ok() {
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for TenantId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for TenantId {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TenantId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<Uuid> for TenantId {
    fn from(id: Uuid) -> Self {
        Self(id.hyphenated().to_string().into())
    }
}

impl From<u32> for TenantId {
    fn from(id: u32) -> Self {
        Self::from(u64::from(id))
    }
}

impl From<u64> for TenantId {
    fn from(id: u64) -> Self {
        Self(id.to_string().into())
    }
}

/// Negative numbers are refused.
impl TryFrom<i64> for TenantId {
    type Error = Error;

    fn try_from(id: i64) -> Result<Self, Error> {
        u64::try_from(id).map(Self::from).map_err(|_| {
            Error::new(
                ErrorKind::InvalidTenantId,
                "a tenant id is not a negative number",
            )
        })
    }
}

/// Negative numbers are refused.
impl TryFrom<i32> for TenantId {
    type Error = Error;

    fn try_from(id: i32) -> Result<Self, Error> {
        Self::try_from(i64::from(id))
    }
}

impl Serialize for TenantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl AsRef<str> for TenantId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TenantId").field(&self.as_str()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_its_rule_takes_and_nothing_else() {
        for good in ["a", "7", "acme-gmbh", "org_2b.X", &"x".repeat(63)] {
            assert_eq!(good.parse::<TenantId>().expect(good).as_str(), good);
        }
        let long = "x".repeat(64);
        for bad in [
            "",
            " ",
            "-a",
            ".",
            "_a",
            "a b",
            "a\0",
            "a'",
            "a\\",
            "é",
            "a\u{202e}b",
            "a/b",
            "%",
            &long,
            "{a,b}",
            "\"a\"",
            "a;b",
            "\u{0430}cme",
        ] {
            let error = bad.parse::<TenantId>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidTenantId);
            assert!(
                bad.len() < 3 || !format!("{error} {error:?}").contains(bad),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_uuid_is_one_tenant_in_either_case() {
        let id = Uuid::from_u128(0xabcd_ef00_1122_3344_5566_7788_99aa_bbcc);
        let upper: TenantId = id
            .hyphenated()
            .to_string()
            .to_uppercase()
            .parse()
            .expect("uuid");
        assert_eq!(upper, TenantId::from(id));
    }

    #[test]
    fn integers_are_tenants_unless_negative() {
        assert_eq!(TenantId::try_from(12_i64).expect("positive").as_str(), "12");
        assert_eq!(TenantId::from(u64::MAX).as_str(), "18446744073709551615");
        assert!(TenantId::try_from(-1_i64).is_err());
        assert_eq!(TenantId::from(12_u32).as_str(), "12");
        assert_eq!(TenantId::try_from(12_i32).expect("positive").as_str(), "12");
        assert!(TenantId::try_from(-1_i32).is_err());
    }

    #[test]
    fn it_is_its_text_in_every_form() {
        let id = TenantId::try_from("acme").expect("an id");
        assert_eq!(TenantId::try_from("acme".to_owned()).ok(), Some(id.clone()));
        assert_eq!(AsRef::<str>::as_ref(&id), "acme");
        assert_eq!(Borrow::<str>::borrow(&id), "acme");
        assert_eq!(id.to_string(), "acme");
        assert_eq!(format!("{id:?}"), "TenantId(\"acme\")");
        assert!(TenantId::try_from("").is_err());
        assert!(TenantId::try_from(String::new()).is_err());
    }

    #[test]
    fn only_the_hyphenated_form_of_a_uuid_is_folded() {
        // 36 bytes that are no UUID, and a UUID that is not 36 bytes.
        for text in [
            "ABCDEFGH-ABCD-4ABC-8ABC-ABCDEFGHIJKL",
            "ABCDEF0011224334855667788990AABB",
        ] {
            assert_eq!(text.parse::<TenantId>().expect(text).as_str(), text);
        }
    }
}
