//! Records as Kafka stores them, byte for byte, and the places they have there.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition in it.
    pub partition: i32,
    /// The offset in that.
    pub offset: i64,
}

impl Place {
    /// A place.
    pub fn new(topic: &str, partition: i32, offset: i64) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            offset,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

/// A header: the name in raw bytes, for a producer can write anything, and the value; `None` is null.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it is.
    pub place: Place,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

impl Stored {
    /// The first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name.as_bytes())?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// The SHA-256 of the value; of nothing for a null one.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(self.value.as_deref().unwrap_or_default())
    }
}

/// A record to be produced.
#[derive(Debug, Clone)]
pub struct New {
    /// Where to.
    pub topic: String,
    /// Which partition; by key or at random when absent.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; the moment of producing when absent.
    pub timestamp: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers. A name that is not UTF-8 goes by [`wire`](super::wire), which the client library would refuse.
    pub headers: Vec<Header>,
}

impl New {
    /// A record with a null key and a null value.
    pub fn to(topic: &str) -> Self {
        let topic = topic.to_owned();
        Self {
            topic,
            partition: None,
            timestamp: None,
            key: None,
            value: None,
            headers: vec![],
        }
    }

    /// Names its partition.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Gives it a timestamp, in milliseconds since 1970.
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Gives it a key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// Gives it a value.
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = Some(value.as_ref().to_vec());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().to_vec(), Some(value.as_ref().to_vec())));
        self
    }

    /// Adds a header whose value is null.
    pub fn null_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), None));
        self
    }
}

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
