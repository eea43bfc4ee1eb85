//! Tables: which have policies, which should, and for whom these hold.

use super::revoke;
use crate::audit::catalog::{Catalog, Command, Kind, Relation};
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{Critical, High, Info};
use crate::audit::subject::Subject;
use crate::sql::own;

const PAGE: &str = "tables";

const RLS_DISABLED: Rule = Rule::new(
    PAGE,
    "table-rls-disabled",
    Critical,
    "a table of tenants has no row-level security: whoever may read it reads everybody's rows",
);
const NOT_FORCED: Rule = Rule::new(
    PAGE,
    "table-rls-not-forced",
    High,
    "the policies of a table do not hold for its owner, and so not for what runs with its rights",
);
const NO_POLICY: Rule = Rule::new(
    PAGE,
    "table-no-policy",
    Info,
    "a privilege that no policy lets anybody use: no row passes",
);
const PARTITION: Rule = Rule::new(
    PAGE,
    "table-partition-open",
    Critical,
    "a partition or an inheritance child is granted by itself: the policies of its parent do not hold \
     for it",
);
const UNKNOWN: Rule = Rule::new(
    PAGE,
    "table-unknown",
    Critical,
    "a table that the application role reaches says of no row whose it is",
);
const NULLABLE: Rule = Rule::new(PAGE, "table-tenant-nullable", Info, "a row can be nobody's");

pub(super) const RULES: &[Rule] = &[
    RLS_DISABLED,
    NOT_FORCED,
    NO_POLICY,
    PARTITION,
    UNKNOWN,
    NULLABLE,
];

pub(super) fn judge(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tables = catalog
        .own_relations()
        .filter(|table| table.kind.is_table());
    for table in tables.filter(|table| !subject.is_global(table)) {
        let is_of_tenants = subject.is_of_tenants(table);
        match (is_of_tenants, table.row_security) {
            _ if !catalog.is_reachable(table) => {}
            (true, false) => without_policies(catalog, subject, table, &mut findings),
            (false, false) => unknown(catalog, subject, table, &mut findings),
            (true, true) => silent_commands(catalog, table, &mut findings),
            // Its policies say whose a row is, by other tables: they are judged as policies.
            (false, true) => {}
        }
        if is_of_tenants && table.row_security && !table.forced && !subject.is_of_this_crate(table)
        {
            not_forced(catalog, table, &mut findings);
        }
        if is_of_tenants {
            nullable(subject, table, &mut findings);
        }
    }
    findings
}

fn without_policies(
    catalog: &Catalog,
    subject: &Subject,
    table: &Relation,
    findings: &mut Vec<Finding>,
) {
    let parent = protecting_parent(catalog, table);
    let (rule, why) = match parent {
        Some(parent) => (
            PARTITION,
            format!(
                "it is a part of {}, whose policies do not hold when it is named by itself",
                parent.display
            ),
        ),
        None => (RLS_DISABLED, policies_at_rest(catalog, table)),
    };
    let finding = Finding::new(rule, &table.display, why);
    // Nobody needs to name a part: through its parent it is reached with the parent's privileges.
    findings.push(match parent {
        Some(_) => protect(catalog, subject, table, revoke(catalog, table, finding)),
        None => protect(catalog, subject, table, finding),
    });
}

fn policies_at_rest(catalog: &Catalog, table: &Relation) -> String {
    match catalog.policies.contains_key(&table.oid) {
        true => {
            "it has policies, and row-level security is not enabled: they do nothing".to_owned()
        }
        false => "row-level security is not enabled on it".to_owned(),
    }
}

/// Enables, forces, and adds policies where there are none.
fn protect(catalog: &Catalog, subject: &Subject, table: &Relation, finding: Finding) -> Finding {
    let name = &table.display;
    let finding = finding.mend(format!(
        "ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
    ));
    if catalog.policies.contains_key(&table.oid) {
        return finding;
    }
    let comparison = subject.comparison(table);
    finding.mend(format!(
        "CREATE POLICY tenant_isolation ON {name} FOR ALL TO PUBLIC USING ({comparison}) \
         WITH CHECK ({comparison});"
    ))
}

/// What it is a part of, if that has policies.
fn protecting_parent<'a>(catalog: &'a Catalog, table: &Relation) -> Option<&'a Relation> {
    let mut open = table.parents.clone();
    while let Some(parent) = open.pop() {
        let parent = catalog.relations.get(&parent)?;
        if parent.row_security {
            return Some(parent);
        }
        open.extend(&parent.parents);
    }
    None
}

fn unknown(catalog: &Catalog, subject: &Subject, table: &Relation, findings: &mut Vec<Finding>) {
    if protecting_parent(catalog, table).is_some() {
        return without_policies(catalog, subject, table, findings);
    }
    let finding = Finding::new(
        UNKNOWN,
        &table.display,
        "it has no tenant column and no row-level security, and is not among the tables of the \
         configuration that all tenants read",
    );
    findings.push(revoke(catalog, table, finding).advise(
        "name it as a global table if it is everybody's; else give it the tenant column, a foreign \
         key that holds it, and policies",
    ));
}

fn silent_commands(catalog: &Catalog, table: &Relation, findings: &mut Vec<Finding>) {
    let policies = catalog
        .policies
        .get(&table.oid)
        .map_or(&[][..], Vec::as_slice);
    for command in Command::ALL {
        let privilege = command.privilege();
        let lets_any = policies
            .iter()
            .any(|policy| policy.permissive && command.expression(policy).is_some());
        if command == Command::UpdateTo || lets_any || !catalog.holds(table, privilege) {
            continue;
        }
        findings.push(Finding::new(
            NO_POLICY,
            &table.display,
            format!("{privilege} is granted on it, and no policy lets a row through for that"),
        ));
    }
}

fn not_forced(catalog: &Catalog, table: &Relation, findings: &mut Vec<Finding>) {
    // Who serves tenants owns it: that is said of the role. And the functions that write the tables of
    // this crate do so with their owner's rights.
    if catalog.reach.contains(table.owner)
        || catalog.is_of_this_crate(table.schema, &table.name, &own::TABLES)
    {
        return;
    }
    let owner = catalog.role_display(table.owner);
    let above = catalog.is_above_policies(table.owner);
    let why = match above {
        true => format!("its owner {owner} is above policies anyway, forced or not"),
        false => format!("its policies do not hold for its owner {owner}"),
    };
    findings.push(
        Finding::new(NOT_FORCED, &table.display, why)
            .severity_of(Info)
            .mend(format!(
                "ALTER TABLE {} FORCE ROW LEVEL SECURITY;",
                table.display
            )),
    );
}

fn nullable(subject: &Subject, table: &Relation, findings: &mut Vec<Finding>) {
    if table.kind == Kind::PartitionedTable || !table.parents.is_empty() {
        return;
    }
    for of in subject
        .key_of(table)
        .iter()
        .filter(|of| !of.column.not_null)
    {
        findings.push(
            Finding::new(
                NULLABLE,
                &table.display,
                format!("its column {} may be NULL", of.column.display),
            )
            .mend(format!(
                "ALTER TABLE {} ALTER {} SET NOT NULL;",
                table.display, of.column.display
            )),
        );
    }
}
