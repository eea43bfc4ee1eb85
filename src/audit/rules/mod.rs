//! The rules: what each asks of the catalog, and what it says.

mod functions;
mod installation;
mod keys;
mod large_objects;
mod owners;
mod performance;
mod policies;
mod pool;
mod privileges;
mod replication;
mod roles;
mod server;
mod statistics;
mod tables;
mod views;

use std::collections::BTreeMap;

use super::catalog::{Catalog, DatabaseOf, Relation};
use super::finding::Finding;
use super::predicate;
use super::probe;
use super::rule::Rule;
use super::session::Session;
use super::subject::Subject;
use super::unseen::Unseen;
use crate::error::Error;
use owners::Owners;

/// By what they are about; the order of the table of rules.
pub(super) const ALL: &[&[Rule]] = &[
    roles::RULES,
    privileges::RULES,
    large_objects::RULES,
    server::RULES,
    tables::RULES,
    policies::RULES,
    views::RULES,
    functions::RULES,
    keys::RULES,
    pool::RULES,
    replication::RULES,
    statistics::RULES,
    performance::RULES,
    installation::RULES,
    probe::RULES,
];

pub(super) use pool::judge as judge_pool;

/// Functions that return a setting, with that setting.
type Helpers = BTreeMap<String, String>;

/// Whether the rule is about the sessions of a pool, and not about a database.
pub(super) fn is_of_pool(id: &str) -> bool {
    pool::RULES.iter().any(|rule| rule.id() == id)
}

/// Takes all from those who serve tenants, but for what is its owner's.
fn revoke(catalog: &Catalog, relation: &Relation, finding: Finding) -> Finding {
    // What is a predefined role's is in no list of grants.
    let predefined = ["pg_read_all_data", "pg_write_all_data"];
    let finding = predefined
        .into_iter()
        .filter_map(|name| catalog.roles.values().find(|role| role.name == name))
        .filter(|role| catalog.reach.contains(role.oid))
        .filter_map(|role| roles::way(catalog, role).leave)
        .fold(finding, Finding::mend);
    let mut grantees: Vec<_> = catalog.held(relation).map(|grant| grant.grantee).collect();
    grantees.sort_unstable();
    grantees.dedup();
    grantees
        .into_iter()
        .filter(|grantee| *grantee != relation.owner)
        .fold(finding, |finding, grantee| {
            finding.mend(format!(
                "REVOKE ALL ON {} FROM {};",
                relation.display,
                catalog.role_display(grantee)
            ))
        })
}

/// All that there is to say; what could not be seen goes to `unseen`.
pub(super) async fn judge(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
    unseen: &mut Vec<Unseen>,
) -> Result<Vec<Finding>, Error> {
    let mut findings = roles::judge(catalog, subject);
    findings.extend(server::judge(catalog));
    findings.extend(installation::owned(catalog));
    if let DatabaseOf::Tenant(tenant) = &catalog.whose {
        // All its rows are one tenant's: what matters is that no other is let in.
        session.be_impatient().await?;
        findings.extend(installation::placement(session, catalog, tenant, unseen).await?);
        return Ok(findings);
    }
    findings.extend(privileges::judge(catalog, subject));
    findings.extend(large_objects::judge(catalog));
    findings.extend(tables::judge(catalog, subject));
    session.be_impatient().await?;
    let answers = predicate::answers(session, catalog, subject).await?;
    findings.extend(policies::judge(session, catalog, subject, &answers, unseen).await?);
    let helpers = answers.helpers;
    let mut owners = Owners::new(catalog, subject, &helpers);
    findings.extend(views::judge(session, catalog, subject, &helpers, &mut owners).await?);
    findings.extend(functions::judge(session, catalog, subject, &mut owners).await?);
    unseen.extend(owners.unseen());
    findings.extend(keys::judge(catalog, subject));
    findings.extend(replication::judge(catalog, subject));
    findings.extend(statistics::judge(catalog, subject, unseen));
    findings.extend(performance::judge(catalog, subject, &helpers));
    findings.extend(installation::policies(catalog, subject, &helpers));
    Ok(findings)
}
