//! Publications: rows leave the server in them, and policies are not asked.

use crate::audit::catalog::{Catalog, Id, Publication};
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{Critical, Info, Medium};
use crate::audit::subject::Subject;

const PAGE: &str = "replication";

const PUBLISHED: Rule = Rule::new(
    PAGE,
    "publication-carries-tenants",
    Critical,
    "a publication sends the rows of all tenants to whoever may subscribe",
);

pub(super) const RULES: &[Rule] = &[PUBLISHED];

pub(super) fn judge(catalog: &Catalog, subject: &Subject) -> Vec<Finding> {
    let publications = catalog.publications.iter();
    publications
        .filter_map(|publication| published(catalog, subject, publication))
        .collect()
}

fn published(catalog: &Catalog, subject: &Subject, publication: &Publication) -> Option<Finding> {
    let of_tenants: Vec<_> = publication
        .tables
        .iter()
        .filter_map(|published| Some((published, catalog.relations.get(&published.table)?)))
        .filter(|(_, table)| subject.is_of_tenants(table))
        .collect();
    let (_, first) = of_tenants.first()?;
    let what = match (publication.of_all, of_tenants.len()) {
        (true, _) => "it sends the changes of all tables, those that are made later too".to_owned(),
        (false, 1) => format!("it sends the changes of {}", first.display),
        (false, count) => format!("it sends the changes of {count} tables of tenants"),
    };
    let filter = match of_tenants.iter().any(|(published, _)| !published.filtered) {
        true => "policies are not asked",
        false => {
            "policies are not asked, and its filters do not bind who may make a slot of its own"
        }
    };
    let subscribers = subscribers(catalog);
    let ours = subscribers
        .iter()
        .find(|role| catalog.reach.contains(**role));
    let (severity, who) = match (ours, catalog.reach.contains(publication.owner)) {
        (Some(role), _) => {
            let role = catalog.roles.get(role)?;
            let way = super::roles::way(catalog, role);
            (
                Critical,
                format!("{}, which serves tenants, may subscribe", way.own),
            )
        }
        (None, true) => (
            Medium,
            format!(
                "{}, which serves tenants or what it can become, owns it and can take its filters away",
                catalog.role_display(publication.owner)
            ),
        ),
        (None, false) if subscribers.is_empty() => return None,
        (None, false) => {
            let names = subscribers.iter().map(|role| catalog.role_display(*role));
            let names = names.collect::<Vec<_>>().join(", ");
            (Info, format!("{names} may subscribe"))
        }
    };
    let why = format!("{what}: {filter}. {who}");
    let finding = Finding::new(PUBLISHED, &publication.display, why).severity_of(severity);
    Some(match (ours, severity) {
        (Some(role), _) => {
            let role = catalog.roles.get(role)?;
            let leave = super::roles::way(catalog, role).leave;
            let lose = || format!("ALTER ROLE {} NOREPLICATION;", role.display);
            finding.mend(leave.unwrap_or_else(lose))
        }
        (None, Medium) => match catalog.owner_instead() {
            Some(owner) => finding.mend(format!(
                "ALTER PUBLICATION {} OWNER TO {owner};",
                publication.display
            )),
            None => finding.advise("give it to a role that does not log in"),
        },
        _ => finding.advise(
            "whoever subscribes has to hold rows back itself: know where they go, and let nobody else \
             have REPLICATION",
        ),
    })
}

/// Who may, but for superusers.
fn subscribers(catalog: &Catalog) -> Vec<Id> {
    let is_provided = |role: Id| {
        let inherited = catalog.inherited(role);
        let mut names = inherited.iter().filter_map(|role| catalog.roles.get(role));
        names.any(|role| role.name == "rds_replication")
    };
    catalog
        .roles
        .values()
        .filter(|role| !role.superuser && (role.can_login || catalog.reach.contains(role.oid)))
        .filter(|role| role.replication || is_provided(role.oid))
        .map(|role| role.oid)
        .collect()
}
