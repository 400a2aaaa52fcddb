//! What a receiver saw: every attempt, in order of arrival.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::place::{Place, sha256};

/// Bodies below this are kept; of larger ones the length and the hash.
const BODY_KEPT_BYTES: usize = 64 * 1024;

/// A request, read to its end.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its number at this receiver, from 0.
    pub number: usize,
    /// How many attempts at the same record came before it.
    pub earlier: usize,
    /// When its last byte had arrived.
    pub arrived: Instant,
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers: names in lower case, values in raw bytes.
    pub headers: Arc<[(String, Vec<u8>)]>,
    /// Its body.
    pub body: Bytes,
}

impl Request {
    /// The first header of that name (in lower case), as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// `webhook-id`.
    pub fn id(&self) -> Option<&str> {
        self.header("webhook-id")
    }

    /// The record it is about, from the headers that say so.
    pub fn place(&self) -> Option<Place> {
        let topic = self.header("postrider-topic")?;
        let partition = self.header("postrider-partition")?.parse().ok()?;
        let offset = self.header("postrider-offset")?.parse().ok()?;
        Some(Place::new(topic, partition, offset))
    }

    /// The record's offset, -1 when the request does not name one: short for scripts.
    pub fn offset(&self) -> i64 {
        self.place().map_or(-1, |p| p.offset)
    }

    /// The number of the attempt as the sender counts it.
    pub fn attempt(&self) -> Option<u32> {
        self.header("postrider-attempt")?.parse().ok()
    }
}

/// One attempt in the ledger.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its number at this receiver, from 0.
    pub number: usize,
    /// When its last byte had arrived.
    pub arrived: Instant,
    /// When the answer was written, or the connection closed; `None` while it waits, and for ever when the receiver was stopped.
    pub finished: Option<Instant>,
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers: names in lower case, values in raw bytes.
    pub headers: Arc<[(String, Vec<u8>)]>,
    /// `webhook-id`.
    pub id: Option<String>,
    /// The record it is about.
    pub place: Option<Place>,
    /// The number of the attempt as the sender counts it.
    pub attempt: Option<u32>,
    /// The length of its body.
    pub body_length: usize,
    /// The SHA-256 of its body.
    pub body_sha256: [u8; 32],
    /// The body, unless it is large.
    pub body: Option<Bytes>,
    /// The status that was answered; `None` when none was, or not yet.
    pub status: Option<u16>,
    /// How many bytes of the answer the other side took.
    pub answer_bytes: usize,
}

impl Attempt {
    /// The entry for a request that has just arrived.
    pub fn of(request: &Request) -> Self {
        let body = &request.body;
        Self {
            number: request.number,
            arrived: request.arrived,
            finished: None,
            method: request.method.clone(),
            path: request.path.clone(),
            headers: Arc::clone(&request.headers),
            id: request.id().map(str::to_owned),
            place: request.place(),
            attempt: request.attempt(),
            body_length: body.len(),
            body_sha256: sha256(body),
            body: (body.len() < BODY_KEPT_BYTES).then(|| body.clone()),
            status: None,
            answer_bytes: 0,
        }
    }

    /// Whether the receiver said 2xx: the record is its own from then on.
    pub fn accepted(&self) -> bool {
        self.status.is_some_and(|s| (200..300).contains(&s))
    }

    /// The first header of that name (in lower case), as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// How long it took, from the request's last byte to the answer's.
    pub fn took(&self) -> Option<Duration> {
        Some(self.finished?.duration_since(self.arrived))
    }
}

fn find<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(n, _)| n == name)?;
    std::str::from_utf8(value).ok()
}
