//! What the application role reaches when it tries.

use super::catalog::Relation;
use super::evaluation::{Context, Target};
use super::finding::{IsolationFinding, IsolationRule};
use super::report::IsolationReport;
use super::samples::{self, Tenants};
use super::session::{As, Session};
use super::subject::Isolation;
use crate::error::Error;
use crate::quote;

/// A relation with a tenant column, to look into.
pub(super) struct Window<'a> {
    pub(super) relation: &'a Relation,
    pub(super) column: &'a str,
    pub(super) tenants: &'a Tenants,
}

/// Puts a row of each of two tenants into the table. `false` if it takes none such: that says
/// nothing about it.
pub(super) async fn plant(
    session: &mut Session,
    target: &Target,
    isolation: &Isolation,
) -> Result<bool, Error> {
    let tenants = &target.tenants;
    for (number, tenant) in [&tenants.own, &tenants.foreign[0]].into_iter().enumerate() {
        let given = isolation.contexts.as_ref().map(|pair| &pair[number]);
        let settings = Tenants::context(tenant, &isolation.settings, given);
        let who = As {
            role: None,
            settings: &settings,
        };
        let Some(insert) = insert(target, tenant, number) else {
            return Ok(false);
        };
        if session.attempt(who, &insert, true).await?.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tries to write a row for another tenant. It has to be one that could be planted: then nothing
/// but the policies stands in the way.
pub(super) async fn write(
    session: &mut Session,
    target: &Target,
    isolation: &Isolation,
    report: &mut IsolationReport,
) -> Result<(), Error> {
    let Some(insert) = insert(target, &target.tenants.foreign[0], 2) else {
        return Ok(());
    };
    let settings = Context::Own.settings(&target.tenants, isolation);
    for role in &isolation.roles {
        let who = As {
            role: Some(role),
            settings: &settings,
        };
        if session.attempt(who, &insert, false).await?.is_ok() {
            report.add(IsolationFinding::new(
                IsolationRule::ForeignRowWritten,
                &target.relation.name,
                format!(
                    "took a row for another tenant from {}",
                    quote::identifier(role)
                ),
                "see what else is found here; if nothing is, its policies do not say so by themselves",
            ));
        }
    }
    Ok(())
}

/// Looks for rows that are not the tenant's, in its context and without one.
pub(super) async fn look(
    session: &mut Session,
    window: &Window<'_>,
    isolation: &Isolation,
    report: &mut IsolationReport,
) -> Result<(), Error> {
    let column = quote::identifier(window.column);
    let name = &window.relation.name;
    report.looked += 1;
    for context in [Context::Own, Context::Empty] {
        let foreign = match context {
            Context::Own => format!("{column}::text <> {}", quote::literal(&window.tenants.own)),
            _ => format!("{column} IS NOT NULL"),
        };
        let sql = format!("SELECT 1::text FROM {name} WHERE {foreign} LIMIT 1");
        let settings = context.settings(window.tenants, isolation);
        for role in &isolation.roles {
            let who = As {
                role: Some(role),
                settings: &settings,
            };
            // That it is refused is fine.
            let answer = session.attempt(who, &sql, false).await?;
            if answer.is_ok_and(|rows| !rows.is_empty()) {
                report.add(complaint(window.relation, role, context));
            }
        }
    }
    Ok(())
}

fn complaint(relation: &Relation, role: &str, context: Context) -> IsolationFinding {
    let is_table = matches!(&*relation.kind, "r" | "p");
    let rule = match is_table {
        true => IsolationRule::ForeignRowReached,
        false => IsolationRule::GoesRound,
    };
    let remedy = match is_table {
        true => {
            "see what else is found here; if nothing is, its policies do not say so by themselves"
        }
        false => "let it run with the rights of whoever asks (security_invoker), or revoke it",
    };
    let when = match context {
        Context::Own => "rows that are not of the tenant in the context",
        _ => "rows without a context",
    };
    let problem = format!("showed {} {when}", quote::identifier(role));
    IsolationFinding::new(rule, &relation.name, problem, remedy)
}

fn insert(target: &Target, tenant: &str, number: usize) -> Option<String> {
    let mut names = vec![quote::identifier(&target.column.name)];
    let mut values = vec![quote::literal(tenant)];
    for column in &target.columns {
        if column.needed && column.name != target.column.name {
            names.push(quote::identifier(&column.name));
            values.push(samples::literal(column, number)?);
        }
    }
    Some(format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
        target.relation.name,
        names.join(", "),
        values.join(", "),
    ))
}
