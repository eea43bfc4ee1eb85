//! The public API, all features on, is what `tests/public-api.txt` says.
//!
//! rustdoc lists it, so this needs no database. The list is written by
//!
//! ```text
//! UPDATE_SNAPSHOTS=1 cargo test --test public_api
//! ```
//!
//! and reviewed like code: a line that goes or changes breaks someone who uses the crate.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const UPDATE: &str = "UPDATE_SNAPSHOTS=1 cargo test --test public_api";

#[test]
fn public_api_is_the_one_on_file() {
    let Some(actual) = public_api() else {
        return;
    };
    assert!(
        actual.lines().any(|line| line == "pub mod tenantry"),
        "rustdoc listed something, and it is not this crate:\n{actual}"
    );

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public-api.txt");
    if env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value != "0") {
        fs::write(&file, actual).expect("the snapshot is writable");
        return;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        expected == actual,
        "the public API is not the one in tests/public-api.txt:\n\n{}\n\
         If every line is meant, and CHANGELOG.md tells of it:\n\n    {UPDATE}\n",
        difference(&expected, &actual),
    );
}

#[test]
fn a_difference_names_what_went_and_what_came() {
    assert_eq!(
        difference("pub fn a()\npub fn b()\n", "pub fn a()\npub fn b(x: u8)\n"),
        "- pub fn b()\n+ pub fn b(x: u8)\n"
    );
    assert_eq!(
        difference("a\nb\n", "b\na\n"),
        "(the same lines, in another order or number)\n"
    );
}

/// The list, a line an item; `None` where this toolchain's rustdoc speaks another format, which is
/// a failure in CI and when the snapshot is to be written.
fn public_api() -> Option<String> {
    let json = rustdoc_json();
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    match api {
        Ok(api) => {
            let lines = api.items().map(|item| item.to_string());
            Some(
                lines
                    .filter(|line| is_api(line))
                    .flat_map(|line| [line, "\n".into()])
                    .collect(),
            )
        }
        Err(error) => {
            let why = format!(
                "the crate public-api cannot read this rustdoc's JSON: use Rust 1.95, or the \
                 release of public-api that goes with this toolchain ({error})"
            );
            let must = ["CI", "UPDATE_SNAPSHOTS"]
                .iter()
                .any(|name| env::var_os(name).is_some());
            assert!(!must, "{why}");
            eprintln!("not compared: {why}");
            None
        }
    }
}

/// `Send` and `Sync` are promises; what else the compiler derives by itself is left out.
fn is_api(line: &str) -> bool {
    !line.starts_with("impl")
        || ![
            "marker::Freeze for",
            "marker::Unpin for",
            "UnwindSafe for",
            "UnsafeUnpin for",
        ]
        .iter()
        .any(|auto| line.contains(auto))
}

/// Runs rustdoc and says where its JSON is.
///
/// The JSON is unstable, and RUSTC_BOOTSTRAP=1 lets a stable rustdoc write it. Set for cargo it
/// would reach the build scripts, and every dependency would be built anew each time; so only
/// rustdoc itself gets it, from a wrapper.
fn rustdoc_json() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = temporary
        .parent()
        .expect("it is a folder of the target folder");

    let wrapper = temporary.join("rustdoc-with-json");
    let rustdoc = env::var("RUSTDOC").unwrap_or_else(|_| "rustdoc".into());
    fs::write(
        &wrapper,
        format!("#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec '{rustdoc}' \"$@\"\n"),
    )
    .expect("the target folder is writable");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("the file is ours");

    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["rustdoc", "--lib", "--all-features", "--target-dir"])
        .arg(target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .env("RUSTDOC", &wrapper)
        .env_remove("RUSTDOCFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "cargo rustdoc failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join("doc/tenantry.json")
}

/// Lines of one and not of the other; the list has no order of its own that matters.
fn difference(expected: &str, actual: &str) -> String {
    let old: BTreeSet<&str> = expected.lines().collect();
    let new: BTreeSet<&str> = actual.lines().collect();
    let gone = old.difference(&new).map(|line| format!("- {line}\n"));
    let come = new.difference(&old).map(|line| format!("+ {line}\n"));
    let lines: String = gone.chain(come).collect();
    if lines.is_empty() {
        "(the same lines, in another order or number)\n".into()
    } else {
        lines
    }
}
