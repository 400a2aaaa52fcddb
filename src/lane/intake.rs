//! What comes in: partitions with what is known of them, and records with what they bring along.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Now, Timestamp};
use crate::delivery::{
    Attempt, Carried, DeadLetterReason, DeliveryId, DeliveryKey, Epoch, Verdict,
};
use crate::record::Record;

use super::counts::Settlement;
use super::delivery::{Delivery, Destiny, FirstAttempt, State};
use super::event::{Action, AssignedPartition, Incoming, Position};
use super::ladder::IN_WINDOW;
use super::machine::Lane;
use super::options::OrderOptions;
use super::progress::{Budget, Owner, Progress};
use super::window::{Partition, Phase};

/// What a record comes in for.
enum Fate {
    /// It ends as it is read.
    Over(Settlement),
    /// It is another destination's.
    Foreign,
    /// This; with the rule that would have delivered it, where it is to die instead.
    Delivery(Destiny, Option<Arc<str>>),
}

impl Lane {
    pub(super) fn assigned(&mut self, cluster_id: &Arc<str>, assigned: Vec<AssignedPartition>) {
        self.cluster_id = Arc::clone(cluster_id);
        if self.handover.is_drained() {
            return;
        }
        for assigned in assigned {
            let owner = Owner {
                cluster_id,
                destination_id: &self.destination_id,
                topic: &assigned.topic,
                partition: assigned.partition,
            };
            // What is not ours, or of another place, is as good as nothing.
            let found = assigned.metadata.as_deref().filter(|_| assigned.committed);
            let progress = found.and_then(|text| Progress::decode(owner, assigned.base, text));
            let text = progress
                .as_ref()
                .and(found)
                .and_then(|text| std::str::from_utf8(text).ok());
            if !assigned.committed {
                self.commit_due = Some(self.now.tick);
            }
            let partition = Partition::new(
                &assigned,
                progress.unwrap_or_default(),
                text.unwrap_or(""),
                self.options.window.records,
            );
            self.partitions.insert(assigned.epoch, partition);
            self.look_back(assigned.epoch);
        }
    }

    pub(super) fn committed(&mut self, positions: &[Position]) {
        for position in positions {
            let begun = self.acknowledged(position);
            let Some(partition) = self.partitions.get_mut(&position.epoch) else {
                continue;
            };
            partition.committed = Some((position.offset, Arc::clone(&position.metadata)));
            if begun && partition.phase == Phase::Starting {
                partition.phase = Phase::Consuming;
                let waiting = partition
                    .unsettled()
                    .filter(|(_, d)| d.state == State::Ready);
                let waiting: Vec<i64> = waiting.map(|(offset, _)| offset).collect();
                for offset in waiting {
                    self.place(DeliveryKey {
                        epoch: position.epoch,
                        offset,
                    });
                }
            }
        }
    }

    pub(super) fn read(&mut self, epoch: Epoch, records: Vec<Incoming>) {
        if !self.partitions.contains_key(&epoch) {
            let ours = |incoming: &&Incoming| incoming.verdict != Verdict::Foreign;
            let count = records.iter().filter(ours).count() as u64;
            self.counts.read += count;
            self.counts.released += count;
            return;
        }
        for incoming in records {
            self.read_one(epoch, incoming);
        }
        self.begin(epoch);
        self.check_distance(epoch);
    }

    fn read_one(&mut self, epoch: Epoch, incoming: Incoming) {
        let Incoming {
            offset,
            record,
            verdict,
            endpoint,
            order_key,
            carried,
        } = incoming;
        let key = DeliveryKey { epoch, offset };
        let appended = carried.as_ref().and_then(|carried| carried.appended);
        let (destiny, rule_taken) = match self.fate(key, &record, verdict, appended) {
            Fate::Delivery(destiny, rule_taken) => (destiny, rule_taken),
            Fate::Over(settlement) => {
                self.end_skip(&record, settlement);
                return self.step_over(key, settlement);
            }
            Fate::Foreign => return self.step_over_foreign(key),
        };
        let is_from_ladder = carried.is_some();
        let mut delivery = match carried {
            Some(carried) => goes_on(record, destiny, *carried),
            None => {
                let id = DeliveryId::new(&self.cluster_id, &record, &self.destination_id);
                Delivery::new(record, destiny, id)
            }
        };
        if rule_taken.is_some() {
            delivery.removed_rule = rule_taken;
        }
        let Some(partition) = self.partitions.get_mut(&epoch) else {
            return;
        };
        if partition.is_settled_already(offset) {
            partition.receive(offset, None);
            return;
        }
        if partition.knows(offset) {
            return;
        }
        if partition.is_second_copy(&delivery) {
            partition.receive(offset, None);
            self.counts.read_from(partition.source);
            self.counts.copies += 1;
            return self.count_settled(Settlement::Dropped);
        }
        if self.ladder_orders.releases(appended) {
            delivery.due = None;
        }
        if let Some(budget) = partition.budgets.remove(&offset) {
            spend(&mut delivery, budget);
        }
        if matches!(delivery.destiny, Destiny::Deliver { .. }) {
            delivery.endpoint = self.endpoints.of(endpoint.as_ref(), self.now.tick);
        }
        // On the ladder nothing is in order.
        let in_order = self.options.order != OrderOptions::None && !is_from_ladder;
        delivery.order_key = order_key.filter(|_| in_order);
        let slot = delivery.endpoint;
        let stopped = self.endpoints[slot].stopwatch.total(self.now.tick);
        begin_again(&mut delivery, self.now, stopped);
        let weight = delivery.weight;
        let (source, may_send) = (partition.source, partition.phase == Phase::Consuming);
        if !partition.receive(offset, Some(Box::new(delivery))) {
            return;
        }
        self.counts.read_from(source);
        self.endpoints[slot].here += 1;
        self.unsettled += 1;
        self.unsettled_bytes += weight;
        *self.tally.of(State::Ready) += 1;
        if may_send {
            self.place(key);
        }
    }

    /// What a record comes in for: what was judged, unless somebody has said otherwise since.
    fn fate(
        &mut self,
        key: DeliveryKey,
        record: &Arc<Record>,
        verdict: Verdict,
        appended: Option<Timestamp>,
    ) -> Fate {
        let skipped = |error: &str| Destiny::DeadLetter {
            reason: DeadLetterReason::Skipped,
            error: error.to_owned(),
        };
        let (destiny, rule_taken) = match verdict {
            Verdict::NotMatched => return Fate::Over(Settlement::NotMatched),
            Verdict::Dropped => return Fate::Over(Settlement::Dropped),
            Verdict::Foreign => return Fate::Foreign,
            Verdict::DeadLetter { reason, error } => (Destiny::DeadLetter { reason, error }, None),
            Verdict::Deliver { .. } if self.ladder_orders.cancels(appended) => {
                (skipped("its retries were cancelled"), None)
            }
            Verdict::Deliver { .. } if self.skips.contains(record) => {
                (skipped("skipped when it was read"), None)
            }
            Verdict::Deliver { rule } => match self.destiny_of_accused(key, record) {
                Some(destiny) => (destiny, Some(rule)),
                None => (Destiny::Deliver { rule }, None),
            },
        };
        Fate::Delivery(destiny, rule_taken)
    }

    /// Puts a record that came in where it waits: behind others of its key, for its turn, for its time, or on the ladder when that is far.
    fn place(&mut self, key: DeliveryKey) {
        if self.joins_its_chain(key) {
            self.place_first_of_its_key(key);
        }
    }

    pub(super) fn place_first_of_its_key(&mut self, key: DeliveryKey) {
        let wall = self.now.wall;
        let Some(delivery) = self.delivery(key) else {
            return;
        };
        let left = delivery.due.map_or(Duration::ZERO, |due| span(wall, due));
        let to_deliver = matches!(delivery.destiny, Destiny::Deliver { .. });
        if !to_deliver || left.is_zero() {
            let slot = delivery.endpoint;
            self.queue_last(slot, key);
        } else if left > IN_WINDOW {
            self.wait_for_retry(key, left);
        } else if self.has_its_share(key) {
            self.make_room(key);
        } else {
            self.wait_in_window(key, left);
        }
    }

    /// A record that ends as soon as it is read.
    fn step_over(&mut self, key: DeliveryKey, settlement: Settlement) {
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        let settled_already = partition.is_settled_already(key.offset);
        if partition.receive(key.offset, None) && !settled_already {
            self.counts.read_from(partition.source);
            self.count_settled(settlement);
        }
    }

    fn step_over_foreign(&mut self, key: DeliveryKey) {
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        if partition.receive(key.offset, None) {
            self.counts.foreign += 1;
            self.settled_since_commit += 1;
            self.want_commit();
        }
    }

    pub(super) fn reached_end(&mut self, epoch: Epoch, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&epoch) {
            partition.reach_end(offset);
            partition.ends.reach_end(offset);
            self.want_commit();
        }
    }

    /// Stops reading a partition that has run too far ahead of its oldest record, or of which no more can be committed, and goes on when half
    /// of that is made up for.
    pub(super) fn check_distance(&mut self, epoch: Epoch) {
        let Some(partition) = self.partitions.get_mut(&epoch) else {
            return;
        };
        let limit = self.options.window.distance;
        let distance = partition.distance();
        if !partition.paused && (distance > limit || partition.crowded) {
            partition.paused = true;
            self.actions.push_back(Action::Pause(epoch));
            self.endpoints.weigh_all();
        } else if partition.paused && distance <= limit / 2 && !partition.crowded {
            partition.paused = false;
            self.actions.push_back(Action::Resume(epoch));
        }
    }
}

/// A delivery that comes up from the ladder.
fn goes_on(record: Arc<Record>, destiny: Destiny, carried: Carried) -> Delivery {
    let last_failure = Attempt {
        status: carried.status,
        ..Attempt::failed_before_sending(carried.error)
    };
    Delivery {
        attempts: carried.attempts,
        carried_attempts: carried.attempts,
        faults: carried.faults,
        hop: carried.hop,
        round: carried.round,
        due: Some(carried.due),
        first_attempt: carried
            .first_attempt
            .map(|wall| FirstAttempt::at(wall, carried.held)),
        last_attempt: carried.last_attempt,
        last_failure: Some(last_failure),
        removed_rule: Some(carried.rule).filter(|rule| !rule.is_empty()),
        cluster_id: Some(carried.cluster_id),
        ..Delivery::new(record, destiny, carried.id)
    }
}

/// A delivery that was begun elsewhere, or in an earlier life of the lane, goes on at `now`, when its endpoint has stood still for `stopped`.
fn begin_again(delivery: &mut Delivery, now: Now, stopped: Duration) {
    let Some(first) = &mut delivery.first_attempt else {
        return;
    };
    // What it has waited beyond its time, nobody has tried it: the endpoint was left alone, or this program was.
    let late = delivery
        .due
        .map_or(Duration::ZERO, |due| span(due, now.wall));
    first.held += late;
    first.age_before = span(first.wall, now.wall).saturating_sub(first.held);
    first.since = now.tick;
    first.stopped_before = stopped;
}

/// Takes over what an earlier life of the lane has spent on a record.
fn spend(delivery: &mut Delivery, budget: Budget) {
    delivery.attempts = delivery.attempts.max(budget.attempts);
    delivery.faults = delivery.faults.max(budget.faults);
    delivery.due = Some(budget.due);
    delivery.first_attempt = Some(FirstAttempt::at(budget.first_attempt, budget.held));
}

/// The time from one moment to another; nothing when the second is not later.
fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}
