//! What a predicate calls for each row: it is not in a sub-select, which is evaluated once.

use std::collections::BTreeMap;

use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments};

use super::form::parse;

/// The call that reads the context for each row, as it is written; `None` if none is found.
pub(in crate::audit) fn called_per_row(
    predicate: &str,
    helpers: &BTreeMap<String, String>,
) -> Option<String> {
    call(&parse(predicate)?, helpers)
}

fn call(expression: &Expr, helpers: &BTreeMap<String, String>) -> Option<String> {
    let inner: Vec<&Expr> = match expression {
        Expr::Nested(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Cast { expr: inner, .. }
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner) => vec![inner],
        Expr::BinaryOp { left, right, .. }
        | Expr::IsDistinctFrom(left, right)
        | Expr::IsNotDistinctFrom(left, right)
        | Expr::AnyOp { left, right, .. }
        | Expr::AllOp { left, right, .. } => vec![left, right],
        Expr::Array(array) => array.elem.iter().collect(),
        Expr::Function(function) => {
            let name = function.name.to_string();
            if name.eq_ignore_ascii_case("current_setting") || helpers.contains_key(&name) {
                return Some(function.to_string());
            }
            let FunctionArguments::List(list) = &function.args else {
                return None;
            };
            let arguments = list.args.iter();
            arguments
                .filter_map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
                    _ => None,
                })
                .collect()
        }
        _ => Vec::new(),
    };
    inner
        .into_iter()
        .find_map(|expression| call(expression, helpers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_select_is_evaluated_once_and_the_rest_for_each_row() {
        let helpers = BTreeMap::from([("app.tenant".to_owned(), "app.tenant_id".to_owned())]);
        let of = |predicate| called_per_row(predicate, &helpers);
        assert_eq!(
            of("(tenant_id = app.tenant())").as_deref(),
            Some("app.tenant()")
        );
        for predicate in [
            "(tenant_id = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::integer)",
            "(is_public OR (NOT (tenant_id <> app.tenant())))",
            "(tenant_id = ANY (ARRAY[app.tenant(), 0]))",
        ] {
            assert!(of(predicate).is_some(), "{predicate}");
        }
        for predicate in [
            "(tenant_id = ( SELECT app.tenant() AS tenant))",
            "(tenant_id = other.tenant())",
            "true",
        ] {
            assert_eq!(of(predicate), None, "{predicate}");
        }
    }
}
