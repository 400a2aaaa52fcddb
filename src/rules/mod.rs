//! Rules: which records go where. Pure.

mod options;

pub use options::{ReadFormat, ReadOptions, RuleOptions, TypePart, ValuePolicy};
