//! Rules: which records go where. Pure.
//!
//! [`matcher`] judges a record for one destination, or for the audit; [`reading`] reads a record's value and type; [`condition`] is `match`;
//! [`pattern`] is the `*` of `types`; [`topics`] is names and patterns of topics. [`content`] makes what is sent for a record, by
//! [`template`]s where the file has them.

mod condition;
mod content;
#[cfg(test)]
mod fixtures;
mod json;
mod mailbox;
mod matcher;
mod options;
mod pattern;
mod reading;
mod sequence;
mod template;
mod topics;

pub use condition::{Condition, Scalar, Test};
pub use content::{BRIDGE_NAMES, ContentOptions, Envelope, Rendered, Renderer, TEMPLATE_NAMES};
pub use json::{DuplicateKeys, Fault, Json, Number};
pub use mailbox::is_mail_address;
pub use matcher::{Judgement, Matcher, RuleAnswer, RuleFile};
pub use options::{
    OnError, ReadFormat, ReadOptions, ReadOverride, RuleOptions, TypePart, Unmatched, ValuePolicy,
};
pub use sequence::{Sequence, SequenceOptions};
pub use template::{Escape, RenderError, Template, TemplateError};
pub use topics::{TopicSelector, TopicSet, is_reserved};
