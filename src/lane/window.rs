//! What was read of one partition and is not settled, and from it the offset that may be committed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::{Tick, Timestamp};
use crate::delivery::{Attempt, DeadLetterReason, DeliveryId};
use crate::record::Record;

use super::event::Shed;

/// One partition in the hands of the lane, for one assignment.
#[derive(Debug)]
pub(super) struct Partition {
    /// Sorted by offset; the first one is always unsettled. A settled record behind it leaves its offset here and nothing else.
    entries: VecDeque<Entry>,
    base: i64,
    /// The offset after everything received, or the end of the partition when that is further.
    end: i64,
    /// What the broker has acknowledged for this assignment.
    pub(super) committed: Option<i64>,
    /// What was last asked for, and when: the same position is not asked for again while its answer may be on the way.
    pub(super) asked: Option<(i64, Tick)>,
    pub(super) phase: Phase,
    pub(super) paused: bool,
    /// Requests and writes of this partition that have not ended.
    pub(super) busy: usize,
}

/// Where a partition stands between its assignment and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its start position is not committed: nothing of it may be sent.
    Starting,
    /// Its records are delivered.
    Consuming,
    /// It is about to be taken away: what is in flight may end, nothing new begins.
    Revoking,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    /// `None`: settled.
    delivery: Option<Box<Delivery>>,
}

/// One record on its way to the destination.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) record: Arc<Record>,
    pub(super) weight: usize,
    pub(super) id: DeliveryId,
    pub(super) destiny: Destiny,
    pub(super) state: State,
    /// Attempts spent.
    pub(super) attempts: u32,
    /// When its first attempt began, and how long the endpoint had been held in total by then.
    pub(super) first_attempt: Option<FirstAttempt>,
    pub(super) last_attempt: Option<Timestamp>,
    /// The last failure, for its dead letter.
    pub(super) last_failure: Option<Attempt>,
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

/// When and after how much holding a delivery was first tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstAttempt {
    pub(super) tick: Tick,
    pub(super) wall: Timestamp,
    pub(super) held_before: std::time::Duration,
}

/// What a delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A free place among the requests.
    Ready,
    /// The end of its request.
    InFlight,
    /// The time of its next attempt.
    Retry,
    /// The acknowledgement of its dead letter, or the time to write it again.
    Write(DeadLetterWrite),
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

impl Partition {
    /// A partition that begins at `base`.
    pub(super) fn new(base: i64, committed: bool) -> Self {
        Self {
            entries: VecDeque::new(),
            base,
            end: base,
            committed: committed.then_some(base),
            asked: None,
            phase: if committed {
                Phase::Consuming
            } else {
                Phase::Starting
            },
            paused: false,
            busy: 0,
        }
    }

    /// The first offset that is not settled: what may be committed.
    pub(super) fn position(&self) -> i64 {
        self.entries.front().map_or(self.end, |entry| entry.offset)
    }

    /// How far the partition is read ahead of its oldest unsettled record, in offsets.
    pub(super) fn distance(&self) -> i64 {
        self.end - self.position()
    }

    /// Takes a record in; `None` stands for one that is settled at once. False when its offset is below the base or already here.
    ///
    /// Offsets may come in any order. One that comes late, below the position, takes the position back to itself: it would be lost if
    /// the process ended with the higher one committed.
    pub(super) fn receive(&mut self, offset: i64, delivery: Option<Box<Delivery>>) -> bool {
        if offset < self.base {
            return false;
        }
        if self.entries.back().is_none_or(|last| last.offset < offset) {
            self.entries.push_back(Entry { offset, delivery });
        } else {
            match self
                .entries
                .binary_search_by_key(&offset, |entry| entry.offset)
            {
                Ok(_) => return false,
                Err(place) => self.entries.insert(place, Entry { offset, delivery }),
            }
        }
        self.end = self.end.max(offset + 1);
        self.drop_settled_prefix();
        true
    }

    /// The partition ends at `offset`, whatever lies between the last record and there.
    pub(super) fn reach_end(&mut self, offset: i64) {
        self.end = self.end.max(offset);
    }

    /// The delivery of the record at `offset`, unless it is settled or was never received.
    pub(super) fn delivery(&mut self, offset: i64) -> Option<&mut Delivery> {
        let place = self
            .entries
            .binary_search_by_key(&offset, |entry| entry.offset)
            .ok()?;
        self.entries.get_mut(place)?.delivery.as_deref_mut()
    }

    /// Settles the record at `offset` and gives its delivery back.
    pub(super) fn settle(&mut self, offset: i64) -> Option<Box<Delivery>> {
        let place = self
            .entries
            .binary_search_by_key(&offset, |entry| entry.offset)
            .ok()?;
        let delivery = self.entries.get_mut(place)?.delivery.take();
        self.drop_settled_prefix();
        delivery
    }

    /// Everything that is not settled.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = (i64, &Delivery)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((entry.offset, entry.delivery.as_deref()?)))
    }

    fn drop_settled_prefix(&mut self) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.delivery.is_none())
        {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Option<Box<Delivery>> {
        let record = Record {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let id = DeliveryId::new("c", &record, "d");
        Some(Box::new(Delivery {
            weight: record.weight(),
            record: Arc::new(record),
            id,
            destiny: Destiny::Deliver { rule: "r".into() },
            state: State::Ready,
            attempts: 0,
            first_attempt: None,
            last_attempt: None,
            last_failure: None,
        }))
    }

    #[test]
    fn the_position_is_behind_the_longest_settled_prefix_of_what_was_received() {
        let mut partition = Partition::new(10, true);
        assert_eq!(partition.position(), 10);
        for offset in [10, 11, 14] {
            assert!(partition.receive(offset, waiting()));
        }
        assert!(partition.settle(11).is_some());
        assert_eq!(partition.position(), 10);
        assert!(partition.settle(10).is_some());
        assert_eq!(
            partition.position(),
            14,
            "12 and 13 were never received: they are holes"
        );
        assert!(partition.settle(14).is_some());
        assert_eq!(partition.position(), 15);
        partition.reach_end(18);
        assert_eq!(
            partition.position(),
            18,
            "behind the last record there were only markers"
        );
    }

    #[test]
    fn a_record_that_comes_late_takes_the_position_back() {
        let mut partition = Partition::new(0, true);
        assert!(partition.receive(5, None));
        assert_eq!(partition.position(), 6);
        assert!(partition.receive(3, waiting()));
        assert_eq!(partition.position(), 3);
        assert!(partition.settle(3).is_some());
        assert_eq!(partition.position(), 6);
    }

    #[test]
    fn a_record_is_taken_once_and_never_below_the_base() {
        let mut partition = Partition::new(7, true);
        assert!(!partition.receive(6, waiting()));
        assert!(partition.receive(7, waiting()));
        assert!(!partition.receive(7, waiting()));
        assert!(partition.settle(7).is_some());
        assert!(partition.settle(7).is_none());
        assert!(partition.settle(99).is_none());
    }
}
