//! What was read of one partition and is not settled, and from it the offset that may be committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::clock::Tick;
use crate::delivery::DeliveryId;

use super::caution::{Ends, read_ahead};
use super::chain::Chains;
use super::commit::total;
use super::delivery::Delivery;
use super::event::{AssignedPartition, Position};
use super::ladder::Source;
use super::progress::{Budget, Progress};
use super::start::TopicId;

/// One partition in the hands of the lane, for one assignment.
#[derive(Debug)]
pub(super) struct Partition {
    /// Sorted by offset; the first one is always unsettled. A settled record behind it leaves its offset here and nothing else.
    entries: VecDeque<Entry>,
    base: i64,
    /// The offset after everything received, or the end of the partition when that is further.
    end: i64,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) topic_id: Option<TopicId>,
    pub(super) source: Source,
    /// What an earlier life of the lane has settled beyond the base: in order.
    pub(super) settled_before: Vec<Range<i64>>,
    /// What it had spent on records that are still to be read.
    pub(super) budgets: BTreeMap<i64, Budget>,
    /// The records that wait for others of their keys.
    pub(super) chains: Chains,
    /// Of a ladder partition: the last records taken, so that a second copy is known for one.
    taken: Taken,
    /// Whether what is known beyond the position is too long to be committed whole.
    pub(super) crowded: bool,
    /// What is known of unclean ends.
    pub(super) ends: Ends,
    /// What the broker has acknowledged for this assignment.
    pub(super) committed: Option<(i64, Arc<str>)>,
    /// What was last asked for, and when: the same position is not asked for again while its answer may be on the way.
    pub(super) asked: Option<(Position, Tick)>,
    pub(super) phase: Phase,
    pub(super) paused: bool,
    /// Requests and writes of this partition that have not ended.
    pub(super) busy: usize,
}

/// Where a partition stands between its assignment and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not committed that it has begun, and where: nothing of it may be sent.
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

impl Partition {
    /// A partition as it was assigned, with what is known beyond its base; `text` is how that was committed.
    pub(super) fn new(
        assigned: &AssignedPartition,
        progress: Progress,
        text: &str,
        window: usize,
    ) -> Self {
        let AssignedPartition {
            base, committed, ..
        } = *assigned;
        let ends = Ends::after(
            progress.caution.clone(),
            base,
            total(&progress.settled),
            read_ahead(&progress, base, window),
        );
        Self {
            entries: VecDeque::new(),
            base,
            end: base,
            topic: Arc::clone(&assigned.topic),
            partition: assigned.partition,
            topic_id: assigned.topic_id,
            source: assigned.source,
            settled_before: progress.settled,
            budgets: progress
                .budgets
                .into_iter()
                .map(|b| (b.offset, b))
                .collect(),
            chains: Chains::default(),
            taken: Taken::default(),
            crowded: false,
            ends,
            committed: committed.then(|| (base, text.into())),
            asked: None,
            phase: Phase::Starting,
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

    /// Whether an earlier life of the lane has settled the record at `offset`.
    pub(super) fn is_settled_already(&self, offset: i64) -> bool {
        let after = self
            .settled_before
            .partition_point(|range| range.end <= offset);
        self.settled_before
            .get(after)
            .is_some_and(|range| range.contains(&offset))
    }

    /// Whether the record at `offset` was received in this assignment, or lies below it.
    pub(super) fn knows(&self, offset: i64) -> bool {
        let here = || {
            self.entries
                .binary_search_by_key(&offset, |entry| entry.offset)
                .is_ok()
        };
        offset < self.base || here()
    }

    /// Whether a record of the ladder was taken before, under another offset: a write whose acknowledgement was lost is written twice.
    pub(super) fn is_second_copy(&mut self, delivery: &Delivery) -> bool {
        match self.source {
            Source::Topic => false,
            Source::Ladder(_) => !self
                .taken
                .add((delivery.id, delivery.attempts, delivery.hop)),
        }
    }

    /// Whether the record at `offset` has been read, in this assignment or before it.
    pub(super) fn is_read(&self, offset: i64) -> bool {
        offset < self.end || self.is_settled_already(offset)
    }

    /// Everything that was received from the first unsettled record on; `None`: settled.
    pub(super) fn entries(&self) -> impl Iterator<Item = (i64, Option<&Delivery>)> {
        self.entries
            .iter()
            .map(|entry| (entry.offset, entry.delivery.as_deref()))
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

    /// The same, to look at.
    pub(super) fn peek(&self, offset: i64) -> Option<&Delivery> {
        let place = self
            .entries
            .binary_search_by_key(&offset, |entry| entry.offset)
            .ok()?;
        self.entries.get(place)?.delivery.as_deref()
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

/// So many records of a ladder partition are remembered: a second copy comes shortly after the first.
const TAKEN_MAX: usize = 16_384;

/// The last records taken from a ladder partition.
#[derive(Debug, Default)]
struct Taken {
    order: VecDeque<(DeliveryId, u32, u32)>,
    known: BTreeSet<(DeliveryId, u32, u32)>,
}

impl Taken {
    /// False when it was there already.
    fn add(&mut self, copy: (DeliveryId, u32, u32)) -> bool {
        if !self.known.insert(copy) {
            return false;
        }
        self.order.push_back(copy);
        if self.order.len() > TAKEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::delivery::Destiny;
    use crate::record::Record;

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
        let destiny = Destiny::Deliver { rule: "r".into() };
        Some(Box::new(Delivery::new(Arc::new(record), destiny, id)))
    }

    fn partition(base: i64) -> Partition {
        let assigned = AssignedPartition {
            epoch: crate::delivery::Epoch(0),
            topic: "t".into(),
            partition: 0,
            source: Source::Topic,
            base,
            committed: true,
            metadata: None,
            topic_id: None,
        };
        Partition::new(&assigned, Progress::default(), "", 10)
    }

    #[test]
    fn the_position_is_behind_the_longest_settled_prefix_of_what_was_received() {
        let mut partition = partition(10);
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
        let mut partition = partition(0);
        assert!(partition.receive(5, None));
        assert_eq!(partition.position(), 6);
        assert!(partition.receive(3, waiting()));
        assert_eq!(partition.position(), 3);
        assert!(partition.settle(3).is_some());
        assert_eq!(partition.position(), 6);
    }

    #[test]
    fn a_record_is_taken_once_and_never_below_the_base() {
        let mut partition = partition(7);
        assert!(!partition.receive(6, waiting()));
        assert!(partition.receive(7, waiting()));
        assert!(!partition.receive(7, waiting()));
        assert!(partition.settle(7).is_some());
        assert!(partition.settle(7).is_none());
        assert!(partition.settle(99).is_none());
    }
}
