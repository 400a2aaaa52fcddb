//! The nouns of a delivery: its key inside a lane, its id for the receiver, how an attempt and how the delivery ended.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::record::Record;

/// One assignment of one partition to one lane. Unique in the life of the lane, so that it stands for (topic, partition,
/// assignment): what still arrives from an older assignment names an epoch nobody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Names one delivery inside a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// The assignment its record was read in.
    pub epoch: Epoch,
    /// The record's offset.
    pub offset: i64,
}

/// What a receiver sees as `webhook-id`: the same on every attempt, after every restart and on every replay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub [u8; 16]);

impl DeliveryId {
    /// The id of `record` on its way to `destination_id`.
    ///
    /// A SHA-256 over cluster id, topic, partition, offset, record timestamp and destination id, each with its length before it, cut
    /// to 128 bits. The timestamp is in it because a topic that was deleted and made again repeats its offsets; the hash,
    /// because Standard Webhooks 1.0.0 forbids dots in an id and topic names have them.
    #[must_use]
    pub fn new(cluster_id: &str, record: &Record, destination_id: &str) -> Self {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(cluster_id.as_bytes());
        field(record.topic.as_bytes());
        field(&record.partition.to_be_bytes());
        field(&record.offset.to_be_bytes());
        field(&record.timestamp.map_or([0xff; 8], |t| t.0.to_be_bytes()));
        field(destination_id.as_bytes());
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        f.write_str("msg_")?;
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How an attempt ended: the rows of the outcome table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// Not now; the next delay of the schedule. Spends an attempt.
    Retry,
    /// The receiver asks for less: the endpoint is held. Spends no attempt.
    PushBack,
    /// The receiver will never take this record.
    Reject,
    /// The endpoint itself is wrong: its address, its certificate, our rights there.
    EndpointFault,
    /// The endpoint has gone for good (410).
    Gone,
    /// The file says that such an answer ends the record.
    Dropped,
    /// Our own side: no request can be made from this record.
    CannotBeMade,
    /// The code that makes or judges the request panicked on this record.
    Panicked,
}

impl Outcome {
    /// The name in metrics, logs and the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::PushBack => "push_back",
            Self::Reject => "reject",
            Self::EndpointFault => "endpoint_fault",
            Self::Gone => "gone",
            Self::Dropped => "dropped",
            Self::CannotBeMade => "cannot_be_made",
            Self::Panicked => "panic",
        }
    }
}

macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in metrics, logs and headers.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

names! {
    /// Why an attempt failed: bounded, a label of `postrider_attempt_failures_total`.
    FailureReason {
        /// A 3xx status.
        Http3xx = "http_3xx",
        /// A 4xx status that has no name of its own.
        Http4xx = "http_4xx",
        /// A 5xx status.
        Http5xx = "http_5xx",
        /// 401.
        Http401 = "http_401",
        /// 403.
        Http403 = "http_403",
        /// 404.
        Http404 = "http_404",
        /// 408.
        Http408 = "http_408",
        /// 410.
        Http410 = "http_410",
        /// 429.
        Http429 = "http_429",
        /// No answer within the time allowed.
        Timeout = "timeout",
        /// The connection could not be made.
        Connect = "connect",
        /// The connection broke before the answer.
        Reset = "reset",
        /// The host name could not be resolved.
        Dns = "dns",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The proxy could not be reached, or did not lead to the receiver.
        Proxy = "proxy",
        /// A 2xx that is not what the file calls a success.
        SuccessCondition = "success_condition",
    }
}

names! {
    /// Why a record became a dead letter.
    DeadLetterReason {
        /// The receiver will never take it.
        Rejected = "rejected",
        /// The schedule ended without a success.
        Exhausted = "exhausted",
        /// Older than `max_age`.
        Expired = "expired",
        /// The endpoint has gone for good.
        Gone = "gone",
        /// The value is not what the file says it is.
        Undecodable = "undecodable",
        /// No rule takes it, and the file wants such records kept.
        Unmatched = "unmatched",
        /// No request can be made from it.
        Unrenderable = "unrenderable",
        /// The rule that wanted it delivered is gone.
        RuleRemoved = "rule_removed",
        /// The code panicked on it.
        Panic = "panic",
        /// A person said so.
        Skipped = "skipped",
    }
}

names! {
    /// Why the broker did not take a commit: bounded, a label of `postrider_commit_errors_total`.
    CommitFailure {
        /// The group is handing out partitions.
        Rebalance = "rebalance",
        /// The group has handed out partitions, and this member has not heard its part of it yet.
        StaleGeneration = "stale_generation",
        /// The group goes on without this member.
        Fenced = "fenced",
        /// Nobody coordinates the group at the moment.
        Coordinator = "coordinator",
        /// No answer within the time allowed.
        Timeout = "timeout",
        /// No connection.
        Unreachable = "unreachable",
        /// The right to do so is missing.
        Unauthorized = "unauthorized",
        /// What was to be committed with the offset is longer than the broker takes.
        MetadataTooLarge = "metadata_too_large",
        /// The topic or the partition is gone.
        UnknownTopic = "unknown_topic",
        /// Anything else; the log says what, at `debug`.
        Other = "other",
    }
}

/// What a delivery brings along on the ladder, so that it goes on where it was when it comes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Its id, made from where the record was first.
    pub id: DeliveryId,
    /// The rule that wants it delivered. Empty when it died before a rule was found: then the rules are asked.
    pub rule: Arc<str>,
    /// Attempts spent.
    pub attempts: u32,
    /// How often it met an endpoint fault while others passed.
    pub faults: u32,
    /// Writes to the ladder so far, this one included: with the id and the attempts it tells a second copy from the next hop. The step would
    /// not: a record that waits for a day stays on the longest step three times.
    pub hop: u32,
    /// How often somebody has replayed it from the dead letters.
    pub round: u32,
    /// When its next attempt is due.
    pub due: Timestamp,
    /// When its first attempt began.
    pub first_attempt: Option<Timestamp>,
    /// When its last attempt ended.
    pub last_attempt: Option<Timestamp>,
    /// For how long its endpoint was held or open since its first attempt: time that does not count towards `max_age`.
    pub held: Duration,
    /// The last status.
    pub status: Option<u16>,
    /// The last error, in words.
    pub error: String,
    /// The cluster the record was read from first.
    pub cluster_id: Arc<str>,
    /// When the broker took it onto its step; known when it is read back.
    pub appended: Option<Timestamp>,
}

/// What the rules say of a record, for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be delivered.
    Deliver {
        /// The rule that says so.
        rule: Arc<str>,
    },
    /// No rule of this destination wants it.
    NotMatched,
    /// The file says that such records end here.
    Dropped,
    /// A record of the ladder that belongs to another destination.
    Foreign,
    /// It cannot be what a rule of this destination wants to look at.
    DeadLetter {
        /// Why.
        reason: DeadLetterReason,
        /// In words.
        error: String,
    },
}

/// One ended attempt, as the sender judged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The row of the outcome table.
    pub outcome: Outcome,
    /// Why it failed; `None` when delivered.
    pub reason: Option<FailureReason>,
    /// The HTTP status, when there was one.
    pub status: Option<u16>,
    /// What happened, in words, without URLs or secrets; empty when delivered.
    pub error: String,
    /// The first bytes of the answer's body, when the outcome wants them kept.
    pub excerpt: Bytes,
    /// What `Retry-After` asked for, from the moment of the answer.
    pub retry_after: Option<Duration>,
}

impl Attempt {
    /// An attempt that the receiver acknowledged with `status`.
    #[must_use]
    pub fn delivered(status: u16) -> Self {
        Self {
            outcome: Outcome::Delivered,
            reason: None,
            status: Some(status),
            error: String::new(),
            excerpt: Bytes::new(),
            retry_after: None,
        }
    }

    /// No attempt at all: what was read is not what it should be, for the reason in `error`.
    #[must_use]
    pub fn failed_before_sending(error: String) -> Self {
        Self {
            outcome: Outcome::CannotBeMade,
            reason: None,
            status: None,
            error,
            excerpt: Bytes::new(),
            retry_after: None,
        }
    }
}
