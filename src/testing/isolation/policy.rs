//! The policies of a table, put together as PostgreSQL puts them.

use super::catalog::Policy;

/// What somebody does with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    Select,
    Insert,
    /// An UPDATE finds the row.
    Update,
    /// An UPDATE makes the row.
    UpdateTo,
    Delete,
}

impl Use {
    pub(super) const ALL: [Self; 5] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::UpdateTo,
        Self::Delete,
    ];

    /// The privilege it takes, which is the name of the command as well.
    pub(super) fn privilege(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update | Self::UpdateTo => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateTo)
    }

    /// As `pg_policy.polcmd`.
    fn command(self) -> &'static str {
        match self {
            Self::Select => "r",
            Self::Insert => "a",
            Self::Update | Self::UpdateTo => "w",
            Self::Delete => "d",
        }
    }

    pub(super) fn expression(self, policy: &Policy) -> Option<&str> {
        if policy.command != "*" && policy.command != self.command() {
            return None;
        }
        match self.writes() {
            true => policy.check.as_deref().or(policy.using.as_deref()),
            false => policy.using.as_deref(),
        }
    }
}

/// The predicate that a row has to meet; `None` if there is no permissive policy, and so no row.
pub(super) fn predicate<'p>(
    policies: impl Iterator<Item = &'p Policy> + Clone,
    of: Use,
) -> Option<String> {
    let expressions = |permissive| {
        policies
            .clone()
            .filter(move |policy| policy.permissive == permissive)
            .filter_map(move |policy| of.expression(policy))
            .map(|expression| format!("({expression})"))
    };
    let permissive: Vec<_> = expressions(true).collect();
    if permissive.is_empty() {
        return None;
    }
    let alternatives = format!("({})", permissive.join(" OR "));
    let all: Vec<_> = std::iter::once(alternatives)
        .chain(expressions(false))
        .collect();
    Some(all.join(" AND "))
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::types::Oid;

    use super::*;

    fn policy(command: &str, permissive: bool, using: Option<&str>, check: Option<&str>) -> Policy {
        Policy {
            relation: Oid(1),
            role: "app".to_owned(),
            name: "p".to_owned(),
            command: command.to_owned(),
            permissive,
            using: using.map(str::to_owned),
            check: check.map(str::to_owned),
        }
    }

    #[test]
    fn permissive_ones_are_alternatives_and_restrictive_ones_hold_as_well() {
        let policies = [
            policy("*", true, Some("a"), None),
            policy("r", true, Some("b"), None),
            policy("a", true, None, Some("c")),
            policy("*", false, Some("d"), Some("e")),
            policy("d", false, Some("f"), None),
        ];
        let of = |of| predicate(policies.iter(), of).unwrap_or_default();
        assert_eq!(of(Use::Select), "((a) OR (b)) AND (d)");
        assert_eq!(of(Use::Insert), "((a) OR (c)) AND (e)");
        assert_eq!(of(Use::Update), "((a)) AND (d)");
        assert_eq!(of(Use::UpdateTo), "((a)) AND (e)");
        assert_eq!(of(Use::Delete), "((a)) AND (d) AND (f)");
    }

    #[test]
    fn restrictive_ones_alone_let_nothing_through() {
        let policies = [
            policy("*", false, Some("a"), None),
            policy("r", true, Some("b"), None),
        ];
        assert_eq!(predicate(policies.iter(), Use::Delete), None);
        assert!(predicate(policies.iter(), Use::Select).is_some());
    }
}
