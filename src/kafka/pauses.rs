//! Why partitions stand still, and what librdkafka knows of it. There are four reasons, and one is
//! enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use crate::clock::Tick;
use crate::delivery::Epoch;

use super::consumer::{ConsumerThread, TopicPartition, list};
use super::members::Part;
use super::raw_topics::ask_leaders;

/// A lane that has had no room for this long does not get any soon: its partitions are paused, so that librdkafka stops fetching for it and
/// gives up what it holds. For shorter waits a pause costs more than it saves.
const REST_AFTER: Duration = Duration::from_secs(5);

/// The reasons, and the partitions that librdkafka was told to pause.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// The lane wants no more of these: they are read too far ahead.
    lane: BTreeSet<Epoch>,
    /// The next record of these may not go in yet.
    gate: BTreeSet<Epoch>,
    /// What comes next of these does not read.
    damage: BTreeSet<Epoch>,
    /// The lane has had no room for long: all of them.
    rest: bool,
    /// Since when the lane has had no room.
    full_since: Option<Tick>,
    /// By name, because librdkafka keeps a pause when the epoch changes under it.
    told: BTreeSet<TopicPartition>,
    /// Whether something has changed since librdkafka was told.
    changed: bool,
}

impl Pauses {
    pub(super) fn by_lane(&mut self, epoch: Epoch, pause: bool) {
        self.changed |= set(&mut self.lane, epoch, pause);
    }

    pub(super) fn by_gate(&mut self, epoch: Epoch, pause: bool) {
        self.changed |= set(&mut self.gate, epoch, pause);
    }

    pub(super) fn by_damage(&mut self, epoch: Epoch, pause: bool) {
        self.changed |= set(&mut self.damage, epoch, pause);
    }

    /// Rests when the lane has had no room for long, and ends the rest when it has.
    fn room(&mut self, has_room: bool, now: Tick) {
        let since = *self.full_since.get_or_insert(now);
        if has_room {
            self.full_since = None;
        }
        let rest = !has_room && (self.rest || now.since(since) >= REST_AFTER);
        self.changed |= rest != self.rest;
        self.rest = rest;
    }

    /// When a rest begins, if nothing changes.
    pub(super) fn due(&self) -> Option<Tick> {
        let since = self.full_since.filter(|_| !self.rest)?;
        Some(since + REST_AFTER)
    }

    /// An assignment begins, perhaps of a partition that stands still since an earlier one.
    pub(super) fn assigned(&mut self) {
        self.changed = true;
    }

    /// An assignment has ended.
    pub(super) fn forget(&mut self, epoch: Epoch) {
        self.lane.remove(&epoch);
        self.gate.remove(&epoch);
        self.damage.remove(&epoch);
    }

    /// These are read, whatever librdkafka was told before.
    pub(super) fn resumed(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.told.remove(partition);
        }
    }

    /// What librdkafka must be told: the partitions to pause, and those to resume.
    fn changes(&mut self, assigned: &BTreeMap<TopicPartition, Epoch>) -> [Vec<TopicPartition>; 2] {
        let mut changes = [Vec::new(), Vec::new()];
        if !std::mem::take(&mut self.changed) {
            return changes;
        }
        for (partition, epoch) in assigned {
            let reasons = [&self.lane, &self.gate, &self.damage];
            let pause = self.rest || reasons.iter().any(|epochs| epochs.contains(epoch));
            if pause != self.told.contains(partition) {
                changes[usize::from(!pause)].push(partition.clone());
            }
        }
        let [pause, resume] = &changes;
        self.told.extend(pause.iter().cloned());
        self.resumed(resume);
        changes
    }
}

/// Puts an epoch in or takes it out; says whether that changed anything.
fn set(epochs: &mut BTreeSet<Epoch>, epoch: Epoch, member: bool) -> bool {
    if member {
        epochs.insert(epoch)
    } else {
        epochs.remove(&epoch)
    }
}

impl ConsumerThread {
    /// Tells librdkafka which partitions stand still.
    pub(super) fn apply_pauses(&mut self) {
        let [pause, resume] = self.pauses.changes(&self.assigned);
        for (partitions, pausing) in [(pause, true), (resume, false)] {
            if partitions.is_empty() {
                continue;
            }
            let list = list(&partitions);
            let done = match pausing {
                true => self.consumer.pause(&list),
                false => self.consumer.resume(&list),
            };
            if let Err(error) = done {
                warn!(destination = %self.plan.destination, %error, pausing, "pause or resume refused");
            }
        }
    }

    /// Notes whether the lane has room.
    pub(super) fn rest(&mut self, has_room: bool) {
        let before = self.pauses.rest;
        self.pauses.room(has_room, self.clock.now().tick);
        let rest = self.pauses.rest;
        if rest != before {
            debug!(destination = %self.plan.destination, rest, "no room for long: partitions paused");
            self.apply_pauses();
            if !rest {
                self.wake_fetchers();
            }
        }
    }

    /// Has librdkafka go on fetching now. It stops for all partitions while its group hands some out, and its threads that fetch are not told when
    /// that is over, nor when a pause is: they look once in a second. A question to the leaders of the partitions wakes them.
    pub(super) fn wake_fetchers(&self) {
        // The ladder can wait a second.
        if self.part == Part::Ladder {
            return;
        }
        let mut ends = TopicPartitionList::new();
        for (topic, partition) in self.assigned.keys() {
            let added = ends.add_partition_offset(topic, *partition, Offset::End);
            debug_assert!(added.is_ok(), "the end is an offset");
        }
        if ends.count() > 0 {
            ask_leaders(self.consumer.client(), &ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    const NOTHING: [Vec<i32>; 2] = [Vec::new(), Vec::new()];

    fn assigned() -> BTreeMap<TopicPartition, Epoch> {
        (0..3)
            .map(|n| (("t".into(), n), Epoch(u64::try_from(n).unwrap())))
            .collect()
    }

    fn changes(pauses: &mut Pauses) -> [Vec<i32>; 2] {
        let changes = pauses.changes(&assigned());
        changes.map(|list| list.into_iter().map(|(_, partition)| partition).collect())
    }

    #[test]
    fn a_partition_stands_still_as_long_as_there_is_a_reason() {
        let mut pauses = Pauses::default();
        pauses.by_lane(Epoch(1), true);
        pauses.by_gate(Epoch(1), true);
        pauses.by_gate(Epoch(2), true);
        assert_eq!(changes(&mut pauses), [vec![1, 2], vec![]]);
        pauses.by_gate(Epoch(1), false);
        assert_eq!(changes(&mut pauses), NOTHING, "the lane still wants it");
        pauses.by_lane(Epoch(1), false);
        assert_eq!(changes(&mut pauses), [vec![], vec![1]]);
        pauses.forget(Epoch(2));
        pauses.assigned();
        assert_eq!(changes(&mut pauses), [vec![], vec![2]]);
    }

    #[test]
    fn a_lane_without_room_rests_after_a_while_and_reads_on_at_once() {
        let mut pauses = Pauses::default();
        pauses.by_gate(Epoch(1), true);
        pauses.room(false, at(1));
        assert_eq!(changes(&mut pauses), [vec![1], vec![]]);
        pauses.room(true, at(5));
        pauses.room(false, at(6));
        pauses.room(false, at(10));
        assert_eq!(changes(&mut pauses), NOTHING, "not full for long");
        pauses.room(false, at(11));
        assert_eq!(changes(&mut pauses), [vec![0, 2], vec![]]);
        pauses.room(true, at(12));
        assert_eq!(
            changes(&mut pauses),
            [vec![], vec![0, 2]],
            "one still waits at the gate"
        );
    }

    #[test]
    fn a_pause_outlives_its_epoch_until_the_partition_is_read_again() {
        let mut pauses = Pauses::default();
        pauses.by_lane(Epoch(1), true);
        assert_eq!(changes(&mut pauses), [vec![1], vec![]]);
        pauses.forget(Epoch(1));
        assert_eq!(changes(&mut pauses), NOTHING, "nobody has it now");
        pauses.assigned();
        assert_eq!(changes(&mut pauses), [vec![], vec![1]]);
    }
}
