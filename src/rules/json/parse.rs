//! Reads JSON (RFC 8259), as strictly as others do but for half surrogate pairs.

use std::collections::BTreeMap;
use std::fmt;

use super::number;
use super::{DuplicateKeys, Json, Number};

/// Lists and objects within each other, as other parsers bound it.
const DEPTH_MAX: usize = 127;
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a text is no JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    what: &'static str,
    line: usize,
    column: usize,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    duplicate_keys: DuplicateKeys,
}

/// What is wrong at the place where the parser stands.
type Wrong = &'static str;

pub(super) fn parse(bytes: &[u8], duplicate_keys: DuplicateKeys) -> Result<Json, Fault> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(fault(bytes, error.valid_up_to(), "what is not UTF-8")),
    };
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        duplicate_keys,
    };
    let value = parser.document();
    value.map_err(|wrong| fault(text.as_bytes(), parser.at, wrong))
}

fn fault(bytes: &[u8], at: usize, what: Wrong) -> Fault {
    let before = &bytes[..at.min(bytes.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n');
    Fault {
        what,
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: before.len() - line_start.map_or(0, |at| at + 1) + 1,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, line, column } = self;
        write!(f, "{what} at line {line} column {column}")
    }
}

/// Whether eight bytes at once have no quote, no backslash and no control character in them.
fn is_plain(bytes: [u8; 8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(bytes);
    let has = |byte: u8| {
        let zero = word ^ (EACH * u64::from(byte));
        zero.wrapping_sub(EACH) & !zero
    };
    let control = word.wrapping_sub(EACH * u64::from(b' ')) & !word;
    (has(b'"') | has(b'\\') | control) & (EACH << 7) == 0
}

impl Parser<'_> {
    fn document(&mut self) -> Result<Json, Wrong> {
        let value = self.value()?;
        match self.next() {
            None => Ok(value),
            Some(_) => Err("more behind its end"),
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn value(&mut self) -> Result<Json, Wrong> {
        match self.next() {
            Some(b'"') => self.string().map(Json::Text),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Boolean(true)),
            Some(b'f') => self.word("false", Json::Boolean(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(_) => Err("a value is expected"),
            None => Err("it ends too early"),
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, Wrong> {
        if !self.text[self.at..].starts_with(word) {
            return Err("a value is expected");
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Json, Wrong> {
        match number::scan(self.text.as_bytes(), self.at) {
            Ok(end) => {
                let text = &self.text[self.at..end];
                self.at = end;
                Ok(Json::Number(Number::of_checked(text)))
            }
            Err(at) => {
                self.at = at;
                Err("a number is not one")
            }
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json, Wrong>) -> Result<Json, Wrong> {
        if self.depth == DEPTH_MAX {
            return Err("it is nested too deeply");
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn list(&mut self) -> Result<Json, Wrong> {
        let mut entries = Vec::new();
        if self.next() == Some(b']') {
            self.at += 1;
            return Ok(Json::List(entries));
        }
        loop {
            entries.push(self.value()?);
            if self.ends(b']')? {
                return Ok(Json::List(entries));
            }
        }
    }

    fn object(&mut self) -> Result<Json, Wrong> {
        let mut fields = BTreeMap::new();
        if self.next() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(fields));
        }
        loop {
            if self.next() != Some(b'"') {
                return Err("a key in quotes is expected");
            }
            let start = self.at;
            let key = self.string()?;
            if self.next() != Some(b':') {
                return Err("a colon is expected");
            }
            self.at += 1;
            let value = self.value()?;
            let before = fields.insert(key, value);
            if before.is_some() && self.duplicate_keys == DuplicateKeys::Reject {
                self.at = start;
                return Err("an object has one key twice");
            }
            if self.ends(b'}')? {
                return Ok(Json::Object(fields));
            }
        }
    }

    /// Whether the list or object ends here; else a comma was stepped over.
    fn ends(&mut self, end: u8) -> Result<bool, Wrong> {
        match self.next() {
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(true)
            }
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Err("a comma or an end is expected"),
            None => Err("it ends too early"),
        }
    }

    /// Begins at the quote.
    fn string(&mut self) -> Result<String, Wrong> {
        self.at += 1;
        let start = self.at;
        self.skip_plain();
        if self.text.as_bytes().get(self.at) == Some(&b'"') {
            let whole = self.text[start..self.at].to_owned();
            self.at += 1;
            return Ok(whole);
        }
        let mut string = self.text[start..self.at].to_owned();
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                Some(_) => return Err("a control character stands in a string"),
                None => return Err("it ends within a string"),
            }
            let start = self.at;
            self.skip_plain();
            string.push_str(&self.text[start..self.at]);
        }
    }

    fn skip_plain(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let (words, _) = rest.as_chunks::<8>();
        let words = words.iter().take_while(|word| is_plain(**word)).count();
        let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
        let length = rest.iter().skip(words * 8).position(|byte| !is_plain(byte));
        self.at += length.map_or(rest.len(), |length| words * 8 + length);
    }

    /// Begins at the backslash.
    fn escape(&mut self) -> Result<char, Wrong> {
        let escaped = self.text.as_bytes().get(self.at + 1).copied();
        let single = match escaped {
            Some(b'u') => return self.unicode(),
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(_) => return Err("an escape is none that JSON has"),
            None => return Err("it ends within a string"),
        };
        self.at += 2;
        Ok(single)
    }

    /// One `\u`, or two that are a pair. Half a pair names no character.
    fn unicode(&mut self) -> Result<char, Wrong> {
        let first = self
            .unit(self.at)
            .ok_or("an escape is none that JSON has")?;
        self.at += 6;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        let pair = self.unit(self.at).and_then(|second| {
            let pair = (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(&second);
            pair.then(|| 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
        });
        match pair.and_then(char::from_u32) {
            Some(c) => {
                self.at += 6;
                Ok(c)
            }
            None => Ok(char::REPLACEMENT_CHARACTER),
        }
    }

    /// The code unit of a `\uXXXX` that stands at `at`.
    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
        let digits = digits.iter().map(|digit| char::from(*digit).to_digit(16));
        digits
            .reduce(|unit, digit| Some(unit? * 16 + digit?))
            .flatten()
    }
}
