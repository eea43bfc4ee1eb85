//! Who reaches for the rows of all tenants, and why.

use crate::error::{Error, ErrorKind};
use crate::quote;

/// What is put on record, checked. No `Debug`: it is the text of people.
pub(super) struct Record<'a> {
    actor: &'a str,
    reason: &'a str,
}

const MAX_ACTOR: usize = 255;
const MAX_REASON: usize = 2_000;

impl<'a> Record<'a> {
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`].
    pub(super) fn new(actor: &'a str, reason: &'a str) -> Result<Self, Error> {
        let is_bad = |text: &str, max| text.trim().is_empty() || text.len() > max;
        let refuse = |rule| Err(Error::new(ErrorKind::InvalidOption, rule));
        if is_bad(actor, MAX_ACTOR) {
            return refuse("the actor of dangerous access has 1 to 255 bytes, not all white space");
        }
        if is_bad(reason, MAX_REASON) {
            return refuse(
                "the reason for dangerous access has 1 to 2,000 bytes, not all white space",
            );
        }
        if actor.contains('\0') || reason.contains('\0') {
            return refuse("the actor and the reason of dangerous access hold no NUL byte");
        }
        Ok(Self { actor, reason })
    }

    /// The row, then BEGIN, then the number of the transaction; one message.
    ///
    /// In this order a row that is refused ends the message before there is a transaction block.
    /// BEGIN makes a block of the transaction that the statements of one message share, with the
    /// row in it, see `TxOptions::begin`.
    ///
    /// The role cannot read the row, so the number comes from the server and not from RETURNING.
    pub(super) fn begin(&self) -> String {
        format!(
            "INSERT INTO tenantry.dangerous_access (actor, reason) VALUES ({}, {}); BEGIN; \
             SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text",
            quote::literal(self.actor),
            quote::literal(self.reason),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_actor_or_no_reason_is_refused_in_silence() {
        let refusal = |actor: &str, reason: &str| {
            let error = Record::new(actor, reason).err().expect("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            assert!(!error.to_string().contains("c4n4ry"), "{error}");
            error.to_string()
        };
        let long = "c4n4ry".repeat(400);
        for actor in ["", " \t\n", &long[..256], &long] {
            assert!(refusal(actor, "c4n4ry").contains("the actor"));
        }
        for reason in ["", " \t\n", &long[..2_001]] {
            assert!(refusal("c4n4ry", reason).contains("the reason"));
        }
        assert!(refusal("c4n4ry\0", "c4n4ry").contains("NUL"));
        assert!(refusal("c4n4ry", "c4n4ry\0").contains("NUL"));
        assert!(Record::new(&long[..255], &long[..2_000]).is_ok());
    }
}
