//! Keeps a lane's positions in the state topic: every ten minutes, when partitions leave, and at its end.
//!
//! They are for the day on which Kafka has forgotten the group (`kafka/kept_positions.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use crate::clock::Tick;
use crate::delivery::Epoch;
use crate::kafka::{KeptPosition, Producer};
use crate::lane::{AssignedPartition, Position, Source};

use super::lane_task::LaneTask;

/// How often positions that have moved are kept.
const EVERY: Duration = Duration::from_secs(600);
/// How long the end of a lane may wait for it.
const AT_END: Duration = Duration::from_secs(3);

type Place = (Arc<str>, i32);

/// The positions of a lane's partitions of its rules' topics.
#[derive(Debug, Default)]
pub(super) struct Positions {
    places: BTreeMap<Epoch, (Place, KeptPosition)>,
    /// Those that have moved since they were kept.
    moved: BTreeMap<Epoch, (Place, KeptPosition)>,
    next: Option<Tick>,
}

impl Positions {
    pub(super) fn assigned(&mut self, partitions: &[AssignedPartition]) {
        for assigned in partitions {
            let (Source::Topic, Some(topic_id)) = (assigned.source, assigned.topic_id) else {
                continue;
            };
            let place = (Arc::clone(&assigned.topic), assigned.partition);
            let offset = assigned.base;
            let kept = (place, KeptPosition { offset, topic_id });
            self.places.insert(assigned.epoch, kept.clone());
            self.moved.insert(assigned.epoch, kept);
        }
    }

    pub(super) fn moved(&mut self, positions: &[Position]) {
        for position in positions {
            if let Some((place, kept)) = self.places.get_mut(&position.epoch)
                && kept.offset != position.offset
            {
                kept.offset = position.offset;
                self.moved.insert(position.epoch, (place.clone(), *kept));
            }
        }
    }

    /// What is to be kept now, if it is time.
    fn due(&mut self, now: Tick) -> Vec<(Place, KeptPosition)> {
        let next = *self.next.get_or_insert(now + EVERY);
        if now < next {
            return Vec::new();
        }
        self.next = Some(now + EVERY);
        std::mem::take(&mut self.moved).into_values().collect()
    }

    /// What is to be kept of partitions that leave.
    fn leaving(&mut self, epochs: &[Epoch]) -> Vec<(Place, KeptPosition)> {
        let left = epochs.iter().filter_map(|epoch| {
            self.places.remove(epoch);
            self.moved.remove(epoch)
        });
        left.collect()
    }

    fn all(&mut self) -> Vec<(Place, KeptPosition)> {
        self.places.clear();
        std::mem::take(&mut self.moved).into_values().collect()
    }
}

async fn keep(producer: Arc<Producer>, id: Arc<str>, moved: Vec<(Place, KeptPosition)>) {
    for ((topic, partition), kept) in moved {
        let written = producer.keep_position(&id, (&topic, partition), kept);
        if written.await.is_err() {
            debug!(destination_id = &*id, %topic, partition, "a position could not be kept");
        }
    }
}

impl LaneTask {
    /// Keeps what has moved, when that is due.
    pub(super) fn keep_positions(&mut self) {
        let moved = self.positions.due(self.parts.clock.now().tick);
        self.keep(moved);
    }

    /// Keeps how far partitions were read that are another's now, or nobody's.
    pub(super) fn keep_positions_of(&mut self, epochs: &[Epoch]) {
        let moved = self.positions.leaving(epochs);
        self.keep(moved);
    }

    fn keep(&self, moved: Vec<(Place, KeptPosition)>) {
        if !moved.is_empty() {
            let (producer, id) = (Arc::clone(&self.parts.producer), Arc::clone(&self.parts.id));
            tokio::spawn(keep(producer, id, moved));
        }
    }

    /// Keeps everything at the end, and waits for it a little.
    pub(super) async fn keep_last_positions(&mut self) {
        let moved = self.positions.all();
        let (producer, id) = (Arc::clone(&self.parts.producer), Arc::clone(&self.parts.id));
        if tokio::time::timeout(AT_END, keep(producer, id, moved))
            .await
            .is_err()
        {
            debug!(
                destination = &*self.parts.name,
                "Kafka did not take the last positions in time"
            );
        }
    }
}
