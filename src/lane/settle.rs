//! How an ended attempt or an ended write ends a delivery, or does not.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::delivery::{Attempt, DeadLetterReason, DeliveryKey, FailureReason, Outcome};

use super::counts::Settlement;
use super::delivery::{DeadLetterWrite, Delivery, State};
use super::endpoints::Slot;
use super::event::{Action, DeadLetter, Notice, Shed, WriteError};
use super::evidence::{Meaning, meaning_of_a_stranger};
use super::machine::Lane;
use super::options::{LaneOptions, RenderErrorPolicy};
use super::retry::{delay_after, write_delay};
use super::status::LastFailure;

/// What follows an attempt.
enum Next {
    Settle(Settlement),
    TryAgainAfter(Duration),
    DeadLetter(DeadLetterReason),
}

impl Lane {
    pub(super) fn attempt_ended(&mut self, now: Now, key: DeliveryKey, attempt: Attempt) {
        let slot = match self.peek(key) {
            Some(delivery) => delivery.endpoint,
            None => self.endpoints.take_stray(key).unwrap_or(Slot::SOLE),
        };
        self.in_flight = self.in_flight.saturating_sub(1);
        self.survived(key);
        let endpoint = &mut self.endpoints[slot];
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        endpoint.heard = now.tick;
        *self.counts.attempts.entry(attempt.outcome).or_default() += 1;
        if let Some(reason) = attempt.reason {
            *self.counts.attempt_failures.entry(reason).or_default() += 1;
        }
        if attempt.outcome != Outcome::Delivered {
            let failure = LastFailure {
                status: attempt.status,
                reason: attempt.reason.map(FailureReason::name),
                error: attempt.error.clone(),
                at: now.wall,
            };
            if endpoint.key.is_some() {
                endpoint.last_failure = Some(failure.clone());
            }
            self.last_failure = Some(failure);
        }
        let meaning = match self.of_the_old_endpoint.remove(&key) {
            true => meaning_of_a_stranger(attempt.outcome),
            false => self.hear(slot, key, &attempt),
        };
        self.endpoints.call(slot);
        self.endpoints.weigh(slot);
        self.watch_standstill(slot);
        let stopped = self.endpoints[slot].stopwatch.total(now.tick);
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return self.acquit_of(slot, key);
        };
        let Some(delivery) = partition.delivery(key.offset) else {
            return self.acquit_of(slot, key);
        };
        if delivery.state != State::InFlight {
            return self.acquit_of(slot, key);
        }
        delivery.last_attempt = Some(now.wall);
        let outcome = attempt.outcome;
        if outcome != Outcome::Delivered {
            delivery.last_failure = Some(attempt);
        }
        if matches!(meaning, Meaning::Ordinary) {
            delivery.attempts += 1;
        }
        let is_skipped = self.skips.contains(&delivery.record);
        let mut next = after(&self.options, delivery, outcome, now, stopped);
        if is_skipped && matches!(next, Next::TryAgainAfter(_)) {
            next = Next::DeadLetter(DeadLetterReason::Skipped);
        }
        partition.busy -= 1;
        match meaning {
            Meaning::Accused => self.enter(key, State::Accused),
            Meaning::KeepsPlace => {
                self.enter(key, State::Ready);
                self.queue_first(slot, key);
            }
            Meaning::GoesBehind => {
                self.enter(key, State::Ready);
                self.queue_last(slot, key);
            }
            Meaning::Parked => {
                if self.may_begin(key.epoch) {
                    self.make_room(key);
                } else {
                    self.enter(key, State::Ready);
                    self.queue_last(slot, key);
                }
            }
            Meaning::Ordinary => match next {
                Next::Settle(settlement) => self.settle(key, settlement),
                Next::TryAgainAfter(delay) => self.wait_for_retry(key, delay),
                Next::DeadLetter(reason) => self.give_up(key, reason),
            },
        }
        if is_skipped {
            self.skip_waiting(key);
        }
    }

    /// A request was left off after its assignment had ended.
    pub(super) fn aborted(&mut self, key: DeliveryKey) {
        let slot = self.endpoints.take_stray(key).unwrap_or(Slot::SOLE);
        self.of_the_old_endpoint.remove(&key);
        self.in_flight = self.in_flight.saturating_sub(1);
        let endpoint = &mut self.endpoints[slot];
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        endpoint.take_trial(key);
        self.endpoints.call(slot);
    }

    /// Asks for a dead letter, and looks whether those have become too many.
    pub(super) fn give_up(&mut self, key: DeliveryKey, reason: DeadLetterReason) {
        if reason == DeadLetterReason::Rejected
            && self.brake.rejected(&self.options.brake, self.now.tick)
        {
            self.actions.push_back(Action::Tell(Notice::Braked));
        }
        self.write_dead_letter(
            key,
            DeadLetterWrite {
                reason,
                shed: Shed::Nothing,
                failures: 0,
            },
        );
    }

    /// Asks for the dead letter of this delivery to be written. It is settled when the write is acknowledged, never before.
    pub(super) fn write_dead_letter(&mut self, key: DeliveryKey, write: DeadLetterWrite) {
        self.enter(key, State::Write(write));
        self.holds_its_key(key);
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        let Some(delivery) = partition.delivery(key.offset) else {
            return;
        };
        let failure = delivery
            .last_failure
            .clone()
            .unwrap_or_else(|| Attempt::delivered(0));
        let letter = DeadLetter {
            key,
            id: delivery.id,
            record: Arc::clone(&delivery.record),
            rule: delivery.destiny.rule().or(delivery.removed_rule.clone()),
            reason: write.reason,
            status: failure.status,
            error: failure.error,
            excerpt: failure.excerpt,
            attempts: delivery.attempts,
            first_attempt: delivery.first_attempt.map(|first| first.wall),
            last_attempt: delivery.last_attempt,
            cluster_id: delivery
                .cluster_id
                .clone()
                .unwrap_or_else(|| Arc::clone(&self.cluster_id)),
            shed: write.shed,
            round: delivery.round,
        };
        partition.busy += 1;
        self.actions
            .push_back(Action::WriteDeadLetter(Box::new(letter)));
    }

    pub(super) fn write_ended(
        &mut self,
        now: Now,
        key: DeliveryKey,
        result: Result<(), WriteError>,
    ) {
        match result {
            Ok(()) => self.counts.writes_ok += 1,
            Err(_) => self.counts.writes_failed += 1,
        }
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        let Some(delivery) = partition.delivery(key.offset) else {
            return;
        };
        let write = match delivery.state {
            State::Write(write) => write,
            State::Ladder(write) => return self.ladder_written(key, write, result),
            State::Ready | State::Behind | State::InFlight | State::Retry | State::Accused => {
                return;
            }
        };
        partition.busy = partition.busy.saturating_sub(1);
        match result {
            Ok(()) => {
                *self.counts.dead_letters.entry(write.reason).or_default() += 1;
                self.settle(key, Settlement::DeadLettered);
            }
            Err(WriteError::TooLarge) if write.shed != Shed::Record => {
                let shed = write.shed.more();
                self.write_dead_letter(key, DeadLetterWrite { shed, ..write });
            }
            Err(WriteError::TooLarge | WriteError::Failed(_)) => {
                let failures = write.failures.saturating_add(1);
                self.enter(key, State::Write(DeadLetterWrite { failures, ..write }));
                self.timers.insert((now.tick + write_delay(failures), key));
            }
        }
    }

    pub(super) fn settle(&mut self, key: DeliveryKey, settlement: Settlement) {
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        let Some(delivery) = partition.settle(key.offset) else {
            return;
        };
        *self.tally.of(delivery.state) -= 1;
        self.endpoints[delivery.endpoint].here -= 1;
        self.unsettled -= 1;
        self.unsettled_bytes -= delivery.weight;
        self.end_skip(&delivery.record, settlement);
        self.close_case(key);
        self.count_settled(settlement);
        self.check_distance(key.epoch);
        self.leaves_its_chain(key, &delivery);
    }

    pub(super) fn count_settled(&mut self, settlement: Settlement) {
        if settlement == Settlement::Delivered
            && self.brake.delivered(&self.options.brake, self.now.tick)
        {
            self.actions.push_back(Action::Tell(Notice::Released));
        }
        *self.counts.settled.entry(settlement).or_default() += 1;
        self.settled_since_commit += 1;
        self.want_commit();
    }
}

/// What follows an attempt with this outcome (pure).
fn after(
    options: &LaneOptions,
    delivery: &Delivery,
    outcome: Outcome,
    now: Now,
    stopped: Duration,
) -> Next {
    match outcome {
        Outcome::Delivered => Next::Settle(Settlement::Delivered),
        Outcome::Dropped => Next::Settle(Settlement::Dropped),
        Outcome::Reject => Next::DeadLetter(DeadLetterReason::Rejected),
        Outcome::CannotBeMade => match options.on_render_error {
            RenderErrorPolicy::DeadLetter => Next::DeadLetter(DeadLetterReason::Unrenderable),
            RenderErrorPolicy::Drop => Next::Settle(Settlement::Dropped),
        },
        Outcome::Panicked => Next::DeadLetter(DeadLetterReason::Panic),
        Outcome::Retry | Outcome::EndpointFault | Outcome::Gone | Outcome::PushBack => {
            let Some(delay) = delay_after(&options.retry, delivery.id, delivery.attempts) else {
                return Next::DeadLetter(DeadLetterReason::Exhausted);
            };
            let age = delivery
                .first_attempt
                .map_or(Duration::ZERO, |first| first.age(now.tick, stopped));
            match options.max_age.checked_sub(age) {
                // A delay that reaches beyond the age ends in one last attempt at the age itself.
                Some(left) if !left.is_zero() => Next::TryAgainAfter(delay.min(left)),
                _ => Next::DeadLetter(DeadLetterReason::Expired),
            }
        }
    }
}
