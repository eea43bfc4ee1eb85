//! The tokens of a SQL text, as far as it takes to tell statements apart.

#[cfg(test)]
mod agreement;

/// A token. Comments and white space are not tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or an unquoted name, as written.
    Word(&'a [u8]),
    /// What stands between double quotes, its doubled quotes still doubled.
    Quoted {
        name: &'a [u8],
        unicode: bool,
    },
    /// A string constant of any sort, or a number.
    Constant,
    /// `$n`
    Parameter,
    Open,
    Close,
    Dot,
    Equals,
    Semicolon,
    /// Any other character.
    Symbol,
    End,
    /// Something that never ends, or that one PostgreSQL reads otherwise than another. There is
    /// nothing to be known about the text from here on.
    Broken,
}

/// Reads tokens as `src/backend/parser/scan.l` of PostgreSQL 14 to 18 does, with
/// `standard_conforming_strings` on.
///
/// Where the versions differ, the difference is always that the newer one refuses the whole text
/// (15 introduced the "trailing junk after .." errors, 16 the numbers with underscores and with a
/// base): the scanner then reads as the version that runs it. The one place where two versions run
/// the same text differently is [`Token::Broken`].
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    highest_parameter: u32,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(sql: &'a str) -> Self {
        Self {
            text: sql.as_bytes(),
            at: 0,
            highest_parameter: 0,
        }
    }

    /// The highest `$n` among the tokens read so far.
    pub(super) fn highest_parameter(&self) -> u32 {
        self.highest_parameter
    }

    #[inline]
    pub(super) fn next(&mut self) -> Token<'a> {
        loop {
            let Some(byte) = self.peek(0) else {
                return Token::End;
            };
            match byte {
                // First, because most tokens are words.
                _ if starts_name(byte) => return self.word(byte),
                // The vertical tab is white space since 16; before, it is a syntax error.
                b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' => self.at += 1,
                // The scanner of PostgreSQL cuts an operator off where `--` or `/*` begins in it,
                // so there is no operator to look out for here.
                b'-' if self.peek(1) == Some(b'-') => self.line_comment(),
                b'/' if self.peek(1) == Some(b'*') => {
                    if !self.block_comment() {
                        return Token::Broken;
                    }
                }
                b'\'' => return self.string(1, false),
                b'"' => return self.quoted(1, false),
                b'$' => return self.dollar(),
                b'0'..=b'9' => return self.number(),
                b'(' => return self.single(Token::Open),
                b')' => return self.single(Token::Close),
                b';' => return self.single(Token::Semicolon),
                b'=' => return self.single(Token::Equals),
                // `..` is a token of its own, and what comes after it is no label.
                b'.' if self.peek(1) == Some(b'.') => {
                    self.at += 2;
                    return Token::Symbol;
                }
                b'.' if self.peek(1).is_some_and(|next| next.is_ascii_digit()) => {
                    return self.number();
                }
                b'.' => return self.single(Token::Dot),
                _ => return self.single(Token::Symbol),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn single(&mut self, token: Token<'a>) -> Token<'a> {
        self.at += 1;
        token
    }

    #[inline]
    fn skip_while(&mut self, condition: impl Fn(u8) -> bool) {
        let mut at = self.at;
        while let Some(byte) = self.text.get(at)
            && condition(*byte)
        {
            at += 1;
        }
        self.at = at;
    }

    /// A carriage return ends it too: `newline` is `[\n\r]`.
    fn line_comment(&mut self) {
        self.skip_while(|byte| !is_newline(byte));
    }

    /// They nest. Whether the comment has an end.
    fn block_comment(&mut self) -> bool {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return true;
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return false,
            }
        }
    }

    /// A string constant whose first quote ends `opening` bytes from here.
    ///
    /// That a doubled quote or a continuation on another line joins two strings into one matters
    /// only with backslash escapes: without them, two strings end where one would.
    fn string(&mut self, opening: usize, escapes: bool) -> Token<'a> {
        self.at += opening;
        loop {
            match self.peek(0) {
                None => return Token::Broken,
                Some(b'\\') => self.at += if escapes { 2 } else { 1 },
                Some(b'\'') => {
                    self.at += 1;
                    if !(escapes && self.continues()) {
                        return Token::Constant;
                    }
                }
                Some(_) => self.skip_while(|byte| byte != b'\'' && byte != b'\\'),
            }
        }
    }

    /// Goes on behind the next quote, if that is still of the same string: it follows at once (a
    /// doubled quote), or it begins another part. Between the parts is white space with at least
    /// one newline, where `--` comments (but not `/* */`) count as white space: `quotecontinue` in
    /// scan.l. The next part keeps the mode of the first (manual, 4.1.2.2).
    fn continues(&mut self) -> bool {
        if self.peek(0) == Some(b'\'') {
            self.at += 1;
            return true;
        }
        let mut ahead = self.clone();
        let mut newline = false;
        while let Some(byte) = ahead.peek(0) {
            match byte {
                b' ' | b'\t' | b'\x0b' | b'\x0c' => ahead.at += 1,
                b'\n' | b'\r' => {
                    newline = true;
                    ahead.at += 1;
                }
                b'-' if ahead.peek(1) == Some(b'-') => ahead.line_comment(),
                b'\'' if newline => {
                    self.at = ahead.at + 1;
                    return true;
                }
                _ => return false,
            }
        }
        false
    }

    fn quoted(&mut self, opening: usize, unicode: bool) -> Token<'a> {
        let start = self.at + opening;
        self.at = start;
        loop {
            self.skip_while(|byte| byte != b'"');
            let end = self.at;
            match (self.peek(0), self.peek(1)) {
                (None, _) => return Token::Broken,
                (Some(_), Some(b'"')) => self.at += 2,
                (Some(_), _) => {
                    self.at += 1;
                    let name = &self.text[start..end];
                    return Token::Quoted { name, unicode };
                }
            }
        }
    }

    /// A parameter, a dollar-quoted string, or a lone `$`, which PostgreSQL does not know.
    fn dollar(&mut self) -> Token<'a> {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            return self.parameter();
        }
        if self.peek(0).is_some_and(starts_name) {
            self.skip_while(|byte| continues_name(byte) && byte != b'$');
        }
        if self.peek(0) != Some(b'$') {
            // What looked like a tag is a word.
            self.at = start + 1;
            return Token::Symbol;
        }
        self.at += 1;
        let delimiter = &self.text[start..self.at];
        loop {
            self.skip_while(|byte| byte != b'$');
            let rest = &self.text[self.at..];
            if rest.starts_with(delimiter) {
                self.at += delimiter.len();
                return Token::Constant;
            }
            if rest.is_empty() {
                return Token::Broken;
            }
            self.at += 1;
        }
    }

    fn parameter(&mut self) -> Token<'a> {
        let mut number = 0_u32;
        while let Some(digit @ b'0'..=b'9') = self.peek(0) {
            number = number
                .saturating_mul(10)
                .saturating_add(u32::from(digit - b'0'));
            self.at += 1;
        }
        // Before 18 the number goes through `atol` into an int: `$4294967297` is `$1`.
        if i32::try_from(number).is_err() {
            number = u32::MAX;
        }
        self.highest_parameter = self.highest_parameter.max(number);
        Token::Parameter
    }

    /// A number swallows the dot behind it, so that `1. into` has no label in it.
    fn number(&mut self) -> Token<'a> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_digit());
        self.decimal_point();
        self.skip_while(|byte| byte.is_ascii_digit());
        if let Some(b'e' | b'E') = self.peek(0) {
            let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self
                .peek(1 + sign)
                .is_some_and(|byte| byte.is_ascii_digit())
            {
                self.at += 1 + sign;
                self.skip_while(|byte| byte.is_ascii_digit());
            }
        }
        let based = &self.text[start..self.at] == b"0"
            && matches!(self.peek(0), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B'));
        if based || self.peek(0) == Some(b'_') {
            // Up to 15 a name begins here and takes any `$` with it; from 16 on the number may go
            // on, and then a `$` behind it begins something of its own. In `1_0E'..'` 16 sees an
            // error and 14 a name and a plain string: what follows is no prefix of a string.
            self.skip_while(|byte| continues_name(byte) && byte != b'$');
            if self.peek(0) == Some(b'$') {
                return Token::Broken;
            }
            self.decimal_point();
        }
        // Otherwise a name may follow at once: 14 reads `1E'..'` as a number and a string with
        // escapes, later versions refuse it.
        Token::Constant
    }

    fn decimal_point(&mut self) {
        if self.peek(0) == Some(b'.') && self.peek(1) != Some(b'.') {
            self.at += 1;
        }
    }

    fn word(&mut self, first: u8) -> Token<'a> {
        match (self.peek(1), first) {
            (Some(b'\''), b'e' | b'E') => return self.string(2, true),
            (Some(b'\''), b'b' | b'B' | b'x' | b'X' | b'n' | b'N') => {
                return self.string(2, false);
            }
            (Some(b'&'), b'u' | b'U') => match self.peek(2) {
                Some(b'\'') => return self.string(3, false),
                Some(b'"') => return self.quoted(3, true),
                _ => {}
            },
            _ => {}
        }
        let start = self.at;
        self.skip_while(continues_name);
        Token::Word(&self.text[start..self.at])
    }
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// `ident_start`: every byte of a character outside ASCII counts, a no-break space too.
fn starts_name(byte: u8) -> bool {
    NAME_START[usize::from(byte)]
}

/// `ident_cont`
fn continues_name(byte: u8) -> bool {
    NAME_CONTINUE[usize::from(byte)]
}

// Tables, because most of a text are names.
static NAME_START: [bool; 256] = names(false);
static NAME_CONTINUE: [bool; 256] = names(true);

const fn names(continued: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphabetic()
            || byte == b'_'
            || !byte.is_ascii()
            || continued && (byte.is_ascii_digit() || byte == b'$');
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}
