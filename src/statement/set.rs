//! What SET and RESET set.

use super::scan::{Scanner, Token};
use super::{Kind, next_is};

/// The kind of a SET or RESET, from what follows that word (`VariableSetStmt` in gram.y).
pub(super) fn kind(mut scanner: Scanner<'_>, protected: &dyn Fn(&str) -> bool) -> Kind {
    // SESSION and LOCAL are no part of the name, unless what comes next says that they are.
    let mut is_local = false;
    while next_is(&scanner, b"session") || next_is(&scanner, b"local") {
        let mut behind = scanner.clone();
        behind.next();
        if next_is(&behind, b"authorization") {
            return Kind::Lasting;
        }
        if next_is(&behind, b"characteristics") {
            return Kind::TransactionControl;
        }
        let named = next_is(&behind, b"to") || next_is(&behind, b"from");
        if named || !matches!(behind.clone().next(), Token::Word(_) | Token::Quoted { .. }) {
            break;
        }
        is_local = next_is(&scanner, b"local");
        scanner = behind;
    }
    if next_is(&scanner, b"transaction") {
        return Kind::TransactionControl;
    }
    let mut name = Name::new();
    loop {
        let pushed = match scanner.next() {
            Token::Word(part) => name.push(part),
            Token::Quoted {
                name: part,
                unicode: false,
            } => name.push(part),
            _ => false,
        };
        if !pushed {
            return Kind::Context;
        }
        let mut behind = scanner.clone();
        if behind.next() != Token::Dot {
            break;
        }
        if !name.push_dot() {
            return Kind::Context;
        }
        scanner = behind;
    }
    let assigned = next_is(&scanner, b"to") || scanner.clone().next() == Token::Equals;
    let Some(name) = name.get() else {
        return Kind::Context;
    };
    let name = match name {
        "time" if !assigned => "timezone",
        "schema" if !assigned => "search_path",
        "names" if !assigned => "client_encoding",
        name => name,
    };
    match name {
        "session_authorization" => Kind::Lasting,
        // What SET TRANSACTION sets, by its other names.
        "transaction_isolation" | "transaction_read_only" | "transaction_deferrable" => {
            Kind::TransactionControl
        }
        // With these changed, the server would read the next text otherwise than the scanner.
        "standard_conforming_strings" | "client_encoding" => Kind::Context,
        name if protected(name) => Kind::Context,
        "constraints" if !assigned => Kind::Local,
        _ if is_local => Kind::Local,
        _ => Kind::Session,
    }
}

/// The name of a setting, put together without an allocation.
struct Name {
    bytes: [u8; 256],
    length: usize,
}

impl Name {
    fn new() -> Self {
        Self {
            bytes: [0; 256],
            length: 0,
        }
    }

    /// Says no to what it does not hold exactly.
    fn push(&mut self, part: &[u8]) -> bool {
        // PostgreSQL cuts off what is longer than NAMEDATALEN - 1, so a long name may mean a
        // shorter one.
        if part.len() > 63 || part.contains(&b'"') {
            return false;
        }
        self.append(part)
    }

    fn push_dot(&mut self) -> bool {
        self.append(b".")
    }

    fn append(&mut self, part: &[u8]) -> bool {
        let end = self.length + part.len();
        let Some(room) = self.bytes.get_mut(self.length..end) else {
            return false;
        };
        room.copy_from_slice(part);
        // Names of settings are compared without regard to case, quoted or not
        // (`guc_name_compare` in guc.c).
        room.make_ascii_lowercase();
        self.length = end;
        true
    }

    fn get(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes[..self.length]).ok()
    }
}
