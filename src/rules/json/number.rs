//! Numbers as they were written, compared by their values.

use std::cmp::Ordering;
use std::fmt;

/// So many digits a 64-bit float always gives back.
const FLOAT_DIGITS: usize = 15;
/// With more zeros behind the point, floats are printed with an exponent.
const FLOAT_ZEROS: usize = 3;

/// A number. Two are equal when their values are: `1`, `1.0` and `10e-1`.
#[derive(Debug, Clone)]
pub struct Number(Form);

/// The cheapest form that keeps every character.
#[derive(Debug, Clone)]
enum Form {
    Integer(i64),
    /// One that is printed as it was written.
    Float(f64),
    Text(Box<str>),
}

/// What a number is made of: `0.DIGITS` times ten to the power of `exponent`, without zeros at either end of the digits.
struct Parts {
    negative: bool,
    digits: Vec<u8>,
    exponent: i128,
}

impl Number {
    /// Of a text that JSON takes for a number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let end = scan(text.as_bytes(), 0).ok()?;
        (end == text.len()).then(|| Self::of_checked(text))
    }

    /// Of a text that is known to be a number.
    pub(super) fn of_checked(text: &str) -> Self {
        if let Some(float) = plain_float(text) {
            return Self(Form::Float(float));
        }
        match text.parse() {
            Ok(integer) if text != "-0" => Self(Form::Integer(integer)),
            Ok(_) | Err(_) => Self(Form::Text(text.into())),
        }
    }

    /// The whole number that it was written as, of up to 38 digits.
    #[must_use]
    pub fn as_integer(&self) -> Option<i128> {
        match &self.0 {
            Form::Integer(integer) => Some((*integer).into()),
            Form::Float(_) => None,
            Form::Text(text) => text.parse().ok().filter(|_| &**text != "-0"),
        }
    }

    /// The nearest float; infinite where it is larger than any.
    #[must_use]
    pub fn as_float(&self) -> f64 {
        match &self.0 {
            Form::Integer(integer) => *integer as f64,
            Form::Float(float) => *float,
            Form::Text(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// Whether it has a text that neither an integer nor a float is printed as.
    #[must_use]
    pub fn needs_text(&self) -> bool {
        matches!(self.0, Form::Text(_)) && self.as_integer().is_none()
    }

    fn parts(&self) -> Parts {
        let text = self.to_string();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, &*text),
        };
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = whole.bytes().chain(fraction.bytes());
        let digits: Vec<u8> = all.skip_while(|digit| *digit == b'0').collect();
        let skipped = whole.len() + fraction.len() - digits.len();
        let used = digits.len() - digits.iter().rev().take_while(|d| **d == b'0').count();
        // An exponent of more digits than this holds decides alone.
        let beyond = if power.starts_with('-') {
            i64::MIN
        } else {
            i64::MAX
        };
        let power: i128 = power.parse::<i64>().unwrap_or(beyond).into();
        Parts {
            negative: negative && used > 0,
            digits: digits.into_iter().take(used).collect(),
            exponent: power + whole.len() as i128 - skipped as i128,
        }
    }
}

/// The end of the number that begins at `start`; else where it is no longer one.
pub(super) fn scan(bytes: &[u8], start: usize) -> Result<usize, usize> {
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let digits = |mut at: usize| {
        if !is_digit(at) {
            return Err(at);
        }
        while is_digit(at) {
            at += 1;
        }
        Ok(at)
    };
    let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
    if bytes.get(at) == Some(&b'0') {
        at += 1;
        if is_digit(at) {
            return Err(at);
        }
    } else {
        at = digits(at)?;
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let signed = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        at = digits(at + 1 + usize::from(signed))?;
    }
    Ok(at)
}

/// The float of a text that a float is printed as, in templates and in JSON alike.
fn plain_float(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.')?;
    let few = whole.len() + fraction.len() <= FLOAT_DIGITS;
    let ends = fraction == "0" || !fraction.ends_with('0');
    let small = whole.trim_start_matches('-') == "0" && fraction != "0";
    let zeros = fraction.bytes().take_while(|byte| *byte == b'0').count();
    let plain = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let keeps = few && ends && plain && !(small && zeros > FLOAT_ZEROS);
    text.parse().ok().filter(|_| keeps)
}

impl From<i64> for Number {
    fn from(integer: i64) -> Self {
        Self(Form::Integer(integer))
    }
}

/// As it was written.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Integer(integer) => integer.fmt(f),
            // Rust leaves out the `.0`.
            Form::Float(float) => write!(f, "{float:?}"),
            Form::Text(text) => f.write_str(text),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By value, whatever the size.
impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Form::Integer(one), Form::Integer(two)) = (&self.0, &other.0) {
            return one.cmp(two);
        }
        let (one, two) = (self.parts(), other.parts());
        let sign = |parts: &Parts| match (parts.digits.is_empty(), parts.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let by_sign = sign(&one).cmp(&sign(&two));
        if by_sign != Ordering::Equal || one.digits.is_empty() {
            return by_sign;
        }
        let size = one.exponent.cmp(&two.exponent);
        let size = size.then_with(|| one.digits.cmp(&two.digits));
        if one.negative { size.reverse() } else { size }
    }
}
