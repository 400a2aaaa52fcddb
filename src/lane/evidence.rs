//! What an answer says of the endpoint, and from that what it means for its record.
//!
//! A fault by itself opens nothing: it is a doubt, and the next records are tried all the same. One of them goes through: those that met the
//! fault are suspects, set aside and tried again by their schedules, rejected at their third fault. None goes through: the endpoint
//! opens, after three records, or when there is no other to try.
//!
//! With one record accused the lane goes on as before, so that a bad record costs the others nothing; with two it tries one record at a time. The
//! search does not wait for the end of what was in flight: with a slow receiver one bad record would stop its destination for that long.

use crate::delivery::{Attempt, DeadLetterReason, DeliveryKey, Outcome};

use super::delivery::{Delivery, PushedBack, State};
use super::endpoint::{Charge, Doubt, PASSES_PER_PUSH_BACK, State as Endpoint, Why};
use super::endpoints::Slot;
use super::event::{Action, Notice};
use super::machine::Lane;
use super::retry::delay_after;

/// A record that met a fault so often while others passed is rejected.
const FAULTS_MAX: u32 = 3;

/// A record that was a probe so often without success makes room for others where there is none.
const PROBES_BEFORE_PARKING: u32 = 2;

/// The first push-backs that a record gets while others pass are no fault of its own yet: a receiver that limits its rate may do that to any
/// record by chance.
const LONELY_PUSH_BACKS: u32 = 3;

/// What an answer means for its record.
pub(super) enum Meaning {
    /// What its outcome says.
    Ordinary,
    /// It goes on waiting in its place; nothing is spent.
    KeepsPlace,
    /// The same, behind the others: they are tried before it.
    GoesBehind,
    /// It waits for the end of the doubt.
    Accused,
    /// It goes to the ladder for the shortest time; nothing is spent.
    Parked,
}

/// What the answer of an address means that is not the destination's any more: the record is still to be tried at the new one.
pub(super) fn meaning_of_a_stranger(outcome: Outcome) -> Meaning {
    match outcome {
        Outcome::Delivered
        | Outcome::Reject
        | Outcome::Dropped
        | Outcome::CannotBeMade
        | Outcome::Panicked => Meaning::Ordinary,
        Outcome::Retry | Outcome::EndpointFault | Outcome::PushBack | Outcome::Gone => {
            Meaning::KeepsPlace
        }
    }
}

impl Lane {
    /// Takes in what an answer says of the endpoint.
    pub(super) fn hear(&mut self, slot: Slot, key: DeliveryKey, attempt: &Attempt) -> Meaning {
        let now = self.now.tick;
        let trial = self.endpoints[slot].take_trial(key);
        let cap = self.options.retry.retry_after_max;
        let why = Why::from(attempt);
        if matches!(
            attempt.outcome,
            Outcome::Retry | Outcome::EndpointFault | Outcome::Gone
        ) && let Some(asked) = attempt.retry_after
        {
            self.endpoints[slot].hold.hold(now, asked.min(cap));
        }
        match attempt.outcome {
            Outcome::Delivered | Outcome::Reject | Outcome::Dropped => {
                self.passed(slot, trial);
                Meaning::Ordinary
            }
            // Nothing was sent, so nothing was heard.
            Outcome::CannotBeMade | Outcome::Panicked => Meaning::Ordinary,
            Outcome::Retry => self.failed(slot, key, trial, why),
            Outcome::EndpointFault => self.faulty(slot, key, trial, why),
            Outcome::PushBack => self.pushed_back(slot, key, trial, attempt),
            Outcome::Gone => self.gone(slot),
        }
    }

    /// The endpoint does its work. When that was to be found out, those that met a fault are suspects.
    fn passed(&mut self, slot: Slot, trial: bool) {
        let now = self.now.tick;
        let concurrency = self.concurrency();
        let endpoint = &mut self.endpoints[slot];
        endpoint.passes += 1;
        endpoint.pressure.passed();
        endpoint.hold.delivered(now);
        endpoint.ramps_up(concurrency);
        endpoint.breaker.passed(&self.options.breaker, now);
        if !trial {
            return;
        }
        match std::mem::take(&mut self.endpoints[slot].state) {
            Endpoint::Doubt(Doubt {
                charge, accused, ..
            }) => {
                for key in accused {
                    self.suspect(key, charge);
                }
            }
            Endpoint::Open(open) => {
                self.endpoints[slot].close();
                let endpoint = self.endpoints[slot].key.clone();
                self.actions.push_back(Action::Tell(Notice::Closed {
                    endpoint,
                    open_for: now.since(open.since.tick),
                }));
                for key in open.alone {
                    self.suspect(key, Charge::Fault);
                }
            }
            other @ (Endpoint::Closed | Endpoint::Gone) => self.endpoints[slot].state = other,
        }
    }

    fn failed(&mut self, slot: Slot, key: DeliveryKey, trial: bool, why: Why) -> Meaning {
        let now = self.now;
        let id = self.delivery(key).map(|delivery| delivery.id);
        match self.endpoints[slot].state {
            Endpoint::Open(_) if trial => self.probe_failed(slot, key, why),
            Endpoint::Open(_) | Endpoint::Gone => Meaning::KeepsPlace,
            Endpoint::Closed | Endpoint::Doubt(_) => {
                let options = self.options.breaker;
                let too_many = id
                    .is_some_and(|id| self.endpoints[slot].breaker.failed(&options, now.tick, id));
                if too_many {
                    self.open(slot, Vec::new(), why);
                }
                Meaning::Ordinary
            }
        }
    }

    fn faulty(&mut self, slot: Slot, key: DeliveryKey, trial: bool, why: Why) -> Meaning {
        match &mut self.endpoints[slot].state {
            Endpoint::Open(_) if trial => self.probe_failed(slot, key, why),
            Endpoint::Open(_) | Endpoint::Gone => Meaning::KeepsPlace,
            Endpoint::Doubt(Doubt {
                charge: Charge::Fault,
                accused,
                ..
            }) => {
                accused.push(key);
                Meaning::Accused
            }
            Endpoint::Doubt(_) | Endpoint::Closed => {
                self.acquit(slot);
                self.doubt(slot, key, Charge::Fault, why)
            }
        }
    }

    fn pushed_back(
        &mut self,
        slot: Slot,
        key: DeliveryKey,
        trial: bool,
        attempt: &Attempt,
    ) -> Meaning {
        let now = self.now.tick;
        let lonely = self.is_pushed_back_alone(slot, key, attempt);
        let cap = self.options.retry.retry_after_max;
        match &mut self.endpoints[slot].state {
            Endpoint::Closed if lonely => {
                let charge = Charge::PushBack(attempt.retry_after);
                return self.doubt(slot, key, charge, Why::from(attempt));
            }
            // Several such records at once do not make the receiver one that limits its rate.
            Endpoint::Doubt(Doubt {
                charge: Charge::PushBack(_),
                accused,
                ..
            }) if lonely => {
                accused.push(key);
                return Meaning::Accused;
            }
            // One question at a time; this one is asked again when the record comes round.
            Endpoint::Doubt(_) if lonely => return Meaning::GoesBehind,
            Endpoint::Closed | Endpoint::Doubt(_) | Endpoint::Open(_) | Endpoint::Gone => {}
        }
        self.endpoints[slot]
            .hold
            .push_back(now, attempt.retry_after, cap);
        let endpoint = &mut self.endpoints[slot];
        match &mut endpoint.state {
            // The receiver pushes back others as well.
            Endpoint::Doubt(Doubt {
                charge: Charge::PushBack(_),
                ..
            }) => self.acquit(slot),
            Endpoint::Open(open) if trial => open.next_probe = endpoint.hold.until(),
            Endpoint::Closed | Endpoint::Doubt(_) | Endpoint::Open(_) | Endpoint::Gone => {}
        }
        self.count_probe(key);
        match self.bars_the_way(slot, key) {
            true => Meaning::Parked,
            false => Meaning::GoesBehind,
        }
    }

    /// Whether it is the record that is pushed back and not everybody: the receiver has hardly pushed back any other lately, or since it last
    /// pushed back this one. Records that are known for it do not count as others.
    fn is_pushed_back_alone(&mut self, slot: Slot, key: DeliveryKey, attempt: &Attempt) -> bool {
        let is_known = self.peek(key).is_some_and(|d| d.lonely_push_backs > 0);
        let endpoint = &mut self.endpoints[slot];
        if !is_known {
            endpoint.pressure.pushed_back();
            endpoint.push_backs += 1;
        }
        let under_pressure = endpoint.pressure.is_high();
        let then = PushedBack {
            passes: endpoint.passes,
            push_backs: endpoint.push_backs,
            others_passed: false,
        };
        let Some(delivery) = self.delivery(key) else {
            return false;
        };
        match delivery.pushed_back.replace(then) {
            Some(before) => {
                let passes = then.passes - before.passes;
                let others = then.push_backs - before.push_backs - u64::from(!is_known);
                let others_passed = passes > 0;
                delivery.pushed_back = Some(PushedBack {
                    others_passed,
                    ..then
                });
                others_passed && (!under_pressure || others * PASSES_PER_PUSH_BACK <= passes)
            }
            // Who says for how long is taken at its word the first time.
            None => attempt.retry_after.is_none() && !under_pressure,
        }
    }

    fn gone(&mut self, slot: Slot) -> Meaning {
        if !matches!(self.endpoints[slot].state, Endpoint::Gone) {
            self.leave_for_good(slot);
            let endpoint = self.endpoints[slot].key.clone();
            self.actions
                .push_back(Action::Tell(Notice::Gone { endpoint }));
        }
        Meaning::KeepsPlace
    }

    /// Leaves the endpoint alone until a person or another configuration says otherwise.
    pub(super) fn leave_for_good(&mut self, slot: Slot) {
        self.acquit(slot);
        self.endpoints[slot].state = Endpoint::Gone;
    }

    fn doubt(&mut self, slot: Slot, key: DeliveryKey, charge: Charge, why: Why) -> Meaning {
        self.endpoints[slot].state = Endpoint::Doubt(Doubt {
            charge,
            accused: vec![key],
            trying: Vec::new(),
            has_waited: false,
            why,
        });
        Meaning::Accused
    }

    fn probe_failed(&mut self, slot: Slot, key: DeliveryKey, why: Why) -> Meaning {
        let now = self.now.tick;
        let is_alone = matches!(&self.endpoints[slot].state, Endpoint::Open(open) if open.alone.contains(&key));
        let innocent = self.peek(key).is_none_or(Delivery::is_innocent);
        let options = self.options.breaker;
        self.endpoints[slot].probe_failed(now, &options, innocent && !is_alone, why);
        self.count_probe(key);
        if self.bars_the_way(slot, key) {
            return Meaning::Parked;
        }
        Meaning::GoesBehind
    }

    /// Whether a record that has been tried again and again stands where nothing else can be read: then no other would ever be tried.
    fn bars_the_way(&self, slot: Slot, key: DeliveryKey) -> bool {
        let tried = self
            .peek(key)
            .is_some_and(|d| d.probes >= PROBES_BEFORE_PARKING);
        let paused = self.partitions.get(&key.epoch).is_some_and(|p| p.paused);
        let tried = tried && !self.is_in_order(key);
        let innocent = |key: &DeliveryKey| self.peek(*key).is_some_and(Delivery::is_innocent);
        tried && (paused || self.is_full()) && !self.endpoints[slot].ready.iter().any(innocent)
    }

    fn count_probe(&mut self, key: DeliveryKey) {
        if let Some(delivery) = self.delivery(key) {
            delivery.probes += 1;
        }
    }

    /// Leaves the endpoint alone. The accused go back to their places: it was not them, or nobody can say.
    pub(super) fn open(&mut self, slot: Slot, alone: Vec<DeliveryKey>, why: Why) {
        self.acquit(slot);
        self.counts.opens += 1;
        self.endpoints[slot].open(self.now, &self.options.breaker, alone, why);
        let endpoint = self.endpoints[slot].key.clone();
        self.watch_standstill(slot);
        self.endpoints.weigh(slot);
        self.actions.push_back(Action::Tell(Notice::Opened {
            endpoint,
            why,
            next_probe: self.options.breaker.probe_interval,
        }));
    }

    /// Ends a doubt without a verdict.
    pub(super) fn acquit(&mut self, slot: Slot) {
        if let Endpoint::Doubt(doubt) = &mut self.endpoints[slot].state {
            let accused = std::mem::take(&mut doubt.accused);
            self.endpoints[slot].state = Endpoint::Closed;
            for key in accused.into_iter().rev() {
                self.enter(key, State::Ready);
                self.queue_first(slot, key);
            }
        }
    }

    /// A record that was accused is not here any more.
    pub(super) fn acquit_of(&mut self, slot: Slot, key: DeliveryKey) {
        if let Endpoint::Doubt(doubt) = &mut self.endpoints[slot].state {
            doubt.accused.retain(|accused| *accused != key);
            if doubt.accused.is_empty() {
                self.endpoints[slot].state = Endpoint::Closed;
            }
        }
    }

    /// A record met a fault, and another one passed right after it.
    pub(super) fn suspect(&mut self, key: DeliveryKey, charge: Charge) {
        let retry = self.options.retry.clone();
        let Some(delivery) = self.delivery(key) else {
            return;
        };
        if !matches!(delivery.state, State::Accused | State::Ready) {
            return;
        }
        if matches!(charge, Charge::PushBack(_)) {
            delivery.lonely_push_backs += 1;
            if delivery.lonely_push_backs < LONELY_PUSH_BACKS {
                let slot = delivery.endpoint;
                self.enter(key, State::Ready);
                return self.queue_last(slot, key);
            }
        }
        delivery.faults += 1;
        delivery.attempts += 1;
        let (id, faults, attempts) = (delivery.id, delivery.faults, delivery.attempts);
        self.actions
            .push_back(Action::Tell(Notice::Suspect { key, faults }));
        match delay_after(&retry, id, attempts) {
            Some(delay) if faults < FAULTS_MAX => self.wait_for_retry(key, delay),
            _ => self.give_up(key, DeadLetterReason::Rejected),
        }
    }
}
