//! Which module may use which: [`LAYERS`] is the list, and every arrow in the source is on it.
//!
//! An arrow is a path that leaves its own top-level module: `crate::tx::Begin`, `crate::{..}`,
//! `super::scope` in a file directly under `src`, `$crate::` in a macro. Comments, strings and
//! whatever stands under `#[cfg(test)]` draw none. `lib.rs` may use everything; a path through its
//! re-exports (`crate::Error`) counts as one to the module the name comes from.
//!
//! When this fails it prints the table as the source has it, ready to be pasted: read the
//! difference first, a new arrow is a decision.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrows::{Arrow, Source};

#[path = "support/arrows.rs"]
mod arrows;

/// Each module and what it uses, from the top down: a module uses only modules below its own line.
#[rustfmt::skip]
const LAYERS: Table = &[
    ("testing", &["job", "audit", "repository", "reader", "registry", "scope", "tx", "lease", "context", "directory", "sql", "tenant", "settings", "quote", "error"]),
    ("job", &["registry", "scope", "context", "error"]),
    ("sqlite", &["tx", "slots", "lease", "context", "tenant", "error"]),
    ("web", &["authz", "resolve", "registry", "scope", "tx", "tenant", "error"]),
    ("audit", &["sql", "settings", "quote", "error"]),
    ("authz", &["scope", "tx", "slots", "directory", "sql", "listen", "tenant", "error", "sync"]),
    ("resolve", &["context", "tenant", "error"]),
    ("series", &["reader", "scope", "tx", "tenant", "error"]),
    ("trail", &["reader", "tx", "error"]),
    ("registry", &["dangerous", "scope", "slots", "lease", "context", "directory", "tenant", "settings", "signing", "error"]),
    ("repository", &["reader", "tx", "context", "tenant", "error"]),
    ("reader", &["scope", "tx", "argument", "context"]),
    ("dangerous", &["tx", "slots", "argument", "lease", "statement", "quote", "error"]),
    ("scope", &["tx", "slots", "argument", "lease", "assertion", "context", "tenant", "settings", "signing", "error"]),
    ("tx", &["argument", "lease", "assertion", "statement", "context", "settings", "quote", "error"]),
    ("slots", &["lease", "directory", "tenant", "error", "sync"]),
    ("argument", &["lease", "assertion", "statement", "settings", "error"]),
    ("lease", &["preflight", "directory", "sql", "pooler", "tenant", "settings", "error", "sync"]),
    ("preflight", &["sql", "settings", "error"]),
    ("assertion", &["sql", "context", "tenant", "settings", "signing", "quote", "error"]),
    ("directory", &["sql", "listen", "pooler", "secret", "tenant", "error"]),
    ("sql", &["signing", "tenant", "settings", "quote", "error"]),
    ("signing", &["secret", "error"]),
    ("listen", &["pooler", "error"]),
    ("pooler", &["error"]),
    ("statement", &[]),
    ("context", &["tenant", "settings", "error"]),
    ("tenant", &["error"]),
    ("settings", &["error"]),
    ("quote", &["error"]),
    ("secret", &[]),
    ("error", &[]),
    ("sync", &[]),
];

/// Arrows that go up all the same, each with its reason. Shorter is better.
const UPWARD: &[(&str, &str, &str)] = &[];

#[test]
fn modules_use_only_what_the_table_allows() {
    let source = Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let arrows = source.arrows();
    let complaints = check(LAYERS, UPWARD, &source, &arrows);
    assert!(
        complaints.is_empty(),
        "\n{}\n\nThe table as the source has it:\n\n{}",
        complaints.join("\n"),
        table_of(LAYERS, &source, &arrows),
    );
}

#[test]
fn an_arrow_that_is_not_listed_fails() {
    let source = Source::of(&[
        (
            "lib.rs",
            "mod tx; mod scope; mod error; pub use error::{Error, ErrorKind as Kind};",
        ),
        ("tx/mod.rs", "mod begin; use crate::{scope::Scope, error};"),
        (
            "tx/begin.rs",
            "use super::Tx; use super::super::scope::Scope;",
        ),
        ("scope.rs", "fn f() -> crate::tx::Tx { todo!() }"),
        ("error.rs", ""),
    ]);
    let table: Table = &[("tx", &["scope", "error"]), ("scope", &[]), ("error", &[])];
    assert_eq!(
        complaints(table, &source),
        ["src/scope.rs:1: `scope` uses `tx`, which its line in LAYERS does not list"]
    );
}

#[test]
fn the_table_is_itself_checked() {
    let source = Source::of(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", ""),
        ("b.rs", "use crate::a::A;"),
        ("c.rs", ""),
        ("orphan.rs", ""),
    ]);
    let table: Table = &[("gone", &[]), ("a", &["b"]), ("b", &["a"]), ("gone", &[])];
    assert_eq!(
        complaints(table, &source),
        [
            "LAYERS lists `gone` twice",
            "LAYERS lists `gone`, which is no module of lib.rs",
            "`c` is a module of lib.rs and has no line in LAYERS",
            "src/orphan.rs belongs to no module of lib.rs",
            "LAYERS lets `a` use `b`, and it does not: take it off",
            "LAYERS lets `b` use `a`, which is not below it",
        ]
    );
}

#[test]
fn an_upward_arrow_needs_its_own_entry() {
    let source = Source::of(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", ""),
        ("b.rs", "use crate::a::A;"),
    ]);
    let table: Table = &[("a", &[]), ("b", &[])];
    let arrows = source.arrows();
    assert_eq!(
        check(table, &[("b", "a", "why")], &source, &arrows),
        [""; 0]
    );
    assert_eq!(
        check(
            table,
            &[("b", "a", "why"), ("a", "b", "why")],
            &source,
            &arrows
        ),
        ["UPWARD has `a` -> `b`, and nothing goes there: take it off"]
    );
}

#[test]
fn every_way_to_write_a_path_is_seen() {
    let found = |file: &str, text: &str| {
        let lib = "mod here; mod x; mod y; mod error; pub use error::Error; pub use x::{X as Ex};";
        let source = Source::of(&[("lib.rs", lib), (file, text)]);
        let heads: BTreeSet<_> = source.arrows().into_iter().map(|arrow| arrow.to).collect();
        heads.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found("here.rs", "use crate::x::X;"), "x");
    assert_eq!(found("here.rs", "use crate::{x::{A, B}, y as why};"), "x y");
    assert_eq!(found("here.rs", "use super::y;"), "y");
    assert_eq!(found("here/deep.rs", "use super::{y, super::x};"), "x");
    assert_eq!(
        found(
            "here.rs",
            "mod inner { use super::super::x::X; use super::y; }"
        ),
        "x"
    );
    assert_eq!(found("here.rs", "fn f() { g!(a, crate::x::X) }"), "x");
    assert_eq!(
        found("here.rs", "macro_rules! m { () => { $crate::x::X } }"),
        "x"
    );
    assert_eq!(found("here.rs", "use crate::{Error, Ex};"), "error x");
    assert_eq!(found("here.rs", "impl<T: crate::y::Y> A for T {}"), "y");
    assert_eq!(found("here.rs", "use crate::*;"), "*");
    assert_eq!(found("here.rs", "#[cfg(not(test))] use crate::x::X;"), "x");
    assert_eq!(
        found("here.rs", "#[cfg(any(test, unix))] use crate::x::X;"),
        "x"
    );
    assert_eq!(
        found(
            "here.rs",
            "#[cfg(test)] mod tests { use crate::y; } use crate::x::X;"
        ),
        "x"
    );
}

#[test]
fn what_is_no_code_of_the_crate_draws_no_arrow() {
    for text in [
        "// use crate::x::X;",
        "/* crate::x */ /// [`X`](crate::x::X)\n fn f() {}",
        "//! crate::x::X",
        r##"const A: &str = "crate::x::X"; const B: &str = r#"crate::x"#;"##,
        "pub(crate) fn f() {} pub(in crate::here) fn g() {}",
        "#[cfg(test)] mod tests { use crate::x::X; }",
        "#[cfg(test)] #[allow(unused)] use crate::x::{X};",
        "#[cfg(all(test, unix))] fn f() -> crate::x::X { todo!() }",
        "struct S { #[cfg(test)] a: crate::x::X, b: u8 }",
        "#![cfg(test)] use crate::x::X;",
        "use crate::here::inner::Y;",
    ] {
        let source = Source::of(&[("lib.rs", "mod here; mod x;"), ("here.rs", text)]);
        assert_eq!(source.arrows().len(), 0, "{text}");
    }
    let source = Source::of(&[
        ("lib.rs", "mod here; mod x;"),
        ("here/mod.rs", "#[cfg(test)] mod tests; mod real;"),
        ("here/tests.rs", "use crate::x::X;"),
        ("here/tests/more.rs", "use crate::x::X;"),
        ("here/real.rs", ""),
    ]);
    assert_eq!(source.arrows().len(), 0, "a test module in its own file");
}

#[test]
fn a_path_to_nowhere_fails() {
    let source = Source::of(&[("lib.rs", "mod a;"), ("a.rs", "use crate::Lost;")]);
    assert_eq!(
        complaints(&[("a", &[])], &source),
        [
            "src/a.rs:1: `crate::Lost` is neither a module nor a re-export of lib.rs; name its module"
        ]
    );
}

fn complaints(table: Table, source: &Source) -> Vec<String> {
    check(table, &[], source, &source.arrows())
}

type Table = &'static [(&'static str, &'static [&'static str])];

/// Everything that is wrong, in the words of the failure.
fn check(
    table: Table,
    upward: &[(&str, &str, &str)],
    source: &Source,
    arrows: &[Arrow],
) -> Vec<String> {
    let mut out = Vec::new();
    let line_of: BTreeMap<&str, usize> = table
        .iter()
        .enumerate()
        .map(|(at, (module, _))| (*module, at))
        .collect();

    for (at, (module, _)) in table.iter().enumerate() {
        if line_of[module] != at {
            out.push(format!("LAYERS lists `{module}` twice"));
        } else if !source.modules.contains(*module) {
            out.push(format!(
                "LAYERS lists `{module}`, which is no module of lib.rs"
            ));
        }
    }
    for module in &source.modules {
        if !line_of.contains_key(module.as_str()) {
            out.push(format!(
                "`{module}` is a module of lib.rs and has no line in LAYERS"
            ));
        }
    }
    for file in &source.files {
        if !source.modules.contains(&file.path[0]) && !source.test_modules.contains(&file.path[0]) {
            out.push(format!("{} belongs to no module of lib.rs", file.name));
        }
    }

    let drawn: BTreeSet<(&str, &str)> = arrows
        .iter()
        .map(|arrow| (arrow.from.as_str(), arrow.to.as_str()))
        .collect();
    for (at, (module, uses)) in table.iter().enumerate() {
        for used in *uses {
            if line_of.get(used).is_none_or(|below| *below <= at) {
                out.push(format!(
                    "LAYERS lets `{module}` use `{used}`, which is not below it"
                ));
            } else if source.modules.contains(*module) && !drawn.contains(&(*module, *used)) {
                out.push(format!(
                    "LAYERS lets `{module}` use `{used}`, and it does not: take it off"
                ));
            }
        }
    }
    for (from, to, _) in upward {
        if !drawn.contains(&(*from, *to)) {
            out.push(format!(
                "UPWARD has `{from}` -> `{to}`, and nothing goes there: take it off"
            ));
        }
    }

    for Arrow { from, to, place } in arrows {
        let Some(at) = line_of.get(from.as_str()) else {
            continue; // complained about above
        };
        if !source.modules.contains(to) {
            out.push(format!(
                "{place}: `crate::{to}` is neither a module nor a re-export of lib.rs; name its module"
            ));
        } else if !table[*at].1.contains(&to.as_str())
            && !upward.iter().any(|(a, b, _)| a == from && b == to)
        {
            out.push(format!(
                "{place}: `{from}` uses `{to}`, which its line in LAYERS does not list"
            ));
        }
    }
    out
}

/// The table that would be right, in the order of the present one; new modules come first.
fn table_of(table: Table, source: &Source, arrows: &[Arrow]) -> String {
    let known: Vec<&str> = table.iter().map(|(module, _)| *module).collect();
    let rank = |module: &str| known.iter().position(|known| *known == module);
    let mut modules: Vec<&str> = source.modules.iter().map(String::as_str).collect();
    modules.sort_by_key(|module| rank(module));

    let mut out = String::new();
    for module in modules {
        let mut uses: Vec<&str> = arrows
            .iter()
            .filter(|arrow| arrow.from == module)
            .map(|arrow| arrow.to.as_str())
            .collect();
        uses.sort_by_key(|used| (rank(used), *used));
        uses.dedup();
        out.push_str(&format!("    ({module:?}, &{uses:?}),\n"));
    }
    out
}
