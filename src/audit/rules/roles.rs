//! The roles that tenants are served as, and all that these can become.

use crate::audit::catalog::{Catalog, Id, Role};
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{self, Critical, High, Low, Medium};
use crate::audit::subject::Subject;
use crate::quote;

const PAGE: &str = "roles";

const SUPERUSER: Rule = Rule::new(
    PAGE,
    "role-superuser",
    Critical,
    "the application role is a superuser, or can become one: no policy holds for it",
);
const BYPASSES: Rule = Rule::new(
    PAGE,
    "role-bypasses-rls",
    Critical,
    "the application role has BYPASSRLS, or can become a role that has",
);
const CREATES_ROLES: Rule = Rule::new(
    PAGE,
    "role-creates-roles",
    Critical,
    "the application role has CREATEROLE, with which it gets at other roles",
);
const REPLICATION: Rule = Rule::new(
    PAGE,
    "role-replication",
    Critical,
    "the application role has REPLICATION and can read every change that is made",
);
const SERVER_FILES: Rule = Rule::new(
    PAGE,
    "role-server-files",
    Critical,
    "the application role reaches the files or the programs of the server",
);
const ACTIVITY: Rule = Rule::new(
    PAGE,
    "role-reads-activity",
    Medium,
    "the application role reads what all sessions of the server are doing",
);
const OWNS: Rule = Rule::new(
    PAGE,
    "role-owns-table",
    Critical,
    "the application role owns a table of tenants and can take its policies away",
);
const OWNS_AROUND: Rule = Rule::new(
    PAGE,
    "role-owns-container",
    High,
    "the application role owns the database or a schema and can replace what is in it",
);
const PRIVILEGED_LOGIN: Rule = Rule::new(
    PAGE,
    "role-privileged-login",
    Critical,
    "a role above policies logs in and becomes the application role: RESET ROLE goes back",
);
const CONTEXT_BY_DEFAULT: Rule = Rule::new(
    PAGE,
    "role-context-by-default",
    High,
    "every connection of the application role begins in the context of a tenant",
);

pub(super) const RULES: &[Rule] = &[
    SUPERUSER,
    BYPASSES,
    CREATES_ROLES,
    REPLICATION,
    SERVER_FILES,
    ACTIVITY,
    OWNS,
    OWNS_AROUND,
    PRIVILEGED_LOGIN,
    CONTEXT_BY_DEFAULT,
];

pub(super) fn judge(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for role in catalog
        .reach
        .roles()
        .filter_map(|oid| catalog.roles.get(&oid))
    {
        attributes(catalog, role, &mut findings);
        predefined(catalog, role, &mut findings);
        around(catalog, role, &mut findings);
    }
    owned(catalog, subject, &mut findings);
    logins(catalog, subject, &mut findings);
    defaults(catalog, subject, &mut findings);
    findings
}

/// Whose finding it is, how it came by it in words, and what takes that away.
pub(super) struct Way {
    pub(super) own: String,
    pub(super) how: String,
    pub(super) leave: Option<String>,
}

pub(super) fn way(catalog: &Catalog, role: &Role) -> Way {
    let (from, entry) = catalog.reach.way(role.oid).unwrap_or((role.oid, None));
    let display = |oid: Id| catalog.roles.get(&oid).map_or("", |role| &role.display);
    let own = display(from).to_owned();
    match entry {
        None => Way {
            own,
            how: String::new(),
            leave: None,
        },
        Some(entry) => Way {
            how: format!("can become {}, which ", role.display),
            leave: Some(format!("REVOKE {} FROM {own};", display(entry))),
            own,
        },
    }
}

fn attributes(catalog: &Catalog, role: &Role, findings: &mut Vec<Finding>) {
    let way = way(catalog, role);
    let mut complain = |rule: Rule, severity: Severity, problem: &str, attribute: &str| {
        let fix = way
            .leave
            .clone()
            .unwrap_or_else(|| format!("ALTER ROLE {} {attribute};", role.display));
        let finding = Finding::new(rule, &way.own, format!("{}{problem}", way.how));
        findings.push(finding.severity_of(severity).mend(fix));
    };
    if role.superuser {
        complain(SUPERUSER, Critical, "is a superuser", "NOSUPERUSER");
        return;
    }
    if role.bypass_rls {
        complain(
            BYPASSES,
            Critical,
            "has BYPASSRLS: no policy holds for it",
            "NOBYPASSRLS",
        );
    }
    if role.create_role {
        let (severity, problem) = match catalog.version < 160_000 {
            true => (
                Critical,
                "has CREATEROLE and can grant itself any role that is no superuser",
            ),
            // It administers those that it made, and no others.
            false => (Low, "has CREATEROLE and can make itself roles that log in"),
        };
        complain(CREATES_ROLES, severity, problem, "NOCREATEROLE");
    }
    if role.replication {
        let problem = "has REPLICATION: logical decoding shows it the rows of every tenant";
        complain(REPLICATION, Critical, problem, "NOREPLICATION");
    }
}

/// Roles that come with the server.
fn predefined(catalog: &Catalog, role: &Role, findings: &mut Vec<Finding>) {
    let (rule, what) = match &*role.name {
        "pg_read_server_files" => (
            SERVER_FILES,
            "reads any file of the server, those of tables too",
        ),
        "pg_write_server_files" => (SERVER_FILES, "writes any file of the server"),
        "pg_execute_server_program" => (SERVER_FILES, "runs programs as the server"),
        "pg_create_subscription" => (
            REPLICATION,
            "can have changes of others written into tables",
        ),
        // A provider's own, in place of the attribute.
        "rds_replication" => (
            REPLICATION,
            "may replicate: logical decoding shows it the rows of every tenant",
        ),
        "pg_monitor" | "pg_read_all_stats" => (
            ACTIVITY,
            "sees the statements of all sessions, with the values that are written in them",
        ),
        "pg_signal_backend" => (
            super::server::OTHER_BACKENDS,
            "ends what the sessions of other roles are doing",
        ),
        "pg_maintain" => (
            super::privileges::MAINTAIN,
            "can lock every table for all with VACUUM FULL, CLUSTER or REINDEX",
        ),
        _ => return,
    };
    let way = way(catalog, role);
    let finding = Finding::new(rule, &way.own, format!("{}{what}", way.how));
    findings.push(match way.leave {
        Some(leave) => finding.mend(leave),
        None => finding.advise("serve tenants as a role that does not come with the server"),
    });
}

/// The database and the schemas.
fn around(catalog: &Catalog, role: &Role, findings: &mut Vec<Finding>) {
    let way = way(catalog, role);
    let mut complain = |what: String, alter: String| {
        let finding = Finding::new(OWNS_AROUND, &way.own, format!("{}owns {what}", way.how));
        findings.push(match (&way.leave, catalog.owner_instead()) {
            (Some(leave), _) => finding.mend(leave.clone()),
            (None, Some(owner)) => finding.mend(format!("{alter} OWNER TO {owner};")),
            (None, None) => finding.advise(format!("{alter} OWNER TO a role that does not log in")),
        });
    };
    if catalog.database.owner == role.oid && !role.superuser {
        let database = &catalog.database.display;
        complain(
            "this database: it can drop the schemas of others".to_owned(),
            format!("ALTER DATABASE {database}"),
        );
    }
    for schema in catalog
        .schemas
        .values()
        .filter(|schema| schema.owner == role.oid)
    {
        complain(
            format!("the schema {}: it can drop what is in it", schema.display),
            format!("ALTER SCHEMA {}", schema.display),
        );
    }
}

fn owned(catalog: &Catalog, subject: &Subject, findings: &mut Vec<Finding>) {
    let owned = catalog
        .own_relations()
        .filter(|relation| relation.kind.has_rows() && catalog.reach.contains(relation.owner));
    for relation in owned {
        let Some(role) = catalog.roles.get(&relation.owner) else {
            continue;
        };
        // Views are what they show: that is for the rules of views.
        if !relation.kind.is_table() || !subject.is_of_tenants(relation) || role.superuser {
            continue;
        }
        let way = way(catalog, role);
        let how = way.how;
        let why = match relation.row_security && relation.forced {
            true => {
                format!("{how}owns it and can disable row-level security, or drop its policies")
            }
            false => format!("{how}owns it, and its policies do not hold for its owner"),
        };
        let finding = Finding::new(OWNS, &relation.display, format!("{} {why}", way.own));
        let finding = match (way.leave, catalog.owner_instead()) {
            (Some(leave), _) => finding.mend(leave),
            (None, Some(owner)) => finding
                .mend(format!(
                    "ALTER TABLE {} OWNER TO {owner};",
                    relation.display
                ))
                .mend(format!(
                    "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {};",
                    relation.display, way.own
                )),
            (None, None) => finding.advise(format!(
                "CREATE ROLE tenantry_owner NOLOGIN, then ALTER TABLE {} OWNER TO tenantry_owner \
                 and grant {} what it needs",
                relation.display, way.own
            )),
        };
        let finding = match relation.forced {
            true => finding,
            false => finding.mend(format!(
                "ALTER TABLE {} FORCE ROW LEVEL SECURITY;",
                relation.display
            )),
        };
        findings.push(finding);
    }
}

/// Who logs in to become the application role.
fn logins(catalog: &Catalog, subject: &Subject, findings: &mut Vec<Finding>) {
    for own in catalog.reach.own() {
        for membership in catalog
            .memberships
            .iter()
            .filter(|m| m.role == own && m.may_set)
        {
            let Some(member) = catalog.roles.get(&membership.member) else {
                continue;
            };
            if !member.can_login || catalog.reach.contains(member.oid) {
                continue;
            }
            let owns = || {
                subject
                    .tables(catalog)
                    .any(|table| table.owner == member.oid)
            };
            let what = match () {
                () if member.superuser => "is a superuser",
                () if member.bypass_rls => "has BYPASSRLS",
                () if owns() => "owns tables of tenants",
                () => continue,
            };
            let own = &catalog.roles[&own].display;
            findings.push(
                Finding::new(
                    PRIVILEGED_LOGIN,
                    &member.display,
                    format!(
                        "logs in, {what}, and may become {own}: if a pool does that, RESET ROLE in any \
                         statement goes back"
                    ),
                )
                .mend(match member.bypass_rls && !member.superuser {
                    true => format!("ALTER ROLE {} NOBYPASSRLS;", member.display),
                    false => format!("REVOKE {own} FROM {};", member.display),
                })
                .advise(format!(
                    "let the pool log in as {own} itself, or as a role that can do nothing else"
                )),
            );
        }
    }
}

/// `ALTER ROLE app SET app.tenant_id = ..`, and the same of the database.
fn defaults(catalog: &Catalog, subject: &Subject, findings: &mut Vec<Finding>) {
    for role in catalog
        .reach
        .own()
        .filter_map(|oid| catalog.roles.get(&oid))
    {
        for setting in &role.settings {
            let Some((name, value)) = setting.split_once('=') else {
                continue;
            };
            let is_context = subject
                .key_settings()
                .any(|ours| ours.eq_ignore_ascii_case(name));
            if !is_context || value.is_empty() {
                continue;
            }
            let quoted = name
                .split('.')
                .map(quote::identifier)
                .collect::<Vec<_>>()
                .join(".");
            findings.push(
                Finding::new(
                    CONTEXT_BY_DEFAULT,
                    &role.display,
                    format!(
                        "has a value of {name} by default: a connection that was told no tenant \
                         serves that one"
                    ),
                )
                .mend(format!("ALTER ROLE {} RESET {quoted};", role.display))
                .mend(format!(
                    "ALTER DATABASE {} RESET {quoted};",
                    catalog.database.display
                ))
                .mend(format!(
                    "ALTER ROLE {} IN DATABASE {} RESET {quoted};",
                    role.display, catalog.database.display
                )),
            );
        }
    }
}
