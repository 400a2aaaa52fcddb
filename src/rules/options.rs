//! What the file may say about reading records and matching them.

use std::sync::Arc;

use super::condition::Condition;
use super::content::ContentOptions;
use super::topics::TopicSelector;

/// One `[[rules]]` entry, already checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOptions {
    /// Its name, unique in the file.
    pub name: Arc<str>,
    /// The topics it reads; at least one.
    pub topics: Vec<TopicSelector>,
    /// The types it takes, where `*` is any run of characters; empty takes every type.
    pub types: Vec<String>,
    /// What the fields of the value must be; all of them must hold.
    pub conditions: Vec<Condition>,
    /// Whether it takes only what no other rule of the file took.
    pub default: bool,
    /// What becomes of a record that cannot be read as the rule needs it.
    pub on_error: OnError,
    /// The names of the destinations that get the record; none: the record is dropped.
    pub deliver_to: Vec<String>,
    /// What is sent in place of what the destination has.
    pub content: ContentOptions,
}

impl RuleOptions {
    /// Whether it drops what it takes.
    #[must_use]
    pub fn drops(&self) -> bool {
        self.deliver_to.is_empty()
    }
}

/// What becomes of a record that cannot be read as a rule needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It is written to the dead letters.
    #[default]
    DeadLetter,
    /// The rule does not take it; the next ones are asked.
    NoMatch,
}

/// How records are read: the `[notification]` section, or one of its overrides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// What a value is.
    pub format: ReadFormat,
    /// What a record's type is made of, joined by dots; at least one part.
    pub type_parts: Vec<TypePart>,
    /// What becomes of a null value.
    pub null: ValuePolicy,
    /// What becomes of an empty value.
    pub empty: ValuePolicy,
    /// What becomes of a record that no rule takes.
    pub unmatched: Unmatched,
}

/// One `[[notification.override]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOverride {
    /// The topics it is for; at least one.
    pub topics: Vec<TopicSelector>,
    /// How their records are read.
    pub read: ReadOptions,
}

/// What the value of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadFormat {
    /// JSON; anything else is undecodable.
    #[default]
    Json,
    /// Bytes that are never looked into.
    Bytes,
    /// A CloudEvent, structured (the value is the whole event, in JSON) or binary (the value is its data).
    CloudEvents,
    /// JSON behind the five bytes of Confluent's serializers, which are not sent.
    ConfluentJson,
}

/// One part of a record's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypePart {
    /// The topic's name.
    Topic,
    /// The JSON field at this pointer (RFC 6901).
    Field(String),
    /// The last header of this name.
    Header(String),
    /// The type of a CloudEvent.
    CloudEvents,
}

/// What becomes of a value that has nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValuePolicy {
    /// Settled as dropped.
    Skip,
    /// Sent with an empty body.
    Send,
    /// Written to the dead letters.
    DeadLetter,
}

/// What becomes of a record that no rule takes. It is counted in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmatched {
    /// Nothing.
    #[default]
    Ignore,
    /// It is written to the dead letters, once.
    DeadLetter,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: ReadFormat::default(),
            type_parts: vec![TypePart::Topic],
            null: ValuePolicy::Skip,
            empty: ValuePolicy::Send,
            unmatched: Unmatched::default(),
        }
    }
}
