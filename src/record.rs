//! One Kafka record, as it was written.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;

/// One Kafka record. Nothing in it is assumed to be UTF-8 but the topic, whose alphabet Kafka fixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic it was read from.
    pub topic: Arc<str>,
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset in that partition.
    pub offset: i64,
    /// Its timestamp; absent in record format v0.
    pub timestamp: Option<Timestamp>,
    /// Its key, byte for byte.
    pub key: Option<Bytes>,
    /// Its value, byte for byte; `None` is a null value (a tombstone), not an empty one.
    pub value: Option<Bytes>,
    /// Its headers, in order; names may repeat.
    pub headers: Vec<Header>,
}

/// One header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name. Kafka says UTF-8, but a producer can write anything.
    pub name: Bytes,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
}

impl Record {
    /// What the record weighs in a window, in bytes: key, value, headers and a fixed allowance for the rest.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// The struct itself, its list entries and its share of the window's bookkeeping.
        const ALLOWANCE_BYTES: usize = 256;
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|h| h.name.len() + length(&h.value))
            .sum();
        length(&self.key) + length(&self.value) + headers + ALLOWANCE_BYTES
    }
}
