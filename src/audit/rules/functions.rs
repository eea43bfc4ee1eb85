//! Functions that run with the rights of others, or are shown rows before policies are asked.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::owners::{self, Owners, Rows};
use crate::audit::catalog::{Caller, Catalog, Command, Function, Id, Relation};
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::session::Session;
use crate::audit::severity::Severity::{self, Critical, High, Info};
use crate::audit::subject::Subject;
use crate::error::Error;
use crate::quote;
use crate::sql::own;

const PAGE: &str = "functions";

const DEFINER: Rule = Rule::new(
    PAGE,
    "function-bypasses-policies",
    Critical,
    "a function runs with the rights of an owner for whom policies do not hold",
);
const SEARCH_PATH: Rule = Rule::new(
    PAGE,
    "function-search-path",
    Critical,
    "a function with its owner's rights finds names where the caller can put others",
);
const HELPER_PATH: Rule = Rule::new(
    PAGE,
    "function-helper-path",
    High,
    "a function that policies call finds names by the search path of whoever asks",
);
const LEAKPROOF: Rule = Rule::new(
    PAGE,
    "function-leakproof",
    High,
    "a function is LEAKPROOF by somebody's word, and is shown rows before policies are asked",
);

const REPLACEABLE: Rule = Rule::new(
    PAGE,
    "function-replaceable",
    Critical,
    "the application role can replace a function that policies, triggers or tables call",
);

const SETS_CONTEXT: Rule = Rule::new(
    PAGE,
    "function-sets-context",
    High,
    "a function brings the context of a tenant along, whoever calls it",
);

pub(super) const RULES: &[Rule] = &[
    SETS_CONTEXT,
    DEFINER,
    SEARCH_PATH,
    HELPER_PATH,
    LEAKPROOF,
    REPLACEABLE,
];

pub(super) async fn judge(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
    owners: &mut Owners<'_>,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let mut powers = BTreeMap::new();
    for function in &catalog.functions {
        let callers: Vec<_> = function
            .callers
            .iter()
            .copied()
            .filter(|caller| catalog.is_ours(*caller))
            .collect();
        let is_callable = match function.is_trigger {
            true => fires(catalog, function),
            false => !callers.is_empty() && catalog.may_use(function.schema),
        };
        // These take the tenant from the context and never as an argument.
        let is_known = catalog.is_of_this_crate(function.schema, &function.name, &own::FUNCTIONS);
        if function.security_definer && is_callable && !is_known {
            let power = match powers.entry(function.owner) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    new.insert(power(session, catalog, subject, owners, function.owner).await?)
                }
            };
            definer(
                catalog,
                subject,
                function,
                power.as_ref(),
                &callers,
                &mut findings,
            );
        }
        if function.in_policy() && !function.security_definer {
            helper(catalog, function, &mut findings);
        }
        if !is_known {
            findings.extend(replaceable(catalog, function));
        }
        if is_callable {
            findings.extend(sets_context(subject, function));
        }
        if function.leakproof {
            findings.push(
                Finding::new(
                    LEAKPROOF,
                    &function.display,
                    "it is LEAKPROOF, so a condition that calls it is put in front of policies, and \
                     what it is shown it can tell",
                )
                .mend(format!(
                    "ALTER {} {} NOT LEAKPROOF;",
                    function.noun, function.display
                )),
            );
        }
    }
    Ok(findings)
}

/// `CREATE FUNCTION .. SET app.tenant_id = '..'`: for as long as it runs.
fn sets_context(subject: &Subject, function: &Function) -> Option<Finding> {
    let (name, _) = function.sets.iter().find_map(|set| {
        let (name, value) = set.split_once('=')?;
        let mut settings = subject.key_settings();
        let is_context = settings.any(|setting| setting.eq_ignore_ascii_case(name));
        (is_context && !value.is_empty()).then_some((name, value))
    })?;
    let quoted: Vec<_> = name.split('.').map(quote::identifier).collect();
    let why = format!("it sets {name} while it runs, so whoever calls it is served as that tenant");
    let finding = Finding::new(SETS_CONTEXT, &function.display, why);
    Some(finding.mend(format!(
        "ALTER {} {} RESET {};",
        function.noun,
        function.display,
        quoted.join(".")
    )))
}

/// The view whose writes a trigger function with its owner's rights carries out instead, if those who
/// serve tenants may write that.
fn instead<'a>(catalog: &'a Catalog, function: &Function) -> Option<&'a Relation> {
    let triggers = catalog.triggers.iter();
    triggers
        .filter(|trigger| trigger.instead && trigger.function == function.oid)
        .filter_map(|trigger| catalog.relations.get(&trigger.relation))
        .find(|view| catalog.is_writable(view))
}

/// Whether those who serve tenants can make a trigger call it.
fn fires(catalog: &Catalog, function: &Function) -> bool {
    let writable = |relation: &Id| {
        catalog.relations.get(relation).is_some_and(|relation| {
            catalog.is_writable(relation) || catalog.holds(relation, "TRUNCATE")
        })
    };
    let makes = || {
        catalog.may_make_temporary_tables()
            || catalog
                .schemas
                .values()
                .any(|schema| catalog.may_create_in(schema))
    };
    let mut triggers = catalog.triggers.iter();
    triggers.any(|trigger| trigger.function == function.oid && writable(&trigger.relation))
        || makes()
            && catalog
                .event_triggers
                .iter()
                .any(|trigger| trigger.function == function.oid)
}

/// Whoever owns a function writes what it does, and whatever calls it runs that.
fn replaceable(catalog: &Catalog, function: &Function) -> Option<Finding> {
    let owner = catalog.roles.get(&function.owner)?;
    if owner.superuser || !catalog.reach.contains(function.owner) {
        return None;
    }
    let (severity, what) = match function.called.first()? {
        Caller::Policy => (
            Critical,
            "policies call it, so they let through what it says".to_owned(),
        ),
        Caller::EventTrigger => {
            let triggers = catalog.event_triggers.iter();
            let names: Vec<_> = triggers
                .filter(|trigger| trigger.function == function.oid)
                .map(|trigger| trigger.display.as_str())
                .collect();
            let what = format!(
                "the event trigger {} calls it as whoever makes or changes a table, a superuser too",
                names.join(", ")
            );
            (Critical, what)
        }
        Caller::Trigger => (
            High,
            "a trigger calls it as whoever writes a row".to_owned(),
        ),
        Caller::Table => (
            High,
            "a default, a CHECK, a generated column or an index calls it as whoever writes a row"
                .to_owned(),
        ),
        Caller::View => (High, "a view calls it as whoever asks that".to_owned()),
    };
    let way = super::roles::way(catalog, owner);
    let why = format!("{} {}owns it and can replace it: {what}", way.own, way.how);
    let finding = Finding::new(REPLACEABLE, &function.display, why).severity_of(severity);
    let (noun, name) = (&function.noun, &function.display);
    Some(match (way.leave, catalog.owner_instead()) {
        (Some(leave), _) => finding.mend(leave),
        (None, Some(instead)) => finding
            .mend(format!("ALTER {noun} {name} OWNER TO {instead};"))
            .mend(format!("GRANT EXECUTE ON {noun} {name} TO {};", way.own)),
        (None, None) => finding.advise(format!(
            "ALTER {noun} {name} OWNER TO a role that does not log in"
        )),
    })
}

/// What runs with the rights of an owner can do that its caller cannot.
struct Power {
    /// To be read behind the owner's name.
    why: String,
    witness: Option<String>,
}

/// The first table of tenants whose rows are not held back from an owner; `None` if they all are.
async fn power(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
    owners: &mut Owners<'_>,
    owner: Id,
) -> Result<Option<Power>, Error> {
    let of = |why: String| Power { why, witness: None };
    if catalog.is_above_policies(owner) {
        return Ok(Some(of("who is above policies".to_owned())));
    }
    for table in subject.tables(catalog) {
        let commands: Vec<_> = Command::ALL
            .into_iter()
            .filter(|command| catalog.has(owner, table, command.privilege()))
            .collect();
        if commands.is_empty() {
            continue;
        }
        if !table.row_security {
            let why = format!("who reaches {}, which has no policies", table.display);
            return Ok(Some(of(why)));
        }
        let rows = owners
            .rows(session, table, owner, owners::Caller::Function, &commands)
            .await?;
        match rows {
            // What nobody can tell of a table is said of the table.
            Rows::Held | Rows::Unknown(_) => {}
            Rows::Exempt(why) => {
                let name = &table.display;
                return Ok(Some(of(match table.owner == owner {
                    true => format!("who owns {name}, whose policies are not forced"),
                    false => format!("{why} ({name})"),
                })));
            }
            Rows::Through(witness) => {
                return Ok(Some(Power {
                    why: format!(
                        "for whom the policies of {} let rows of other tenants through",
                        table.display
                    ),
                    witness: Some(witness),
                }));
            }
        }
    }
    Ok(None)
}

fn definer(
    catalog: &Catalog,
    subject: &Subject,
    function: &Function,
    power: Option<&Power>,
    callers: &[Id],
    findings: &mut Vec<Finding>,
) {
    let owner = catalog.role_display(function.owner);
    // What a trigger does with its owner's rights, only its author knows, and nobody calls it.
    if let Some(power) = power.filter(|_| !function.is_trigger) {
        let why = format!("it runs with the rights of {owner}, {}", power.why);
        let finding = Finding::new(DEFINER, &function.display, why);
        let finding = match &power.witness {
            Some(witness) => finding.witnessed(witness),
            None => finding,
        };
        let finding = callers.iter().fold(finding, |finding, caller| {
            finding.mend(format!(
                "REVOKE EXECUTE ON {} {} FROM {};",
                function.noun,
                function.display,
                catalog.role_display(*caller)
            ))
        });
        // A policy that asks who is a member needs one: it cannot be asked for rows.
        let finding = match function.in_policy() && function.only_answers {
            true => finding.severity_of(Info),
            false => finding,
        };
        findings.push(finding.advise(
            "let it run with the rights of its caller, or give it to a role that policies hold for",
        ));
    }
    if let (Some(power), Some(view)) = (power, instead(catalog, function)) {
        let why = format!(
            "it writes what is written to {} with the rights of {owner}, {}",
            view.display, power.why
        );
        let finding = Finding::new(DEFINER, &function.display, why).severity_of(High);
        findings.push(finding.mend(format!(
            "ALTER {} {} SECURITY INVOKER;",
            function.noun, function.display
        )));
    }
    if let Some(why) = unpinned(catalog, function) {
        // An owner for whom policies hold can take them away.
        let owns = || {
            subject
                .tables(catalog)
                .any(|table| table.owner == function.owner)
        };
        let severity: Severity = match power.is_some() || owns() {
            true => Critical,
            false => Info,
        };
        findings.push(
            Finding::new(SEARCH_PATH, &function.display, why)
                .severity_of(severity)
                .mend(pin(catalog, function)),
        );
    }
}

/// Where the caller can put a name that it finds; `None` where it can not.
fn unpinned(catalog: &Catalog, function: &Function) -> Option<String> {
    if function.is_parsed {
        return None;
    }
    let temporary = catalog.may_make_temporary_tables();
    let Some(path) = &function.search_path else {
        return Some("it finds names by the search path of its caller".to_owned());
    };
    let parts: Vec<_> = path
        .split(',')
        .map(|part| part.trim().trim_matches('"'))
        .collect();
    if parts.last() != Some(&"pg_temp") && temporary {
        return Some(
            "pg_temp is not the last of its search path, so the tables of the caller's session come \
             first"
                .to_owned(),
        );
    }
    let open = catalog
        .schemas
        .values()
        .find(|schema| parts.contains(&schema.name.as_str()) && catalog.may_create_in(schema))?;
    Some(format!(
        "its search path holds {}, in which those who serve tenants may make functions and tables",
        open.display
    ))
}

fn helper(catalog: &Catalog, function: &Function, findings: &mut Vec<Finding>) {
    if function.is_parsed || function.search_path.is_some() {
        return;
    }
    let open = catalog
        .schemas
        .values()
        .find(|schema| catalog.may_create_in(schema));
    let (severity, why) = match open {
        Some(schema) => (
            High,
            format!(
                "policies call it, it finds names by the search path of whoever asks, and those who \
                 serve tenants may make functions in {}",
                schema.display
            ),
        ),
        None => (
            Info,
            "policies call it, and it finds names by the search path of whoever asks".to_owned(),
        ),
    };
    findings.push(
        Finding::new(HELPER_PATH, &function.display, why)
            .severity_of(severity)
            .mend(pin(catalog, function)),
    );
}

fn pin(catalog: &Catalog, function: &Function) -> String {
    let own = catalog
        .schemas
        .get(&function.schema)
        .map_or("", |schema| schema.display.as_str());
    // What it has, without what does not belong there.
    let open = |part: &str| {
        catalog
            .schemas
            .values()
            .any(|schema| schema.name == part && catalog.may_create_in(schema))
    };
    let path = function.search_path.as_deref().unwrap_or(own);
    let mut parts = vec!["pg_catalog"];
    for part in path.split(',').map(str::trim) {
        let plain = part.trim_matches('"');
        if !matches!(plain, "" | "pg_catalog" | "pg_temp" | "$user") && !open(plain) {
            parts.push(part);
        }
    }
    parts.push("pg_temp");
    format!(
        "ALTER {} {} SET search_path = {};",
        function.noun,
        function.display,
        parts.join(", ")
    )
}
