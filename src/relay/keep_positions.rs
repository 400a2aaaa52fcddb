//! Keeps a lane's positions in the state topic: every ten minutes, when partitions leave, and at
//! the lane's end.
//!
//! They are for the day on which Kafka has forgotten the group (`kafka/kept_positions.rs`). A
//! position counts as kept when the brokers have acknowledged it; until then it is written again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::warn;

use crate::clock::Tick;
use crate::delivery::Epoch;
use crate::kafka::{KeptPosition, Producer};
use crate::lane::{AssignedPartition, Position, Source};

use super::lane_task::LaneTask;

/// How often positions that have moved are kept.
const EVERY: Duration = Duration::from_secs(600);
/// How soon those that could not be kept are written again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long the end of a lane may wait for it.
const AT_END: Duration = Duration::from_secs(3);

/// A position that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ToKeep {
    epoch: Epoch,
    topic: Arc<str>,
    partition: i32,
    position: KeptPosition,
}

/// A partition of a rule's topic that the lane holds.
#[derive(Debug)]
struct Held {
    topic: Arc<str>,
    partition: i32,
    position: KeptPosition,
    /// The offset that the state topic is known to have.
    kept: Option<i64>,
}

/// Which positions are to be kept, and when (pure).
#[derive(Debug, Default)]
struct Positions {
    held: BTreeMap<Epoch, Held>,
    next: Option<Tick>,
}

impl Positions {
    fn assigned(&mut self, partitions: &[AssignedPartition]) {
        for assigned in partitions {
            let (Source::Topic, Some(topic_id)) = (assigned.source, assigned.topic_id) else {
                continue;
            };
            let held = Held {
                topic: Arc::clone(&assigned.topic),
                partition: assigned.partition,
                position: KeptPosition {
                    offset: assigned.base,
                    topic_id,
                },
                kept: None,
            };
            self.held.insert(assigned.epoch, held);
        }
    }

    fn moved(&mut self, positions: &[Position]) {
        for position in positions {
            if let Some(held) = self.held.get_mut(&position.epoch) {
                held.position.offset = position.offset;
            }
        }
    }

    /// The state topic has this offset of the partition.
    fn kept(&mut self, epoch: Epoch, offset: i64) {
        if let Some(held) = self.held.get_mut(&epoch) {
            held.kept = Some(offset);
        }
    }

    /// A write has failed: it is not put off until everything is due.
    fn failed(&mut self, now: Tick) {
        let again = now + AGAIN;
        self.next = Some(self.next.map_or(again, |next| next.min(again)));
    }

    /// What is to be kept now, if it is time.
    fn due(&mut self, now: Tick) -> Vec<ToKeep> {
        let next = *self.next.get_or_insert(now + EVERY);
        if now < next {
            return Vec::new();
        }
        self.next = Some(now + EVERY);
        self.not_kept()
    }

    /// Everything that the state topic does not have.
    fn not_kept(&self) -> Vec<ToKeep> {
        let moved = |held: &&Held| held.kept != Some(held.position.offset);
        let held = self.held.iter().map(|(epoch, held)| (*epoch, held));
        held.filter(|(_, held)| moved(held))
            .map(|(epoch, held)| ToKeep {
                epoch,
                topic: Arc::clone(&held.topic),
                partition: held.partition,
                position: held.position,
            })
            .collect()
    }

    /// What is to be kept of partitions that leave.
    fn leave(&mut self, epochs: &[Epoch]) -> Vec<ToKeep> {
        let mut leaving = self.not_kept();
        leaving.retain(|to_keep| epochs.contains(&to_keep.epoch));
        self.held.retain(|epoch, _| !epochs.contains(epoch));
        leaving
    }
}

/// The positions of a lane and the writes that keep them.
#[derive(Debug, Default)]
pub(super) struct PositionKeeper {
    positions: Positions,
    /// Each ends with what it wrote, and whether the brokers have it.
    writes: JoinSet<(Epoch, i64, bool)>,
}

impl PositionKeeper {
    pub(super) fn assigned(&mut self, partitions: &[AssignedPartition]) {
        self.positions.assigned(partitions);
    }

    pub(super) fn moved(&mut self, positions: &[Position]) {
        self.positions.moved(positions);
    }

    fn write(&mut self, producer: &Arc<Producer>, id: &Arc<str>, to_keep: Vec<ToKeep>) {
        for one in to_keep {
            let (producer, id) = (Arc::clone(producer), Arc::clone(id));
            self.writes.spawn(async move {
                let place = (&*one.topic, one.partition);
                let written = producer.keep_position(&id, place, one.position).await;
                (one.epoch, one.position.offset, written.is_ok())
            });
        }
    }

    fn ended(&mut self, (epoch, offset, is_kept): (Epoch, i64, bool), now: Tick) {
        match is_kept {
            true => self.positions.kept(epoch, offset),
            false => self.positions.failed(now),
        }
    }
}

impl LaneTask {
    /// Keeps what has moved, when that is due.
    pub(super) fn keep_positions(&mut self) {
        let now = self.parts.clock.now().tick;
        while let Some(ended) = self.positions.writes.try_join_next() {
            if let Ok(ended) = ended {
                self.positions.ended(ended, now);
            }
        }
        // Two writes of one partition under way could end the wrong way round.
        if self.positions.writes.is_empty() {
            let due = self.positions.positions.due(now);
            self.positions
                .write(&self.parts.producer, &self.parts.id, due);
        }
    }

    /// Keeps how far partitions were read that are another's, or nobody's.
    pub(super) fn keep_positions_of(&mut self, epochs: &[Epoch]) {
        let leaving = self.positions.positions.leave(epochs);
        self.positions
            .write(&self.parts.producer, &self.parts.id, leaving);
    }

    /// Keeps everything at the end, and waits for it a little.
    pub(super) async fn keep_last_positions(&mut self) {
        let last = self.positions.positions.not_kept();
        self.positions
            .write(&self.parts.producer, &self.parts.id, last);
        let mut left = self.positions.writes.len();
        let writes = &mut self.positions.writes;
        let ending = async {
            while let Some(ended) = writes.join_next().await {
                left -= usize::from(ended.is_ok_and(|(_, _, is_kept)| is_kept));
            }
        };
        let in_time = tokio::time::timeout(AT_END, ending).await.is_ok();
        if left > 0 {
            warn!(
                destination = &*self.parts.name,
                partitions = left,
                in_time,
                "how far these partitions were read is not in the state topic: should Kafka forget the group before the next start, that begins at the last position kept, or at start_at where there is none"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::TopicId;

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    fn assigned(epoch: u64, source: Source, topic_id: u128) -> AssignedPartition {
        AssignedPartition {
            epoch: Epoch(epoch),
            topic: "orders".into(),
            partition: 0,
            source,
            base: 5,
            committed: true,
            metadata: None,
            topic_id: TopicId::new(topic_id),
        }
    }

    fn position(epoch: u64, offset: i64) -> Position {
        Position {
            epoch: Epoch(epoch),
            offset,
            metadata: "".into(),
        }
    }

    fn offsets(to_keep: &[ToKeep]) -> Vec<i64> {
        to_keep.iter().map(|one| one.position.offset).collect()
    }

    fn held() -> Positions {
        let mut positions = Positions::default();
        positions.assigned(&[assigned(0, Source::Topic, 7)]);
        assert!(positions.due(at(0)).is_empty());
        positions
    }

    #[test]
    fn a_position_that_could_not_be_kept_is_written_again_though_it_does_not_move() {
        let mut positions = held();
        assert_eq!(offsets(&positions.due(at(600))), [5]);
        positions.failed(at(610));
        assert!(positions.due(at(639)).is_empty());
        assert_eq!(offsets(&positions.due(at(640))), [5]);
        positions.kept(Epoch(0), 5);
        assert!(positions.due(at(1240)).is_empty());
        positions.moved(&[position(0, 6)]);
        assert_eq!(offsets(&positions.due(at(1840))), [6]);
    }

    #[test]
    fn a_position_that_moved_while_it_was_written_is_not_kept_yet() {
        let mut positions = held();
        assert_eq!(offsets(&positions.due(at(600))), [5]);
        positions.moved(&[position(0, 9)]);
        positions.kept(Epoch(0), 5);
        assert_eq!(offsets(&positions.not_kept()), [9]);
    }

    #[test]
    fn what_leaves_is_kept_once_and_the_ladder_and_topics_without_an_id_are_not() {
        let mut positions = held();
        positions.assigned(&[assigned(1, Source::Topic, 0)]);
        let ladder = Source::Ladder(crate::lane::Step::ALL[0]);
        positions.assigned(&[assigned(3, ladder, 8)]);
        positions.moved(&[position(0, 8), position(1, 8), position(3, 8)]);
        let all = [Epoch(0), Epoch(1), Epoch(3)];
        assert_eq!(offsets(&positions.leave(&all)), [8]);
        assert!(positions.leave(&all).is_empty());
    }
}
