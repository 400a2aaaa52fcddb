//! How a record waits for its next attempt: in the window when that is near, on the ladder when it is far.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::delivery::{Carried, DeliveryKey};

use super::counts::Settlement;
use super::delivery::{LadderWrite, State};
use super::event::{Action, LadderRecord, WriteError};
use super::ladder::Step;
use super::machine::Lane;
use super::retry::write_delay;

impl Lane {
    /// Has a record tried again after `delay`.
    pub(super) fn wait_for_retry(&mut self, key: DeliveryKey, delay: Duration) {
        let due = later(self.now.wall, delay);
        if let Some(delivery) = self.delivery(key) {
            delivery.due = Some(due);
        }
        // What was spent on it is worth a commit.
        self.want_commit();
        match Step::for_wait(delay) {
            // What stands in an order keeps its place.
            Some(step) if self.may_begin(key.epoch) && !self.is_in_order(key) => {
                let write = LadderWrite {
                    step,
                    failures: 0,
                    makes_room: false,
                };
                self.write_ladder(key, write);
            }
            _ => self.wait_in_window(key, delay),
        }
    }

    /// Has a record wait here.
    pub(super) fn wait_in_window(&mut self, key: DeliveryKey, delay: Duration) {
        self.enter(key, State::Retry);
        self.timers.insert((self.now.tick + delay, key));
    }

    /// Hands a record to the ladder for the shortest time, though it is due before, because it stands where others have no room. Nothing is spent.
    pub(super) fn make_room(&mut self, key: DeliveryKey) {
        self.make_room_for(key, Step::OneMinute);
    }

    /// The same for the time of this step.
    pub(super) fn make_room_for(&mut self, key: DeliveryKey, step: Step) {
        let write = LadderWrite {
            step,
            failures: 0,
            makes_room: true,
        };
        self.write_ladder(key, write);
    }

    /// Asks for a record to be written to the ladder. It is settled when the write is acknowledged, never before.
    fn write_ladder(&mut self, key: DeliveryKey, write: LadderWrite) {
        let stopped = self.stopped(key);
        let (wall, cluster_id) = (self.now.wall, Arc::clone(&self.cluster_id));
        self.enter(key, State::Ladder(write));
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        let Some(delivery) = partition.delivery(key.offset) else {
            return;
        };
        let Some(rule) = delivery.destiny.rule() else {
            return;
        };
        let failure = delivery.last_failure.as_ref();
        let first = delivery.first_attempt;
        let carried = Carried {
            id: delivery.id,
            rule,
            attempts: delivery.attempts,
            faults: delivery.faults,
            hop: delivery.hop + 1,
            due: delivery.due.unwrap_or(wall),
            first_attempt: first.map(|first| first.wall),
            last_attempt: delivery.last_attempt,
            held: first.map_or(Duration::ZERO, |first| first.held(stopped)),
            status: failure.and_then(|failure| failure.status),
            error: failure.map_or_else(String::new, |failure| failure.error.clone()),
            cluster_id: delivery.cluster_id.clone().unwrap_or(cluster_id),
            appended: None,
        };
        let record = LadderRecord {
            key,
            record: Arc::clone(&delivery.record),
            step: write.step,
            carried,
            makes_room: write.makes_room,
        };
        partition.busy += 1;
        self.actions
            .push_back(Action::WriteLadder(Box::new(record)));
    }

    /// The time has come to write again what could not be written; or to try the record, when that is due by now.
    pub(super) fn write_ladder_again(&mut self, key: DeliveryKey, write: LadderWrite) {
        let wall = self.now.wall;
        let left = self
            .delivery(key)
            .and_then(|delivery| delivery.due)
            .map_or(0, |due| due.0.saturating_sub(wall.0));
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        match Step::for_wait(left) {
            Some(step) => self.write_ladder(
                key,
                LadderWrite {
                    step,
                    makes_room: false,
                    ..write
                },
            ),
            None => self.wait_in_window(key, left),
        }
    }

    /// A write to the ladder ended.
    pub(super) fn ladder_written(
        &mut self,
        key: DeliveryKey,
        write: LadderWrite,
        result: Result<(), WriteError>,
    ) {
        let wall = self.now.wall;
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        partition.busy = partition.busy.saturating_sub(1);
        let due = partition
            .delivery(key.offset)
            .and_then(|delivery| delivery.due);
        match result {
            Ok(()) => self.settle(key, Settlement::Deferred),
            // What does not fit the topic waits here.
            Err(WriteError::TooLarge) => {
                if let Some(delivery) = self.delivery(key) {
                    delivery.stays_here = true;
                }
                let left = due.map_or(0, |due| due.0.saturating_sub(wall.0));
                let left = u64::try_from(left).unwrap_or(0);
                self.wait_in_window(key, Duration::from_millis(left));
            }
            Err(WriteError::Failed(_)) => {
                let failures = write.failures.saturating_add(1);
                self.enter(key, State::Ladder(LadderWrite { failures, ..write }));
                self.timers
                    .insert((self.now.tick + write_delay(failures), key));
            }
        }
    }
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_add(wait_ms))
}
