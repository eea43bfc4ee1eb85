//! What a text is, before it is sent.
//!
//! A connection leads to one tenant's file, so that a statement can do harm in two ways only: it
//! can reach another file (`ATTACH`, `VACUUM INTO`), or change the connection or its transaction
//! under whoever comes next. Each of these begins with a keyword of its own, so the list is one of
//! what is let through, and what is not on it is refused.
//!
//! For a text that SQLite accepts, the answer is right or errs to the refusing side.

#[cfg(test)]
mod agreement;
mod token;

use sqlx::sqlite::SqliteArguments;
use sqlx::{Execute, SqlStr, Sqlite};

use crate::error::{Error, ErrorKind};
use token::{Token, Tokens};

/// Where a statement is about to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In autocommit: the statement is the transaction.
    Scope,
    /// Inside a transaction of ours.
    Transaction,
    /// Inside one that only reads.
    ReadTransaction,
}

/// The most that a text does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Read,
    Write,
    /// It changes the schema, and may leave temporary objects on the connection.
    Schema,
}

/// A statement that has been found fit for its place.
pub(super) struct Admitted {
    sql: SqlStr,
    arguments: Option<SqliteArguments>,
    persistent: bool,
    pub(super) kind: Kind,
    statements: usize,
}

impl Admitted {
    /// # Errors
    ///
    /// [`ErrorKind::StatementRefused`], before anything is sent.
    pub(super) fn new<'q, E>(mut query: E, place: Place) -> Result<Self, Error>
    where
        E: Execute<'q, Sqlite>,
    {
        let arguments = query.take_arguments().map_err(|error| {
            Error::new(
                ErrorKind::Other,
                "an argument of the statement could not be encoded",
            )
            .with_source(error)
        })?;
        let persistent = query.persistent();
        let sql = query.sql();
        let seen = admit(sql.as_str(), place)?;
        Ok(Self {
            sql,
            arguments,
            persistent,
            kind: seen.kind,
            statements: seen.statements,
        })
    }

    /// Whether there will be no answer. After one to every statement of a text, sqlx says so; where
    /// its thread has died, it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.statements == 0
    }

    /// Whether the first row may be taken and the rest left. What writes has to be run to its end:
    /// sqlx does not look at what becomes of a statement that it leaves before.
    pub(super) fn may_stop_at_a_row(&self) -> bool {
        self.kind == Kind::Read && self.statements <= 1
    }
}

impl Execute<'static, Sqlite> for Admitted {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&sqlx::sqlite::SqliteStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<SqliteArguments>, sqlx::error::BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

/// # Errors
///
/// [`ErrorKind::StatementRefused`], with where the text belongs.
pub(super) fn admit(text: &str, place: Place) -> Result<Seen, Error> {
    let refuse = |rule| Error::new(ErrorKind::StatementRefused, rule);
    let seen = inspect(text).map_err(refuse)?;
    match place {
        Place::Scope if seen.kind == Kind::Schema => Err(refuse(
            "a statement that changes the schema belongs in a transaction, see \
             SqliteScope::begin, or in SqliteRegistryBuilder::migrate",
        )),
        Place::Scope if seen.statements > 1 => Err(refuse(
            "several statements in one text belong in a transaction, see SqliteScope::begin",
        )),
        Place::ReadTransaction if seen.kind > Kind::Read => Err(refuse(
            "this transaction only reads: what writes belongs in one of SqliteScope::begin",
        )),
        _ => Ok(seen),
    }
}

pub(super) fn describe_is_for_macros() -> Error {
    Error::new(
        ErrorKind::StatementRefused,
        "describe serves sqlx's macros at build time: use prepare",
    )
}

pub(super) struct Seen {
    pub(super) kind: Kind,
    statements: usize,
}

/// Why a text is refused.
type Rule = &'static str;

const CONTROL: Rule = "transaction control is not sent as text: SqliteScope::begin begins a \
    transaction, and commit and rollback of what it returns end it";
const ANOTHER_FILE: Rule = "ATTACH and DETACH lead to other files, and a scope to its tenant's: \
    bind another scope for another tenant";
const VACUUM: Rule = "VACUUM copies the file or rewrites it: that belongs to maintenance, with \
    another program while the registry is closed";
const PRAGMA: Rule = "this PRAGMA may change the connection under whoever uses it next: what can \
    be chosen is in SqlitePoolOptions";
const NUL: Rule = "a statement holds no NUL byte";
const UNKNOWN: Rule = "this is no statement of SQLite that a scope or a transaction takes";
const TRIGGER: Rule = "the statements of a trigger are SELECT, INSERT, UPDATE and DELETE";

fn inspect(text: &str) -> Result<Seen, Rule> {
    if text.contains('\0') {
        return Err(NUL);
    }
    let mut seen = Seen {
        kind: Kind::Read,
        statements: 0,
    };
    let mut tokens = Tokens::of(text);
    while let Some(first) = tokens.next() {
        match first {
            Token::Semicolon => {}
            Token::Word(word) => {
                seen.statements += 1;
                seen.kind = seen.kind.max(statement(word, &mut tokens)?);
            }
            _ => return Err(UNKNOWN),
        }
    }
    Ok(seen)
}

/// One statement of this first word, read to its end.
fn statement(first: &str, tokens: &mut Tokens<'_>) -> Result<Kind, Rule> {
    let is = |word: &str| first.eq_ignore_ascii_case(word);
    if is("SELECT") || is("VALUES") {
        rest(tokens);
        Ok(Kind::Read)
    } else if is("WITH") {
        Ok(common_table(tokens))
    } else if ["INSERT", "REPLACE", "UPDATE", "DELETE"]
        .into_iter()
        .any(is)
    {
        rest(tokens);
        Ok(Kind::Write)
    } else if is("CREATE") {
        create(tokens)?;
        Ok(Kind::Schema)
    } else if ["DROP", "ALTER", "ANALYZE", "REINDEX"].into_iter().any(is) {
        rest(tokens);
        Ok(Kind::Schema)
    } else if is("EXPLAIN") {
        explain(tokens)
    } else if is("PRAGMA") {
        pragma(tokens)
    } else if ["BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"]
        .into_iter()
        .any(is)
    {
        Err(CONTROL)
    } else if is("ATTACH") || is("DETACH") {
        Err(ANOTHER_FILE)
    } else if is("VACUUM") {
        Err(VACUUM)
    } else {
        Err(UNKNOWN)
    }
}

/// Reads to the end of the statement.
fn rest(tokens: &mut Tokens<'_>) {
    tokens.find(|token| *token == Token::Semicolon);
}

/// What stands behind the queries in parentheses says whether it writes.
fn common_table(tokens: &mut Tokens<'_>) -> Kind {
    let mut kind = Kind::Read;
    let mut depth = 0_usize;
    let mut after_replace = false;
    for token in tokens {
        let mut replace = false;
        match token {
            Token::Semicolon => break,
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 => {
                let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
                replace = is("REPLACE");
                // REPLACE is also a function.
                if ["INSERT", "UPDATE", "DELETE"].into_iter().any(is)
                    || (after_replace && is("INTO"))
                {
                    kind = Kind::Write;
                }
            }
            Token::Word(_) | Token::Other(_) => {}
        }
        after_replace = replace;
    }
    kind
}

/// CREATE of anything. A trigger holds statements, with semicolons between them.
fn create(tokens: &mut Tokens<'_>) -> Result<(), Rule> {
    let is = |token: Option<Token<'_>>, words: &[&str]| {
        matches!(token, Some(Token::Word(word))
            if words.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)))
    };
    let mut ahead = tokens.clone();
    let mut second = ahead.next();
    if is(second, &["TEMP", "TEMPORARY"]) {
        second = ahead.next();
    }
    if !is(second, &["TRIGGER"]) {
        rest(tokens);
        return Ok(());
    }
    *tokens = ahead;
    loop {
        match tokens.next() {
            // SQLite knows no trigger without statements, and stops here.
            None | Some(Token::Semicolon) => return Ok(()),
            token if is(token, &["BEGIN"]) => break,
            Some(_) => {}
        }
    }
    loop {
        let first = tokens.next();
        if is(first, &["END"]) {
            return match tokens.next() {
                None | Some(Token::Semicolon) => Ok(()),
                Some(_) => Err(TRIGGER),
            };
        }
        let known = ["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"];
        if !is(first, &known) {
            return Err(TRIGGER);
        }
        rest(tokens);
    }
}

/// What is only explained does not run, but for a PRAGMA, which may run while it is compiled.
fn explain(tokens: &mut Tokens<'_>) -> Result<Kind, Rule> {
    let mut first = tokens.next();
    for keyword in ["QUERY", "PLAN"] {
        if matches!(first, Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword)) {
            first = tokens.next();
        }
    }
    match first {
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("EXPLAIN") => Err(UNKNOWN),
        Some(Token::Word(word)) => statement(word, tokens).map(|_| Kind::Read),
        _ => Err(UNKNOWN),
    }
}

/// Those that say something when they are asked without a value, and change nothing.
const READ: &[&str] = &[
    "application_id",
    "auto_vacuum",
    "busy_timeout",
    "collation_list",
    "compile_options",
    "data_version",
    "encoding",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "journal_mode",
    "page_count",
    "page_size",
    "schema_version",
    "synchronous",
    "user_version",
];

/// Those whose value says what to look at.
const LOOK: &[&str] = &[
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

fn pragma(tokens: &mut Tokens<'_>) -> Result<Kind, Rule> {
    let mut word = || match tokens.next() {
        Some(Token::Word(word)) => Ok(word),
        _ => Err(PRAGMA),
    };
    let mut name = word()?;
    let mut next = tokens.next();
    if next == Some(Token::Other(b'.')) {
        if !name.eq_ignore_ascii_case("main") {
            return Err(PRAGMA);
        }
        name = match tokens.next() {
            Some(Token::Word(name)) => name,
            _ => return Err(PRAGMA),
        };
        next = tokens.next();
    }
    let is = |known: &&str| name.eq_ignore_ascii_case(known);
    let has_value = !matches!(next, None | Some(Token::Semicolon));
    if has_value {
        rest(tokens);
    }
    if LOOK.iter().any(is) || (!has_value && READ.iter().any(is)) {
        return Ok(Kind::Read);
    }
    // In the file, with the transaction.
    if is(&"user_version") {
        return Ok(Kind::Write);
    }
    // Until the end of the transaction; on a scope it would wait there for the next one.
    if is(&"defer_foreign_keys") {
        return Ok(Kind::Schema);
    }
    Err(PRAGMA)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Kind {
        inspect(text).map(|seen| seen.kind).expect(text)
    }

    #[test]
    fn what_is_let_through_is_told_apart() {
        for read in [
            "SELECT 1",
            "  -- a comment; COMMIT\n /* ; ATTACH */ select ';COMMIT' AS \"a;b\" ; ; ",
            "VALUES (1), (2)",
            "WITH a AS (SELECT 'x') SELECT replace(x, 'a', 'b') FROM a",
            "EXPLAIN QUERY PLAN DELETE FROM t",
            "PRAGMA table_info(t)",
            "PRAGMA main.user_version",
            "\u{feff}SELECT 1",
            "",
        ] {
            assert_eq!(kind(read), Kind::Read, "{read}");
        }
        for write in [
            "INSERT INTO t VALUES (1) RETURNING a",
            "replace into t values (1)",
            "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
            "WITH a AS (SELECT 1) REPLACE INTO t SELECT * FROM a",
            "WITH a(b) AS (SELECT 1) UPDATE t SET a = 1",
            "SELECT 1; DELETE FROM t",
            "PRAGMA user_version = 7",
        ] {
            assert_eq!(kind(write), Kind::Write, "{write}");
        }
        for schema in [
            "CREATE TABLE t (a)",
            "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN SELECT CASE WHEN 1 THEN 2 END; \
             UPDATE t SET a = 1; END; SELECT 1",
            "ALTER TABLE t ADD b",
            "PRAGMA defer_foreign_keys = on",
        ] {
            assert_eq!(kind(schema), Kind::Schema, "{schema}");
        }
        assert_eq!(
            inspect("SELECT 1; ; SELECT 2;").map(|s| s.statements),
            Ok(2)
        );
    }

    #[test]
    fn what_is_hidden_is_found() {
        for (text, rule) in [
            ("COMMIT", CONTROL),
            ("end", CONTROL),
            ("SELECT 1; ROLLBACK", CONTROL),
            ("SELECT ';'; /* */ -- x\n\u{feff}COMMIT", CONTROL),
            ("SELECT \"a\"\"\"; COMMIT --\"", CONTROL),
            ("SELECT [a'] ; COMMIT --']", CONTROL),
            ("SELECT 'a\\'; COMMIT --'", CONTROL),
            ("SELECT $a(') ; COMMIT --')", CONTROL),
            ("SELECT $a::b('x) ; COMMIT --')", CONTROL),
            ("SELECT :a; COMMIT", CONTROL),
            ("SELECT 1 /*/ ; */; COMMIT", CONTROL),
            ("SELECT 1; --\u{2028} ;\nCOMMIT", CONTROL),
            ("\u{b}ATTACH 'x' AS y", ANOTHER_FILE),
            ("detach y", ANOTHER_FILE),
            ("EXPLAIN ATTACH 'x' AS y", ANOTHER_FILE),
            ("VACUUM INTO 'x'", VACUUM),
            ("PRAGMA foreign_keys = off", PRAGMA),
            ("PRAGMA foreign_keys(off)", PRAGMA),
            ("EXPLAIN PRAGMA journal_mode = delete", PRAGMA),
            ("PRAGMA \"journal_mode\" = delete", PRAGMA),
            ("PRAGMA temp.user_version", PRAGMA),
            ("PRAGMA wal_checkpoint", PRAGMA),
            ("SELECT 1\0; COMMIT", NUL),
            (
                "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END; END",
                CONTROL,
            ),
            (
                "CREATE TRIGGER g AFTER INSERT ON t BEGIN COMMIT; END",
                TRIGGER,
            ),
            ("CREATE TRIGGER g; END; COMMIT", CONTROL),
            (
                "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END COMMIT",
                TRIGGER,
            ),
            ("\"SELECT\" 1", UNKNOWN),
            ("FROM t", UNKNOWN),
        ] {
            assert_eq!(inspect(text).map(|seen| seen.kind), Err(rule), "{text}");
        }
    }
}
