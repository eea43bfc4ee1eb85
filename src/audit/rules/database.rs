//! A database that belongs to one tenant.

use crate::audit::catalog::Catalog;
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::session::{As, Session};
use crate::audit::severity::Severity::{Critical, Medium};
use crate::audit::unseen::Unseen;
use crate::error::Error;
use crate::quote;

const PAGE: &str = "database";

const OTHER_TENANTS: Rule = Rule::new(
    PAGE,
    "database-takes-other-tenants",
    Critical,
    "a database that belongs to one tenant takes the statements of others",
);
const OWN_TENANT: Rule = Rule::new(
    PAGE,
    "database-refuses-its-tenant",
    Medium,
    "a database refuses the statements of the tenant that it was installed for",
);

pub(super) const RULES: &[Rule] = &[OTHER_TENANTS, OWN_TENANT];

/// It is asked with what each statement carries; nothing is written by that.
pub(super) async fn judge(
    session: &mut Session,
    catalog: &Catalog,
    tenant: &str,
    unseen: &mut Vec<Unseen>,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let database = format!("database of {tenant}");
    let role = catalog
        .reach
        .own()
        .find_map(|role| catalog.roles.get(&role));
    let Some(role) = role else {
        return Ok(findings);
    };
    let who = As {
        role: Some(&role.name),
        settings: &[],
    };
    if !session.can_be(who).await? {
        unseen.push(Unseen::new(
            database,
            format!(
                "whether it refuses other tenants: the auditor's role may not become the \
                 application role: GRANT {} TO the role that audits",
                role.display
            ),
        ));
        return Ok(findings);
    }
    let other = match tenant {
        "audit-a" => "audit-b",
        _ => "audit-a",
    };
    for (whose, is_own) in [(tenant, true), (other, false)] {
        // What a statement carries of its context, as it travels.
        let sql = format!(
            "SELECT (ARRAY['1', {}, '']::tenantry.scope IS NULL)::text",
            quote::literal(whose)
        );
        let is_taken = session.attempt(who, &sql).await?.is_ok();
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
            Finding::new(rule, &database, why)
                .advise("run `Installation::install` with its tenant again"),
        );
    }
    Ok(findings)
}
