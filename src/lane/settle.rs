//! How an ended attempt or an ended write ends a delivery, or does not.

use std::time::Duration;

use crate::clock::Now;
use crate::delivery::{Attempt, DeadLetterReason, DeliveryKey, Outcome};

use super::counts::Settlement;
use super::event::{Action, DeadLetter, Shed, WriteError};
use super::machine::Lane;
use super::options::RenderErrorPolicy;
use super::retry::{delay_after, write_delay};
use super::window::{DeadLetterWrite, Delivery, State};

/// What follows an attempt.
enum Next {
    Settle(Settlement),
    TryAgainAfter(Duration),
    /// Back among the ready ones, the attempt not spent.
    KeepPlace,
    DeadLetter(DeadLetterReason),
}

impl Lane {
    pub(super) fn attempt_ended(&mut self, now: Now, key: DeliveryKey, attempt: Attempt) {
        self.in_flight = self.in_flight.saturating_sub(1);
        *self.counts.attempts.entry(attempt.outcome).or_default() += 1;
        if let Some(reason) = attempt.reason {
            *self.counts.attempt_failures.entry(reason).or_default() += 1;
        }
        self.listen_to_endpoint(now, &attempt);

        let held = self.hold.total(now.tick);
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        let Some(delivery) = partition.delivery(key.offset) else {
            return;
        };
        if delivery.state != State::InFlight {
            return;
        }
        delivery.last_attempt = Some(now.wall);
        if attempt.outcome != Outcome::PushBack {
            delivery.attempts += 1;
        }
        let outcome = attempt.outcome;
        if outcome != Outcome::Delivered {
            delivery.last_failure = Some(attempt);
        }
        let next = after(&self.options, delivery, outcome, now, held);
        partition.busy -= 1;
        match next {
            Next::Settle(settlement) => self.settle(key, settlement),
            Next::KeepPlace => {
                self.enter(key, State::Ready);
                // Behind the others: a record that alone is pushed back again and again must not stand before those that would pass.
                self.ready.push_back(key);
            }
            Next::TryAgainAfter(delay) => {
                self.enter(key, State::Retry);
                self.timers.insert((now.tick + delay, key));
            }
            Next::DeadLetter(reason) => {
                self.write_dead_letter(
                    key,
                    DeadLetterWrite {
                        reason,
                        shed: Shed::Nothing,
                        failures: 0,
                    },
                );
            }
        }
    }

    /// What an answer says about the endpoint as a whole.
    fn listen_to_endpoint(&mut self, now: Now, attempt: &Attempt) {
        let cap = self.options.retry.retry_after_max;
        match attempt.outcome {
            Outcome::Delivered => self.hold.delivered(),
            Outcome::PushBack => self.hold.push_back(now.tick, attempt.retry_after, cap),
            Outcome::Retry | Outcome::EndpointFault | Outcome::Gone => {
                if let Some(asked) = attempt.retry_after {
                    self.hold.hold(now.tick, asked.min(cap));
                }
            }
            Outcome::Reject | Outcome::Dropped | Outcome::CannotBeMade | Outcome::Panicked => {}
        }
    }

    /// Asks for the dead letter of this delivery to be written. It is settled when the write is acknowledged, never before.
    pub(super) fn write_dead_letter(&mut self, key: DeliveryKey, write: DeadLetterWrite) {
        self.enter(key, State::Write(write));
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
            record: std::sync::Arc::clone(&delivery.record),
            rule: delivery.destiny.rule(),
            reason: write.reason,
            status: failure.status,
            error: failure.error,
            excerpt: failure.excerpt,
            attempts: delivery.attempts,
            first_attempt: delivery.first_attempt.map(|first| first.wall),
            last_attempt: delivery.last_attempt,
            cluster_id: std::sync::Arc::clone(&self.cluster_id),
            shed: write.shed,
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
        let State::Write(write) = delivery.state else {
            return;
        };
        partition.busy = partition.busy.saturating_sub(1);
        match (result, write.shed) {
            (Ok(()), _) => {
                *self.counts.dead_letters.entry(write.reason).or_default() += 1;
                self.settle(key, Settlement::DeadLettered);
            }
            (Err(WriteError::TooLarge), Shed::Nothing) => {
                self.write_dead_letter(
                    key,
                    DeadLetterWrite {
                        shed: Shed::Excerpt,
                        ..write
                    },
                );
            }
            (Err(WriteError::TooLarge), Shed::Excerpt) => {
                self.write_dead_letter(
                    key,
                    DeadLetterWrite {
                        shed: Shed::Value,
                        ..write
                    },
                );
            }
            (Err(WriteError::TooLarge), Shed::Value) | (Err(WriteError::Failed(_)), _) => {
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
        self.unsettled -= 1;
        self.unsettled_bytes -= delivery.weight;
        self.count_settled(settlement);
        self.check_distance(key.epoch);
    }

    pub(super) fn count_settled(&mut self, settlement: Settlement) {
        *self.counts.settled.entry(settlement).or_default() += 1;
        self.settled_since_commit += 1;
        self.want_commit();
    }
}

/// What follows an attempt with this outcome (pure).
fn after(
    options: &super::options::LaneOptions,
    delivery: &Delivery,
    outcome: Outcome,
    now: Now,
    held: Duration,
) -> Next {
    match outcome {
        Outcome::Delivered => Next::Settle(Settlement::Delivered),
        Outcome::Dropped => Next::Settle(Settlement::Dropped),
        Outcome::PushBack => Next::KeepPlace,
        Outcome::Reject => Next::DeadLetter(DeadLetterReason::Rejected),
        Outcome::CannotBeMade => match options.on_render_error {
            RenderErrorPolicy::DeadLetter => Next::DeadLetter(DeadLetterReason::Unrenderable),
            RenderErrorPolicy::Drop => Next::Settle(Settlement::Dropped),
        },
        Outcome::Panicked => Next::DeadLetter(DeadLetterReason::Panic),
        Outcome::Retry | Outcome::EndpointFault | Outcome::Gone => {
            let Some(delay) = delay_after(&options.retry, delivery.id, delivery.attempts) else {
                return Next::DeadLetter(DeadLetterReason::Exhausted);
            };
            let age = delivery.first_attempt.map_or(Duration::ZERO, |first| {
                now.tick
                    .since(first.tick)
                    .saturating_sub(held.saturating_sub(first.held_before))
            });
            match options.max_age.checked_sub(age) {
                // A delay that reaches beyond the age ends in one last attempt at the age itself.
                Some(left) if !left.is_zero() => Next::TryAgainAfter(delay.min(left)),
                _ => Next::DeadLetter(DeadLetterReason::Expired),
            }
        }
    }
}
