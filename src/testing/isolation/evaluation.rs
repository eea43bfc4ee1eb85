//! What policies make of rows that were made up.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::catalog::{Column, Policy, Relation};
use super::finding::{IsolationFinding, IsolationRule};
use super::policy::{Use, predicate};
use super::report::IsolationReport;
use super::samples::{self, Row, Tenants, Whose};
use super::session::{As, Session};
use super::subject::Isolation;
use crate::error::Error;
use crate::quote;

/// A table of tenants whose policies are judged.
pub(super) struct Target {
    pub(super) relation: Relation,
    pub(super) column: Column,
    pub(super) columns: Vec<Column>,
    pub(super) tenants: Tenants,
    pub(super) questions: Vec<Question>,
    /// The CHECKs that speak of the tenant column alone.
    pub(super) checks: Vec<String>,
    /// What the other columns may hold that policies speak of.
    others: Vec<(String, Vec<Value>)>,
    /// What let a row of its own tenant through.
    passed: BTreeSet<usize>,
}

/// A predicate, and as whom it is evaluated.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) role: String,
    pub(super) of: Use,
    pub(super) about: About,
    sql: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// All policies that apply.
    Policies,
    /// One by itself, which is to hold whatever others there are.
    One(&'static str),
}

/// In which context is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// As a new connection has it.
    Unset,
    /// What is left behind a transaction.
    Empty,
    /// No tenant, and every one to `LIKE`.
    Pattern,
    Own,
}

impl Context {
    /// A setting that was set once is never unset again in its session, so that comes first.
    pub(super) const ALL: [Self; 4] = [Self::Unset, Self::Empty, Self::Pattern, Self::Own];

    fn words(self) -> &'static str {
        match self {
            Self::Unset => "on a new connection, without a context",
            Self::Empty => "without a context",
            Self::Pattern => "in a context of '%'",
            Self::Own => "in the context of another tenant",
        }
    }

    pub(super) fn settings(
        self,
        tenants: &Tenants,
        isolation: &Isolation,
    ) -> Vec<(String, String)> {
        let tenant = match self {
            Self::Unset => return Vec::new(),
            Self::Empty => "",
            Self::Pattern => "%",
            Self::Own => &tenants.own,
        };
        let given = isolation.contexts.as_ref().map(|[own, _]| own);
        Tenants::context(tenant, &isolation.settings, given)
    }
}

impl Target {
    pub(super) fn new(
        relation: Relation,
        column: Column,
        columns: Vec<Column>,
        tenants: Tenants,
        checks: Vec<String>,
    ) -> Self {
        Self {
            relation,
            column,
            columns,
            tenants,
            questions: Vec::new(),
            checks,
            others: Vec::new(),
            passed: BTreeSet::new(),
        }
    }

    /// Adds what these policies say of a use of the table, unless it is asked already. `false` if
    /// they let no row through at all.
    pub(super) fn ask<'p>(
        &mut self,
        role: &str,
        of: Use,
        about: About,
        policies: impl Iterator<Item = &'p Policy> + Clone,
    ) -> bool {
        let sql = match about {
            About::Policies => predicate(policies, of),
            About::One(name) => policies
                .filter(|policy| policy.name == name)
                .find_map(|policy| of.expression(policy).map(str::to_owned)),
        };
        let Some(sql) = sql else { return false };
        let is_new = !self
            .questions
            .iter()
            .any(|other| (other.of, other.about, &other.sql) == (of, about, &sql));
        if is_new {
            self.questions.push(Question {
                role: role.to_owned(),
                of,
                about,
                sql,
            });
        }
        true
    }

    /// Finds values for the columns that the questions speak of, when all of these are there. Only
    /// the server knows what is a value of a type.
    pub(super) async fn fill(
        &mut self,
        session: &mut Session,
        isolation: &Isolation,
    ) -> Result<(), Error> {
        let texts: Vec<_> = self.questions.iter().map(|q| q.sql.as_str()).collect();
        let mut words = isolation.roles.clone();
        let context = Context::Own.settings(&self.tenants, isolation);
        words.extend(context.into_iter().map(|(_, value)| value));
        let mut others = Vec::new();
        for column in &self.columns {
            if !column.in_policy || column.name == self.column.name {
                continue;
            }
            let mut values = Vec::new();
            for value in samples::values(column, &texts, &words) {
                let sql = format!(
                    "SELECT pg_catalog.jsonb_populate_record(NULL::{}, {}::jsonb)::text",
                    self.relation.name,
                    quote::literal(&json!({ &*column.name: value }).to_string()),
                );
                let is_value = column.category == "S"
                    || session.attempt(As::default(), &sql, false).await?.is_ok();
                if is_value {
                    values.push(value);
                }
            }
            if !values.is_empty() {
                others.push((column.name.clone(), values));
            }
        }
        self.others = others;
        Ok(())
    }

    /// Evaluates all of it in one context.
    pub(super) async fn evaluate(
        &mut self,
        session: &mut Session,
        context: Context,
        isolation: &Isolation,
        report: &mut IsolationReport,
    ) -> Result<(), Error> {
        let settings = context.settings(&self.tenants, isolation);
        let rows = self.rows(context);
        let mut roles: Vec<_> = self.questions.iter().map(|q| q.role.clone()).collect();
        roles.sort_unstable();
        roles.dedup();
        for role in roles {
            let who = As {
                role: Some(&role),
                settings: &settings,
            };
            let asked: Vec<_> = (0..self.questions.len())
                .filter(|number| self.questions[*number].role == role)
                .collect();
            let passed = self.pass(session, who, &asked, &rows).await?;
            report.evaluated += asked.len();
            for (question, row) in passed {
                self.judge(context, question, &rows[row], isolation, report);
            }
        }
        Ok(())
    }

    /// What let nothing through, not even a row of its own tenant, may let anything through.
    pub(super) fn complain_of_silence(&self, report: &mut IsolationReport) {
        for (number, question) in self.questions.iter().enumerate() {
            if self.passed.contains(&number) || question.about != About::Policies {
                continue;
            }
            report.add(IsolationFinding::new(
                IsolationRule::NotJudged,
                &self.relation.name,
                format!(
                    "lets no row through for {} that was made up, not even the tenant's own",
                    question.of.privilege()
                ),
                "give `Isolation::contexts` two tenants, with users, whose rows it lets through, or \
                 look at its policies yourself and list it as reviewed",
            ));
        }
    }

    fn judge(
        &mut self,
        context: Context,
        number: usize,
        row: &Row,
        isolation: &Isolation,
        report: &mut IsolationReport,
    ) {
        let question = &self.questions[number];
        if context == Context::Own && row.whose == Whose::Own {
            self.passed.insert(number);
            return;
        }
        // A row of nobody that is seen by all may be meant; one that anybody may write is not.
        if row.whose == Whose::Nobody && !question.of.writes() {
            return;
        }
        let rule = match (question.about, question.of.writes()) {
            (About::One(_), _) => IsolationRule::PolicyChanged,
            (About::Policies, false) => IsolationRule::ForeignRowReached,
            (About::Policies, true) => IsolationRule::ForeignRowWritten,
        };
        if report.has(rule, &self.relation.name) {
            return;
        }
        let by = match question.about {
            About::Policies => "lets".to_owned(),
            About::One(name) => format!("has a policy {name} that by itself lets"),
        };
        let whose = match row.whose {
            Whose::Nobody => "a row of no tenant",
            _ => "a row",
        };
        report.add(IsolationFinding::new(
            rule,
            &self.relation.name,
            format!(
                "{by} {whose} through for {} {}: {}",
                question.of.privilege(),
                context.words(),
                row.document,
            ),
            self.remedy(isolation),
        ));
    }

    fn remedy(&self, isolation: &Isolation) -> String {
        let column = quote::identifier(&self.column.name);
        let cast = match self.tenants.is_text {
            true => String::new(),
            false => format!("::{}", self.column.type_name),
        };
        let comparison = format!(
            "{column} = (SELECT nullif(current_setting({}, true), ''){cast})",
            quote::literal(isolation.settings.tenant()),
        );
        format!(
            "CREATE POLICY only_its_own ON {} AS RESTRICTIVE FOR ALL TO PUBLIC USING ({comparison}) \
             WITH CHECK ({comparison}); or run `TenantTable::apply` on it",
            self.relation.name,
        )
    }

    fn rows(&self, context: Context) -> Vec<Row> {
        let of = |whose, tenants: &[&str]| {
            samples::rows(&self.column.name, whose, tenants, &self.others)
        };
        let foreign: Vec<_> = self.tenants.foreign.iter().map(String::as_str).collect();
        let mut rows = of(Whose::Own, &[&self.tenants.own]);
        match context {
            Context::Own => rows.extend(of(Whose::Foreign, &foreign)),
            _ => rows.extend(of(Whose::Foreign, &foreign[..1])),
        }
        if self.tenants.is_text && context != Context::Own {
            rows.extend(of(Whose::Empty, &[""]));
        }
        if !self.column.not_null {
            rows.extend(of(Whose::Nobody, &[""]));
        }
        rows
    }

    /// Which rows pass which questions. What the server refuses to evaluate does not pass; so that
    /// one row does not speak for all, it is asked again in halves.
    async fn pass(
        &self,
        session: &mut Session,
        who: As<'_>,
        asked: &[usize],
        rows: &[Row],
    ) -> Result<Vec<(usize, usize)>, Error> {
        let mut passed = Vec::new();
        let mut open = vec![(asked.to_vec(), 0..rows.len())];
        let mut attempts = 0;
        while let Some((questions, range)) = open.pop() {
            if questions.is_empty() || range.is_empty() || attempts == MOST_ATTEMPTS {
                continue;
            }
            attempts += 1;
            let sql = self.sql(&questions, &rows[range.clone()]);
            match session.attempt(who, &sql, false).await? {
                Ok(answers) => {
                    for answer in answers {
                        let Some(Some(number)) = answer.first() else {
                            continue;
                        };
                        let number: usize = number.parse().unwrap_or(0);
                        for (question, verdict) in questions.iter().zip(&answer[1..]) {
                            if verdict.as_deref() == Some("true") {
                                passed.push((*question, range.start + number - 1));
                            }
                        }
                    }
                }
                Err(_) if questions.len() > 1 => {
                    open.extend(questions.iter().map(|q| (vec![*q], range.clone())));
                }
                Err(_) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    open.push((questions.clone(), range.start..middle));
                    open.push((questions, middle..range.end));
                }
                Err(_) => {}
            }
        }
        passed.sort_unstable();
        Ok(passed)
    }

    fn sql(&self, questions: &[usize], rows: &[Row]) -> String {
        let predicates: Vec<_> = questions
            .iter()
            .map(|number| format!("coalesce(({}), false)::text", self.questions[*number].sql))
            .collect();
        let possible: Vec<_> = self
            .checks
            .iter()
            .map(|check| format!("AND ({check}) IS NOT FALSE"))
            .collect();
        let documents: Vec<_> = rows.iter().map(|row| row.document.clone()).collect();
        format!(
            "SELECT tenantry_number::text, {} FROM pg_catalog.jsonb_array_elements({}::jsonb) \
             WITH ORDINALITY AS tenantry_row(tenantry_document, tenantry_number), \
             LATERAL pg_catalog.jsonb_populate_record(NULL::{}, tenantry_document) AS {} \
             WHERE true {}",
            predicates.join(", "),
            quote::literal(&Value::Array(documents).to_string()),
            self.relation.name,
            quote::identifier(&self.relation.table),
            possible.join(" "),
        )
    }
}

/// How often the policies of one table are asked in one context.
const MOST_ATTEMPTS: usize = 200;
