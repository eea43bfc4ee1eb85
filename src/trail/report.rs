//! Whether the trail is what was recorded.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// What [`Trail::verify`](crate::Trail::verify) found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailReport {
    entries: i64,
    head: Option<TrailHead>,
    broken_at: Option<i64>,
}

impl TrailReport {
    pub(super) fn new(entries: i64, head: Option<TrailHead>, broken_at: Option<i64>) -> Self {
        Self {
            entries,
            head,
            broken_at,
        }
    }

    /// Whether each entry is there, unchanged and in its place.
    pub fn is_sound(&self) -> bool {
        self.broken_at.is_none()
    }

    /// The first number at which the trail is not what was recorded: the entry is gone, was
    /// changed, or was never recorded. With [`Trail::verify_since`](crate::Trail::verify_since),
    /// the number of the head itself if that is no longer what it was.
    pub fn broken_at(&self) -> Option<i64> {
        self.broken_at
    }

    /// How many entries were looked at.
    pub fn entries(&self) -> i64 {
        self.entries
    }

    /// The newest entry, as the database has it on record; `None` before the first.
    pub fn head(&self) -> Option<&TrailHead> {
        self.head.as_ref()
    }
}

/// An entry by its number and hash, which stands for all entries up to it.
///
/// Kept where the owner of the database cannot change it (a log of another system, a mail, paper),
/// it proves a forgery that left no trace in the database; see
/// [`Trail::verify_since`](crate::Trail::verify_since). As text it is the number, a colon and 64
/// hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrailHead {
    number: i64,
    hash: [u8; 32],
}

impl TrailHead {
    /// `None` where there is none, or what is there is no hash.
    pub(super) fn new(number: i64, hash: &[u8]) -> Option<Self> {
        let hash = hash.try_into().ok().filter(|_| number > 0)?;
        Some(Self { number, hash })
    }

    /// Which entry.
    pub fn number(&self) -> i64 {
        self.number
    }

    pub(super) fn hash(&self) -> &[u8] {
        &self.hash
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, digits) = text.split_once(':')?;
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
        }
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| is_plain)?;
        Self::new(number, &hash)
    }
}

impl fmt::Display for TrailHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}:", self.number);
        for byte in self.hash {
            write!(text, "{byte:02x}")?;
        }
        f.pad(&text)
    }
}

impl FromStr for TrailHead {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOption,
                "the head of a trail is a number, a colon and 64 hexadecimal digits",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let hash: Vec<u8> = (0..32).collect();
        let head = TrailHead::new(12, &hash).expect("a head");
        let text = head.to_string();
        assert!(text.starts_with("12:000102"), "{text}");
        assert_eq!(text.parse::<TrailHead>().ok(), Some(head));
        let digits = &text[3..];
        for wrong in [
            "",
            ":",
            "12",
            "12:",
            &format!("0:{digits}"),
            &format!("-1:{digits}"),
            &format!("+1:{digits}"),
            &format!("12:{}", &digits[1..]),
            &format!("12:{digits}0"),
            &format!("12:+{}", &digits[1..]),
            &format!("12:é{}", &digits[2..]),
        ] {
            let error = wrong.parse::<TrailHead>().map_err(|error| error.kind());
            assert_eq!(error, Err(ErrorKind::InvalidOption), "{wrong}");
        }
    }
}
