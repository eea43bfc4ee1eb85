//! Whether a predicate holds rows back, told by its form.
//!
//! The server writes a policy as it has parsed it, with every name that is not its own qualified: so
//! `current_setting` is the server's, and `app.current_setting` is somebody's.

use std::collections::BTreeMap;

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Query, SelectItem, SetExpr, Statement, TableFactor, Value,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

/// What a predicate is compared with.
#[derive(Debug)]
pub(in crate::audit) struct Known<'a> {
    /// The columns of the tenant's key.
    pub(in crate::audit) key: Vec<KnownColumn<'a>>,
    /// Functions without arguments that return the value of a setting, or nothing where it is empty,
    /// each with that setting. They have been asked.
    pub(in crate::audit) helpers: &'a BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct KnownColumn<'a> {
    pub(in crate::audit) name: &'a str,
    pub(in crate::audit) setting: &'a str,
    /// Whether '' is a value of its type.
    pub(in crate::audit) is_text: bool,
}

/// Whether only rows pass that have every column of the key from the context. `false` says nothing:
/// the predicate may hold them back in a way that is not known here.
pub(in crate::audit) fn is_bound(predicate: &str, known: &Known<'_>) -> bool {
    parse(predicate).is_some_and(|expression| known.is_bound_by(&expression))
}

/// The same of what a view shows: every row comes from one relation and meets such a condition.
pub(in crate::audit) fn is_bound_view(definition: &str, known: &Known<'_>) -> bool {
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, definition);
    let Ok([Statement::Query(query)]) = statements.as_deref() else {
        return false;
    };
    let SetExpr::Select(select) = &*query.body else {
        return false;
    };
    let is_plain = query.with.is_none()
        && select.from.len() == 1
        && select.from[0].joins.is_empty()
        && matches!(select.from[0].relation, TableFactor::Table { .. })
        && reads_once(definition);
    let condition = select.selection.as_ref();
    is_plain && condition.is_some_and(|condition| known.is_bound_by(condition))
}

/// Whether nothing is read but by the first FROM: no sub-select brings rows of its own.
fn reads_once(definition: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, definition).tokenize() else {
        return false;
    };
    let mut words = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)));
    let mut last = "";
    // Whether each bracket is of a function that has a FROM of its own.
    let mut brackets = Vec::new();
    let mut count = 0;
    for token in words.by_ref() {
        let word = match token {
            Token::Word(word) if word.quote_style.is_none() => word.value.as_str(),
            _ => "",
        };
        match token {
            Token::LParen => brackets.push(matches!(
                &*last.to_ascii_uppercase(),
                "EXTRACT" | "SUBSTRING" | "TRIM" | "OVERLAY"
            )),
            Token::RParen => {
                brackets.pop();
            }
            _ if word.eq_ignore_ascii_case("from") => {
                let is_of_function = brackets.last() == Some(&true);
                let is_distinct = last.eq_ignore_ascii_case("distinct");
                count += usize::from(!is_of_function && !is_distinct);
            }
            _ => {}
        }
        last = word;
    }
    count == 1
}

pub(super) fn parse(predicate: &str) -> Option<Expr> {
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(predicate)
        .ok()?;
    let expression = parser.parse_expr().ok()?;
    let is_all = parser.peek_token().token == Token::EOF;
    is_all.then_some(expression)
}

impl Known<'_> {
    /// Every column of the key, of which there is one.
    fn is_bound_by(&self, expression: &Expr) -> bool {
        let all = (1_u64 << self.key.len().min(63)) - 1;
        all != 0 && self.bound(expression) & all == all
    }

    /// The columns of the key, a bit each, that a row has from the context if it passes.
    fn bound(&self, expression: &Expr) -> u64 {
        match expression {
            Expr::Nested(inner) => self.bound(inner),
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::And => self.bound(left) | self.bound(right),
                BinaryOperator::Or => self.bound(left) & self.bound(right),
                BinaryOperator::Eq => {
                    let columns = self.key.iter().enumerate().filter(|(_, column)| {
                        is_column(left, column) && self.is_context(right, column)
                            || is_column(right, column) && self.is_context(left, column)
                    });
                    columns.fold(0, |bits, (number, _)| bits | 1 << number)
                }
                _ => 0,
            },
            Expr::Value(value) if value.value == Value::Boolean(false) => u64::MAX,
            _ => 0,
        }
    }

    /// What the setting of this column holds, and never the '' that is left of a context.
    fn is_context(&self, expression: &Expr, column: &KnownColumn<'_>) -> bool {
        match without_casts(expression) {
            Some(Expr::Subquery(query)) => {
                only_value(query).is_some_and(|value| self.is_context(value, column))
            }
            Some(Expr::Function(function)) => {
                let name = function.name.to_string();
                match (
                    name.to_ascii_lowercase().as_str(),
                    arguments(function).as_deref(),
                ) {
                    ("nullif", Some([value, empty])) => {
                        is_text(empty, "") && reads_setting(value, column.setting)
                    }
                    ("current_setting", Some(_)) => {
                        !column.is_text && reads_setting(expression, column.setting)
                    }
                    (_, Some([])) => self
                        .helpers
                        .get(&name)
                        .is_some_and(|setting| setting.eq_ignore_ascii_case(column.setting)),
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

/// With a cast at most that tells any two values apart that the column tells apart.
fn is_column(expression: &Expr, column: &KnownColumn<'_>) -> bool {
    match expression {
        Expr::Nested(inner) => is_column(inner, column),
        Expr::Cast {
            kind: CastKind::DoubleColon,
            expr,
            data_type: DataType::Text,
            ..
        } => is_column(expr, column),
        Expr::Identifier(name) => name.value == column.name,
        Expr::CompoundIdentifier(parts) => {
            parts.last().is_some_and(|name| name.value == column.name)
        }
        _ => false,
    }
}

/// What is below casts that lose nothing; `None` if one may.
fn without_casts(expression: &Expr) -> Option<&Expr> {
    match expression {
        Expr::Nested(inner) => without_casts(inner),
        Expr::Cast {
            kind: CastKind::DoubleColon,
            expr,
            data_type,
            ..
        } => match data_type {
            DataType::Text
            | DataType::Uuid
            | DataType::Integer(None)
            | DataType::Int(None)
            | DataType::BigInt(None)
            | DataType::SmallInt(None)
            | DataType::CharacterVarying(None) => without_casts(expr),
            _ => None,
        },
        other => Some(other),
    }
}

/// `current_setting('name', true)`, or without the second argument.
fn reads_setting(expression: &Expr, setting: &str) -> bool {
    let Some(Expr::Function(function)) = without_casts(expression) else {
        return false;
    };
    let arguments = arguments(function).unwrap_or_default();
    function
        .name
        .to_string()
        .eq_ignore_ascii_case("current_setting")
        && arguments.first().is_some_and(|name| is_text(name, setting))
}

/// A text of this content, in upper or lower case.
fn is_text(expression: &Expr, text: &str) -> bool {
    let Some(Expr::Value(value)) = without_casts(expression) else {
        return false;
    };
    matches!(&value.value, Value::SingleQuotedString(found) if found.eq_ignore_ascii_case(text))
}

/// Of a call that has nothing but arguments.
fn arguments(function: &Function) -> Option<Vec<&Expr>> {
    let is_plain = function.filter.is_none()
        && function.over.is_none()
        && function.within_group.is_empty()
        && function.parameters == FunctionArguments::None;
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let plain = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expression)) => Some(expression),
        _ => None,
    };
    match is_plain && list.clauses.is_empty() && list.duplicate_treatment.is_none() {
        true => list.args.iter().map(plain).collect(),
        false => None,
    }
}

/// The value of `(SELECT value)`, which reads no table.
fn only_value(query: &Query) -> Option<&Expr> {
    let SetExpr::Select(select) = &*query.body else {
        return None;
    };
    let is_plain = query.with.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.order_by.is_none()
        && select.from.is_empty()
        && select.selection.is_none()
        && select.having.is_none();
    match (&select.projection[..], is_plain) {
        (
            [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }],
            true,
        ) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_bound_to(predicate: &str, key: &[(&str, &str, bool)]) -> bool {
        let helpers = BTreeMap::from([
            ("app.current_tenant".to_owned(), "app.tenant_id".to_owned()),
            ("app.current_space".to_owned(), "app.space_id".to_owned()),
        ]);
        let key = key
            .iter()
            .map(|&(name, setting, is_text)| KnownColumn {
                name,
                setting,
                is_text,
            })
            .collect();
        let known = Known {
            key,
            helpers: &helpers,
        };
        is_bound(predicate, &known)
    }

    const NUMBER: &[(&str, &str, bool)] = &[("tenant_id", "app.tenant_id", false)];
    const TEXT: &[(&str, &str, bool)] = &[("tenant_id", "app.tenant_id", true)];
    const TWO: &[(&str, &str, bool)] = &[
        ("tenant_id", "app.tenant_id", false),
        ("space_id", "app.space_id", false),
    ];

    #[test]
    fn what_compares_the_column_with_the_context_is_bound() {
        for predicate in [
            "(tenant_id = ( SELECT app.current_tenant() AS current_tenant))",
            "(tenant_id = app.current_tenant())",
            "(tenant_id = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::integer)",
            "((current_setting('app.tenant_id'::text))::uuid = tenant_id)",
            "((tenant_id)::text = NULLIF(current_setting('APP.Tenant_Id'::text, true), ''::text))",
            "((tenant_id = app.current_tenant()) AND (deleted_at IS NULL))",
            "(((a = 1) AND (tenant_id = app.current_tenant())) OR ((tenant_id = app.current_tenant()) AND is_public))",
            "((tenant_id = app.current_tenant()) AND (user_id IN ( SELECT m.user_id FROM app.members m)))",
            "(project.tenant_id = ( SELECT (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::bigint AS \"nullif\"))",
            "false",
        ] {
            assert!(is_bound_to(predicate, NUMBER), "{predicate}");
        }
        let nullif = "(tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))";
        assert!(is_bound_to(nullif, TEXT));
    }

    #[test]
    fn what_may_let_others_through_is_not() {
        for predicate in [
            "true",
            "(tenant_id = tenant_id)",
            "(tenant_id = app.other())",
            "(tenant_id = other.current_tenant())",
            "(tenant_id = app.current_tenant(1))",
            "(tenant_id = (current_setting('app.user_id'::text, true))::integer)",
            "((tenant_id = app.current_tenant()) OR is_public)",
            "(NOT (tenant_id = app.current_tenant()))",
            "(tenant_id <> app.current_tenant())",
            "(tenant_id >= app.current_tenant())",
            "(tenant_id = COALESCE(app.current_tenant(), tenant_id))",
            "(tenant_id IS NOT DISTINCT FROM app.current_tenant())",
            "(tenant_id OPERATOR(app.=) app.current_tenant())",
            "(((tenant_id)::text)::character varying(3) = (current_setting('app.tenant_id'::text))::character varying(3))",
            "(other_id = app.current_tenant())",
            "(tenant_id = ( SELECT m.tenant_id FROM app.members m LIMIT 1))",
            "(tenant_id = ( SELECT app.current_tenant() AS t FROM app.members))",
            "(CASE WHEN (tenant_id = app.current_tenant()) THEN true ELSE is_public END)",
            "((tenant_id = app.current_tenant()) IS NOT NULL)",
            "(tenant_id = app.current_tenant",
            "",
        ] {
            assert!(!is_bound_to(predicate, NUMBER), "{predicate}");
        }
        for predicate in [
            "(tenant_id = current_setting('app.tenant_id'::text, true))",
            "(tenant_id ~~ NULLIF(current_setting('app.tenant_id'::text, true), ''::text))",
            "(lower(tenant_id) = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))",
            "(tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), 'x'::text))",
            "(tenant_id = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::character varying(2))",
        ] {
            assert!(!is_bound_to(predicate, TEXT), "{predicate}");
        }
    }

    #[test]
    fn a_view_is_bound_if_all_that_it_shows_is() {
        let helpers = BTreeMap::from([("app.tenant".to_owned(), "app.tenant_id".to_owned())]);
        let known = Known {
            key: vec![KnownColumn {
                name: "tenant_id",
                setting: "app.tenant_id",
                is_text: false,
            }],
            helpers: &helpers,
        };
        let bound = "WHERE (tenant_id = ( SELECT app.tenant() AS tenant))";
        for view in [
            "SELECT id, EXTRACT(year FROM at) AS year FROM app.note",
            "SELECT id, (a IS DISTINCT FROM b) AS differs FROM app.note",
        ] {
            assert!(is_bound_view(&format!("{view} {bound}"), &known), "{view}");
        }
        for view in [
            "SELECT id, ( SELECT count(*) FROM app.note) AS all FROM app.note",
            "SELECT id FROM ( SELECT 1 AS tenant_id, n.id FROM app.note n) x",
            "SELECT a.id FROM app.note a, app.note b",
            "SELECT id FROM app.note UNION SELECT id FROM app.note",
        ] {
            assert!(!is_bound_view(&format!("{view} {bound}"), &known), "{view}");
        }
    }

    #[test]
    fn every_column_of_the_key_is_to_be_bound() {
        let tenant = "(tenant_id = app.current_tenant())";
        let space = "(space_id = app.current_space())";
        assert!(is_bound_to(&format!("({tenant} AND {space})"), TWO));
        assert!(!is_bound_to(tenant, TWO));
        assert!(!is_bound_to(space, TWO));
        assert!(!is_bound_to(&format!("({tenant} OR {space})"), TWO));
        assert!(!is_bound_to(
            "((tenant_id = app.current_space()) AND (space_id = app.current_tenant()))",
            TWO
        ));
    }
}
