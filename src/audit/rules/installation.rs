//! What this crate has installed: that it is whole, and still holds by itself.

use crate::audit::catalog::{Catalog, Command, Policy, Relation};
use crate::audit::finding::Finding;
use crate::audit::predicate;
use crate::audit::rule::Rule;
use crate::audit::session::{As, Session};
use crate::audit::severity::Severity::{Critical, High, Medium};
use crate::audit::subject::Subject;
use crate::audit::unseen::Unseen;
use crate::error::Error;
use crate::quote;
use crate::sql::SEALED_LAYOUT;

use super::Helpers;

const PAGE: &str = "installation";

const OTHER_TENANTS: Rule = Rule::new(
    PAGE,
    "installation-takes-other-tenants",
    Critical,
    "a database that belongs to one tenant takes the statements of others",
);
const OWN_TENANT: Rule = Rule::new(
    PAGE,
    "installation-refuses-its-tenant",
    Medium,
    "a database refuses the statements of the tenant that it was installed for",
);
const OWNED: Rule = Rule::new(
    PAGE,
    "installation-owned",
    High,
    "the application role owns what checks the context of each statement, and can take it away",
);
const POLICY_CHANGED: Rule = Rule::new(
    PAGE,
    "installation-policy-changed",
    Medium,
    "of the two policies that each hold by themselves one is missing, or says something else",
);

pub(super) const RULES: &[Rule] = &[OTHER_TENANTS, OWN_TENANT, OWNED, POLICY_CHANGED];

/// As [`TenantTable`](crate::sql::TenantTable) names them.
const TENANT: &str = "tenantry_tenant";
const BACKSTOP: &str = "tenantry_backstop";

/// The domains belong to nobody who serves tenants.
pub(super) fn owned(catalog: &Catalog) -> Vec<Finding> {
    let domains = catalog.domains.iter();
    domains
        .filter(|(_, owner)| catalog.reach.contains(*owner))
        .map(|(name, owner)| {
            let owner = catalog.role_display(*owner);
            let finding = Finding::new(OWNED, name, format!("it is owned by {owner}"));
            match catalog.owner_instead() {
                Some(other) => finding.mend(format!("ALTER DOMAIN {name} OWNER TO {other};")),
                None => finding.advise("ALTER DOMAIN .. OWNER TO a role that does not log in"),
            }
        })
        .collect()
}

/// A database of one tenant takes that one and no other: both are asked for, with what each statement
/// carries. Nothing is written by that.
pub(super) async fn placement(
    session: &mut Session,
    catalog: &Catalog,
    tenant: &str,
    unseen: &mut Vec<Unseen>,
) -> Result<Vec<Finding>, Error> {
    let database = &catalog.database.display;
    let role = catalog.reach.own().next();
    let Some(role) = role.and_then(|role| catalog.roles.get(&role)) else {
        return Ok(Vec::new());
    };
    let who = As {
        role: Some(&role.name),
        ..As::default()
    };
    if !session.can_be(who).await? {
        let reason = format!(
            "whether it refuses other tenants than its own: the auditor's role may not become the \
             application role: GRANT {} TO the role that audits",
            role.display
        );
        unseen.push(Unseen::new(database, reason));
        return Ok(Vec::new());
    }
    let other = match tenant {
        "audit-a" => "audit-b",
        _ => "audit-a",
    };
    let mut findings = Vec::new();
    for (whose, is_own) in [(tenant, true), (other, false)] {
        let whose = quote::literal(whose);
        // A context that is signed wrongly is refused as well, behind the question whose it is.
        let context = match session.is_sealed() {
            true => format!("'{SEALED_LAYOUT}', {whose}, '', '', '', ''"),
            false => format!("'1', {whose}, ''"),
        };
        let sql = format!("SELECT (ARRAY[{context}]::tenantry.scope IS NULL)::text");
        let is_taken = match session.attempt(who, &sql).await? {
            Ok(_) => true,
            Err(code) => session.is_sealed() && code == "28000",
        };
        if is_taken == is_own {
            continue;
        }
        let (rule, why) = match is_own {
            true => (OWN_TENANT, "the type tenantry.scope refuses its own tenant"),
            false => (
                OTHER_TENANTS,
                "the type tenantry.scope takes a tenant that was made up",
            ),
        };
        findings.push(
            Finding::new(rule, database, why)
                .advise("run `Installation::install` with its tenant again"),
        );
    }
    Ok(findings)
}

/// The policies of each table that has one of the two.
pub(super) fn policies(catalog: &Catalog, subject: &Subject, helpers: &Helpers) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in subject.tables(catalog) {
        // Those of this crate's own tables are its own.
        if subject.is_of_this_crate(table) {
            continue;
        }
        let policies = catalog.policies.get(&table.oid);
        let named = |name| {
            policies?
                .iter()
                .find(|policy: &&Policy| policy.name == name)
        };
        let known = subject.known(table, helpers);
        let holds = |policy: &Policy| {
            [Command::Select, Command::Insert]
                .into_iter()
                .all(|command| {
                    let says = command.expression(policy);
                    says.is_none_or(|says| predicate::is_bound(says, &known))
                })
        };
        let why = match (named(TENANT), named(BACKSTOP)) {
            (None, None) => continue,
            (None, _) => format!("it lacks the policy {TENANT}"),
            (_, None) => format!("it lacks the policy {BACKSTOP}"),
            (Some(tenant), _) if !holds(tenant) => changed(TENANT),
            (_, Some(backstop))
                if backstop.permissive || backstop.command != "*" || !holds(backstop) =>
            {
                changed(BACKSTOP)
            }
            _ => continue,
        };
        findings.push(changed_finding(table, why));
    }
    findings
}

fn changed(name: &str) -> String {
    format!("its policy {name} does not hold rows back by itself any more")
}

fn changed_finding(table: &Relation, why: String) -> Finding {
    Finding::new(POLICY_CHANGED, &table.display, why)
        .advise("run `TenantTable::apply` on it again, which makes both anew")
}
