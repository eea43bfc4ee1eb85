//! What got across, and which finding it belongs to.

use std::collections::BTreeMap;

use super::asking::Asking;
use super::{LEARNS, READS, REFERS, WRITES};
use crate::audit::catalog::{Catalog, Id};
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::samples::Context;

/// What was done to a row of another tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deed {
    Read,
    /// Made, changed or removed.
    Written,
    /// All of a table's, at once.
    Emptied,
    ReferredTo,
    LearnedOf,
}

#[derive(Clone, Debug)]
pub(super) struct Crossing {
    /// As findings name it.
    pub(super) object: String,
    /// The relation, if it is one.
    pub(super) relation: Option<Id>,
    pub(super) deed: Deed,
    /// What was tried.
    pub(super) what: String,
    pub(super) context: Context,
}

/// All of them, those of one object together.
#[derive(Debug, Default)]
pub(super) struct Crossings {
    all: BTreeMap<(String, Deed, Option<String>), Together>,
}

#[derive(Debug, Default)]
struct Together {
    relation: Option<Id>,
    /// By who asked, what in which context.
    ways: BTreeMap<String, Vec<(Context, Vec<String>)>>,
}

impl Crossings {
    pub(super) fn add(&mut self, asking: Asking<'_>, crossing: Crossing) {
        // Above policies it is the role that is wrong, and not each table.
        let role = asking
            .is_above_policies()
            .then(|| asking.role().display.clone());
        let key = (crossing.object, crossing.deed, role);
        let together = self.all.entry(key).or_default();
        together.relation = crossing.relation;
        let ways = together.ways.entry(asking.words()).or_default();
        match ways
            .iter_mut()
            .find(|(context, _)| *context == crossing.context)
        {
            Some((_, whats)) if whats.contains(&crossing.what) => {}
            Some((_, whats)) => whats.push(crossing.what),
            None => ways.push((crossing.context, vec![crossing.what])),
        }
    }

    /// One finding for each hole: what the catalog told already gets the witness.
    pub(super) fn join(self, catalog: &Catalog, findings: &mut Vec<Finding>) {
        for ((object, deed, role), together) in self.all {
            let witness = format!("the probe, {}", together.words(&object, deed));
            let of_role = role.and_then(|role| known(findings, ROLES, &role));
            let of_itself = || known(findings, deed.known_as(), &object);
            // What a view shows is let through by a table behind it.
            let of_what_is_behind = || {
                let mut behind = together
                    .relation
                    .into_iter()
                    .flat_map(|view| behind(catalog, view));
                behind.find_map(|table| known(findings, deed.known_as(), table))
            };
            match of_role.or_else(of_itself).or_else(of_what_is_behind) {
                Some(number) => findings[number].witness_also(witness),
                None => findings.push(
                    Finding::new(deed.rule(), object, deed.why())
                        .witnessed(witness)
                        .advise(
                            "the catalog does not tell why: look at what the statement of the witness \
                             goes through",
                        ),
                ),
            }
        }
    }
}

impl Together {
    fn words(&self, object: &str, deed: Deed) -> String {
        let in_context = |(context, whats): &(Context, Vec<String>)| {
            format!("{} {}", whats.join(", "), context.words())
        };
        let ways = self.ways.iter().map(|(who, ways)| {
            let ways: Vec<_> = ways.iter().map(in_context).collect();
            format!("{who}: {}", ways.join("; "))
        });
        let ways: Vec<_> = ways.collect();
        format!("{} {object} {}", deed.words(), ways.join("; "))
    }
}

impl Deed {
    /// The rules by which the catalog tells the same hole, the nearest first.
    fn known_as(self) -> &'static [&'static str] {
        match self {
            Self::Read => READ,
            Self::Written => WRITTEN,
            Self::Emptied => &["privilege-truncate", "role-owns-table"],
            Self::ReferredTo => &["foreign-key-across-tenants"],
            Self::LearnedOf => &["key-across-tenants"],
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Read => "was shown a row of another tenant by",
            Self::Written => "wrote a row of another tenant by way of",
            Self::Emptied => "emptied",
            Self::ReferredTo => "made its own row refer to one of another tenant in",
            Self::LearnedOf => "was told that another tenant has a value in",
        }
    }

    fn why(self) -> &'static str {
        match self {
            Self::Read => "it showed the application role a row of another tenant",
            Self::Written | Self::Emptied => {
                "the application role made, changed or removed a row of another tenant in it"
            }
            Self::ReferredTo => "it took a row of one tenant that refers to one of another",
            Self::LearnedOf => "a conflict in it told that another tenant has the value",
        }
    }

    fn rule(self) -> Rule {
        match self {
            Self::Read => READS,
            Self::Written | Self::Emptied => WRITES,
            Self::ReferredTo => REFERS,
            Self::LearnedOf => LEARNS,
        }
    }
}

const ROLES: &[&str] = &["role-superuser", "role-bypasses-rls"];

const READ: &[&str] = &[
    "table-rls-disabled",
    "table-partition-open",
    "table-unknown",
    "view-bypasses-policies",
    "view-materialized",
    "view-unknown",
    "foreign-table",
    "function-bypasses-policies",
    "policy-lets-foreign-rows-through",
    "policy-empty-tenant",
    "role-owns-table",
];

const WRITTEN: &[&str] = &[
    "table-rls-disabled",
    "table-partition-open",
    "table-unknown",
    "view-bypasses-policies",
    "view-unknown",
    "foreign-table",
    "function-bypasses-policies",
    "policy-lets-foreign-rows-be-written",
    "policy-lets-foreign-rows-through",
    "rule-copies-rows",
    "role-owns-table",
];

/// The finding of one of these rules at an object.
fn known(findings: &[Finding], rules: &[&str], object: &str) -> Option<usize> {
    rules.iter().find_map(|rule| {
        findings
            .iter()
            .position(|finding| finding.rule().id() == *rule && finding.object() == object)
    })
}

/// What a view reads, through other views.
fn behind(catalog: &Catalog, view: Id) -> Vec<&str> {
    let mut found = vec![view];
    let mut next = 0;
    while let Some(view) = found.get(next) {
        let read = catalog.views.get(view).into_iter().flatten();
        let new: Vec<_> = read.filter(|oid| !found.contains(oid)).copied().collect();
        found.extend(new);
        next += 1;
    }
    let relations = found[1..].iter();
    relations
        .filter_map(|oid| Some(catalog.relations.get(oid)?.display.as_str()))
        .collect()
}
