//! A text of any kind before the scanner of statements: it comes to an end, and what it says of two
//! texts one behind the other is what it says of each.
#![no_main]
#![allow(
    dead_code,
    reason = "of the sources that are taken in, not all is used"
)]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/statement/mod.rs"]
mod statement;

use statement::{Inspection, Kind};

fn inspect(sql: &str) -> Inspection {
    statement::inspect(sql, |name| name.starts_with("app."))
}

/// A text that cannot be told apart is this, and so is one with a very high parameter that ends a
/// transaction, of which as much can be said.
fn may_be_broken(seen: Inspection) -> bool {
    seen.kind == Kind::TransactionControl && seen.highest_parameter == u32::MAX
}

fuzz_target!(|data: (&str, &str)| {
    let (one, two) = data;
    let (first, second) = (inspect(one), inspect(two));
    let both = inspect(&format!("{one}\n;{two}"));
    // Nothing is read of a text that the protocol would end in its middle.
    if one.contains('\0') || two.contains('\0') {
        assert!(may_be_broken(both));
        return;
    }
    if may_be_broken(first) {
        // Nothing that comes behind makes it harmless, unless it ends what had no end: then that
        // is read as what it is.
        return;
    }
    assert_eq!(both.kind, first.kind.max(second.kind));
    assert_eq!(both.statements, first.statements + second.statements);
    assert_eq!(
        both.highest_parameter,
        first.highest_parameter.max(second.highest_parameter)
    );
    let control = inspect(&format!("{one}\n;COMMIT"));
    assert_eq!(control.kind, Kind::TransactionControl);
    for comment in [" -- ; BEGIN", " /* ; COMMIT /* */ $9 */", "\n\t"] {
        assert_eq!(inspect(&format!("{one}\n{comment}")), first, "{comment}");
        assert_eq!(inspect(&format!("{comment}\n{one}")), first, "{comment}");
    }
    // Not refused, it has no word that ends a transaction at the beginning of a statement.
    if first.kind < Kind::TransactionControl {
        for begins in one.split(';') {
            let word = begins.trim_start_matches([' ', '\n', '\t', '\r', '\x0c', '\x0b']);
            let is_control = ["commit", "rollback", "abort", "savepoint"]
                .iter()
                .any(|control| word.eq_ignore_ascii_case(control));
            // In quotes or in a comment it may stand.
            let is_plain = !one.contains(['\'', '"', '$', '-', '/']);
            assert!(!(is_control && is_plain), "{word}");
        }
    }
});
