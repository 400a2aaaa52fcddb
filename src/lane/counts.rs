//! The balance of a lane: every record read is settled, released or waiting, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::delivery::{DeadLetterReason, FailureReason, Outcome};

use super::ladder::{Source, Step};

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Settlement {
    /// The receiver has it.
    Delivered,
    /// The dead-letter topic has it.
    DeadLettered,
    /// The ladder has it, for another attempt later.
    Deferred,
    /// The file says that it ends here.
    Dropped,
    /// No rule of this destination wants it.
    NotMatched,
}

impl Counts {
    /// A record was read, from there.
    pub(super) fn read_from(&mut self, source: Source) {
        self.read += 1;
        match source {
            Source::Topic => {}
            Source::Ladder(Step::Replay) => self.read_from_replay += 1,
            Source::Ladder(_) => self.read_from_ladder += 1,
        }
    }
}

impl Settlement {
    /// Every value.
    pub const ALL: [Self; 5] = [
        Self::Delivered,
        Self::Deferred,
        Self::DeadLettered,
        Self::Dropped,
        Self::NotMatched,
    ];

    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::DeadLettered => "dead_lettered",
            Self::Dropped => "dropped",
            Self::NotMatched => "not_matched",
        }
    }
}

/// What happened to a lane's records since it started. Only ever grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read, from topics and from the ladder.
    pub read: u64,
    /// Those of them that came up from the ladder.
    pub read_from_ladder: u64,
    /// Those of them that were replayed from the dead letters.
    pub read_from_replay: u64,
    /// How often the endpoint was opened.
    pub opens: u64,
    /// Deliveries by how they ended.
    pub settled: BTreeMap<Settlement, u64>,
    /// Records of the ladder that belong to others, stepped over; not part of `read`.
    pub foreign: u64,
    /// Second copies of records of the ladder, settled as dropped.
    pub copies: u64,
    /// Records given back unsettled at a revoke, a loss or the end; they are read again by whoever comes next.
    pub released: u64,
    /// Dead letters by reason.
    pub dead_letters: BTreeMap<DeadLetterReason, u64>,
    /// Ended attempts by outcome.
    pub attempts: BTreeMap<Outcome, u64>,
    /// Failed attempts by reason.
    pub attempt_failures: BTreeMap<FailureReason, u64>,
    /// How long records waited for the rate, the first in turn counted.
    pub rate_wait: Duration,
    /// Writes to owned topics: acknowledged.
    pub writes_ok: u64,
    /// Writes to owned topics: failed, and tried again.
    pub writes_failed: u64,
}

impl Counts {
    /// Every settled record.
    #[must_use]
    pub fn settled_total(&self) -> u64 {
        self.settled.values().sum()
    }
}

/// What waits in a lane at this moment, by what it waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// A request is under way.
    pub in_flight: usize,
    /// Waits for its next attempt.
    pub retry: usize,
    /// Waits for another record of its key.
    pub order: usize,
    /// Waits for a free place among the requests.
    pub rate: usize,
    /// Waits because its endpoint is held.
    pub breaker: usize,
    /// Waits for the dead-letter topic.
    pub write: usize,
}

impl Waiting {
    /// Every waiting record.
    #[must_use]
    pub fn total(&self) -> usize {
        self.in_flight + self.retry + self.order + self.rate + self.breaker + self.write
    }

    /// The numbers with their names in metrics.
    #[must_use]
    pub fn by_state(&self) -> [(&'static str, usize); 6] {
        [
            ("in_flight", self.in_flight),
            ("retry", self.retry),
            ("order", self.order),
            ("rate", self.rate),
            ("breaker", self.breaker),
            ("write", self.write),
        ]
    }
}
