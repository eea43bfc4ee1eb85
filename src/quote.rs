//! Names and values as SQL text.
//!
//! Whatever this crate writes into SQL goes through here. A NUL cannot be part of any SQL text, so
//! it is refused where a value enters the crate ([`check_name`] does it for names) and not here.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// The longest name PostgreSQL keeps. It cuts longer ones and only leaves a notice, so two names
/// could become one.
const MAX_NAME_BYTES: usize = 63;

/// `name` as a quoted identifier. Always quoted: a list of reserved words would go out of date.
pub(crate) fn identifier(name: &str) -> String {
    debug_assert!(!name.contains('\0'), "refused where it entered");
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `value` as a string literal that means the same under either `standard_conforming_strings`.
pub(crate) fn literal(value: &str) -> String {
    debug_assert!(!value.contains('\0'), "refused where it entered");
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// Refuses what PostgreSQL cannot keep as a name, or would keep as another one.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "the name of a role, a table or a column has 1 to 63 bytes and no NUL",
        ));
    }
    Ok(())
}

/// The name of a table as a developer writes it: `invoices`, `app.invoices`, `"Weird Name"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    schema: Option<String>,
    table: String,
}

impl TableName {
    /// Reads `text` as PostgreSQL would: parts without quotes are folded to lower case, parts in
    /// double quotes are taken as they are.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut rest = text;
        let mut parts = Vec::with_capacity(2);
        loop {
            let (part, behind) = split_part(rest).ok_or_else(malformed_table_name)?;
            check_name(&part)?;
            parts.push(part);
            match behind.strip_prefix('.') {
                Some(next) => rest = next,
                None if behind.is_empty() => break,
                None => return Err(malformed_table_name()),
            }
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(table), None, None) => Ok(Self {
                schema: None,
                table,
            }),
            (Some(schema), Some(table), None) => Ok(Self {
                schema: Some(schema),
                table,
            }),
            _ => Err(malformed_table_name()),
        }
    }
}

/// The quoted form.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", identifier(schema))?;
        }
        f.write_str(&identifier(&self.table))
    }
}

/// The first part of a dotted name and what comes behind it.
fn split_part(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut part = String::new();
        let mut rest = quoted;
        loop {
            let (before, behind) = rest.split_once('"')?;
            part.push_str(before);
            match behind.strip_prefix('"') {
                Some(next) => {
                    part.push('"');
                    rest = next;
                }
                None => return Some((part, behind)),
            }
        }
    }
    let end = text.find(|c: char| !is_plain(c)).unwrap_or(text.len());
    let (part, behind) = text.split_at(end);
    if part.starts_with(|c: char| c == '$' || c.is_ascii_digit()) {
        return None;
    }
    Some((part.to_ascii_lowercase(), behind))
}

fn is_plain(c: char) -> bool {
    c == '_' || c == '$' || c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric())
}

fn malformed_table_name() -> Error {
    Error::new(
        ErrorKind::InvalidOption,
        "the name of a table is `table` or `schema.table`; a part that is not all letters, digits \
         and underscores stands in double quotes",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a literal as the server's scanner does, with `standard_conforming_strings` on or off.
    fn scan_literal(text: &str, conforming: bool) -> Option<String> {
        let (escapes, body) = match text.strip_prefix('E') {
            Some(body) => (true, body),
            None => (!conforming, text),
        };
        let mut out = String::new();
        let mut chars = body.strip_prefix('\'')?.chars();
        loop {
            match chars.next()? {
                '\'' => match chars.next() {
                    None => return Some(out),
                    Some('\'') => out.push('\''),
                    Some(_) => return None,
                },
                '\\' if escapes => out.push(match chars.next()? {
                    c @ ('\\' | '\'') => c,
                    _ => return None,
                }),
                c => out.push(c),
            }
        }
    }

    proptest! {
        #[test]
        fn literals_mean_their_value(value in "[^\0]*") {
            for conforming in [true, false] {
                prop_assert_eq!(scan_literal(&literal(&value), conforming), Some(value.clone()));
            }
        }

        // Few characters, so that quotes and backslashes meet in every order.
        #[test]
        fn literals_of_quotes_and_backslashes_mean_their_value(value in "[\\\\'nE ]{0,8}") {
            for conforming in [true, false] {
                prop_assert_eq!(scan_literal(&literal(&value), conforming), Some(value.clone()));
            }
        }

        #[test]
        fn quoted_table_names_are_read_back(schema in "[a\". $A-]{1,9}", table in "[^\0]{1,15}") {
            let name = TableName { schema: Some(schema), table };
            prop_assert_eq!(TableName::parse(&name.to_string()).ok(), Some(name.clone()));
            let name = TableName { schema: None, ..name };
            prop_assert_eq!(TableName::parse(&name.to_string()).ok(), Some(name));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = TableName::parse(&text);
        }
    }

    #[test]
    fn names_without_quotes_are_folded() {
        for (text, quoted) in [
            ("invoices", r#""invoices""#),
            ("App.Invoices", r#""app"."invoices""#),
            (r#""App".invoices"#, r#""App"."invoices""#),
            (r#""Weird Name""#, r#""Weird Name""#),
            (r#""a.b"."c""d""#, r#""a.b"."c""d""#),
        ] {
            assert_eq!(
                TableName::parse(text)
                    .map(|n| n.to_string())
                    .ok()
                    .as_deref(),
                Some(quoted)
            );
        }
    }

    #[test]
    fn what_is_no_table_name_is_refused() {
        let long = "x".repeat(64);
        for text in [
            "", ".", "a.", ".a", "a.b.c", "a b", "a;b", "\"a", "\"\"", "\"a\"b", "1a", "a-b",
            "a\0b", "\"a\0b\"", &long,
        ] {
            let error = TableName::parse(text).err().map(|e| e.kind());
            assert_eq!(error, Some(ErrorKind::InvalidOption), "{text:?}");
        }
    }
}
