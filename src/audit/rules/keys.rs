//! Keys and foreign keys: they are checked without policies, and so they tell.

use std::collections::BTreeSet;

use crate::audit::catalog::{Catalog, ForeignKey, Kind, Relation, Unique};
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{High, Info};
use crate::audit::subject::Subject;

const PAGE: &str = "keys";

const UNIQUE: Rule = Rule::new(
    PAGE,
    "key-across-tenants",
    High,
    "what one tenant has taken in a unique key another cannot take: it learns that it is there",
);
const FOREIGN: Rule = Rule::new(
    PAGE,
    "foreign-key-across-tenants",
    High,
    "a row of one tenant can refer to a row of another",
);

pub(super) const RULES: &[Rule] = &[UNIQUE, FOREIGN];

pub(super) fn judge(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for unique in &catalog.uniques {
        let table = catalog.relations.get(&unique.relation);
        if let Some(table) = table.filter(|table| writes(catalog, table) && is_own(subject, table))
        {
            findings.extend(across(subject, table, unique));
        }
    }
    for foreign_key in &catalog.foreign_keys {
        let of = |id| {
            catalog
                .relations
                .get(id)
                .filter(|table| is_own(subject, table))
        };
        let (Some(child), Some(parent)) = (of(&foreign_key.relation), of(&foreign_key.referenced))
        else {
            continue;
        };
        let deletes = || follows(&foreign_key.on_delete) && catalog.holds(parent, "DELETE");
        if writes(catalog, child) || deletes() {
            findings.extend(refers_across(catalog, subject, child, parent, foreign_key));
        }
    }
    findings
}

fn is_own(subject: &Subject, table: &Relation) -> bool {
    table.kind.is_table() && !table.of_extension && subject.is_of_tenants(table)
}

fn writes(catalog: &Catalog, table: &Relation) -> bool {
    catalog.holds(table, "INSERT") || catalog.holds(table, "UPDATE")
}

/// Whether rows that refer are changed along: CASCADE, SET NULL, SET DEFAULT.
fn follows(action: &str) -> bool {
    matches!(action, "c" | "n" | "d")
}

fn across(subject: &Subject, table: &Relation, unique: &Unique) -> Option<Finding> {
    let key = subject.key_of(table);
    if key
        .iter()
        .all(|of| unique.columns.contains(&of.column.number))
    {
        return None;
    }
    let columns: Vec<_> = unique
        .columns
        .iter()
        .map(|number| table.columns.iter().find(|column| column.number == *number))
        .collect();
    // Nobody guesses a uuid, and a number that is counted up was not chosen.
    let is_guessed = columns
        .iter()
        .any(|column| column.is_none_or(|column| column.base_type != "uuid" && !column.is_counted));
    let why = format!(
        "its {} {} does not hold the tenant column: a conflict tells that another tenant has the value, \
         and keeps this one from it",
        match &*unique.kind {
            "p" => "primary key",
            "u" => "unique constraint",
            "x" => "exclusion constraint",
            _ => "unique index",
        },
        unique.display
    );
    let finding = Finding::new(UNIQUE, &table.display, why);
    let finding = match is_guessed {
        true => finding,
        false => finding.severity_of(Info),
    };
    if unique.referenced {
        return Some(
            finding.advise("add the tenant column to it; foreign keys that rest on it come first"),
        );
    }
    let missing = key
        .iter()
        .filter(|of| !unique.columns.contains(&of.column.number))
        .map(|of| &*of.column.display);
    let new = match &unique.definition {
        Some(definition) => with_columns(definition, missing),
        None => {
            let names = columns.into_iter().flatten();
            let names = missing.chain(names.map(|column| &*column.display));
            let names = names.collect::<Vec<_>>().join(", ");
            match &*unique.kind {
                "p" => format!("PRIMARY KEY ({names})"),
                "u" => format!("UNIQUE ({names})"),
                _ => format!("CREATE UNIQUE INDEX ON {} ({names})", table.display),
            }
        }
    };
    let (name, old) = (&table.display, &unique.display);
    Some(match &*unique.kind {
        "i" => finding
            .mend(format!("DROP INDEX {old};"))
            .mend(format!("{new};")),
        kind => {
            let finding = match kind {
                // Which has `=` of what is no range.
                "x" => finding.mend("CREATE EXTENSION IF NOT EXISTS btree_gist;"),
                _ => finding,
            };
            finding.mend(format!(
                "ALTER TABLE {name} DROP CONSTRAINT {old}, ADD CONSTRAINT {old} {new};"
            ))
        }
    })
}

/// A definition as the server writes it, with further columns in front of the others.
fn with_columns<'a>(definition: &str, columns: impl Iterator<Item = &'a str>) -> String {
    let is_exclusion = definition.starts_with("EXCLUDE");
    let columns: String = columns
        .map(|column| match is_exclusion {
            true => format!("{column} WITH =, "),
            false => format!("{column}, "),
        })
        .collect();
    // Names come before the list, and may hold what begins it.
    let mut is_quoted = false;
    let list = definition.find(|c| {
        is_quoted ^= c == '"';
        c == '(' && !is_quoted
    });
    let (before, behind) = definition.split_at(list.map_or(definition.len(), |at| at + 1));
    format!("{before}{columns}{behind}")
}

fn refers_across(
    catalog: &Catalog,
    subject: &Subject,
    child: &Relation,
    parent: &Relation,
    foreign_key: &ForeignKey,
) -> Option<Finding> {
    let (own, others) = (subject.key_of(child), subject.key_of(parent));
    let mut pairs = foreign_key
        .columns
        .iter()
        .zip(&foreign_key.referenced_columns);
    // As far as both have the key: an organisation's row may refer to one of its workspaces'.
    let key: Vec<_> = own.iter().zip(&others).collect();
    let is_held = key.iter().all(|(own, other)| {
        pairs
            .clone()
            .any(|(from, to)| (*from, *to) == (own.column.number, other.column.number))
    });
    if is_held {
        return None;
    }
    let what = match follows(&foreign_key.on_delete) {
        true => "and what that tenant deletes takes this row along, whatever policies say",
        false => {
            "and learns in that way which there are: foreign keys are checked without policies"
        }
    };
    let why = format!(
        "its foreign key {} does not hold the tenant column: a row of one tenant can refer to a row of \
         another in {}, {what}",
        foreign_key.display, parent.display
    );
    let finding = Finding::new(FOREIGN, &child.display, why);
    let name = |table: &Relation, number: i16| {
        let column = table.columns.iter().find(|column| column.number == number);
        column.map_or_else(String::new, |column| column.display.clone())
    };
    let mut from: Vec<_> = key
        .iter()
        .map(|(own, _)| own.column.display.clone())
        .collect();
    let mut to: Vec<_> = key
        .iter()
        .map(|(_, other)| other.column.display.clone())
        .collect();
    let mut kept = Vec::new();
    let mut target: BTreeSet<i16> = key.iter().map(|(_, other)| other.column.number).collect();
    for (column, referenced) in pairs.by_ref() {
        let is_key = key
            .iter()
            .any(|(own, other)| own.column.number == *column || other.column.number == *referenced);
        if !is_key {
            from.push(name(child, *column));
            to.push(name(parent, *referenced));
            kept.push(name(child, *column));
            target.insert(*referenced);
        }
    }
    let is_unique = catalog.uniques.iter().any(|unique| {
        unique.relation == parent.oid
            && !unique.partial
            && unique.kind != "x"
            && BTreeSet::from_iter(unique.columns.iter().copied()) == target
    });
    let (from, to) = (from.join(", "), to.join(", "));
    let finding = match is_unique {
        true => finding,
        false => finding.mend(format!("ALTER TABLE {} ADD UNIQUE ({to});", parent.display)),
    };
    let on_delete = match &*foreign_key.on_delete {
        "c" => " ON DELETE CASCADE".to_owned(),
        "r" => " ON DELETE RESTRICT".to_owned(),
        // Not the tenant column, from PostgreSQL 15 on.
        "n" if catalog.version >= 150_000 => format!(" ON DELETE SET NULL ({})", kept.join(", ")),
        "d" if catalog.version >= 150_000 => {
            format!(" ON DELETE SET DEFAULT ({})", kept.join(", "))
        }
        _ => String::new(),
    };
    let on_update = match &*foreign_key.on_update {
        "c" => " ON UPDATE CASCADE",
        _ => "",
    };
    let (name, constraint) = (&child.display, &foreign_key.display);
    // Rows that are there already are somebody's to look at. Partitioned tables know no NOT VALID.
    let (not_valid, advice) = match child.kind {
        Kind::PartitionedTable => (
            "",
            "it fails if there are rows that refer across tenants: look at them first".to_owned(),
        ),
        _ => (
            " NOT VALID",
            format!(
                "look for rows that refer across tenants, then ALTER TABLE {name} VALIDATE CONSTRAINT \
                 {constraint}"
            ),
        ),
    };
    let finding = finding.mend(format!(
        "ALTER TABLE {name} DROP CONSTRAINT {constraint}, ADD CONSTRAINT {constraint} \
         FOREIGN KEY ({from}) REFERENCES {} ({to}){on_delete}{on_update}{not_valid};",
        parent.display
    ));
    Some(finding.advise(advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_first_in_whatever_is_unique() {
        for (definition, expected) in [
            (
                "EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (open)",
                "EXCLUDE USING gist (firm WITH =, room WITH =, during WITH &&) WHERE (open)",
            ),
            (
                "UNIQUE (name) INCLUDE (id) DEFERRABLE",
                "UNIQUE (firm, name) INCLUDE (id) DEFERRABLE",
            ),
            (
                "CREATE UNIQUE INDEX \"a (\"\" b\" ON app.t USING btree (lower(name)) WHERE (x > 1)",
                "CREATE UNIQUE INDEX \"a (\"\" b\" ON app.t USING btree (firm, lower(name)) WHERE (x > 1)",
            ),
        ] {
            assert_eq!(with_columns(definition, ["firm"].into_iter()), expected);
        }
    }
}
