//! What is granted that no policy restrains.

use crate::audit::catalog::{Catalog, Grant, Id, Kind, Relation};
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{Critical, High, Info, Low, Medium};
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
const PARAMETER: Rule = Rule::new(
    PAGE,
    "privilege-parameter",
    High,
    "the application role may set a parameter that switches checks off",
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
const SERVER_FUNCTION: Rule = Rule::new(
    PAGE,
    "privilege-server-files",
    Critical,
    "the application role may call a function that reads or writes files of the server",
);
const LARGE_OBJECTS: Rule = Rule::new(
    PAGE,
    "large-objects-shared",
    High,
    "large objects have an owner and no tenant: whoever serves tenants reads those of all",
);
const LARGE_OBJECTS_POSSIBLE: Rule = Rule::new(
    PAGE,
    "large-objects-possible",
    Info,
    "large objects can be made, which would belong to all tenants",
);
const OTHER_SESSIONS: Rule = Rule::new(
    PAGE,
    "server-activity",
    Info,
    "sessions of the same role see each other's statements, with the values that are written in them",
);
pub(super) const OTHER_BACKENDS: Rule = Rule::new(
    PAGE,
    "server-signals",
    Low,
    "sessions of the same role can cancel and end each other",
);
const STATEMENT_STATISTICS: Rule = Rule::new(
    PAGE,
    "extension-statements",
    Low,
    "an extension shows the statements of others, some with the values that are written in them",
);
const STORAGE_STATISTICS: Rule = Rule::new(
    PAGE,
    "extension-storage",
    Low,
    "an extension shows rows or pages that policies hide",
);
const PREPARED_TRANSACTIONS: Rule = Rule::new(
    PAGE,
    "server-prepared-transactions",
    Info,
    "a prepared transaction can be committed by any session of the same role",
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
    PARAMETER,
    GLOBAL_WRITABLE,
    SEQUENCE,
    SERVER_FUNCTION,
    LARGE_OBJECTS,
    LARGE_OBJECTS_POSSIBLE,
    OTHER_SESSIONS,
    OTHER_BACKENDS,
    STATEMENT_STATISTICS,
    STORAGE_STATISTICS,
    PREPARED_TRANSACTIONS,
];

/// Of what holds the rows of tenants, and of what is common to them.
pub(super) fn of_relations(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
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
    large_objects(catalog, &mut findings);
    findings
}

/// Of what reaches past a database, or past what it keeps apart.
pub(super) fn of_the_server(catalog: &Catalog) -> Vec<Finding> {
    let mut findings = Vec::new();
    parameters(catalog, &mut findings);
    functions(catalog, &mut findings);
    extensions(catalog, &mut findings);
    if catalog.database.max_prepared_transactions > 0 {
        findings.push(
            Finding::new(
                PREPARED_TRANSACTIONS,
                "max_prepared_transactions",
                format!(
                    "is {}: PREPARE TRANSACTION leaves a transaction that no session owns",
                    catalog.database.max_prepared_transactions
                ),
            )
            .advise("set max_prepared_transactions = 0 unless a transaction manager needs it"),
        );
    }
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

fn parameters(catalog: &Catalog, findings: &mut Vec<Finding>) {
    for granted in &catalog.parameter_privileges {
        if !catalog.is_ours(granted.grantee) {
            continue;
        }
        let who = catalog.role_display(granted.grantee);
        let problem = match &*granted.parameter {
            "session_replication_role" => {
                "with it triggers do not fire and foreign keys are not checked"
            }
            "lo_compat_privileges" => "with it large objects are everybody's to read and write",
            "session_preload_libraries" | "dynamic_library_path" => {
                "with it code of the server's files is loaded into sessions"
            }
            "log_statement" | "log_min_duration_statement" | "log_parameter_max_length" => {
                "with it what it does is kept out of the server's log"
            }
            _ if granted.privilege == "ALTER SYSTEM" => "and that for the whole server",
            _ => continue,
        };
        findings.push(
            Finding::new(
                PARAMETER,
                &granted.parameter,
                format!("{who} may {} it: {problem}", granted.privilege),
            )
            .mend(format!(
                "REVOKE {} ON PARAMETER {} FROM {who};",
                granted.privilege, granted.parameter
            )),
        );
    }
}

fn functions(catalog: &Catalog, findings: &mut Vec<Finding>) {
    for function in &catalog.server_functions {
        let (rule, problem) = match &*function.name {
            "pg_read_file"
            | "pg_read_binary_file"
            | "pg_ls_dir"
            | "pg_stat_file"
            | "lo_import"
            | "lo_export"
            | "pg_file_write" => (
                SERVER_FUNCTION,
                "it reaches the files of the server, those of tables too",
            ),
            "dblink_connect_u" => (
                SERVER_FUNCTION,
                "it connects as the server without a password",
            ),
            "pg_stat_get_activity" => (
                OTHER_SESSIONS,
                "it shows the statements of the same role's other sessions",
            ),
            "pg_cancel_backend" | "pg_terminate_backend" => (
                OTHER_BACKENDS,
                "it ends what the same role's other sessions are doing",
            ),
            "pgrowlocks" | "pgstattuple" | "pgstattuple_approx" | "pg_buffercache_pages" => (
                STORAGE_STATISTICS,
                "it shows what is stored, whatever policies hide",
            ),
            _ => continue,
        };
        for caller in function
            .callers
            .iter()
            .filter(|caller| catalog.is_ours(**caller))
        {
            let who = catalog.role_display(*caller);
            findings.push(
                Finding::new(
                    rule,
                    &function.display,
                    format!("{who} may call it: {problem}"),
                )
                .severity_of(match rule == OTHER_BACKENDS {
                    true => Info,
                    false => rule.severity(),
                })
                .mend(format!(
                    "REVOKE EXECUTE ON FUNCTION {} FROM {who};",
                    function.display
                )),
            );
        }
    }
}

fn large_objects(catalog: &Catalog, findings: &mut Vec<Finding>) {
    let is_callable = catalog.server_functions.iter().any(|function| {
        is_of_large_objects(&function.name)
            && function
                .callers
                .iter()
                .any(|caller| catalog.is_ours(*caller))
    });
    if !is_callable {
        return;
    }
    let possible = Finding::new(
        LARGE_OBJECTS_POSSIBLE,
        "large objects",
        "whoever serves tenants may make and read them: they belong to a role and to no tenant",
    );
    findings.push(without_large_objects(catalog, possible));
    for objects in &catalog.large_objects {
        if !catalog.reach.contains(objects.owner) && !objects.public {
            continue;
        }
        let who = catalog.role_display(objects.owner);
        let why = format!(
            "{} large objects belong to it, and to no tenant",
            objects.count
        );
        let shared = Finding::new(LARGE_OBJECTS, &who, why);
        findings.push(without_large_objects(catalog, shared).advise(
            "before that, move what is in them to a bytea column of a table with policies, and remove \
             them with lo_unlink",
        ));
    }
}

fn is_of_large_objects(function: &str) -> bool {
    matches!(
        function,
        "lo_creat" | "lo_create" | "lo_from_bytea" | "lo_open" | "lo_get" | "lo_put" | "lo_unlink"
    )
}

fn without_large_objects(catalog: &Catalog, finding: Finding) -> Finding {
    let functions = catalog.server_functions.iter();
    functions
        .filter(|function| is_of_large_objects(&function.name))
        .flat_map(|function| {
            function
                .callers
                .iter()
                .map(move |caller| (function, *caller))
        })
        .filter(|(_, caller)| catalog.is_ours(*caller))
        .fold(finding, |finding, (function, caller)| {
            finding.mend(format!(
                "REVOKE EXECUTE ON FUNCTION {} FROM {};",
                function.display,
                catalog.role_display(caller)
            ))
        })
}

fn extensions(catalog: &Catalog, findings: &mut Vec<Finding>) {
    for view in &catalog.extension_views {
        for reader in view
            .readers
            .iter()
            .filter(|reader| catalog.is_ours(**reader))
        {
            let who = catalog.role_display(*reader);
            let rule = match &*view.extension {
                "pg_buffercache" => STORAGE_STATISTICS,
                _ => STATEMENT_STATISTICS,
            };
            findings.push(
                Finding::new(
                    rule,
                    &view.display,
                    format!(
                        "{who} may read it: it is the extension {}'s",
                        view.extension
                    ),
                )
                .mend(format!("REVOKE SELECT ON {} FROM {who};", view.display)),
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
