//! What a lane cannot write to the topics of our own: its records stay, and the health of the process says so.

use std::sync::Arc;

use crate::kafka::{FromDamage, Part};
use crate::lane::{Doing, Event, Found, LaneStatus, Order, Place, Shed, WriteError};
use crate::metrics::OwnedWrite;

use super::lane_task::LaneTask;
use super::report::Written;
use super::say;

impl LaneTask {
    /// A lane whose records cannot be written to a topic of our own is blocked, and says so once.
    pub(super) fn written(&mut self, written: &Written, result: &Result<(), WriteError>) {
        let name = Arc::clone(&self.parts.name);
        let kind = written.kind();
        self.parts.metrics.wrote(kind, result.is_ok());
        let was_blocked = !self.blocked.is_empty();
        match (written, result) {
            (_, Ok(())) => {
                self.wrote_again(kind);
                say::written(&name, written);
            }
            (Written::DeadLetter(letter), Err(WriteError::TooLarge))
                if letter.shed != Shed::Record =>
            {
                say::too_large(&name, letter);
            }
            // It waits in the window, and others go on.
            (Written::Ladder(record), Err(WriteError::TooLarge)) => {
                say::too_large_for_ladder(&name, record);
            }
            (_, Err(failure)) => {
                if self.cannot_write(kind, failure) {
                    say::not_written(&name, written, failure);
                }
            }
        }
        if self.blocked.is_empty() == was_blocked {
            self.show_state();
        }
    }

    /// What the lane does, with what its machine does not know of.
    pub(super) fn status(&self) -> LaneStatus {
        let mut status = self.parts.lane.status();
        if !status.doing.goes_on() {
            return status;
        }
        if !self.blocked.is_empty() {
            status.doing = Doing::Blocked;
        } else if let Some((topic, partition, lost)) = self.stopped.first() {
            status.doing = Doing::Expired {
                topic: Arc::clone(topic),
                partition: *partition,
                lost: *lost,
            };
        }
        if let Some((topic, partition, offset)) = self.damaged.values().flatten().next()
            && status.doing != Doing::Blocked
        {
            status.doing = Doing::Damaged {
                destination: Arc::clone(&self.parts.name),
                topic: Arc::clone(topic),
                partition: *partition,
                offset: *offset,
            };
        }
        status
    }

    /// What is said of batches that do not read.
    pub(super) fn damage(&mut self, damage: FromDamage) {
        match damage {
            FromDamage::StandsBefore(part, places) => self.stand_before_damage(part, places),
            FromDamage::SteppedOver {
                epoch,
                topic,
                offsets,
            } => {
                let lost = offsets.end.abs_diff(offsets.start);
                self.parts.metrics.records_damaged(&topic, lost);
                self.tell(Event::SteppedOver { epoch, offsets });
            }
        }
    }

    /// Does what a person asks, and says where the record was that it is about.
    pub(super) fn order(&mut self, order: Order) -> Option<Found> {
        let found = self.find_ordered(&order);
        self.tell(Event::Ordered(order));
        self.step_over();
        found
    }

    /// These partitions stand still before a batch that does not read.
    fn stand_before_damage(&mut self, part: Part, places: Vec<Place>) {
        self.damaged.insert(part, places);
        let all = self.damaged.values().flatten();
        let name = &self.parts.name;
        let all = all.map(|(topic, partition, offset)| {
            format!(
                "{topic} partition {partition} stands still at offset {offset}: a batch there does not read; `postrider skip -d {name} --topic {topic} --partition {partition} --offset {offset}` steps over it, and its records are lost"
            )
        });
        let all: Vec<String> = all.collect();
        let warning = (!all.is_empty()).then(|| all.join("; "));
        let health = &self.parts.health;
        health.warn(&self.parts.name, "damaged", warning);
        self.step_over();
    }

    /// Where the record is that an order is about.
    fn find_ordered(&self, order: &Order) -> Option<Found> {
        if let Order::Skip {
            topic,
            partition,
            offset,
        } = order
        {
            let place = (Arc::clone(topic), *partition, *offset);
            if self.damaged.values().flatten().any(|found| *found == place) {
                return Some(Found::Damaged);
            }
        }
        self.parts.lane.find_ordered(order)
    }

    /// Has those batches stepped over whose first record a person wants skipped.
    fn step_over(&self) {
        for place in self.damaged.values().flatten() {
            if self.parts.lane.is_to_skip(place) {
                self.parts.members.step_over(place);
            }
        }
    }

    /// In these partitions records expired before they were read, and a person is to decide.
    pub(super) fn wait_for_decision(&mut self, partitions: Vec<(Arc<str>, i32, u64)>) {
        let problem = partitions.first().map(|(topic, partition, lost)| {
            format!(
                "{lost} records of {topic} partition {partition} expired before they were read, and on_records_lost is \"stop\": decide, and restart"
            )
        });
        let health = &self.parts.health;
        health.decision(&self.parts.name, problem);
        self.stopped = partitions;
    }

    /// A write did not succeed. True when it is the first of its kind.
    pub(super) fn cannot_write(&mut self, kind: OwnedWrite, failure: &WriteError) -> bool {
        let problem = match failure {
            WriteError::TooLarge => {
                "the topic does not take it, small as it was made: raise its max.message.bytes"
            }
            WriteError::Failed(problem) => problem,
        };
        let health = &self.parts.health;
        health.writes(&self.parts.name, kind.name(), Some(problem.to_owned()));
        self.blocked.insert(kind)
    }

    /// A write succeeded.
    pub(super) fn wrote_again(&mut self, kind: OwnedWrite) {
        if self.blocked.remove(&kind) {
            self.parts
                .health
                .writes(&self.parts.name, kind.name(), None);
        }
    }

    /// What could not be written is not ours to write any more: another instance has the partition.
    pub(super) fn forget_blocks(&mut self) {
        if self.blocked.is_empty() || self.parts.lane.waiting().write > 0 {
            return;
        }
        for kind in std::mem::take(&mut self.blocked) {
            self.parts
                .health
                .writes(&self.parts.name, kind.name(), None);
        }
        self.show_state();
    }
}
