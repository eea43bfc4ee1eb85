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
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// Each module and what it uses, from the top down: a module uses only modules below its own line.
#[rustfmt::skip]
const LAYERS: Table = &[
    ("testing", &["error"]),
    ("registry", &["scope", "lease", "preflight", "context", "directory", "tenant", "settings", "error"]),
    ("reader", &["tx", "scope", "error"]),
    ("tx", &["scope", "lease", "statement", "assertion", "context", "error"]),
    ("scope", &["lease", "statement", "assertion", "context", "tenant", "error"]),
    ("lease", &["settings", "error"]),
    ("preflight", &["sql", "error"]),
    ("sql", &["assertion", "quote", "error"]),
    ("statement", &["error"]),
    ("assertion", &["context", "tenant", "error"]),
    ("context", &["tenant", "settings", "quote", "error"]),
    ("directory", &["tenant", "error"]),
    ("tenant", &["error"]),
    ("settings", &["error"]),
    ("quote", &[]),
    ("error", &[]),
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

/// One use of a top-level module by another.
#[derive(Clone, Debug)]
struct Arrow {
    from: String,
    to: String,
    place: String,
}

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

/// The crate as files: what `lib.rs` declares, and the tokens of the rest.
struct Source {
    modules: BTreeSet<String>,
    test_modules: BTreeSet<String>,
    /// Name at the root -> module it is re-exported from.
    exports: BTreeMap<String, String>,
    files: Vec<File>,
}

struct File {
    /// As a person reads it: `src/tx/begin.rs`.
    name: String,
    /// `["tx", "begin"]`
    path: Vec<String>,
    tokens: TokenStream,
}

impl Source {
    fn read(src: &Path) -> Self {
        let mut texts = Vec::new();
        for path in rust_files(src) {
            let relative = path.strip_prefix(src).expect("it was found there");
            let name = relative
                .to_str()
                .expect("file names are ASCII")
                .replace('\\', "/");
            texts.push((
                name,
                fs::read_to_string(&path).expect("a source file is readable"),
            ));
        }
        assert!(!texts.is_empty(), "no source found under {}", src.display());
        Self::parse(
            texts
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str())),
        )
    }

    fn of(texts: &[(&str, &str)]) -> Self {
        Self::parse(texts.iter().copied())
    }

    fn parse<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut source = Self {
            modules: BTreeSet::new(),
            test_modules: BTreeSet::new(),
            exports: BTreeMap::new(),
            files: Vec::new(),
        };
        for (name, text) in texts {
            let tokens: TokenStream = text
                .parse()
                .unwrap_or_else(|error| panic!("src/{name}: {error}"));
            if name == "lib.rs" {
                source.read_root(tokens);
            } else if name != "main.rs" && !name.starts_with("bin/") {
                let mut path: Vec<String> = name
                    .trim_end_matches(".rs")
                    .split('/')
                    .map(str::to_owned)
                    .collect();
                path.pop_if(|last| last == "mod");
                source.files.push(File {
                    name: format!("src/{name}"),
                    path,
                    tokens,
                });
            }
        }
        source
    }

    fn read_root(&mut self, tokens: TokenStream) {
        let mut walk = Walk::default();
        walk.items(tokens.clone(), &[]);
        self.test_modules = walk
            .test_modules
            .into_iter()
            .map(|path| path.concat())
            .collect();
        self.modules = walk.modules.into_iter().collect();

        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            if let (true, Some(TokenTree::Ident(module))) =
                (is_ident(token, "use"), tokens.get(at + 1))
            {
                let end = tokens[at..]
                    .iter()
                    .position(|t| is_punct(t, ';'))
                    .map_or(tokens.len(), |n| at + n);
                let mut names = Vec::new();
                all_idents(&tokens[at + 2..end], &mut names);
                for name in names {
                    self.exports.insert(name, module.to_string());
                }
            }
        }
    }

    fn arrows(&self) -> Vec<Arrow> {
        let walked: Vec<(&File, Walk)> = self
            .files
            .iter()
            .map(|file| {
                let mut walk = Walk::default();
                walk.items(file.tokens.clone(), &file.path);
                (file, walk)
            })
            .collect();
        let mut test_files: Vec<Vec<String>> = self
            .test_modules
            .iter()
            .map(|module| vec![module.clone()])
            .collect();
        test_files.extend(
            walked
                .iter()
                .flat_map(|(_, walk)| walk.test_modules.clone()),
        );

        let mut arrows = Vec::new();
        for (file, walk) in walked {
            if test_files.iter().any(|path| file.path.starts_with(path)) {
                continue;
            }
            for (head, line) in walk.heads {
                let to = match self.exports.get(&head) {
                    Some(module) if !self.modules.contains(&head) => module.clone(),
                    _ => head,
                };
                if to != file.path[0] {
                    let place = format!("{}:{line}", file.name);
                    arrows.push(Arrow {
                        from: file.path[0].clone(),
                        to,
                        place,
                    });
                }
            }
        }
        arrows
    }
}

/// What one pass over a file's tokens finds.
#[derive(Default)]
struct Walk {
    /// First segments of the paths that start at the root, with their lines.
    heads: Vec<(String, usize)>,
    /// `mod name` outside `#[cfg(test)]`, by the last segment.
    modules: Vec<String>,
    /// `#[cfg(test)] mod name`, by the full path.
    test_modules: Vec<Vec<String>>,
}

impl Walk {
    /// `module` is the path of the module the tokens stand in.
    fn items(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let Some((attribute, inner)) = attribute_at(&tokens[at..]) {
                if !is_cfg_test(attribute) {
                    self.items(attribute.stream(), module);
                    at += if inner { 3 } else { 2 };
                } else if inner {
                    return; // `#![cfg(test)]`: the rest of this block or file
                } else {
                    at = self.skip_test_item(&tokens, at + 2, module);
                }
                continue;
            }
            match &tokens[at] {
                TokenTree::Ident(word) if word == "mod" => {
                    if let Some(TokenTree::Ident(name)) = tokens.get(at + 1) {
                        self.modules.push(name.to_string());
                        if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
                            self.items(body.stream(), &child(module, name));
                            at += 2;
                        }
                    }
                }
                TokenTree::Ident(word) if word == "crate" && is_path(&tokens[at + 1..]) => {
                    self.resolve(&[], &tokens[at + 3..]);
                }
                TokenTree::Ident(word) if word == "super" && is_path(&tokens[at + 1..]) => {
                    self.resolve(parent(module), &tokens[at + 3..]);
                    while at + 3 < tokens.len()
                        && is_path(&tokens[at + 1..])
                        && is_ident(&tokens[at + 3], "super")
                    {
                        at += 3;
                    }
                }
                TokenTree::Group(group) => self.items(group.stream(), module),
                _ => {}
            }
            at += 1;
        }
    }

    /// Notes where a path goes whose beginning led to `base`.
    fn resolve(&mut self, base: &[String], rest: &[TokenTree]) {
        match rest.first() {
            Some(TokenTree::Ident(word)) if word == "super" && is_path(&rest[1..]) => {
                self.resolve(parent(base), &rest[3..]);
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for entry in inner.split(|token| is_punct(token, ',')) {
                    self.resolve(base, entry);
                }
            }
            Some(token) if base.is_empty() => {
                let head = token.to_string();
                if head != "self" {
                    self.heads.push((head, token.span().start().line));
                }
            }
            _ => {} // stays in its own module
        }
    }

    /// Steps over what a `#[cfg(test)]` stands before; `at` is just behind it.
    fn skip_test_item(&mut self, tokens: &[TokenTree], mut at: usize, module: &[String]) -> usize {
        while attribute_at(&tokens[at..]).is_some() {
            at += 2;
        }
        let is_item = tokens[at..]
            .iter()
            .take(4)
            .any(|token| ITEM_WORDS.iter().any(|word| is_ident(token, word)));
        while at < tokens.len() {
            if let (true, Some(TokenTree::Ident(name))) =
                (is_ident(&tokens[at], "mod"), tokens.get(at + 1))
            {
                self.test_modules.push(child(module, name));
            }
            let ends = match &tokens[at] {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                token => is_punct(token, ';') || (!is_item && is_punct(token, ',')),
            };
            at += 1;
            if ends {
                break;
            }
        }
        at
    }
}

/// What tells an item from a field, a variant or an argument under the same attribute.
const ITEM_WORDS: &[&str] = &[
    "mod",
    "use",
    "fn",
    "impl",
    "struct",
    "enum",
    "union",
    "trait",
    "type",
    "const",
    "static",
    "extern",
    "unsafe",
    "async",
    "macro_rules",
];

/// The attribute that starts here, and whether it is an inner one (`#![..]`).
fn attribute_at(tokens: &[TokenTree]) -> Option<(&Group, bool)> {
    let (inner, body) = match tokens {
        [hash, bang, TokenTree::Group(body), ..] if is_punct(hash, '#') && is_punct(bang, '!') => {
            (true, body)
        }
        [hash, TokenTree::Group(body), ..] if is_punct(hash, '#') => (false, body),
        _ => return None,
    };
    (body.delimiter() == Delimiter::Bracket).then_some((body, inner))
}

fn is_cfg_test(attribute: &Group) -> bool {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    match &tokens[..] {
        [cfg, TokenTree::Group(condition)] if is_ident(cfg, "cfg") => implies_test(condition),
        _ => false,
    }
}

/// Whether `(condition)` holds in test builds alone: `test`, or `all(..)` with it.
fn implies_test(condition: &Group) -> bool {
    let tokens: Vec<TokenTree> = condition.stream().into_iter().collect();
    tokens
        .split(|token| is_punct(token, ','))
        .any(|predicate| match predicate {
            [word] => is_ident(word, "test"),
            [word, TokenTree::Group(inner)] => is_ident(word, "all") && implies_test(inner),
            _ => false,
        })
}

fn is_path(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [a, b, _, ..] if is_punct(a, ':') && is_punct(b, ':'))
}

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn all_idents(tokens: &[TokenTree], out: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => out.push(ident.to_string()),
            TokenTree::Group(group) => {
                all_idents(&group.stream().into_iter().collect::<Vec<_>>(), out);
            }
            _ => {}
        }
    }
}

fn child(module: &[String], name: &Ident) -> Vec<String> {
    let mut path = module.to_vec();
    path.push(name.to_string());
    path
}

fn parent(module: &[String]) -> &[String] {
    module.split_last().map_or(&[], |(_, parent)| parent)
}

/// All `.rs` files below, in a fixed order.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("so is its entry").path();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
    out.sort();
    out
}
