//! Whether the server finds the same tokens as we do.
//!
//! Behind `CREATE EVENT` only one word is no syntax error, and the message of any other quotes the
//! token whole and says where it stands: so the server tells its tokens one by one.

use std::error::Error;

use fastrand::Rng;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{Scanner, Token};
use crate::testing::PostgresServer;

#[tokio::test]
async fn the_server_finds_the_same_tokens() -> Result<(), Box<dyn Error>> {
    let server = PostgresServer::start().await?;
    let mut connection = PgConnection::connect_with(&server.socket_options()).await?;
    connection.execute("SET lc_messages = 'C'").await?;
    let soups = if std::env::var_os("TENANTRY_LONG").is_some() {
        20_000
    } else {
        1_000
    };
    let mut rng = Rng::with_seed(soups);
    let (mut compared, mut broken) = (0, 0);
    for _ in 0..soups {
        let soup: String = (0..rng.usize(1..12))
            .map(|_| PIECES[rng.usize(..PIECES.len())])
            .collect();
        // What the server cannot read to its end it refuses whole, and we may take it for anything.
        let Some(theirs) = theirs(&mut connection, &soup).await? else {
            continue;
        };
        match difference(&soup, &theirs) {
            Ok(true) => compared += 1,
            Ok(false) => broken += 1,
            Err(what) => panic!("{what} in {soup:?}, where the server finds {theirs:?}"),
        }
    }
    assert!(compared > soups / 10, "only {compared} could be compared");
    // What we do not tell apart is refused: right, but not to be the rule.
    assert!(broken < compared / 10, "{broken} against {compared}");
    Ok(())
}

/// The server's tokens with the place where each ends; `None` for a text that is refused before.
async fn theirs(
    connection: &mut PgConnection,
    text: &str,
) -> Result<Option<Vec<(String, usize)>>, Box<dyn Error>> {
    const PREFIX: &str = "CREATE EVENT ";
    const NEAR: &str = "syntax error at or near \"";
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let sql = format!("{PREFIX}{}", &text[at..]);
        let error = match connection.execute(AssertSqlSafe(sql.clone())).await {
            Err(sqlx::Error::Database(error)) => error,
            other => return Err(format!("{other:?} to {sql:?}").into()),
        };
        if error.message() == "syntax error at end of input" {
            return Ok(Some(tokens));
        }
        let quoted = error.message().strip_prefix(NEAR);
        let Some(token) = quoted.and_then(|rest| rest.strip_suffix('"')) else {
            return Ok(None);
        };
        let error = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
        let Some(sqlx::postgres::PgErrorPosition::Original(position)) = error.position() else {
            return Err(format!("no position in {error:?}").into());
        };
        let start = sql.char_indices().nth(position - 1).ok_or("a position")?.0;
        at += start - PREFIX.len();
        // Which the grammar has no use for.
        if matches!(token, "$" | "\\" | "\x0b") {
            return Ok(None);
        }
        if !text[at..].starts_with(token) {
            return Err(format!("{token:?} is not at {at} of {text:?}").into());
        }
        at += token.len();
        tokens.push((token.to_owned(), at));
    }
}

/// Whether the whole text was compared, and not only what stands before something
/// [broken](Token::Broken).
fn difference(text: &str, theirs: &[(String, usize)]) -> Result<bool, String> {
    let mut scanner = Scanner::new(text);
    let mut theirs = theirs.iter();
    while let Some((mut token, mut end)) = theirs.next().map(|(token, end)| (token.as_str(), *end))
    {
        loop {
            let ours = scanner.next();
            if ours == Token::Broken {
                return after_number(&scanner);
            }
            // To them N'..' is a keyword and a string, and up to 15 `1_0` a number and a name. Behind
            // such a number a dot is ours, too; to them it is an error or begins a number.
            while ours == Token::Constant
                && scanner.at > end
                && (is_number(token) || matches!(token, "n" | "N"))
            {
                let Some((next, next_end)) = theirs.next() else {
                    return Err(format!("{ours:?} up to {}", scanner.at));
                };
                if next_end - next.len() != end {
                    return Err(format!("{ours:?} up to {}", scanner.at));
                }
                let name = next.starts_with(['_', 'x', 'X', 'o', 'O', 'b', 'B']);
                (token, end) = (if name { token } else { next }, *next_end);
            }
            if scanner.at < end && is_part(ours, token) {
                continue;
            }
            if scanner.at != end || !same_kind(ours, token) {
                return Err(format!("{ours:?} up to {}", scanner.at));
            }
            break;
        }
    }
    match scanner.next() {
        Token::End => Ok(true),
        Token::Broken => after_number(&scanner),
        more => Err(format!("{more:?} at the end")),
    }
}

/// Of all that is broken only a `$` behind a number with an underscore or a base can be read to the
/// end: the server does not agree with itself there, from one version to the next.
fn after_number(scanner: &Scanner<'_>) -> Result<bool, String> {
    match scanner.peek(0) {
        Some(b'$') => Ok(false),
        _ => Err(format!("Broken at {}", scanner.at)),
    }
}

/// Whether one of theirs is several of ours: an operator of several characters, a string that goes
/// on after another quote, where no backslash can hide a quote, or a number with an exponent behind
/// an underscore, such as `1_0e+1`.
fn is_part(ours: Token<'_>, theirs: &str) -> bool {
    match ours {
        Token::Symbol | Token::Equals if !is_number(theirs) => {
            theirs.bytes().all(|byte| OPERATOR.contains(&byte))
        }
        Token::Constant if !is_number(theirs) => {
            theirs.ends_with('\'') && !theirs.starts_with(['e', 'E'])
        }
        Token::Constant | Token::Symbol | Token::Word(_) => is_number(theirs),
        _ => false,
    }
}

fn is_number(theirs: &str) -> bool {
    theirs
        .trim_start_matches('.')
        .starts_with(|c: char| c.is_ascii_digit())
}

fn same_kind(ours: Token<'_>, theirs: &str) -> bool {
    let bytes = theirs.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    match ours {
        // The exponent of `1_0.e5`.
        Token::Word(word) => word == bytes || is_number(theirs) && bytes.ends_with(word),
        Token::Quoted { unicode, .. } => {
            bytes.ends_with(b"\"") && bytes.starts_with(if unicode { b"U&\"" } else { b"\"" })
                || unicode && bytes.starts_with(b"u&\"")
        }
        Token::Constant => {
            bytes.ends_with(b"'") || bytes.starts_with(b"$") || digit(0) || bytes[0] == b'.'
        }
        Token::Parameter => bytes[0] == b'$' && digit(1),
        Token::Open => theirs == "(",
        Token::Close => theirs == ")",
        Token::Dot => theirs == ".",
        Token::Semicolon => theirs == ";",
        // The last character of an operator.
        Token::Equals => bytes.ends_with(b"="),
        Token::Symbol => !matches!(theirs, "(" | ")" | "." | ";" | "="),
        Token::End | Token::Broken => false,
    }
}

const OPERATOR: &[u8] = b"~!@#^&|`?+-*/%<>=:";

const PIECES: &[&str] = &[
    "'",
    "'",
    "'",
    "\"",
    "\"",
    "\\",
    "\\'",
    "''",
    "E'",
    "e'",
    "E",
    "e",
    "U&'",
    "u&\"",
    "U&",
    "N'",
    "n",
    "B'1'",
    "x'f'",
    "x",
    "b",
    "$",
    "$",
    "$$",
    "$$",
    "$a$",
    "$a$",
    "$1",
    "$2",
    "a$",
    "é",
    "_",
    "a",
    "select",
    "1",
    "0",
    "0x1f",
    "0b1",
    "0o7",
    "1_0",
    "1_0e+1",
    "1_0.e5",
    "_0",
    "1.",
    ".5",
    "1e5",
    "1E",
    "+1",
    ".",
    "..",
    "-",
    "--",
    "--",
    "\n",
    "\n",
    "\r",
    " ",
    " ",
    "\t",
    "\x0b",
    "\x0c",
    "/*",
    "/*",
    "*/",
    "*/",
    "/",
    "*",
    "+",
    "@",
    "=",
    ":",
    "::",
    ":=",
    "<",
    ">",
    "|",
    "?",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    ";",
    "'a'",
    "'a' \n 'b'",
    "E'\\'' \n '\\''",
    "E'a' -- '\n'b'",
    "\"a\"",
    "$$ ' $$",
    "-- '\r",
    "a -- $$\r",
    "E'a' '\\' 'x'",
    "E'a'\n'\\''",
    "E'a' --\r'\\''",
    "E'a'/**/\n'\\' 'x'",
    "$é$ $$ $é$",
    "-- '\n",
    "/* ' /* */ */",
];
