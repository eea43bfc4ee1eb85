//! What the catalog says of a table, but for what its policies mean.

use super::catalog::Relation;
use super::finding::{IsolationFinding, IsolationRule};
use crate::quote;

/// A table of tenants. One of tenantry's own is not forced by right.
pub(super) fn of_tenants(
    relation: &Relation,
    is_own: bool,
    roles: &[String],
) -> Vec<IsolationFinding> {
    let name = &relation.name;
    let mut findings = Vec::new();
    let mut complain = |rule, problem: String, remedy: String| {
        findings.push(IsolationFinding::new(rule, name, problem, remedy));
    };
    if relation.owned {
        complain(
            IsolationRule::RoleOwns,
            format!(
                "is owned by {}, which tenants are served as or which can be become, and who can \
                 undo what protects it",
                relation.owner
            ),
            format!("ALTER TABLE {name} OWNER TO a role that the application role cannot become;"),
        );
    }
    if !relation.row_security {
        complain(
            IsolationRule::RowSecurityOff,
            "holds rows of tenants and has no row-level security".to_owned(),
            format!(
                "ALTER TABLE {name} ENABLE ROW LEVEL SECURITY; and policies, as by \
                 `TenantTable::apply`"
            ),
        );
    } else if !relation.forced && !is_own {
        complain(
            IsolationRule::NotForced,
            "has row-level security that does not hold for its owner, nor for views and functions \
             with the owner's rights"
                .to_owned(),
            format!("ALTER TABLE {name} FORCE ROW LEVEL SECURITY;"),
        );
    }
    let unrestrained = held(relation, &["TRUNCATE", "TRIGGER"]);
    if !unrestrained.is_empty() && !relation.owned {
        complain(
            IsolationRule::Privilege,
            format!("grants what no policy restrains: {unrestrained}"),
            revoke(&unrestrained, relation, roles),
        );
    }
    if !relation.public.is_empty() {
        complain(
            IsolationRule::Privilege,
            "is granted to PUBLIC, so that every role reaches it with a context of its choice"
                .to_owned(),
            format!("REVOKE ALL ON {name} FROM PUBLIC;"),
        );
    }
    if relation.has_rules {
        complain(
            IsolationRule::GoesRound,
            "has a rule that does something else with the rights of its owner".to_owned(),
            format!("DROP RULE .. ON {name}; a trigger can do the same under policies"),
        );
    }
    findings
}

/// A table that all tenants read.
pub(super) fn global(relation: &Relation, roles: &[String]) -> Option<IsolationFinding> {
    let writes = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER"];
    let written = held(relation, &writes);
    if written.is_empty() || relation.kind == "v" {
        return None;
    }
    Some(IsolationFinding::new(
        IsolationRule::Privilege,
        &relation.name,
        format!("is read by all tenants and may be written by them: {written}"),
        revoke(&written, relation, roles),
    ))
}

/// What cannot have policies.
pub(super) fn without_policies(relation: &Relation, roles: &[String]) -> IsolationFinding {
    let what = match &*relation.kind {
        "m" => "is a materialized view, which has no policies",
        _ => "is a foreign table, which has no policies",
    };
    IsolationFinding::new(
        IsolationRule::GoesRound,
        &relation.name,
        what,
        format!(
            "{} or list it as a global table or as reviewed",
            revoke("ALL", relation, roles)
        ),
    )
}

/// What is neither of tenants nor on a list.
pub(super) fn unknown(relation: &Relation, roles: &[String]) -> IsolationFinding {
    IsolationFinding::new(
        IsolationRule::UnknownTable,
        &relation.name,
        "can be reached, and is neither a table of tenants nor on a list",
        format!(
            "run `TenantTable::apply` on it, which gives it a tenant column and policies; or, if \
             all tenants read it and none writes it, `ReferenceTable::apply`, or list it with \
             `Isolation::global_table`; or {}",
            revoke("ALL", relation, roles)
        ),
    )
}

pub(super) fn revoke(privileges: &str, relation: &Relation, roles: &[String]) -> String {
    let mut from: Vec<_> = roles.iter().map(|role| quote::identifier(role)).collect();
    if !relation.public.is_empty() {
        from.push("PUBLIC".to_owned());
    }
    format!(
        "REVOKE {privileges} ON {} FROM {};",
        relation.name,
        from.join(", ")
    )
}

/// Which of these are held, as a list of SQL.
pub(super) fn held(relation: &Relation, privileges: &[&str]) -> String {
    let held: Vec<_> = privileges
        .iter()
        .copied()
        .filter(|privilege| relation.privileges.iter().any(|held| held == privilege))
        .collect();
    held.join(", ")
}
