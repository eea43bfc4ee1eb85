//! What is granted on tables, sequences, schemas and the database that no policy restrains.

use crate::audit::catalog::{Catalog, Grant, Id, Kind, Relation};
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{High, Info, Low, Medium};
use crate::audit::subject::Subject;

const PAGE: &str = "privileges";

const TRUNCATE: Rule = Rule::new(
    PAGE,
    "privilege-truncate",
    High,
    "TRUNCATE empties a table of every tenant's rows: no policy holds for it",
);
const TRIGGER: Rule = Rule::new(
    PAGE,
    "privilege-trigger",
    High,
    "TRIGGER lets a tenant's statement leave code that runs in the sessions of others",
);
const REFERENCES: Rule = Rule::new(
    PAGE,
    "privilege-references",
    Low,
    "REFERENCES lets whoever makes a table ask which keys there are: policies do not hold for \
     foreign keys",
);
pub(super) const MAINTAIN: Rule = Rule::new(
    PAGE,
    "privilege-maintain",
    Low,
    "MAINTAIN lets a tenant's statement lock a table for everybody",
);
const PUBLIC_TABLE: Rule = Rule::new(
    PAGE,
    "privilege-public",
    Medium,
    "a table of tenants is granted to PUBLIC: whoever logs in reaches it in a context of its choice",
);
const DEFAULT_PRIVILEGES: Rule = Rule::new(
    PAGE,
    "privilege-default",
    Medium,
    "what is made later is the application role's before anybody thinks of policies",
);
const SCHEMA_CREATE: Rule = Rule::new(
    PAGE,
    "privilege-schema-create",
    High,
    "the application role may make objects in a schema: they can stand in front of those that \
     statements and functions mean",
);
const TEMPORARY: Rule = Rule::new(
    PAGE,
    "privilege-temporary",
    Info,
    "the application role may make temporary tables, which outlive a transaction and stand in front \
     of real ones",
);
const GLOBAL_WRITABLE: Rule = Rule::new(
    PAGE,
    "privilege-global-write",
    Medium,
    "a table that all tenants read can be written by each of them",
);
const SEQUENCE: Rule = Rule::new(
    PAGE,
    "privilege-sequence",
    Low,
    "the state of a sequence that tenants share tells how much others do",
);

pub(super) const RULES: &[Rule] = &[
    TRUNCATE,
    TRIGGER,
    REFERENCES,
    MAINTAIN,
    PUBLIC_TABLE,
    DEFAULT_PRIVILEGES,
    SCHEMA_CREATE,
    TEMPORARY,
    GLOBAL_WRITABLE,
    SEQUENCE,
];

/// Of what holds the rows of tenants, and of what is common to them.
pub(super) fn judge(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for relation in catalog.own_relations() {
        match relation.kind {
            Kind::Sequence => sequence(catalog, relation, &mut findings),
            kind if kind.is_table() && subject.is_of_tenants(relation) => {
                table(catalog, relation, &mut findings);
            }
            _ if subject.is_global(relation) => global(catalog, relation, &mut findings),
            _ => {}
        }
    }
    default_privileges(catalog, &mut findings);
    containers(catalog, &mut findings);
    findings
}

fn table(catalog: &Catalog, table: &Relation, findings: &mut Vec<Finding>) {
    for (rule, privilege, problem) in [
        (
            TRUNCATE,
            "TRUNCATE",
            "and empties it of every tenant's rows, whatever its policies say",
        ),
        (
            TRIGGER,
            "TRIGGER",
            "and can leave a trigger on it that runs as whoever writes next",
        ),
        (
            REFERENCES,
            "REFERENCES",
            "and can ask by a foreign key which keys others have",
        ),
        (
            MAINTAIN,
            "MAINTAIN",
            "and can lock it for all with VACUUM FULL, CLUSTER or REINDEX",
        ),
    ] {
        for grantee in grantees(catalog, table, privilege) {
            // The owner can do all this, and is complained of as such.
            if grantee == table.owner {
                continue;
            }
            let who = catalog.role_display(grantee);
            findings.push(
                Finding::new(
                    rule,
                    &table.display,
                    format!("{who} may {privilege} it {problem}"),
                )
                .mend(format!(
                    "REVOKE {privilege} ON {} FROM {who};",
                    table.display
                )),
            );
        }
    }
    let public: Vec<_> = table
        .grants
        .iter()
        .filter(|grant| grant.grantee == Id::PUBLIC)
        .map(|grant| grant.privilege.as_str())
        .collect();
    if !public.is_empty() {
        let (severity, whoever) = match catalog.schema_is_public(table.schema) {
            true => (PUBLIC_TABLE.severity(), ""),
            false => (Info, ", as far as somebody may use its schema"),
        };
        findings.push(
            Finding::new(
                PUBLIC_TABLE,
                &table.display,
                format!("PUBLIC may {} it{whoever}", listed(&public)),
            )
            .severity_of(severity)
            .mend(format!("REVOKE ALL ON {} FROM PUBLIC;", table.display))
            .advise("grant the application role by name what it needs"),
        );
    }
}

fn global(catalog: &Catalog, table: &Relation, findings: &mut Vec<Finding>) {
    let writes = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER"];
    for grantee in catalog.grantees() {
        let held: Vec<_> = writes
            .into_iter()
            .filter(|privilege| grantees(catalog, table, privilege).contains(&grantee))
            .collect();
        if held.is_empty() {
            continue;
        }
        let who = catalog.role_display(grantee);
        findings.push(
            Finding::new(
                GLOBAL_WRITABLE,
                &table.display,
                format!("{who} may {} it, and all tenants read it", listed(&held)),
            )
            .mend(format!(
                "REVOKE {} ON {} FROM {who};",
                held.join(", "),
                table.display
            )),
        );
    }
}

fn sequence(catalog: &Catalog, sequence: &Relation, findings: &mut Vec<Finding>) {
    for grantee in catalog
        .grantees()
        .into_iter()
        .filter(|grantee| *grantee != sequence.owner)
    {
        let held: Vec<_> = ["SELECT", "UPDATE"]
            .into_iter()
            .filter(|privilege| grantees(catalog, sequence, privilege).contains(&grantee))
            .collect();
        if held.is_empty() {
            continue;
        }
        let who = catalog.role_display(grantee);
        let can = match held.contains(&"UPDATE") {
            true => "read what others used up, and set it back so that their rows are refused",
            false => "read how many values others used up",
        };
        findings.push(
            Finding::new(SEQUENCE, &sequence.display, format!("{who} can {can}"))
                .mend(format!(
                    "REVOKE {} ON SEQUENCE {} FROM {who};",
                    held.join(", "),
                    sequence.display
                ))
                .mend(format!(
                    "GRANT USAGE ON SEQUENCE {} TO {who};",
                    sequence.display
                )),
        );
    }
}

fn default_privileges(catalog: &Catalog, findings: &mut Vec<Finding>) {
    for default in &catalog.default_privileges {
        if !catalog.is_ours(default.grantee) {
            continue;
        }
        let (objects, severity, what) = match (&*default.kind, &*default.privilege) {
            ("r", _) => (
                "TABLES",
                Medium,
                "at once, before row-level security is enabled on it",
            ),
            ("n", "CREATE") => (
                "SCHEMAS",
                Medium,
                "at once: what is made in it can stand in front of what others mean",
            ),
            // It has no tenant, and can have no policy.
            ("L", _) => ("LARGE OBJECTS", Medium, "at once, and that of every tenant"),
            ("S", "SELECT" | "UPDATE") => (
                "SEQUENCES",
                Low,
                "at once, so that one tenant sees or changes what others use up",
            ),
            // As the server does by itself: what a function with its owner's rights does is said of it.
            ("f", _) if default.grantee != Id::PUBLIC => (
                "FUNCTIONS",
                Info,
                "at once, those that run with their owner's rights, too",
            ),
            ("n", _) => ("SCHEMAS", Info, "at once, and so to the names in it"),
            _ => continue,
        };
        let maker = catalog.role_display(default.maker);
        let who = catalog.role_display(default.grantee);
        let (place, within) = match &default.schema {
            Some(schema) => (format!(" in {schema}"), format!(" IN SCHEMA {schema}")),
            None => (String::new(), String::new()),
        };
        let privilege = &default.privilege;
        let why = format!(
            "what it makes{place} of {} grants {privilege} to {who} {what}",
            objects.to_ascii_lowercase()
        );
        let fix = format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {maker}{within} REVOKE {privilege} ON {objects} FROM {who};"
        );
        let finding = Finding::new(DEFAULT_PRIVILEGES, &maker, why);
        findings.push(finding.severity_of(severity).mend(fix));
    }
}

fn containers(catalog: &Catalog, findings: &mut Vec<Finding>) {
    for schema in catalog.schemas.values() {
        for grantee in with(&schema.grants, "CREATE") {
            if !catalog.is_ours(grantee) || grantee == schema.owner {
                continue;
            }
            let who = catalog.role_display(grantee);
            findings.push(
                Finding::new(
                    SCHEMA_CREATE,
                    &schema.display,
                    format!("{who} may make tables and functions in it"),
                )
                .mend(format!(
                    "REVOKE CREATE ON SCHEMA {} FROM {who};",
                    schema.display
                )),
            );
        }
    }
    let database = &catalog.database;
    for (rule, privilege, problem) in [
        (TEMPORARY, "TEMPORARY", "may make temporary tables in it"),
        (SCHEMA_CREATE, "CREATE", "may make schemas in it"),
    ] {
        for grantee in with(&database.grants, privilege) {
            if !catalog.is_ours(grantee) || grantee == database.owner {
                continue;
            }
            let who = catalog.role_display(grantee);
            findings.push(
                Finding::new(rule, &database.display, format!("{who} {problem}")).mend(format!(
                    "REVOKE {privilege} ON DATABASE {} FROM {who};",
                    database.display
                )),
            );
        }
    }
}

/// Who of ours holds it.
fn grantees(catalog: &Catalog, relation: &Relation, privilege: &str) -> Vec<Id> {
    let mut grantees: Vec<_> = catalog
        .held(relation)
        .filter(|grant| grant.privilege == privilege)
        .map(|grant| grant.grantee)
        .collect();
    grantees.sort_unstable();
    grantees.dedup();
    grantees
}

fn with(grants: &[Grant], privilege: &str) -> Vec<Id> {
    let of = grants.iter().filter(|grant| grant.privilege == privilege);
    of.map(|grant| grant.grantee).collect()
}

fn listed(privileges: &[&str]) -> String {
    let mut listed: Vec<_> = privileges.to_vec();
    listed.sort_unstable();
    listed.dedup();
    listed.join(", ")
}
