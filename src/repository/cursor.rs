//! Where a page ended.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind};
use crate::tenant::TenantId;

/// Where a page ended, for the one behind it: an opaque text that a client hands back.
///
/// It belongs to one tenant, one list, one order and one direction, and is refused with
/// [`ErrorKind::InvalidCursor`] everywhere else, and when it was cut or changed on its way.
///
/// It is no secret and no authority. Whoever takes it apart finds the values that the last row is
/// ordered by, and whoever puts one together gets rows of the tenant that asks and no others,
/// because it says where to begin and not whose rows they are. So there is no key, nothing to
/// rotate, and a cursor is good for as long as the list is ordered as it is.
///
/// `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor(Box<[u8]>);

/// What comes before the position: the layout's number and the digest.
const HEAD: usize = 1 + DIGEST;
const LAYOUT: u8 = 1;
/// As many bytes of SHA-256 as nobody hits by accident.
const DIGEST: usize = 16;

impl Cursor {
    /// How long the text of a cursor is at most, in bytes.
    pub const MAX_LEN: usize = 8_192;

    /// Reads the text of a cursor. Whether it is one of this list is seen when it is used.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCursor`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > Self::MAX_LEN {
            return Err(invalid());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        if bytes.len() < HEAD || bytes[0] != LAYOUT {
            return Err(invalid());
        }
        Ok(Self(bytes.into()))
    }

    /// The cursor of a position in a list of this tenant.
    pub(super) fn at(
        position: &impl Serialize,
        tenant: &TenantId,
        list: &[&str],
    ) -> Result<Self, Error> {
        let refused = |rule| Error::new(ErrorKind::InvalidOption, rule);
        let position = serde_json::to_vec(position).map_err(|error| {
            refused("what a list is ordered by cannot be written as JSON").with_source(error)
        })?;
        let mut bytes = vec![LAYOUT];
        bytes.extend_from_slice(&digest(&position, tenant, list));
        bytes.extend_from_slice(&position);
        if bytes.len() > Self::MAX_LEN / 4 * 3 {
            return Err(refused(
                "what a list is ordered by takes more than the 6 KiB that a cursor has",
            ));
        }
        Ok(Self(bytes.into()))
    }

    /// The position, if it is one in this list of this tenant.
    pub(super) fn position<K: DeserializeOwned>(
        &self,
        tenant: &TenantId,
        list: &[&str],
    ) -> Result<K, Error> {
        let (head, position) = self.0.split_at_checked(HEAD).ok_or_else(invalid)?;
        if head[1..] != digest(position, tenant, list) {
            return Err(invalid());
        }
        // A digest that fits and a position that does not: the list is ordered by other types now.
        serde_json::from_slice(position).map_err(|_| invalid())
    }
}

fn digest(position: &[u8], tenant: &TenantId, list: &[&str]) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    // With their lengths, so that no two lists of parts make the same bytes.
    for part in [tenant.as_str()].iter().chain(list) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(position);
    let whole: [u8; 32] = hash.finalize().into();
    let mut first = [0; DIGEST];
    first.copy_from_slice(&whole[..DIGEST]);
    first
}

fn invalid() -> Error {
    Error::new(
        ErrorKind::InvalidCursor,
        "the cursor is not one of this list: begin again without one",
    )
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(..)")
    }
}
