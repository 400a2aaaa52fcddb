//! What the file may say about reading records and matching them.

use std::sync::Arc;

use super::content::ContentOptions;

/// One `[[rules]]` entry, already checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOptions {
    /// Its name, unique in the file.
    pub name: Arc<str>,
    /// The topics it reads, by exact name; at least one.
    pub topics: Vec<String>,
    /// The types it takes, where `*` is any run of characters; empty takes every type.
    pub types: Vec<String>,
    /// The names of the destinations that get the record; at least one.
    pub deliver_to: Vec<String>,
    /// What is sent in place of what the destination has.
    pub content: ContentOptions,
}

/// The `[notification]` section: how records are read.
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
}

/// What the value of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadFormat {
    /// JSON; anything else is undecodable.
    #[default]
    Json,
    /// Bytes that are never looked into.
    Bytes,
}

/// One part of a record's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypePart {
    /// The topic's name.
    Topic,
    /// The JSON field at this pointer (RFC 6901).
    Field(String),
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

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: ReadFormat::default(),
            type_parts: vec![TypePart::Topic],
            null: ValuePolicy::Skip,
            empty: ValuePolicy::Send,
        }
    }
}
