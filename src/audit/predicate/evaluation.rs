//! What a predicate makes of rows that were made up: asked of the server, as the role that policies
//! hold for.

use std::time::Instant;

use serde_json::{Value, json};

use super::effective::Effective;
use crate::audit::catalog::{Catalog, Command, Relation};
use crate::audit::samples::{self, Context, Row, Settings, Tenants, USERS, Whose};
use crate::audit::session::{As, Session};
use crate::audit::subject::{Subject, TenantColumn};
use crate::error::Error;
use crate::quote;

/// A row that a predicate lets through.
#[derive(Clone, Debug)]
pub(in crate::audit) struct Passed {
    pub(in crate::audit) commands: Vec<Command>,
    pub(in crate::audit) context: Context,
    pub(in crate::audit) whose: Whose,
    pub(in crate::audit) document: Value,
}

/// What came of an evaluation.
#[derive(Clone, Debug)]
pub(in crate::audit) enum Evaluated {
    /// The first row of each kind that passes, for each predicate and context.
    Passed(Vec<Passed>),
    /// Nobody can tell, and why.
    NotJudged(&'static str),
    /// The auditor's role may not become the one that they hold for.
    NotAllowed,
}

/// How much longer than one the predicates of a table may take, all together.
const TOGETHER: u32 = 3;

const NO_TYPE: &str = "the tenant column is of a type that nothing is made up of";
const TOO_SLOW: &str = "they take too long to evaluate";

/// Asks the server, in each context.
pub(in crate::audit) async fn evaluate(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
    table: &Relation,
    predicates: &[&Effective],
) -> Result<Evaluated, Error> {
    let key = subject.key_of(table);
    let types: Vec<_> = key
        .iter()
        .map(|of| (&*of.column.base_type, &*of.column.category))
        .collect();
    let deadline = Instant::now() + session.impatience().saturating_mul(TOGETHER);
    let tenants = possible(session, catalog, subject, table, predicates, deadline).await?;
    let Some(tenants) = tenants else {
        return Ok(Evaluated::NotJudged(NO_TYPE));
    };
    let texts: Vec<_> = predicates.iter().map(|p| p.predicate.as_str()).collect();
    let tenants = tenants.naming(&types, &texts);
    let names: Vec<_> = key.iter().map(|of| of.setting).collect();
    let users = subject.users();
    let words = words(catalog, &users);
    let others = others(session, catalog, table, &key, predicates, &words).await?;
    let mut passed = Vec::new();
    for context in Context::ALL {
        let rows = tenants.rows(context, &key, &others);
        for effective in predicates {
            for user in &users {
                let settings = tenants.settings(context, &names, user);
                let Some(role) = catalog.roles.get(&effective.role) else {
                    continue;
                };
                let who = As {
                    role: Some(&role.name),
                    settings: &settings,
                    ..As::default()
                };
                let asked = Asked {
                    table,
                    predicate: &effective.predicate,
                    rows: &rows,
                    deadline,
                };
                let numbers = match asked.pass(session, who).await? {
                    Ok(numbers) => numbers,
                    Err(undecided) => return Ok(undecided),
                };
                let mut kinds = Vec::new();
                for row in numbers.into_iter().map(|number| &rows[number]) {
                    if kinds.contains(&row.whose) {
                        continue;
                    }
                    kinds.push(row.whose);
                    passed.push(Passed {
                        commands: effective.commands.clone(),
                        context,
                        whose: row.whose,
                        document: row.document.clone(),
                    });
                }
                // Another user would be let through no differently.
                if !kinds.is_empty() || context == Context::Unset {
                    break;
                }
            }
        }
    }
    Ok(Evaluated::Passed(passed))
}

/// Names that policies compare with: of the application's roles, and of users.
fn words(catalog: &Catalog, users: &[Settings]) -> Vec<String> {
    let roles = catalog.reach.own();
    let roles = roles.filter_map(|role| catalog.roles.get(&role));
    let mut words: Vec<_> = roles.map(|role| role.name.clone()).collect();
    words.extend(USERS.map(str::to_owned));
    words.extend(users.iter().flatten().map(|(_, value)| value.clone()));
    words.retain(|word| !word.is_empty());
    words
}

/// Tenants of which there can be rows: a CHECK or a domain may want them to look like something.
async fn possible(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
    table: &Relation,
    predicates: &[&Effective],
    deadline: Instant,
) -> Result<Option<Tenants>, Error> {
    let key = subject.key_of(table);
    let types: Vec<_> = key
        .iter()
        .map(|of| (&*of.column.base_type, &*of.column.category))
        .collect();
    let checks = table.checks.iter().map(String::as_str);
    let of_domains = key.iter().map(|of| &*of.column.domain_checks);
    let checks: Vec<_> = checks
        .chain(of_domains)
        .filter(|check| !check.is_empty())
        .collect();
    let role = predicates.first().map(|effective| effective.role);
    let role = role.and_then(|role| catalog.roles.get(&role));
    if subject.names_tenants() || checks.is_empty() || !types.iter().any(|of| of.1 == "S") {
        return Ok(subject.tenants(table));
    }
    let who = As {
        role: role.map(|role| role.name.as_str()),
        ..As::default()
    };
    for tenants in Tenants::candidates(&types, &checks) {
        let mut rows = tenants.rows(Context::Unset, &key, &[]);
        rows.retain(|row| matches!(row.whose, Whose::Own | Whose::Foreign));
        let asked = Asked {
            table,
            predicate: "true",
            rows: &rows,
            deadline,
        };
        match asked.pass(session, who).await? {
            Ok(numbers) if numbers.len() < rows.len() => {}
            // What cannot be asked now will not be judged, and that is said then.
            Ok(_) | Err(_) => return Ok(Some(tenants)),
        }
    }
    Ok(subject.tenants(table))
}

/// Values for the columns that predicates may speak of. Only the server knows what is a value of a
/// type.
async fn others(
    session: &mut Session,
    catalog: &Catalog,
    table: &Relation,
    key: &[TenantColumn<'_>],
    predicates: &[&Effective],
    words: &[String],
) -> Result<Vec<(String, Vec<Value>)>, Error> {
    let texts: Vec<_> = predicates.iter().map(|p| p.predicate.as_str()).collect();
    let mut others = Vec::new();
    let policies = catalog.policies.get(&table.oid);
    let spoken_of = table.columns.iter().filter(|column| {
        policies.is_some_and(|policies| {
            policies
                .iter()
                .any(|policy| policy.columns.contains(&column.number))
        }) && !key.iter().any(|of| of.column.number == column.number)
    });
    for column in spoken_of {
        let mut values = Vec::new();
        for value in samples::values(column, &texts, words) {
            let sql = format!(
                "SELECT pg_catalog.jsonb_populate_record(NULL::{}, {}::jsonb)::text",
                table.display,
                quote::literal(&json!({ &*column.name: value }).to_string()),
            );
            let is_value =
                column.category == "S" || session.attempt(As::default(), &sql).await?.is_ok();
            if is_value {
                values.push(value);
            }
        }
        if !values.is_empty() {
            others.push((column.name.clone(), values));
        }
    }
    Ok(others)
}

struct Asked<'a> {
    table: &'a Relation,
    predicate: &'a str,
    rows: &'a [Row],
    deadline: Instant,
}

/// How often one predicate is asked in one context.
const MOST_ATTEMPTS: usize = 100;

impl Asked<'_> {
    /// The numbers of the rows that pass. What the server refuses to evaluate does not pass; so that
    /// one row does not speak for all, it is asked again in halves. Inside is what it comes
    /// to where nobody can tell.
    async fn pass(
        &self,
        session: &mut Session,
        who: As<'_>,
    ) -> Result<Result<Vec<usize>, Evaluated>, Error> {
        let mut passed = Vec::new();
        let all = 0..self.rows.len();
        let mut open = vec![all];
        let mut attempts = 0;
        while let Some(range) = open.pop() {
            if range.is_empty() || attempts == MOST_ATTEMPTS {
                continue;
            }
            attempts += 1;
            if Instant::now() >= self.deadline {
                return Ok(Err(Evaluated::NotJudged(TOO_SLOW)));
            }
            match session
                .attempt(who, &self.sql(&self.rows[range.clone()]))
                .await?
            {
                Ok(answers) => {
                    let numbers = answers
                        .iter()
                        .filter_map(|answer| answer.first()?.as_ref()?.parse::<usize>().ok());
                    passed.extend(numbers.map(|number| range.start + number - 1));
                }
                Err(code) if code == "57014" => {
                    return Ok(Err(Evaluated::NotJudged(TOO_SLOW)));
                }
                Err(_) if attempts == 1 && !session.can_be(who).await? => {
                    return Ok(Err(Evaluated::NotAllowed));
                }
                Err(_) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    open.push(range.start..middle);
                    open.push(middle..range.end);
                }
                Err(_) => {}
            }
        }
        passed.sort_unstable();
        Ok(Ok(passed))
    }

    /// The numbers of those that pass, from 1.
    fn sql(&self, rows: &[Row]) -> String {
        let possible: Vec<_> = self
            .table
            .checks
            .iter()
            .map(|check| format!("AND ({check}) IS NOT FALSE"))
            .collect();
        let documents: Vec<_> = rows.iter().map(|row| row.document.clone()).collect();
        format!(
            "SELECT tenantry_number::text FROM pg_catalog.jsonb_array_elements({}::jsonb) \
             WITH ORDINALITY AS tenantry_row(tenantry_document, tenantry_number), \
             LATERAL pg_catalog.jsonb_populate_record(NULL::{}, tenantry_document) AS {} \
             WHERE ({}) {}",
            quote::literal(&Value::Array(documents).to_string()),
            self.table.display,
            quote::identifier(&self.table.name),
            self.predicate,
            possible.join(" "),
        )
    }
}
