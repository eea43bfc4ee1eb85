//! What makes statements slow because policies hold. Nothing leaks by it.

use std::collections::BTreeMap;

use crate::audit::catalog::{Catalog, Index, Relation};
use crate::audit::finding::Finding;
use crate::audit::predicate;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::Info;
use crate::audit::subject::Subject;

const PAGE: &str = "performance";

const PER_ROW: Rule = Rule::new(
    PAGE,
    "performance-call-per-row",
    Info,
    "a policy asks for the context again for each row",
);
const NO_INDEX: Rule = Rule::new(
    PAGE,
    "performance-no-tenant-index",
    Info,
    "a table of tenants has no index that begins with the tenant column",
);
const UNUSABLE: Rule = Rule::new(
    PAGE,
    "performance-index-not-leakproof",
    Info,
    "an index is not used where policies hold: its functions or operators are not leakproof",
);

pub(super) const RULES: &[Rule] = &[PER_ROW, NO_INDEX, UNUSABLE];

pub(super) fn judge(
    catalog: &Catalog,
    subject: &Subject,
    helpers: &BTreeMap<String, String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut indexes: BTreeMap<_, Vec<&Index>> = BTreeMap::new();
    for index in &catalog.indexes {
        indexes.entry(index.relation).or_default().push(index);
    }
    let reached = subject
        .tables(catalog)
        .filter(|table| table.row_security && catalog.is_reachable(table));
    for table in reached {
        // A part has the policies of what it is reached by, and its indexes are copies.
        if !table.parents.is_empty() {
            continue;
        }
        let indexes = indexes.get(&table.oid).map_or(&[][..], Vec::as_slice);
        findings.extend(per_row(catalog, table, helpers));
        findings.extend(no_index(subject, table, indexes));
        findings.extend(
            indexes
                .iter()
                .filter_map(|index| unusable(subject, table, index)),
        );
    }
    findings
}

fn per_row(
    catalog: &Catalog,
    table: &Relation,
    helpers: &BTreeMap<String, String>,
) -> Option<Finding> {
    let policies = catalog.policies.get(&table.oid)?;
    let call = policies
        .iter()
        .filter_map(|policy| policy.using.as_deref())
        .find_map(|using| predicate::called_per_row(using, helpers))?;
    let why =
        format!("a policy calls {call} for each row that is looked at without an index by tenant");
    Some(Finding::new(PER_ROW, &table.display, why).advise(format!(
        "write (SELECT {call}) in its place: it is evaluated once for each statement"
    )))
}

fn no_index(subject: &Subject, table: &Relation, indexes: &[&Index]) -> Option<Finding> {
    let first = subject.key_of(table).into_iter().next()?.column;
    let is_there = indexes
        .iter()
        .any(|index| index.columns.first() == Some(&first.number));
    let why = format!(
        "no index begins with {}: to find the rows of one tenant those of all are read",
        first.display
    );
    let finding = Finding::new(NO_INDEX, &table.display, why)
        .mend(format!(
            "CREATE INDEX ON {} ({});",
            table.display, first.display
        ))
        .advise("CREATE INDEX CONCURRENTLY does not keep others from writing");
    (!is_there).then_some(finding)
}

fn unusable(subject: &Subject, table: &Relation, index: &Index) -> Option<Finding> {
    let key = subject.key_of(table);
    // Policies themselves may ask with what is not leakproof: nothing is hidden from them.
    let classes: Vec<_> = index
        .columns
        .iter()
        .zip(&index.classes)
        .filter(|(number, _)| !key.iter().any(|of| of.column.number == **number))
        .filter_map(|(_, class)| class.as_deref())
        .collect();
    let mut what = Vec::new();
    if !index.functions.is_empty() {
        what.push(format!("it calls {}", index.functions.join(", ")));
    }
    if !classes.is_empty() {
        what.push(format!(
            "what it is asked with is not leakproof ({})",
            classes.join(", ")
        ));
    }
    if what.is_empty() {
        return None;
    }
    let why = format!(
        "{}: under the policies of {} such a condition is asked of each row of the tenant instead, \
         whatever else the statement says",
        what.join(", and "),
        table.display
    );
    let advice = match () {
        () if classes.iter().any(|class| class.contains("pattern_ops")) => {
            "ask with column ^@ 'beginning' (from PostgreSQL 15 on) instead of LIKE: that is leakproof \
             and uses it"
        }
        () => {
            "keep what is asked for in a column, GENERATED ALWAYS AS (..) STORED, of a type whose = is \
             leakproof (text, integers, uuid, timestamps), and index that behind the tenant column"
        }
    };
    Some(Finding::new(UNUSABLE, &index.display, why).advise(advice))
}
