//! One record on its way to the destination: what it waits for, and what was spent on it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Tick, Timestamp};
use crate::delivery::{Attempt, DeadLetterReason, DeliveryId};
use crate::record::Record;

use super::endpoints::Slot;
use super::event::Shed;
use super::ladder::Step;
use super::progress::Budget;

/// One record on its way to the destination.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) record: Arc<Record>,
    pub(super) weight: usize,
    pub(super) id: DeliveryId,
    pub(super) destiny: Destiny,
    pub(super) state: State,
    /// The records with this key go one after the other.
    pub(super) order_key: Option<Bytes>,
    /// The endpoint it goes to.
    pub(super) endpoint: Slot,
    /// Whether it does not fit the ladder's topics.
    pub(super) stays_here: bool,
    /// Attempts spent.
    pub(super) attempts: u32,
    /// Those of them that it brought along from the ladder.
    pub(super) carried_attempts: u32,
    /// How often it met an endpoint fault while others passed.
    pub(super) faults: u32,
    /// How often it was a probe of an open endpoint.
    pub(super) probes: u32,
    /// How often it was pushed back while others passed, and what had passed by the last time it was pushed back.
    pub(super) lonely_push_backs: u32,
    pub(super) pushed_back: Option<PushedBack>,
    /// Writes to the ladder so far.
    pub(super) hop: u32,
    /// When its next attempt is due, as far as that is more than its turn.
    pub(super) due: Option<Timestamp>,
    pub(super) first_attempt: Option<FirstAttempt>,
    pub(super) last_attempt: Option<Timestamp>,
    /// The last failure, for its dead letter.
    pub(super) last_failure: Option<Attempt>,
    /// The rule that wanted it when it went to the ladder.
    pub(super) removed_rule: Option<Arc<str>>,
    /// The cluster it was first read from, when it came up from the ladder.
    pub(super) cluster_id: Option<Arc<str>>,
}

/// What the rules said of a record that is not settled at once.
#[derive(Debug)]
pub(super) enum Destiny {
    /// To be sent.
    Deliver { rule: Arc<str> },
    /// To become a dead letter, in its turn: written ahead of older records it would be written again by whoever comes next.
    DeadLetter {
        reason: DeadLetterReason,
        error: String,
    },
}

/// What the endpoint had answered when a delivery was last pushed back.
#[derive(Debug, Clone, Copy)]
pub(super) struct PushedBack {
    pub(super) passes: u64,
    pub(super) push_backs: u64,
    /// Whether others had passed since the time before.
    pub(super) others_passed: bool,
}

/// When a delivery was first tried, and what of the time since counts towards its age.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstAttempt {
    pub(super) wall: Timestamp,
    /// Its age when it came into this window, held time left out.
    pub(super) age_before: Duration,
    /// Its held time by then.
    pub(super) held: Duration,
    /// When that was, and how long the endpoint had been stopped in total.
    pub(super) since: Tick,
    pub(super) stopped_before: Duration,
}

impl FirstAttempt {
    /// An attempt that an earlier life of the delivery began.
    pub(super) fn at(wall: Timestamp, held: Duration) -> Self {
        Self {
            wall,
            age_before: Duration::ZERO,
            held,
            since: Tick::default(),
            stopped_before: Duration::ZERO,
        }
    }

    /// The age that counts towards `max_age`, when the endpoint has been stopped for so long in total.
    pub(super) fn age(&self, now: Tick, stopped: Duration) -> Duration {
        let stopped = stopped.saturating_sub(self.stopped_before);
        self.age_before + now.since(self.since).saturating_sub(stopped)
    }

    /// The time that does not count.
    pub(super) fn held(&self, stopped: Duration) -> Duration {
        self.held + stopped.saturating_sub(self.stopped_before)
    }
}

/// What a delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A free place among the requests.
    Ready,
    /// The settlement of another one, which has the same key and stands before it.
    Behind,
    /// The end of its request.
    InFlight,
    /// The time of its next attempt.
    Retry,
    /// The end of a doubt: it met a fault, and it is not known yet whose that is.
    Accused,
    /// The acknowledgement of its dead letter, or the time to write it again.
    Write(DeadLetterWrite),
    /// The acknowledgement of its write to the ladder, or the time to write it again.
    Ladder(LadderWrite),
}

/// A record on its way to the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LadderWrite {
    pub(super) step: Step,
    /// Whether it only makes room for others.
    pub(super) makes_room: bool,
    /// Writes that failed so far.
    pub(super) failures: u32,
}

/// A dead letter on its way to the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeadLetterWrite {
    pub(super) reason: DeadLetterReason,
    pub(super) shed: Shed,
    /// Writes that failed so far.
    pub(super) failures: u32,
}

impl Destiny {
    /// The rule that wants the record delivered; absent when none got that far.
    pub(super) fn rule(&self) -> Option<Arc<str>> {
        match self {
            Self::Deliver { rule } => Some(Arc::clone(rule)),
            Self::DeadLetter { .. } => None,
        }
    }
}

impl Delivery {
    /// A delivery that nothing was done for.
    pub(super) fn new(record: Arc<Record>, destiny: Destiny, id: DeliveryId) -> Self {
        Self {
            weight: record.weight(),
            record,
            id,
            destiny,
            state: State::Ready,
            order_key: None,
            endpoint: Slot::SOLE,
            stays_here: false,
            attempts: 0,
            carried_attempts: 0,
            faults: 0,
            probes: 0,
            lonely_push_backs: 0,
            pushed_back: None,
            hop: 0,
            due: None,
            first_attempt: None,
            last_attempt: None,
            last_failure: None,
            removed_rule: None,
            cluster_id: None,
        }
    }

    /// Whether nothing has ever spoken against it, so that its answer speaks for or against the endpoint.
    pub(super) fn is_innocent(&self) -> bool {
        self.faults == 0 && self.pushed_back.is_none()
    }

    /// What was spent on it and is not known from anywhere else, to be committed beside the position. Held time counts in whole
    /// minutes, so that time alone does not make a new commit of it.
    pub(super) fn budget(&self, offset: i64, stopped: Duration) -> Option<Budget> {
        let first = self
            .first_attempt
            .filter(|_| self.attempts > self.carried_attempts)?;
        let whole_seconds = |time: Timestamp| Timestamp(time.0.div_euclid(1000) * 1000);
        let first_attempt = whole_seconds(first.wall);
        let due = whole_seconds(self.due.unwrap_or(first.wall)).max(first_attempt);
        let minutes = first.held(stopped).as_secs() / 60;
        Some(Budget {
            offset,
            attempts: self.attempts,
            faults: self.faults,
            first_attempt,
            due,
            held: Duration::from_secs(minutes * 60),
        })
    }
}
