//! What is allowed, by whom it concerns, and until when.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use time::Date;
use time::format_description::well_known::Iso8601;

use super::finding::Finding;
use super::unseen::Unseen;
use crate::error::{Error, ErrorKind};

/// What stands in the place of a rule for what was not seen.
const UNSEEN: &str = "unseen";

/// A finding that somebody has looked at and that is to stay.
///
/// It says why, and it may end: a finding whose allowance has expired is reported again. One that
/// allows nothing any more is reported as such, so that lists stay short.
///
/// With `unseen` in the place of a rule it is about what an audit [could not look at](super::Unseen), and
/// nobody expects it to, such as `pg_statistic` where no superuser audits.
///
/// ```
/// use tenantry::audit::Allowance;
///
/// # fn main() -> Result<(), tenantry::Error> {
/// let allowance = Allowance::new(
///     "view-bypasses-policies",
///     "app.monthly_totals",
///     "sums over all tenants, for the operator's own page",
/// )
/// .until("2027-06-30")?;
/// # let _ = allowance;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    rule: String,
    object: String,
    reason: String,
    expires: Option<Date>,
}

impl Allowance {
    /// Allows what `rule` finds at `object`, which is written as in the report; `*` is every object.
    pub fn new(
        rule: impl Into<String>,
        object: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            rule: rule.into(),
            object: object.into(),
            reason: reason.into(),
            expires: None,
        }
    }

    /// The last day on which it holds, in UTC: `2027-06-30`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] for what is no day.
    pub fn until(mut self, day: &str) -> Result<Self, Error> {
        let parsed = Date::parse(day, &Iso8601::DATE).map_err(|_| {
            Error::new(
                ErrorKind::InvalidOption,
                "the day on which an allowance ends is written as 2027-06-30",
            )
        })?;
        self.expires = Some(parsed);
        Ok(self)
    }

    /// The [id](super::Rule::id) of the rule, or `unseen`.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What it is about, or `*`.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Why it is allowed.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn covers(&self, finding: &Finding) -> bool {
        self.is_of(finding.rule().id(), finding.object())
    }

    pub(super) fn covers_unseen(&self, unseen: &Unseen) -> bool {
        self.is_of(UNSEEN, unseen.object())
    }

    fn is_of(&self, rule: &str, object: &str) -> bool {
        self.rule == rule && (self.object == "*" || self.object == object)
    }

    pub(super) fn has_expired(&self, today: Date) -> bool {
        self.expires.is_some_and(|last| today > last)
    }
}

/// With `rule`, `object`, `reason` and `until`, which is null for one that does not end.
impl Serialize for Allowance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Allowance", 4)?;
        out.serialize_field("rule", &self.rule)?;
        out.serialize_field("object", &self.object)?;
        out.serialize_field("reason", &self.reason)?;
        out.serialize_field("until", &self.expires.map(|day| day.to_string()))?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_is_called_unseen() {
        assert!(super::super::Rule::all().all(|rule| rule.id() != UNSEEN));
    }

    #[test]
    fn the_last_day_counts() {
        let allowance = Allowance::new("r", "o", "w");
        assert!(!allowance.has_expired(Date::MAX));
        let allowance = allowance.until("2028-02-29").expect("a day");
        let last = allowance.expires.expect("a day");
        assert!(!allowance.has_expired(last));
        assert!(allowance.has_expired(last.next_day().expect("a day")));
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for wrong in ["2027-02-29", "2027-13-01", "28.11.2027", "tomorrow", ""] {
            assert!(
                Allowance::new("r", "o", "w").until(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
