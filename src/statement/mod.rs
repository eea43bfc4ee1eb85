//! What a SQL text is, told from the text alone and before it is sent.
//!
//! This is no parser: it reads tokens, finds the statements among them and looks at the few
//! keywords that decide. A text that PostgreSQL would refuse may get any answer, because the
//! server parses a whole text before it runs any of it (`exec_simple_query` in
//! `src/backend/tcop/postgres.c`). For a text that PostgreSQL accepts the answer is the right one
//! or a more dangerous one.
//!
//! What a function does is out of sight here, but for the few of PostgreSQL's own that change the
//! session they are called in: those are known by name.
//!
//! A semicolon separates statements at any depth. So the body of a function between `BEGIN ATOMIC`
//! and `END` falls into statements, of which the last looks like transaction control: such a
//! function has to be created by a connection that is not a tenant's.

#[cfg(test)]
mod agreement;
mod keyword;
mod scan;
mod set;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial;

use keyword::key;
use scan::{Scanner, Token};

/// Ordered by how much it may leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing but white space, comments and semicolons.
    Empty,
    /// What a READ ONLY transaction allows: SELECT, VALUES, TABLE, SHOW, WITH; EXPLAIN of such.
    Read,
    /// INSERT, UPDATE, DELETE, MERGE, WITH around one of them, SELECT .. FOR UPDATE or SHARE;
    /// EXPLAIN of such.
    Write,
    /// What is neither and ends with its transaction all the same: SET LOCAL, SET CONSTRAINTS, LOCK,
    /// NOTIFY.
    Local,
    /// Reads or writes and calls a function which may change the session: `set_config`, an advisory lock
    /// of the session.
    SessionCall,
    /// Whatever else leaves only traces that a scrub of the session removes, and every statement
    /// that is not known here.
    Session,
    /// What no scrub removes without harm: the commands around prepared statements, LOAD, and the
    /// session authorization.
    Lasting,
    /// COPY
    Copy,
    /// SET or RESET of a protected setting, RESET ALL, DISCARD ALL.
    Context,
    /// BEGIN, COMMIT, SAVEPOINT and their kin; the characteristics of a transaction; a text that
    /// cannot be told apart.
    TransactionControl,
}

/// What [`inspect`] has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// The worst kind among the statements.
    pub(crate) kind: Kind,
    /// How many statements the text holds, empty ones not counted.
    pub(crate) statements: usize,
    /// The highest `$n` that is mentioned, 0 if there is none. A number which PostgreSQL may take
    /// for a smaller one (it wraps around before 18) is `u32::MAX`, and so is that of a text that
    /// cannot be told apart: compare with "or more", not with "equal".
    pub(crate) highest_parameter: u32,
}

/// Tells what a text is.
///
/// `protected` answers whether a setting belongs to the tenant's context. It gets the name in lower
/// case, its parts joined with dots, without quotes. `SET ROLE`, `SET TIME ZONE`, `SET SCHEMA` and
/// `SET NAMES` ask for `role`, `timezone`, `search_path` and `client_encoding`.
pub(crate) fn inspect(sql: &str, protected: impl Fn(&str) -> bool) -> Inspection {
    let mut inspection = Inspection {
        kind: Kind::Empty,
        statements: 0,
        highest_parameter: 0,
    };
    let mut scanner = Scanner::new(sql);
    // A text ends at its first NUL in the protocol's messages, and what stands behind it would be
    // read as the rest of the message.
    let mut broken = sql.as_bytes().contains(&0);
    while !broken {
        let (kind, end) = statement(&mut scanner, &protected);
        inspection.kind = inspection.kind.max(kind);
        inspection.statements += usize::from(kind != Kind::Empty);
        match end {
            End::Semicolon => {}
            End::Text => {
                inspection.highest_parameter = scanner.highest_parameter();
                return inspection;
            }
            End::Broken => {
                broken = true;
                inspection.statements -= usize::from(kind != Kind::Empty);
            }
        }
    }
    Inspection {
        kind: Kind::TransactionControl,
        statements: inspection.statements + 1,
        highest_parameter: u32::MAX,
    }
}

/// Where a statement stops.
#[derive(Clone, Copy)]
enum End {
    Semicolon,
    Text,
    Broken,
}

impl End {
    fn of(token: Token<'_>) -> Option<Self> {
        match token {
            Token::Semicolon => Some(Self::Semicolon),
            Token::End => Some(Self::Text),
            Token::Broken => Some(Self::Broken),
            _ => None,
        }
    }
}

fn statement(scanner: &mut Scanner<'_>, protected: &dyn Fn(&str) -> bool) -> (Kind, End) {
    let mut depth = 0;
    let first = loop {
        match scanner.next() {
            Token::Open => depth += 1,
            Token::Word(word) => break word,
            token => {
                return match End::of(token) {
                    Some(end) if depth == 0 => (Kind::Empty, end),
                    Some(end) => (Kind::Session, end),
                    None => (Kind::Session, skip(scanner)),
                };
            }
        }
    };
    if let Some(body) = Body::new(first, depth) {
        return body.read(scanner);
    }
    let kind = match key(first) {
        keyword::EXPLAIN => return explain(scanner),
        keyword::SHOW => Kind::Read,
        keyword::BEGIN
        | keyword::START
        | keyword::COMMIT
        | keyword::END
        | keyword::ABORT
        | keyword::ROLLBACK
        | keyword::RELEASE => Kind::TransactionControl,
        keyword::SET => set::kind(scanner.clone(), protected),
        keyword::RESET | keyword::DISCARD if next_is(scanner, b"all") => Kind::Context,
        keyword::RESET => set::kind(scanner.clone(), protected),
        // It may be the name of a statement as well.
        keyword::PREPARE if next_is(scanner, b"transaction") => Kind::TransactionControl,
        keyword::PREPARE | keyword::EXECUTE | keyword::LOAD => Kind::Lasting,
        keyword::COPY => Kind::Copy,
        _ if first.eq_ignore_ascii_case(b"lock") => Kind::Local,
        _ if first.eq_ignore_ascii_case(b"notify") => Kind::Local,
        _ if first.eq_ignore_ascii_case(b"savepoint") => Kind::TransactionControl,
        _ if first.eq_ignore_ascii_case(b"deallocate") => Kind::Lasting,
        _ => Kind::Session,
    };
    (kind, skip(scanner))
}

/// Reads on to the end of the statement.
fn skip(scanner: &mut Scanner<'_>) -> End {
    loop {
        if let Some(end) = End::of(scanner.next()) {
            return end;
        }
    }
}

fn explain(scanner: &mut Scanner<'_>) -> (Kind, End) {
    match explained(scanner) {
        Some(body) => body.read(scanner),
        None => (Kind::Session, skip(scanner)),
    }
}

/// Goes behind the first word of the explained statement, if that is one of those that can be
/// read or written.
fn explained(scanner: &mut Scanner<'_>) -> Option<Body> {
    let mut ahead = scanner.clone();
    let mut depth = 0;
    if starts_options(&ahead) {
        while ahead.next() != Token::Close {
            // An option's value is never in parentheses.
            if End::of(ahead.clone().next()).is_some() {
                return None;
            }
        }
    } else {
        while next_is(&ahead, b"analyze")
            || next_is(&ahead, b"analyse")
            || next_is(&ahead, b"verbose")
        {
            ahead.next();
        }
    }
    loop {
        match ahead.next() {
            Token::Open => depth += 1,
            Token::Word(word) => {
                let body = Body::new(word, depth)?;
                *scanner = ahead;
                return Some(body);
            }
            _ => return None,
        }
    }
}

/// Whether EXPLAIN's options follow, and not a SELECT in parentheses.
fn starts_options(scanner: &Scanner<'_>) -> bool {
    let mut ahead = scanner.clone();
    if ahead.next() != Token::Open {
        return false;
    }
    match ahead.next() {
        Token::Word(word) => !matches!(
            key(word),
            keyword::SELECT | keyword::VALUES | keyword::TABLE | keyword::WITH
        ),
        _ => false,
    }
}

/// A statement that reads or writes rows, behind its first word.
struct Body {
    kind: Kind,
    depth: u32,
    previous: Previous,
    /// Whether there is a WITH query anywhere.
    with: bool,
    /// The depths at which a WITH waits for its main statement, a bit for each.
    waiting: u64,
}

/// What the last token means for the next word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Previous {
    /// `AS` or a dot: the next word is a name, whatever it is (`ColLabel` and `attr_name` in
    /// gram.y).
    Naming,
    Open,
    For,
    /// The INSERT or MERGE whose INTO is no SELECT INTO.
    Verb,
    Other,
}

impl Body {
    fn new(first: &[u8], depth: u32) -> Option<Self> {
        let mut body = Self {
            kind: Kind::Read,
            depth,
            previous: Previous::Other,
            with: false,
            waiting: 0,
        };
        match key(first) {
            keyword::SELECT | keyword::VALUES | keyword::TABLE => {}
            keyword::WITH => {
                body.with = true;
                body.waiting = body.bit();
            }
            keyword::UPDATE | keyword::DELETE => body.kind = Kind::Write,
            keyword::INSERT | keyword::MERGE => {
                body.kind = Kind::Write;
                body.previous = Previous::Verb;
            }
            _ => return None,
        }
        Some(body)
    }

    fn read(mut self, scanner: &mut Scanner<'_>) -> (Kind, End) {
        loop {
            let token = scanner.next();
            self.previous = match token {
                Token::Word(word) => {
                    if may_change_session(word) && is_called(scanner) {
                        self.at_least(Kind::SessionCall);
                    }
                    match self.previous {
                        Previous::Naming => Previous::Other,
                        _ => self.word(word),
                    }
                }
                Token::Quoted { name, unicode } => {
                    // What `U&".."` spells with escapes is not known here.
                    if (unicode || may_change_session(name)) && is_called(scanner) {
                        self.at_least(Kind::SessionCall);
                    }
                    Previous::Other
                }
                Token::Dot => Previous::Naming,
                Token::Open => {
                    self.depth += 1;
                    Previous::Open
                }
                Token::Close => {
                    self.waiting &= !self.bit();
                    self.depth = self.depth.saturating_sub(1);
                    Previous::Other
                }
                _ => match End::of(token) {
                    Some(end) => return (self.kind, end),
                    None => Previous::Other,
                },
            };
        }
    }

    fn word(&mut self, word: &[u8]) -> Previous {
        match key(word) {
            keyword::AS => return Previous::Naming,
            keyword::FOR => return Previous::For,
            keyword::UPDATE | keyword::SHARE | keyword::NO | keyword::KEY
                if self.previous == Previous::For =>
            {
                self.at_least(Kind::Write);
            }
            keyword::INTO if self.previous != Previous::Verb => self.at_least(Kind::Session),
            // Elsewhere it belongs to something else, as in `timestamp with time zone`.
            keyword::WITH if self.previous == Previous::Open => {
                self.with = true;
                self.waiting |= self.bit();
            }
            // Both are reserved: no name of a WITH query or of a column is spelled like them.
            keyword::SELECT | keyword::TABLE => self.waiting &= !self.bit(),
            keyword::UPDATE | keyword::DELETE if self.is_verb() => self.at_least(Kind::Write),
            keyword::INSERT | keyword::MERGE if self.is_verb() => {
                self.at_least(Kind::Write);
                // `insert` may name a column, so not every one takes the INTO behind it.
                if self.bit() != 0 {
                    return Previous::Verb;
                }
            }
            _ => {}
        }
        Previous::Other
    }

    /// Whether a word here can begin a statement inside WITH, or the one that WITH belongs to.
    fn is_verb(&self) -> bool {
        self.with
            && (self.previous == Previous::Open
                || self.waiting & self.bit() != 0
                || self.bit() == 0)
    }

    /// The bit of the present depth; none where it is too deep to keep track of.
    fn bit(&self) -> u64 {
        1_u64.checked_shl(self.depth).unwrap_or(0)
    }

    fn at_least(&mut self, kind: Kind) {
        self.kind = self.kind.max(kind);
    }
}

fn next_is(scanner: &Scanner<'_>, keyword: &[u8]) -> bool {
    matches!(scanner.clone().next(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
}

/// Whether a function of this name may leave something behind that outlives the transaction
/// (<https://www.postgresql.org/docs/current/functions-admin.html>). Whether `set_config` is told
/// that its value is local is not known before it runs.
fn may_change_session(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [
        b"set_config",
        b"pg_advisory_lock",
        b"pg_advisory_lock_shared",
        b"pg_try_advisory_lock",
        b"pg_try_advisory_lock_shared",
    ];
    name.len() >= NAMES[0].len() && NAMES.iter().any(|one| one.eq_ignore_ascii_case(name))
}

fn is_called(scanner: &Scanner<'_>) -> bool {
    scanner.clone().next() == Token::Open
}
