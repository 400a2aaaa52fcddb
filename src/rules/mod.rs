//! Rules: which records go where. Pure.
//!
//! [`matcher`] judges a record for one destination; [`kind`] reads a record's type; [`pattern`] is the `*` of `types`.

mod kind;
mod matcher;
mod options;
mod pattern;

pub use matcher::Matcher;
pub use options::{ReadFormat, ReadOptions, RuleOptions, TypePart, ValuePolicy};
