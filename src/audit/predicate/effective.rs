//! The policies of a table, put together as the server puts them.

use crate::audit::catalog::{Catalog, Command, Id, Policy, Relation};

/// What a row has to meet for one use, as one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::audit) struct Effective {
    pub(in crate::audit) role: Id,
    pub(in crate::audit) commands: Vec<Command>,
    pub(in crate::audit) predicate: String,
}

/// For each use that somebody of ours may make of a table, and each role in which it may: what
/// holds rows back. Those that are the same are one. Uses that no policy allows are left out: no row
/// passes.
pub(in crate::audit) fn effective(catalog: &Catalog, table: &Relation) -> Vec<Effective> {
    let roles = catalog.reach.roles();
    let roles = roles.filter(|role| !catalog.is_above_policies(*role));
    let uses = roles.flat_map(|role| {
        let commands = Command::ALL.into_iter();
        commands
            .filter(|command| catalog.holds(table, command.privilege()))
            .map(move |command| (role, role, command))
    });
    put_together(catalog, table, uses)
}

/// The same for one role, which need not be one of ours, and for these uses. Evaluated as `asker`.
pub(in crate::audit) fn effective_for(
    catalog: &Catalog,
    table: &Relation,
    role: Id,
    asker: Id,
    commands: &[Command],
) -> Vec<Effective> {
    let uses = commands.iter().map(|command| (role, asker, *command));
    put_together(catalog, table, uses)
}

/// Of whose policies hold, who is asked as, and what for.
fn put_together(
    catalog: &Catalog,
    table: &Relation,
    uses: impl Iterator<Item = (Id, Id, Command)>,
) -> Vec<Effective> {
    let policies = catalog
        .policies
        .get(&table.oid)
        .map_or(&[][..], Vec::as_slice);
    let mut all: Vec<Effective> = Vec::new();
    for (role, asker, command) in uses {
        let applying = policies
            .iter()
            .filter(|policy| catalog.applies(policy, role));
        let Some(predicate) = predicate(applying, command) else {
            continue;
        };
        match all.iter_mut().find(|other| other.predicate == predicate) {
            Some(other) if other.commands.contains(&command) => {}
            Some(other) => other.commands.push(command),
            None => all.push(Effective {
                role: asker,
                commands: vec![command],
                predicate,
            }),
        }
    }
    all
}

/// `None` if there is no permissive policy, and so no row.
fn predicate<'p>(
    policies: impl Iterator<Item = &'p Policy> + Clone,
    command: Command,
) -> Option<String> {
    let expressions = |permissive| {
        policies
            .clone()
            .filter(move |policy| policy.permissive == permissive)
            .filter_map(move |policy| command.expression(policy))
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
            relation: Id(Oid(1)),
            name: "p".to_owned(),
            command: command.to_owned(),
            permissive,
            roles: vec![Id::PUBLIC],
            using: using.map(str::to_owned),
            check: check.map(str::to_owned),
            asks: Vec::new(),
            columns: Vec::new(),
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
        let of = |command| predicate(policies.iter(), command).unwrap_or_default();
        assert_eq!(of(Command::Select), "((a) OR (b)) AND (d)");
        assert_eq!(of(Command::Insert), "((a) OR (c)) AND (e)");
        assert_eq!(of(Command::Update), "((a)) AND (d)");
        assert_eq!(of(Command::UpdateTo), "((a)) AND (e)");
        assert_eq!(of(Command::Delete), "((a)) AND (d) AND (f)");
    }

    #[test]
    fn restrictive_ones_alone_let_nothing_through() {
        let policies = [
            policy("*", false, Some("a"), None),
            policy("r", true, Some("b"), None),
        ];
        assert_eq!(predicate(policies.iter(), Command::Delete), None);
        assert!(predicate(policies.iter(), Command::Select).is_some());
    }
}
