//! Tenants, contexts, rows and values that are made up: for policies that are evaluated, and for rows
//! that are put into tables.

use serde_json::{Map, Value};

use super::catalog::Column;
use super::subject::TenantColumn;
use crate::quote;

/// Whose a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
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

/// In which context a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// As a new connection has it.
    Unset,
    /// What is left behind a transaction.
    Empty,
    /// No tenant, and every one to `LIKE` or to a regular expression.
    Pattern(&'static str),
    Own,
}

impl Context {
    /// A setting that was set once is never unset again in its session, so that comes first.
    pub(super) const ALL: [Self; 5] = [
        Self::Unset,
        Self::Empty,
        Self::Pattern("%"),
        Self::Pattern(".*"),
        Self::Own,
    ];

    pub(super) fn words(self) -> String {
        match self {
            Self::Unset => "on a new connection, without a context".to_owned(),
            Self::Empty => "without a context".to_owned(),
            Self::Pattern(pattern) => format!("in a context of '{pattern}'"),
            Self::Own => "in the context of another tenant".to_owned(),
        }
    }
}

/// Settings, and what they hold.
pub(super) type Settings = Vec<(String, String)>;

/// Two tenants and what looks like the first of them, as the columns of their key have them.
#[derive(Clone, Debug)]
pub(super) struct Tenants {
    own: Vec<String>,
    foreign: Vec<Vec<String>>,
    /// Tenants that policies name.
    named: Vec<Vec<String>>,
    is_text: Vec<bool>,
}

/// Nobody's real ones.
const TEXTS: [&str; 2] = ["audit_a", "audit-b"];
/// What looks otherwise, for columns that take no other.
const OTHER_TEXTS: [[&str; 2]; 6] = [
    ["audita", "auditb"],
    ["32001", "32002"],
    ["AUDITA", "AUDITB"],
    ["a1", "b1"],
    ["ax", "bx"],
    UUIDS,
];
const NUMBERS: [&str; 2] = ["32001", "32002"];
const UUIDS: [&str; 2] = [
    "a7e0c5b2-0000-4000-8000-00000000000a",
    "a7e0c5b2-0000-4000-8000-00000000000b",
];

/// Users, of which a policy may understand one.
pub(super) const USERS: [&str; 3] = [
    "audit_user",
    "32003",
    "a7e0c5b2-0000-4000-8000-00000000000c",
];

/// The most rows that are made of one tenant.
const MOST: usize = 64;

impl Tenants {
    /// `None` for a type of column that nobody would compare with a context.
    ///
    /// `types` are those of the columns, with their categories; `given` are two tenants that are not to
    /// be made up, with a value for each of the columns.
    pub(super) fn of(types: &[(&str, &str)], given: Option<[Vec<&str>; 2]>) -> Option<Self> {
        Self::written(types, &TEXTS.map(str::to_owned), given)
    }

    /// The same, and others that look otherwise where the column is a text. What is in `checks` that
    /// a text may have to begin with is put in front.
    pub(super) fn candidates(types: &[(&str, &str)], checks: &[&str]) -> Vec<Self> {
        let plain = std::iter::once(TEXTS).chain(OTHER_TEXTS);
        let mut texts: Vec<_> = plain.clone().map(|pair| pair.map(str::to_owned)).collect();
        let beginnings = checks.iter().flat_map(|check| constants(check));
        for beginning in beginnings.filter_map(|pattern| beginning(&pattern)) {
            texts.extend(
                plain
                    .clone()
                    .map(|pair| pair.map(|text| format!("{beginning}{text}"))),
            );
        }
        let texts = texts.iter().take(MOST);
        texts
            .filter_map(|texts| Self::written(types, texts, None))
            .collect()
    }

    /// With what policies name that can be a tenant.
    pub(super) fn naming(mut self, types: &[(&str, &str)], predicates: &[&str]) -> Self {
        let [of] = types else { return self };
        for name in predicates.iter().flat_map(|text| constants(text)) {
            let can_be = match *of {
                ("uuid", _) => uuid::Uuid::parse_str(&name).is_ok(),
                (_, "N") => name.parse::<i32>().is_ok(),
                // '' is somebody of its own.
                _ => !name.is_empty(),
            };
            let tenant = vec![name];
            let is_new = tenant != self.own && !self.named.contains(&tenant);
            if can_be && is_new && self.named.len() < MOST {
                self.named.push(tenant);
            }
        }
        self
    }

    fn written(
        types: &[(&str, &str)],
        texts: &[String; 2],
        given: Option<[Vec<&str>; 2]>,
    ) -> Option<Self> {
        let mut own = Vec::new();
        let mut others = Vec::new();
        let mut is_text = Vec::new();
        for (number, of) in types.iter().enumerate() {
            let [one, other] = match *of {
                ("uuid", _) => UUIDS,
                (_, "N") => NUMBERS,
                (_, "S") => [&*texts[0], &*texts[1]],
                _ => return None,
            };
            let [one, other] = match &given {
                Some([own, foreign]) => [*own.get(number)?, *foreign.get(number)?],
                None => [one, other],
            };
            own.push(one.to_owned());
            is_text.push(of.1 == "S");
            let mut unlike = vec![other.to_owned()];
            unlike.extend(match *of {
                // Another case, padding, and what is the same to LIKE.
                (_, "S") => vec![
                    one.to_uppercase(),
                    format!("{one} "),
                    format!("{one}x"),
                    one.replace('_', "x"),
                ],
                ("uuid", _) => vec!["00000000-0000-0000-0000-000000000000".to_owned()],
                _ => ["0", "-1", "32767"].map(str::to_owned).to_vec(),
            });
            unlike.retain(|tenant| tenant != one || one == other);
            others.push(unlike);
        }
        // Another tenant differs in one column of the key, or in all.
        let mut foreign = vec![
            others
                .iter()
                .map(|others| others[0].clone())
                .collect::<Vec<_>>(),
        ];
        for (number, others) in others.iter().enumerate() {
            for other in others {
                let mut tenant = own.clone();
                tenant[number].clone_from(other);
                // Of one given key both may have the same column.
                if tenant != own {
                    foreign.push(tenant);
                }
            }
        }
        foreign.dedup();
        (!own.is_empty()).then_some(Self {
            own,
            foreign,
            named: Vec::new(),
            is_text,
        })
    }

    /// The one in whose context is asked.
    pub(super) fn own(&self) -> &[String] {
        &self.own
    }

    /// Another one, who has nothing to do with it.
    pub(super) fn other(&self) -> &[String] {
        &self.foreign[0]
    }

    /// Whether all columns of the key are texts, so that '' is a tenant.
    pub(super) fn are_texts(&self) -> bool {
        self.is_text.iter().all(|is_text| *is_text)
    }

    /// What the settings hold in a context, those of the key and further ones; none on a new
    /// connection.
    pub(super) fn settings(
        &self,
        context: Context,
        key: &[&str],
        further: &[(String, String)],
    ) -> Settings {
        let value = |number: usize| match context {
            Context::Unset | Context::Empty => String::new(),
            Context::Pattern(pattern) => pattern.to_owned(),
            Context::Own => self.own[number].clone(),
        };
        if context == Context::Unset {
            return Vec::new();
        }
        let key = key.iter().enumerate();
        let key = key.map(|(number, setting)| ((*setting).to_owned(), value(number)));
        key.chain(further.iter().cloned()).collect()
    }

    /// Rows of all of these, in which the other columns that policies speak of run over values that
    /// policies may have been written for.
    pub(super) fn rows(
        &self,
        context: Context,
        key: &[TenantColumn<'_>],
        others: &[(String, Vec<Value>)],
    ) -> Vec<Row> {
        let names: Vec<_> = key.iter().map(|of| of.column.name.as_str()).collect();
        let of = |whose, tenant: Vec<Value>| {
            let key: Map<_, _> = names
                .iter()
                .map(|name| (*name).to_owned())
                .zip(tenant)
                .collect();
            combined(whose, &key, others)
        };
        let texts = |tenant: &[String]| tenant.iter().map(|t| Value::from(t.clone())).collect();
        let mut rows = of(Whose::Own, texts(&self.own));
        let foreign = match context {
            Context::Own => &self.foreign[..],
            _ => &self.foreign[..1],
        };
        for tenant in foreign {
            rows.extend(of(Whose::Foreign, texts(tenant)));
        }
        for tenant in &self.named {
            rows.extend(of(Whose::Foreign, texts(tenant)));
        }
        if context != Context::Own && self.are_texts() {
            rows.extend(of(Whose::Empty, vec![Value::from(""); names.len()]));
        }
        if key.iter().all(|of| !of.column.not_null) {
            rows.extend(of(Whose::Nobody, vec![Value::Null; names.len()]));
        }
        rows
    }
}

/// With more combinations than are tried these are spread over all of them.
fn combined(whose: Whose, key: &Map<String, Value>, others: &[(String, Vec<Value>)]) -> Vec<Row> {
    let most = others.iter().fold(1_usize, |most, (_, values)| {
        most.saturating_mul(values.len())
    });
    (0..most.clamp(1, MOST))
        .map(|number| {
            let mut rest = number * (most / MOST).max(1);
            let mut document = key.clone();
            for (name, values) in others {
                document.insert(name.clone(), values[rest % values.len()].clone());
                rest /= values.len();
            }
            Row {
                whose,
                document: Value::Object(document),
            }
        })
        .collect()
}

/// What a column may hold that a policy speaks of beside the tenant. `words` are names that policies
/// compare with, roles for example.
pub(super) fn values(column: &Column, predicates: &[&str], words: &[String]) -> Vec<Value> {
    let mut values = vec![Value::Null];
    let mut add = |value: Value| {
        if !values.contains(&value) {
            values.push(value);
        }
    };
    let constants = predicates.iter().flat_map(|text| constants(text));
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
            for text in words {
                add(Value::from(text.clone()));
            }
            constants.for_each(|text| add(Value::from(text)));
        }
    }
    values
}

/// A value that an INSERT can give a column of this type, as SQL writes it; `None` for a type that
/// nothing is made up of. Each `number` has another one, where keys may ask for that. Texts are `text`
/// and the number.
pub(super) fn literal(column: &Column, number: usize, text: &str) -> Option<String> {
    let value = match (&*column.base_type, &*column.category) {
        ("uuid", _) => "pg_catalog.gen_random_uuid()".to_owned(),
        ("json" | "jsonb", _) => quote::literal(&format!("{{\"{text}\": {number}}}")),
        ("bytea", _) => format!("'\\x{number:04x}'"),
        (_, "B") => "true".to_owned(),
        (_, "N") => format!("{}", 31_001 + number),
        (_, "S") => quote::literal(&format!("{text}{number}")),
        (_, "D") => "pg_catalog.now()".to_owned(),
        (_, "T") => "'1 hour'".to_owned(),
        (_, "I") => "'127.0.0.1'".to_owned(),
        (_, "A") => "'{}'".to_owned(),
        (_, "E") => quote::literal(column.label.as_deref()?),
        _ => return None,
    };
    // A cast and no assignment: what is too long is cut off.
    Some(match &*column.category {
        "D" => value,
        _ => format!("{value}::{}", column.type_name),
    })
}

/// What a text begins with that matches a pattern: `org_` of `^org_[0-9]+$`.
fn beginning(pattern: &str) -> Option<String> {
    let plain = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '/');
    let pattern = pattern.trim_start_matches(['^', '(']);
    let beginning: String = pattern.chars().take_while(plain).collect();
    let is_repeated = pattern[beginning.len()..].starts_with(['*', '?', '+', '{']);
    (!beginning.is_empty() && !is_repeated).then_some(beginning)
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
    fn what_a_text_begins_with_is_read_off_a_pattern() {
        assert_eq!(beginning("^org_[0-9]+$").as_deref(), Some("org_"));
        assert_eq!(beginning("acme-%").as_deref(), Some("acme-"));
        assert_eq!(beginning("^[a-z]+$"), None);
        assert_eq!(beginning("^a*"), None);
    }

    #[test]
    fn combinations_are_bounded_and_all_there_if_they_are_few() {
        let of = |name: &str, count: usize| {
            let values = (0..count).map(Value::from).collect::<Vec<_>>();
            (name.to_owned(), values)
        };
        let few = combined(Whose::Own, &Map::new(), &[of("b", 3), of("c", 4)]);
        let different: std::collections::BTreeSet<_> =
            few.iter().map(|row| row.document.to_string()).collect();
        assert_eq!((few.len(), different.len()), (12, 12));
        let many = combined(Whose::Own, &Map::new(), &[of("b", 30), of("c", 40)]);
        assert_eq!(many.len(), MOST);
        assert_eq!(combined(Whose::Own, &Map::new(), &[]).len(), 1);
        let all: Vec<_> = (0..80).map(|n| of(&n.to_string(), 10)).collect();
        assert_eq!(combined(Whose::Own, &Map::new(), &all).len(), MOST);
    }
}
