//! Rules: which records go where. Pure.
//!
//! [`matcher`] judges a record for one destination, or for the audit; [`reading`] reads a record's value and type; [`condition`] is `match`;
//! [`pattern`] is the `*` of `types`; [`topics`] is names and patterns of topics.

mod condition;
#[cfg(test)]
mod fixtures;
mod matcher;
mod options;
mod pattern;
mod reading;
mod topics;

pub use condition::{Condition, Scalar, Test};
pub use matcher::{Judgement, Matcher, RuleFile};
pub use options::{
    OnError, ReadFormat, ReadOptions, ReadOverride, RuleOptions, TypePart, Unmatched, ValuePolicy,
};
pub use topics::{TopicSelector, TopicSet, is_reserved};
