//! Views, materialized views, foreign tables and rules: what goes round policies.

use std::collections::{BTreeMap, BTreeSet};

use super::owners::{Caller, Owners, Rows};
use super::revoke;
use crate::audit::catalog::{Catalog, Command, Id, Kind, Relation};
use crate::audit::finding::Finding;
use crate::audit::predicate;
use crate::audit::rule::Rule;
use crate::audit::session::Session;
use crate::audit::severity::Severity::{Critical, High, Info};
use crate::audit::subject::Subject;
use crate::error::Error;

/// Functions that return a setting, with that setting.
type Helpers = BTreeMap<String, String>;

const PAGE: &str = "views";

const BYPASSES: Rule = Rule::new(
    PAGE,
    "view-bypasses-policies",
    Critical,
    "a view reads a table with the rights of an owner for whom its policies do not hold",
);
const NO_BARRIER: Rule = Rule::new(
    PAGE,
    "view-without-barrier",
    High,
    "a view holds rows back by itself and is no security barrier: a function of the caller's sees \
     them first",
);
const UNKNOWN: Rule = Rule::new(
    PAGE,
    "view-unknown",
    Critical,
    "a view shows a table that has no policies and says of no row whose it is",
);
const MATERIALIZED: Rule = Rule::new(
    PAGE,
    "view-materialized",
    Critical,
    "a materialized view holds the rows of all tenants, and can have no policies",
);
const FOREIGN_TABLE: Rule = Rule::new(
    PAGE,
    "foreign-table",
    High,
    "a foreign table can have no policies",
);
const RULE_WRITES: Rule = Rule::new(
    PAGE,
    "rule-copies-rows",
    High,
    "a rule carries rows of a table of tenants to where no policies are",
);

pub(super) const RULES: &[Rule] = &[
    BYPASSES,
    NO_BARRIER,
    UNKNOWN,
    MATERIALIZED,
    FOREIGN_TABLE,
    RULE_WRITES,
];

pub(super) async fn judge(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
    helpers: &Helpers,
    owners: &mut Owners<'_>,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for relation in catalog.own_relations() {
        if subject.is_global(relation) || !catalog.is_reachable(relation) {
            continue;
        }
        match relation.kind {
            Kind::View => {
                for behind in behind(catalog, relation) {
                    let (Some(owner), Some(table)) =
                        (behind.owner, catalog.relations.get(&behind.table))
                    else {
                        continue;
                    };
                    if subject.is_global(table) {
                        continue;
                    }
                    let shown = Shown {
                        view: relation,
                        table,
                        owner,
                        catalog,
                        subject,
                        helpers,
                    };
                    findings.extend(shown.judge(session, owners).await?);
                }
            }
            Kind::MaterializedView => materialized(catalog, subject, relation, &mut findings),
            Kind::ForeignTable => {
                let why = "it is granted, and row-level security cannot be enabled on it";
                let finding = Finding::new(FOREIGN_TABLE, &relation.display, why);
                findings.push(revoke(catalog, relation, finding));
            }
            _ => {}
        }
    }
    rules(catalog, subject, &mut findings);
    Ok(findings)
}

/// A table behind a view, and whose rights it is read with; `None`: those of who asks the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Behind {
    table: Id,
    owner: Option<Id>,
}

/// All of them, through views of views.
fn behind(catalog: &Catalog, view: &Relation) -> BTreeSet<Behind> {
    let rights = |view: &Relation, outer: Option<Id>| match view.has_option("security_invoker") {
        true => outer,
        false => Some(view.owner),
    };
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![(view.oid, rights(view, None))];
    while let Some((view, owner)) = open.pop() {
        if !seen.insert((view, owner)) {
            continue;
        }
        for read in catalog.views.get(&view).into_iter().flatten() {
            match catalog.relations.get(read) {
                Some(inner) if inner.kind == Kind::View => {
                    open.push((inner.oid, rights(inner, owner)));
                }
                Some(table) => {
                    found.insert(Behind {
                        table: table.oid,
                        owner,
                    });
                }
                // The server's own.
                None => {}
            }
        }
    }
    found
}

/// A table that a view shows in the name of an owner.
struct Shown<'a> {
    view: &'a Relation,
    table: &'a Relation,
    owner: Id,
    catalog: &'a Catalog,
    subject: &'a Subject,
    helpers: &'a Helpers,
}

impl Shown<'_> {
    async fn judge(
        &self,
        session: &mut Session,
        owners: &mut Owners<'_>,
    ) -> Result<Option<Finding>, Error> {
        let Self {
            view,
            table,
            catalog,
            subject,
            ..
        } = *self;
        let owner = catalog.role_display(self.owner);
        let is_of_tenants = subject.is_of_tenants(table);
        let commands: Vec<_> = Command::ALL
            .into_iter()
            .filter(|command| catalog.holds(view, command.privilege()))
            .collect();
        let writes = commands.iter().any(|command| command.writes());
        if !table.row_security {
            return Ok(match (is_of_tenants, self.is_bound()) {
                (true, true) if writes && !self.checks() => self.without_check(),
                (true, true) => self.without_barrier(),
                (true, false) => {
                    let why = format!(
                        "it shows {}, which has no row-level security, with the rights of {owner}",
                        table.display
                    );
                    let finding = Finding::new(BYPASSES, &view.display, why);
                    Some(revoke(catalog, view, finding))
                }
                (false, _) => {
                    let why = format!(
                        "it shows {}, which has no tenant column and no row-level security, with the \
                         rights of {owner}",
                        table.display
                    );
                    let finding = Finding::new(UNKNOWN, &view.display, why);
                    Some(
                        revoke(catalog, view, finding).advise(
                            "name the view or the table as a global one if it is everybody's",
                        ),
                    )
                }
            });
        }
        let rows = owners
            .rows(session, table, self.owner, Caller::View, &commands)
            .await?;
        let reads = format!("it reads {} with the rights of {owner}", table.display);
        let finding = |why: String| Finding::new(BYPASSES, &view.display, why);
        Ok(match rows {
            Rows::Held => None,
            Rows::Exempt(_) | Rows::Through(_) if self.is_bound() && writes && !self.checks() => {
                self.without_check()
            }
            Rows::Exempt(_) | Rows::Through(_) if self.is_bound() => self.without_barrier(),
            Rows::Exempt(why) => Some(self.invoke(catalog, finding(format!("{reads}, {why}")))),
            Rows::Through(witness) => {
                let why = format!(
                    "{reads}, for whom its policies are others: they let rows of other tenants through"
                );
                Some(self.invoke(catalog, finding(why).witnessed(witness)))
            }
            Rows::Unknown(why) => {
                let why = format!("{reads}, for whom its policies were not judged: {why}");
                Some(finding(why).severity_of(Info))
            }
        })
    }

    /// Whether the view holds the rows back by its own condition. It reads nothing else: what a view
    /// between them calls the tenant column may be another one.
    fn is_bound(&self) -> bool {
        let known = self.subject.known(self.table, self.helpers);
        let reads = self.catalog.views.get(&self.view.oid);
        let definition = self.catalog.definitions.get(&self.view.oid);
        reads.is_some_and(|reads| *reads == [self.table.oid])
            && definition.is_some_and(|definition| predicate::is_bound_view(definition, &known))
    }

    /// The rights of whoever asks, instead of the owner's.
    fn invoke(&self, catalog: &Catalog, finding: Finding) -> Finding {
        match catalog.version < 150_000 {
            true => revoke(catalog, self.view, finding)
                .advise("from PostgreSQL 15 a view can have the rights of who asks it"),
            false => finding.mend(format!(
                "ALTER VIEW {} SET (security_invoker = true);",
                self.view.display
            )),
        }
    }

    /// Whether what is written through the view has to meet its condition.
    fn checks(&self) -> bool {
        let mut options = self.view.options.iter();
        options.any(|option| option.starts_with("check_option="))
    }

    fn without_check(&self) -> Option<Finding> {
        let Self { view, table, .. } = self;
        let why = format!(
            "it holds rows of {} back when they are read, and takes those of other tenants when they are \
             written: it is not WITH CHECK OPTION",
            table.display
        );
        Some(Finding::new(BYPASSES, &view.display, why).mend(format!(
            "ALTER VIEW {} SET (check_option = cascaded);",
            view.display
        )))
    }

    fn without_barrier(&self) -> Option<Finding> {
        let Self { view, table, .. } = self;
        let why = format!(
            "it holds rows of {} back by itself, and whoever asks it can have a function of its own \
             called on each of them before",
            table.display
        );
        let finding = Finding::new(NO_BARRIER, &view.display, why).mend(format!(
            "ALTER VIEW {} SET (security_barrier = true);",
            view.display
        ));
        (!view.has_option("security_barrier")).then_some(finding)
    }
}

fn materialized(
    catalog: &Catalog,
    subject: &Subject,
    view: &Relation,
    findings: &mut Vec<Finding>,
) {
    let of_tenants = behind(catalog, view)
        .into_iter()
        .filter_map(|behind| catalog.relations.get(&behind.table))
        .find(|table| !subject.is_global(table));
    let Some(table) = of_tenants else { return };
    let why = format!(
        "it holds rows of {} as they were, for all to read",
        table.display
    );
    let finding = Finding::new(MATERIALIZED, &view.display, why);
    findings.push(revoke(catalog, view, finding).advise(format!(
        "show it through a view WITH (security_barrier) that compares the tenant column with the \
         context; name {} as a global table if it is everybody's",
        view.display
    )));
}

fn rules(catalog: &Catalog, subject: &Subject, findings: &mut Vec<Finding>) {
    for rule in &catalog.rewrites {
        let Some(table) = catalog.relations.get(&rule.relation) else {
            continue;
        };
        let is_view = table.kind == Kind::View;
        let is_judged = subject.is_of_tenants(table) || is_view && catalog.is_writable(table);
        if !is_judged {
            continue;
        }
        let others = rule
            .others
            .iter()
            .filter_map(|oid| catalog.relations.get(oid));
        let open: Vec<_> = others
            .filter(|other| {
                // What its owner may see and write is what the owner of the table or view may.
                let is_open = !(subject.is_of_tenants(other) && other.row_security)
                    || catalog.is_exempt(table.owner, other);
                other.kind.has_rows() && !subject.is_global(other) && is_open
            })
            .map(|other| other.display.as_str())
            .collect();
        if open.is_empty() {
            continue;
        }
        let why = format!(
            "its rule {} reaches {} with the rights of the owner",
            rule.display,
            open.join(", ")
        );
        findings.push(
            Finding::new(RULE_WRITES, &table.display, why)
                .mend(format!("DROP RULE {} ON {};", rule.display, table.display)),
        );
    }
}
