//! What may begin: in turn, within the concurrency and the rate, while its endpoint is not held.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::delivery::{Attempt, DeadLetterReason, DeliveryKey};

use super::choice::Choice;
use super::counts::Settlement;
use super::delivery::{DeadLetterWrite, Destiny, FirstAttempt, State};
use super::endpoints::Slot;
use super::event::{Action, Send, Shed};
use super::machine::Lane;
use super::skip::skipped;
use super::window::Phase;

/// The wait for the rate, while there is one.
#[derive(Debug, Default)]
pub(super) struct RateWait {
    /// When the next record may go.
    pub(super) until: Option<Tick>,
    since: Option<Tick>,
}

/// What becomes of the delivery whose turn it is.
enum Turn {
    /// It has left, or leaves with its partition.
    Gone,
    Expired,
    DeadLetter(DeadLetterWrite),
    /// To be sent; so many bytes.
    Send(usize),
}

impl Lane {
    /// Begins what may begin: the endpoints take turns, each with its oldest first.
    pub(super) fn admit(&mut self) {
        let now = self.now.tick;
        self.rate_wait.until = None;
        self.wake = None;
        if self.handover.is_draining() || self.paused {
            return self.nobody_goes_alone();
        }
        while self.in_flight < self.concurrency() && self.may_admit() {
            let Some(slot) = self.endpoints.turn() else {
                return self.nobody_goes_alone();
            };
            if let Err(until) = self.brake.may_try(now) {
                self.wake = until;
                return self.nobody_goes_alone();
            }
            let choice = self.choose(slot);
            let Choice { place, is_trial } = match choice {
                Ok(choice) => choice,
                Err(not_before) => {
                    self.watch_standstill(slot);
                    self.endpoints.sit_out(not_before);
                    continue;
                }
            };
            let suspicion = if is_trial {
                None
            } else {
                self.place_by_suspicion(slot)
            };
            let place = suspicion.unwrap_or(place);
            let Some(key) = self.endpoints[slot].ready.get(place).copied() else {
                self.endpoints.sit_out(None);
                continue;
            };
            match self.turn(slot, key) {
                Turn::Gone => {}
                Turn::Expired => self.settle(key, Settlement::Dropped),
                Turn::DeadLetter(write) => self.write_dead_letter(key, write),
                Turn::Send(bytes) => {
                    if !self.may_go_alone(key) {
                        return;
                    }
                    if let Err(until) = self.rate.admit(now, bytes) {
                        self.rate_wait.until = Some(until);
                        self.rate_wait.since.get_or_insert(now);
                        return self.goes_later(until);
                    }
                    let waited = self.rate_wait.since.take().map(|since| now.since(since));
                    self.counts.rate_wait += waited.unwrap_or_default();
                    if is_trial {
                        self.begin_trial(slot, key);
                    }
                    self.brake.tried(now);
                    self.send(slot, key);
                }
            }
            self.endpoints[slot].ready.remove(place);
            self.endpoints.rotate();
        }
    }

    fn turn(&mut self, slot: Slot, key: DeliveryKey) -> Turn {
        let wall = self.now.wall;
        let expire_after = self.options.expire_after;
        let gone = self.endpoints[slot].is_one_gone_of_many();
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return Turn::Gone;
        };
        if partition.phase != Phase::Consuming {
            return Turn::Gone;
        }
        let Some(delivery) = partition.delivery(key.offset) else {
            return Turn::Gone;
        };
        if delivery.state != State::Ready {
            return Turn::Gone;
        }
        if let Destiny::DeadLetter { reason, error } = &delivery.destiny {
            let write = DeadLetterWrite {
                reason: *reason,
                shed: Shed::Nothing,
                failures: 0,
            };
            delivery.last_failure = Some(Attempt::failed_before_sending(error.clone()));
            return Turn::DeadLetter(write);
        }
        if self.skips.contains(&delivery.record) {
            return Turn::DeadLetter(skipped(delivery));
        }
        if gone {
            let error = "its endpoint is gone for good".to_owned();
            delivery
                .last_failure
                .get_or_insert_with(|| Attempt::failed_before_sending(error));
            return Turn::DeadLetter(DeadLetterWrite {
                reason: DeadLetterReason::Gone,
                shed: Shed::Nothing,
                failures: 0,
            });
        }
        let record = &delivery.record;
        if let (Some(limit), Some(written)) = (expire_after, record.timestamp)
            && u128::try_from(wall.0.saturating_sub(written.0))
                .is_ok_and(|age| age > limit.as_millis())
        {
            return Turn::Expired;
        }
        Turn::Send(record.value.as_ref().map_or(0, bytes::Bytes::len))
    }

    fn send(&mut self, slot: Slot, key: DeliveryKey) {
        let now = self.now;
        let stopped_before = self.endpoints[slot].stopwatch.total(now.tick);
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        let Some(delivery) = partition.delivery(key.offset) else {
            return;
        };
        let Some(rule) = delivery.destiny.rule() else {
            return;
        };
        delivery.first_attempt.get_or_insert(FirstAttempt {
            since: now.tick,
            stopped_before,
            ..FirstAttempt::at(now.wall, Duration::ZERO)
        });
        let send = Send {
            key,
            id: delivery.id,
            record: Arc::clone(&delivery.record),
            rule,
            attempt: delivery.attempts + 1,
        };
        let endpoint = &mut self.endpoints[slot];
        endpoint.retried_last = delivery.attempts > 0;
        endpoint.in_flight += 1;
        partition.busy += 1;
        self.in_flight += 1;
        self.enter(key, State::InFlight);
        self.actions.push_back(Action::Send(send));
    }
}
