//! Reads the source as tokens and finds the arrows between its top-level modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// One use of a top-level module by another.
#[derive(Clone, Debug)]
pub(crate) struct Arrow {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) place: String,
}

/// The crate as files: what `lib.rs` declares, and the tokens of the rest.
pub(crate) struct Source {
    pub(crate) modules: BTreeSet<String>,
    pub(crate) test_modules: BTreeSet<String>,
    /// Name at the root -> module it is re-exported from.
    pub(crate) exports: BTreeMap<String, String>,
    pub(crate) files: Vec<File>,
}

pub(crate) struct File {
    /// As a person reads it: `src/tx/begin.rs`.
    pub(crate) name: String,
    /// `["tx", "begin"]`
    pub(crate) path: Vec<String>,
    pub(crate) tokens: TokenStream,
}

impl Source {
    pub(crate) fn read(src: &Path) -> Self {
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

    pub(crate) fn of(texts: &[(&str, &str)]) -> Self {
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

    pub(crate) fn arrows(&self) -> Vec<Arrow> {
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
