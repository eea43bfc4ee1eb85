//! Policies: what they let through.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::audit::catalog::{Catalog, Command, Relation};
use crate::audit::finding::Finding;
use crate::audit::predicate::{self, Answers, Effective, Evaluated, Passed};
use crate::audit::rule::Rule;
use crate::audit::samples::{Context, Whose};
use crate::audit::session::Session;
use crate::audit::severity::Severity::{Critical, High, Info, Medium};
use crate::audit::subject::Subject;
use crate::audit::unseen::Unseen;
use crate::error::Error;
use crate::quote;

const PAGE: &str = "policies";

const READS: Rule = Rule::new(
    PAGE,
    "policy-lets-foreign-rows-through",
    Critical,
    "the policies of a table let a row of another tenant through",
);
const WRITES: Rule = Rule::new(
    PAGE,
    "policy-lets-foreign-rows-be-written",
    High,
    "the policies of a table let a row be written for another tenant",
);
const EMPTY: Rule = Rule::new(
    PAGE,
    "policy-empty-tenant",
    High,
    "without a context, rows of the tenant '' pass: that is what is left of a setting when its \
     transaction is over",
);
const NOBODY: Rule = Rule::new(
    PAGE,
    "policy-lets-nobodys-rows-be-written",
    Medium,
    "the policies of a table let a row be written that is nobody's",
);
const TRUSTS: Rule = Rule::new(
    PAGE,
    "policy-trusts-writable-table",
    High,
    "a policy asks a table that the application role may write: it can let itself in",
);
const NOT_PROVEN: Rule = Rule::new(
    PAGE,
    "policy-not-proven",
    Info,
    "nobody can tell whether the policies of a table hold rows back",
);

pub(super) const RULES: &[Rule] = &[READS, WRITES, EMPTY, NOBODY, TRUSTS, NOT_PROVEN];

/// By form first; what is not known by its form is evaluated.
pub(super) async fn judge(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
    answers: &Answers,
    unseen: &mut Vec<Unseen>,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let unknown = catalog.own_relations().filter(|table| {
        table.kind.is_table()
            && table.row_security
            && !subject.is_global(table)
            && !subject.is_of_tenants(table)
    });
    for table in unknown {
        without_tenant(catalog, table, &mut findings);
        trusts(catalog, subject, table, &mut findings);
    }
    let mut evaluations: BTreeMap<String, Evaluated> = BTreeMap::new();
    for table in subject.tables(catalog).filter(|table| table.row_security) {
        if catalog.reach.contains(table.owner) && !table.forced {
            // No policy holds for its owner: that is said of the role.
            continue;
        }
        let known = subject.known(table, &answers.helpers);
        let all = predicate::effective(catalog, table);
        let open: Vec<_> = all
            .iter()
            .filter(|effective| !predicate::is_bound(&effective.predicate, &known))
            .collect();
        if !open.is_empty() {
            // The same policies on columns of the same types let the same through.
            let alike = alike(catalog, subject, table, &open);
            let evaluated = match evaluations.entry(alike) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    new.insert(predicate::evaluate(session, catalog, subject, table, &open).await?)
                }
            };
            match &*evaluated {
                Evaluated::Passed(passed) => {
                    let count = findings.len();
                    through(subject, table, &open, passed, &mut findings);
                    let is_proven = findings[count..].iter().any(|f| f.rule() == READS);
                    if !is_proven {
                        findings.extend(suspected(
                            catalog,
                            subject,
                            table,
                            &open,
                            &answers.defaulting,
                        ));
                    }
                }
                Evaluated::NotJudged(why) => findings.push(not_proven(table, &open, why)),
                Evaluated::NotAllowed => unseen.push(not_allowed(catalog, table)),
            }
        }
        trusts(catalog, subject, table, &mut findings);
    }
    Ok(findings)
}

/// All of a table that an evaluation depends on: tables of which this is the same need one of them.
fn alike(catalog: &Catalog, subject: &Subject, table: &Relation, open: &[&Effective]) -> String {
    let own = format!("{}.", quote::identifier(&table.name));
    let plain = format!("{}.", table.name);
    let texts = open.iter().map(|effective| {
        // In a sub-select the server writes the table in front of its columns.
        let text = effective.predicate.replace(&own, "\0.");
        let text = text.replace(&plain, "\0.");
        format!("{:?} {:?} {text}", effective.role, effective.commands)
    });
    let policies = catalog.policies.get(&table.oid).into_iter().flatten();
    let numbers: BTreeSet<_> = policies
        .flat_map(|policy| policy.columns.iter().copied())
        .chain(subject.key_of(table).iter().map(|of| of.column.number))
        .collect();
    let columns = table.columns.iter().map(|column| {
        let used = numbers.contains(&column.number).then_some(&column.name);
        let checks = &column.domain_checks;
        used.map(|name| format!("{name:?} {} {} {checks}", column.type_name, column.not_null))
    });
    let key = subject.key_of(table);
    let settings = key
        .iter()
        .map(|of| format!("{} {}", of.column.name, of.setting));
    let parts = texts
        .chain(columns.flatten())
        .chain(settings)
        .chain(table.checks.iter().cloned());
    parts.collect::<Vec<_>>().join("\n")
}

/// Rows that nobody can make up pass: of a tenant that a function takes where there is none, or of
/// all for whom a policy lets in without a look at the row.
fn suspected(
    catalog: &Catalog,
    subject: &Subject,
    table: &Relation,
    open: &[&Effective],
    defaulting: &[String],
) -> Option<Finding> {
    let defaults = defaulting.iter().find(|call| {
        let called = |effective: &&Effective| effective.predicate.contains(call.as_str());
        open.iter().any(called)
    });
    let why = match (defaults, blind(catalog, table, open)) {
        (Some(call), _) => format!(
            "without a context {call} answers with a tenant all the same, whose rows everybody sees then"
        ),
        (None, Some(commands)) => format!(
            "a policy for {} looks at no column of a row: whoever it lets in sees those of all tenants",
            listed(&commands)
        ),
        (None, None) => return None,
    };
    let comparison = subject.comparison(table);
    let finding = Finding::new(READS, &table.display, why).mend(format!(
        "CREATE POLICY tenant_isolation_always ON {} AS RESTRICTIVE FOR ALL TO PUBLIC \
         USING ({comparison}) WITH CHECK ({comparison});",
        table.display
    ));
    Some(finding.advise("if such rows are meant to be seen, allow this finding and say by whom"))
}

/// The uses for which a permissive policy lets rows through, whichever they are, and no restrictive
/// one looks at them.
fn blind(catalog: &Catalog, table: &Relation, open: &[&Effective]) -> Option<Vec<Command>> {
    let policies = catalog.policies.get(&table.oid)?;
    let mut commands = Vec::new();
    for effective in open {
        for command in &effective.commands {
            let mut applying = policies.iter().filter(|policy| {
                catalog.applies(policy, effective.role) && command.expression(policy).is_some()
            });
            let looks = |policy: &crate::audit::catalog::Policy| !policy.columns.is_empty();
            if applying
                .clone()
                .any(|policy| !policy.permissive && looks(policy))
            {
                continue;
            }
            let is_blind = applying.any(|policy| {
                policy.permissive && !looks(policy) && command.expression(policy) != Some("false")
            });
            if is_blind && !commands.contains(command) {
                commands.push(*command);
            }
        }
    }
    (!commands.is_empty()).then_some(commands)
}

/// A table that has policies and no tenant column.
fn without_tenant(catalog: &Catalog, table: &Relation, findings: &mut Vec<Finding>) {
    if !catalog.is_reachable(table) || catalog.reach.contains(table.owner) && !table.forced {
        return;
    }
    let all = predicate::effective(catalog, table);
    let open: Vec<_> = all
        .iter()
        .filter(|of| of.predicate != "((false))")
        .collect();
    if open.is_empty() {
        return;
    }
    findings.push(match blind(catalog, table, &open) {
        Some(commands) => {
            let why = format!(
                "it has no tenant column, and a policy for {} looks at no column of a row: whoever it lets \
                 in sees all",
                listed(&commands)
            );
            super::revoke(catalog, table, Finding::new(READS, &table.display, why)).advise(
                "name it as a global table if it is everybody's; else give it the tenant column, or \
                 a policy that asks a table which has it for the row that this one belongs to",
            )
        }
        None => not_proven(table, &open, "it has no tenant column"),
    });
}

fn through(
    subject: &Subject,
    table: &Relation,
    open: &[&Effective],
    passed: &[Passed],
    findings: &mut Vec<Finding>,
) {
    // The first witness of each.
    let mut found: BTreeMap<&str, (Rule, &Passed, Vec<Command>)> = BTreeMap::new();
    for one in passed {
        let is_own = one.context == Context::Own;
        for command in &one.commands {
            let rule = match (one.whose, command.writes()) {
                (Whose::Own, _) if is_own => continue,
                (Whose::Own | Whose::Foreign, false) => READS,
                (Whose::Own | Whose::Foreign, true) => WRITES,
                (Whose::Empty, _) => EMPTY,
                (Whose::Nobody, true) => NOBODY,
                // A row of nobody that all see may be meant.
                (Whose::Nobody, false) => continue,
            };
            let (_, _, commands) = found
                .entry(rule.id())
                .or_insert_with(|| (rule, one, Vec::new()));
            if !commands.contains(command) {
                commands.push(*command);
            }
        }
    }
    for (rule, witness, commands) in found.into_values() {
        let why = format!("its policies let it through for {}", listed(&commands));
        let comparison = subject.comparison(table);
        findings.push(
            Finding::new(rule, &table.display, why)
                .witnessed(format!(
                    "the row {} passes {}",
                    witness.document,
                    witness.context.words()
                ))
                .mend(format!(
                    "CREATE POLICY tenant_isolation_always ON {} AS RESTRICTIVE FOR ALL TO PUBLIC \
                     USING ({comparison}) WITH CHECK ({comparison});",
                    table.display
                ))
                .advise("if such rows are meant to be everybody's, allow this finding and say so"),
        );
    }
    let silent: Vec<_> = open
        .iter()
        .copied()
        .filter(|effective| {
            !passed
                .iter()
                .any(|passed| passed.whose == Whose::Own && passed.commands == effective.commands)
        })
        .collect();
    if !silent.is_empty() {
        findings.push(not_proven(
            table,
            &silent,
            "no row that was made up passes, not even the tenant's own: it may take rows of other \
             tables, or a user",
        ));
    }
}

fn not_proven(table: &Relation, open: &[&Effective], why: &str) -> Finding {
    let commands: Vec<_> = open
        .iter()
        .flat_map(|effective| effective.commands.iter().copied())
        .collect();
    Finding::new(
        NOT_PROVEN,
        &table.display,
        format!(
            "its policies for {} were not judged: {why}",
            listed(&commands)
        ),
    )
    .advise("compare the tenant column with the context in a policy of its own, AS RESTRICTIVE")
}

/// What is not bound by its form alone is asked of the server as the application role, and of nobody
/// else: with the auditor's rights a policy could let through what it never does, or the reverse.
fn not_allowed(catalog: &Catalog, table: &Relation) -> Unseen {
    let roles: Vec<_> = catalog
        .reach
        .own()
        .map(|role| catalog.role_display(role))
        .collect();
    Unseen::new(
        &table.display,
        format!(
            "its policies have to be evaluated, and the auditor's role may not become the \
             application role: GRANT {} TO the role that audits",
            roles.join(", ")
        ),
    )
}

/// Who may write what a policy asks can answer for it.
fn trusts(catalog: &Catalog, subject: &Subject, table: &Relation, findings: &mut Vec<Finding>) {
    let policies = catalog.policies.get(&table.oid).into_iter().flatten();
    let mut asked: Vec<_> = policies.flat_map(|policy| policy.asks.iter()).collect();
    asked.sort_unstable();
    asked.dedup();
    for asked in asked
        .into_iter()
        .filter_map(|oid| catalog.relations.get(oid))
    {
        // What is the tenant's own it may say for itself: its policies are judged where they are.
        if subject.is_of_tenants(asked) && asked.row_security {
            continue;
        }
        let held: Vec<_> = ["INSERT", "UPDATE", "DELETE"]
            .into_iter()
            .filter(|privilege| catalog.holds(asked, privilege))
            .collect();
        if held.is_empty() {
            continue;
        }
        let finding = Finding::new(
            TRUSTS,
            &table.display,
            format!(
                "a policy asks {}, and those who serve tenants may {} that",
                asked.display,
                held.join(", ")
            ),
        );
        let finding = catalog
            .grantees()
            .into_iter()
            .fold(finding, |finding, grantee| {
                let of_grantee: Vec<_> = catalog
                    .held(asked)
                    .filter(|grant| grant.grantee == grantee && held.contains(&&*grant.privilege))
                    .map(|grant| grant.privilege.as_str())
                    .collect();
                match of_grantee.is_empty() {
                    true => finding,
                    false => finding.mend(format!(
                        "REVOKE {} ON {} FROM {};",
                        of_grantee.join(", "),
                        asked.display,
                        catalog.role_display(grantee)
                    )),
                }
            });
        findings.push(finding);
    }
}

fn listed(commands: &[Command]) -> String {
    let mut names: Vec<_> = commands
        .iter()
        .map(|command| match command {
            Command::UpdateTo => "what an UPDATE makes",
            other => other.privilege(),
        })
        .collect();
    names.dedup();
    names.join(", ")
}
