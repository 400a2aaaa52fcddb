//! JSON as producers write it: a number keeps each of its digits, and half a surrogate pair is U+FFFD.
//!
//! The parser is our own because a 64-bit float is what other ones make of `12345678901234567.89`, or a tree that is dearer for every value.

mod number;
mod parse;

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

pub use number::Number;
pub use parse::Fault;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(BTreeMap<String, Self>),
}

/// What becomes of an object that has one key twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DuplicateKeys {
    /// The last one counts.
    #[default]
    Last,
    /// The value counts as one that is not JSON.
    Reject,
}

impl Json {
    /// Reads one value. A byte order mark before it is stepped over.
    ///
    /// # Errors
    /// When `bytes` are something else. The fault speaks of the place, never of the content.
    pub fn parse(bytes: &[u8], duplicate_keys: DuplicateKeys) -> Result<Self, Fault> {
        parse::parse(bytes, duplicate_keys)
    }

    /// What stands at a JSON pointer (RFC 6901).
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<&Self> {
        let mut steps = pointer.split('/');
        if !steps.next()?.is_empty() {
            return None;
        }
        steps.try_fold(self, |at, step| match at {
            Self::Object(fields) if step.contains('~') => {
                fields.get(&step.replace("~1", "/").replace("~0", "~"))
            }
            Self::Object(fields) => fields.get(step),
            Self::List(entries) => {
                let sound = step == "0" || !step.starts_with(['0', '+']);
                entries.get(step.parse::<usize>().ok().filter(|_| sound)?)
            }
            Self::Null | Self::Boolean(_) | Self::Number(_) | Self::Text(_) => None,
        })
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Boolean(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => {
                let raw = RawValue::from_string(number.to_string()).map_err(S::Error::custom)?;
                raw.serialize(serializer)
            }
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(entries) => serializer.collect_seq(entries),
            Self::Object(fields) => serializer.collect_map(fields),
        }
    }
}

/// As compact JSON.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests;
