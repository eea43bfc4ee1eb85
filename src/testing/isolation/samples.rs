//! Rows that are made up.

use serde_json::{Map, Value};

use super::catalog::Column;
use crate::context::TenantContext;
use crate::error::Error;
use crate::settings::ContextSettings;

/// Whose a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The tenant's, in whose context it is asked.
    Own,
    Foreign,
    /// Of the tenant '', which is what is left of a context behind its transaction.
    Empty,
    /// Of none.
    Nobody,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) whose: Whose,
    pub(super) document: Value,
}

/// What tenants there are, as the tenant column has them.
#[derive(Clone, Debug)]
pub(super) struct Tenants {
    pub(super) own: String,
    /// The first is that of the second context. The others look like the own one to a policy that
    /// does not compare them byte by byte.
    pub(super) foreign: Vec<String>,
    pub(super) is_text: bool,
}

/// No two tests of the same database have rows of these.
const TEXTS: [&str; 2] = ["proof_a", "proof-a"];
const NUMBERS: [&str; 2] = ["32001", "32002"];
const UUIDS: [&str; 2] = [
    "a7e0c5b2-0000-4000-8000-00000000000a",
    "a7e0c5b2-0000-4000-8000-00000000000b",
];

/// A user, where none is given.
const USER: &str = "proof_user";

/// The most rows that are made of one tenant.
const MOST: usize = 64;

impl Tenants {
    /// `None` for a type of column that nobody would compare with a context.
    pub(super) fn of(column: &Column, given: Option<&[TenantContext; 2]>) -> Option<Self> {
        let is_text = column.category == "S";
        let [own, other] = match (&*column.type_name, &*column.category) {
            _ if given.is_some() => {
                given.map(|pair| pair.each_ref().map(|c| c.tenant().as_str()))?
            }
            ("uuid", _) => UUIDS,
            (_, "N") => NUMBERS,
            (_, "S") => TEXTS,
            _ => return None,
        };
        let mut foreign = vec![other.to_owned()];
        if is_text {
            // Another case, padding, and what is the same to LIKE.
            foreign.extend([
                own.to_uppercase(),
                format!("{own} "),
                format!("{own}x"),
                own.replace('_', "x"),
            ]);
        } else if column.type_name == "uuid" {
            foreign.push("00000000-0000-0000-0000-000000000000".to_owned());
        } else {
            foreign.extend(["0".to_owned(), "-1".to_owned(), "32767".to_owned()]);
        }
        foreign.retain(|tenant| tenant != own);
        Some(Self {
            own: own.to_owned(),
            foreign,
            is_text,
        })
    }

    /// The settings of the context of `tenant`, which is one of these, or none.
    pub(super) fn context(
        tenant: &str,
        names: &ContextSettings,
        given: Option<&TenantContext>,
    ) -> Vec<(String, String)> {
        let user = match given {
            Some(context) => context.user_id().unwrap_or(""),
            None => USER,
        };
        let further = names.further().iter().map(|name| {
            let value = given.and_then(|context| context.value(name));
            (name.to_string(), value.unwrap_or("").to_owned())
        });
        [
            (names.tenant().to_owned(), tenant.to_owned()),
            (names.user().to_owned(), user.to_owned()),
        ]
        .into_iter()
        .chain(further)
        .collect()
    }
}

/// Rows of each of these tenants, in which the other columns that policies speak of run over
/// values that policies may have been written for.
pub(super) fn rows(
    tenant_column: &str,
    whose: Whose,
    tenants: &[&str],
    others: &[(String, Vec<Value>)],
) -> Vec<Row> {
    let most = others
        .iter()
        .map(|(_, values)| values.len())
        .product::<usize>();
    let mut rows = Vec::new();
    for tenant in tenants {
        for number in 0..most.clamp(1, MOST) {
            // With more combinations than are tried these are spread over all of them.
            let mut rest = number * (most / MOST).max(1);
            let mut document = Map::new();
            let value = match whose {
                Whose::Nobody => Value::Null,
                _ => Value::from(*tenant),
            };
            document.insert(tenant_column.to_owned(), value);
            for (name, values) in others {
                document.insert(name.clone(), values[rest % values.len()].clone());
                rest /= values.len();
            }
            rows.push(Row {
                whose,
                document: Value::Object(document),
            });
        }
    }
    rows
}

/// What a column may hold that a policy speaks of beside the tenant.
pub(super) fn values(column: &Column, policies: &[&str], context: &[String]) -> Vec<Value> {
    let mut values = vec![Value::Null];
    let mut add = |value: Value| {
        if !values.contains(&value) {
            values.push(value);
        }
    };
    let constants = policies.iter().flat_map(|text| constants(text));
    match &*column.category {
        "B" => {
            add(Value::from("true"));
            add(Value::from("false"));
        }
        "N" => {
            add(Value::from("0"));
            add(Value::from("1"));
            constants
                .filter(|text| text.parse::<f64>().is_ok())
                .for_each(|text| add(Value::from(text)));
        }
        "D" => {
            add(Value::from("infinity"));
            add(Value::from("-infinity"));
        }
        _ => {
            for text in context {
                add(Value::from(text.clone()));
            }
            constants.for_each(|text| add(Value::from(text)));
        }
    }
    values
}

/// The literals and the numbers of an expression.
fn constants(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c == '\'' || c.is_ascii_digit()) {
        let in_word = rest[..start].ends_with(|c: char| c == '_' || c.is_alphanumeric());
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('\'') {
            let mut text = String::new();
            let mut behind = quoted;
            loop {
                let Some((before, after)) = behind.split_once('\'') else {
                    return found;
                };
                text += before;
                match after.strip_prefix('\'') {
                    Some(next) => {
                        text.push('\'');
                        behind = next;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
            found.push(text);
        } else {
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            if !in_word {
                found.push(rest[..end].to_owned());
            }
            rest = &rest[end..];
        }
    }
    found
}

/// A value that an INSERT can give a column of this type: SQL text. Each `number` has another one
/// where keys may ask for that.
pub(super) fn literal(column: &Column, number: usize) -> Option<String> {
    let text = match (&*column.type_name, &*column.category) {
        ("uuid", _) => "gen_random_uuid()".to_owned(),
        ("json" | "jsonb", _) => "'{}'".to_owned(),
        ("bytea", _) => "'\\x'".to_owned(),
        (_, "B") => "true".to_owned(),
        (_, "N") => format!("{}", 31_001 + number),
        (_, "S") => format!("'x{number}'"),
        (_, "D") => "now()".to_owned(),
        (_, "T") => "'1 hour'".to_owned(),
        (_, "I") => "'127.0.0.1'".to_owned(),
        (_, "A") => "'{}'".to_owned(),
        (_, "E") => crate::quote::literal(column.label.as_deref()?),
        _ => return None,
    };
    Some(text)
}

/// That a tenant of these contexts can be had in the column's type is for the server to say.
pub(super) fn check(contexts: &[TenantContext; 2]) -> Result<(), Error> {
    if contexts[0].tenant() == contexts[1].tenant() {
        return Err(Error::new(
            crate::error::ErrorKind::InvalidOption,
            "the two contexts are of one tenant: a proof needs two",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_a_policy_are_found() {
        let policy =
            "((status = 'it''s open'::text) OR (level > 12) OR (col1 = ANY ('{a,b}'::text[])))";
        assert_eq!(constants(policy), ["it's open", "12", "{a,b}"]);
        assert_eq!(constants("x = 'never ends"), [""; 0]);
    }

    #[test]
    fn combinations_are_bounded_and_all_there_if_they_are_few() {
        let of = |count: usize| {
            (
                "c".to_owned(),
                (0..count).map(Value::from).collect::<Vec<_>>(),
            )
        };
        let named = |name: &str, count| (name.to_owned(), of(count).1);
        let few = rows("t", Whose::Own, &["a"], &[named("b", 3), named("c", 4)]);
        let different: std::collections::BTreeSet<_> =
            few.iter().map(|row| row.document.to_string()).collect();
        assert_eq!((few.len(), different.len()), (12, 12));
        let many = rows(
            "t",
            Whose::Own,
            &["a", "b"],
            &[named("b", 30), named("c", 40)],
        );
        assert_eq!(many.len(), 2 * MOST);
        assert_eq!(rows("t", Whose::Own, &["a"], &[]).len(), 1);
    }
}
