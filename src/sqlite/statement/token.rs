//! SQLite's lexical rules (`sqlite3GetToken`), as far as it takes to know which words are keywords
//! and where a statement ends.

/// What matters of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword, or a name without quotes.
    Word(&'a str),
    Semicolon,
    Open,
    Close,
    /// A string, a quoted name, a number, a parameter, an operator.
    Other(u8),
}

/// The tokens of a text that holds no NUL byte.
#[derive(Clone)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    /// Moves on past the bytes for which `is` holds.
    fn skip(&mut self, is: impl Fn(u8) -> bool) {
        while self.byte(0).is_some_and(&is) {
            self.at += 1;
        }
    }

    fn skip_space_and_comments(&mut self) {
        loop {
            match (self.byte(0), self.byte(1), self.byte(2)) {
                (Some(byte), ..) if is_space(byte) => self.at += 1,
                // A byte order mark is space, wherever it stands.
                (Some(0xef), Some(0xbb), Some(0xbf)) => self.at += 3,
                (Some(b'-'), Some(b'-'), _) => self.skip(|byte| byte != b'\n'),
                (Some(b'/'), Some(b'*'), Some(_)) => {
                    let body = &self.text.as_bytes()[self.at + 2..];
                    let end = body.windows(2).position(|pair| pair == b"*/");
                    self.at += end.map_or(body.len() + 2, |end| end + 4);
                }
                _ => return,
            }
        }
    }

    /// A string or a name in quotes of this kind, which stand for themselves when doubled.
    fn skip_quoted(&mut self, quote: u8) {
        self.at += 1;
        loop {
            self.skip(|byte| byte != quote);
            match (self.byte(0), self.byte(1)) {
                (Some(_), Some(next)) if next == quote => self.at += 2,
                (Some(_), _) => {
                    self.at += 1;
                    return;
                }
                (None, _) => return,
            }
        }
    }

    /// `:name`, `@name`, `$name`, `#name`, and the forms that Tcl gave: `$name::name(anything)`.
    fn skip_parameter(&mut self) {
        self.at += 1;
        let mut letters = 0;
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(byte), _) if is_id(byte) => {
                    letters += 1;
                    self.at += 1;
                }
                (Some(b':'), Some(b':')) => self.at += 2,
                (Some(b'('), _) if letters > 0 => {
                    self.at += 1;
                    self.skip(|byte| !is_space(byte) && byte != b')');
                    if self.byte(0) == Some(b')') {
                        self.at += 1;
                    }
                    return;
                }
                _ => return,
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_space_and_comments();
        let first = self.byte(0)?;
        let start = self.at;
        let token = match first {
            b';' => Token::Semicolon,
            b'(' => Token::Open,
            b')' => Token::Close,
            b'\'' | b'"' | b'`' => {
                self.skip_quoted(first);
                return Some(Token::Other(first));
            }
            b'[' => {
                self.skip(|byte| byte != b']');
                Token::Other(first)
            }
            b'$' | b'@' | b':' | b'#' => {
                self.skip_parameter();
                return Some(Token::Other(first));
            }
            b'0'..=b'9' => {
                self.skip(|byte| is_id(byte) || byte == b'.');
                return Some(Token::Other(first));
            }
            first if is_id(first) => {
                self.skip(is_id);
                return Some(Token::Word(&self.text[start..self.at]));
            }
            _ => Token::Other(first),
        };
        // Past the end where a bracket was left open.
        self.at = (self.at + 1).min(self.text.len());
        Some(token)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r')
}

/// What a name may hold; all of UTF-8 beyond ASCII included.
fn is_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}
