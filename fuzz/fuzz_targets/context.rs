//! A context of any text, as the server is told of it, in each of its three forms: a reader of our
//! own and the scanner of statements find there what was put in, and nothing else.
#![no_main]
#![allow(
    dead_code,
    unexpected_cfgs,
    reason = "of the sources that are taken in, not all is used"
)]

use libfuzzer_sys::fuzz_target;

// Not one by one: those that have modules of their own look for them from here.
#[path = "../../src"]
mod source {
    pub(crate) mod assertion;
    pub(crate) mod context;
    pub(crate) mod quote;
    pub(crate) mod settings;
    pub(crate) mod statement;
    pub(crate) mod tenant;
}

use source::{assertion, context, quote, settings, statement, tenant};

mod sql {
    pub(crate) const LAYOUT: i32 = 1;
}

/// As much of the crate's own as these sources use.
mod error {
    use std::borrow::Cow;

    pub use tenantry::ErrorKind;

    #[derive(Debug)]
    pub struct Error(Cow<'static, str>);

    impl Error {
        pub(crate) fn new(_: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
            Self(message.into())
        }
    }

    impl std::fmt::Display for Error {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0)
        }
    }
}

use assertion::Assertion;
use context::TenantContext;
use settings::ContextSettings;
use statement::{Kind, inspect};

fuzz_target!(|data: (&str, &str, &str)| {
    let (tenant, user, value) = data;
    names(user);
    let Ok(tenant) = tenant.parse::<tenant::TenantId>() else {
        return;
    };
    let settings = ContextSettings::default().with("app.role").expect("a name");
    let context = TenantContext::new(tenant.clone())
        .user(user)
        .setting("app.role", value);
    let fits = (1..=255).contains(&user.len())
        && value.len() <= 8_192
        && !user.contains('\0')
        && !value.contains('\0');
    let asserted = Assertion::new(context, &settings);
    assert_eq!(asserted.is_ok(), fits);
    let Ok(asserted) = asserted else { return };

    let values = [tenant.as_str(), user, value];
    let layout = sql::LAYOUT.to_string();
    let with_layout: Vec<&str> = std::iter::once(&*layout).chain(values).collect();
    assert_eq!(
        elements(asserted.argument()).expect("an array"),
        with_layout
    );

    for conforming in [true, false] {
        let mut rest = asserted.set_local();
        for (name, value) in ["tenant_id", "user_id", "role"].iter().zip(values) {
            let before = format!("SET LOCAL \"app\".\"{name}\" = ");
            let behind = rest.strip_prefix(&*before).expect("a statement");
            let (read, behind) = literal(behind, conforming).expect("a literal");
            assert_eq!(read, value);
            rest = behind.strip_prefix("; ").expect("its end");
        }
        assert_eq!(rest, "");

        let mut rest = asserted
            .question()
            .strip_prefix("SELECT ARRAY[")
            .expect("a question");
        for (n, value) in with_layout.iter().enumerate() {
            rest = if n == 0 {
                rest
            } else {
                rest.strip_prefix(", ").expect("more")
            };
            let (read, behind) = literal(rest, conforming).expect("a literal");
            assert_eq!(&read, value);
            rest = behind;
        }
        assert_eq!(rest, "]::tenantry.scope; COMMIT; ");
    }

    let seen = inspect(asserted.set_local(), |name| settings.contains(name));
    assert_eq!(
        (seen.kind, seen.statements),
        (Kind::Context, asserted.statements())
    );
    assert_eq!(seen.highest_parameter, 0);
    let seen = inspect(asserted.question(), |name| settings.contains(name));
    assert_eq!((seen.kind, seen.statements), (Kind::TransactionControl, 2));
    assert_eq!(seen.highest_parameter, 0);
});

/// Names of tables, quoted or not, and of settings.
fn names(text: &str) {
    if let Ok(name) = quote::TableName::parse(text) {
        let written = name.to_string();
        assert_eq!(quote::TableName::parse(&written).ok(), Some(name));
        let seen = inspect(&format!("TABLE {written}"), |_| true);
        assert_eq!((seen.kind, seen.statements), (Kind::Read, 1));
    }
    if quote::check_name(text).is_ok() {
        let written = quote::identifier(text);
        let inner = &written[1..written.len() - 1];
        assert_eq!(inner.replace("\"\"", "\""), text);
        assert!(!inner.replace("\"\"", "").contains('"'));
    }
    if let Ok(settings) = ContextSettings::new(text, "other.user") {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(text.bytes().all(|byte| plain(byte) || byte == b'.'));
        assert!(settings.contains(text));
    }
}

/// What a literal means, and what stands behind it, as the server's scanner reads it.
fn literal(text: &str, conforming: bool) -> Option<(String, &str)> {
    let (escapes, body) = match text.strip_prefix('E') {
        Some(body) => (true, body),
        None => (!conforming, text),
    };
    let mut value = String::new();
    let mut rest = body.strip_prefix('\'')?.chars();
    loop {
        match rest.next()? {
            '\'' => match rest.as_str().strip_prefix('\'') {
                Some(behind) => {
                    value.push('\'');
                    rest = behind.chars();
                }
                None => return Some((value, rest.as_str())),
            },
            '\\' if escapes => match rest.next()? {
                c @ ('\\' | '\'') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
}

/// The texts of an array in the binary form of the protocol, read to its last byte.
fn elements(bytes: &[u8]) -> Option<Vec<&str>> {
    fn word(rest: &mut &[u8]) -> Option<u32> {
        let (word, behind) = rest.split_first_chunk::<4>()?;
        *rest = behind;
        Some(u32::from_be_bytes(*word))
    }
    let mut rest = bytes;
    let head = [word(&mut rest)?, word(&mut rest)?, word(&mut rest)?];
    // One dimension, nothing that is NULL, of the type text.
    if head != [1, 0, 25] {
        return None;
    }
    let length = word(&mut rest)?;
    if word(&mut rest)? != 1 {
        return None;
    }
    let mut texts = Vec::new();
    for _ in 0..length {
        let size = word(&mut rest)? as usize;
        let (text, behind) = rest.split_at_checked(size)?;
        texts.push(std::str::from_utf8(text).ok()?);
        rest = behind;
    }
    rest.is_empty().then_some(texts)
}
