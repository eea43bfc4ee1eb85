//! Colours; where output is no terminal they are taken out on the way.

use anstyle::{AnsiColor, Reset, Style};

pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const END: Reset = Reset;

const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const QUIET: Style = Style::new().dimmed();

/// A report, by how its lines begin.
pub(crate) fn report(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for line in text.lines() {
        match style(line) {
            Some(style) => out += &format!("{style}{line}{END}\n"),
            None => out += &format!("{line}\n"),
        }
    }
    out
}

fn style(line: &str) -> Option<Style> {
    let words: [(&str, Style); 10] = [
        ("critical ", BAD),
        ("high ", BAD),
        ("medium ", WARNING),
        ("low ", WARNING),
        ("info ", NOTE),
        ("not seen ", WARNING),
        ("allowance ", WARNING),
        ("  fix: ", GOOD),
        ("  see ", QUIET),
        ("allowed ", QUIET),
    ];
    let found = words.into_iter().find(|(word, _)| line.starts_with(word));
    found.map(|(_, style)| style)
}
