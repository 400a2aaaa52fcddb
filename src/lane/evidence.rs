//! What an answer says of the endpoint, and from that what it means for its record.
//!
//! A fault by itself opens nothing: it is a doubt, and the next records are tried all the same. One of them goes through: those that met the
//! fault are suspects, set aside and tried again by their schedules, rejected at their third fault. None goes through: the endpoint
//! opens, after three records, or when there is no other to try.
//!
//! With one record accused the lane goes on as before, so that a bad record costs the others nothing; with two it tries one record at a time. The
//! search does not wait for the end of what was in flight: with a slow receiver one bad record would stop its destination for that long.

use crate::clock::Tick;
use crate::delivery::{Attempt, DeadLetterReason, DeliveryKey, Outcome};

use super::delivery::{Delivery, PushedBack, State};
use super::endpoint::{Charge, Doubt, PASSES_PER_PUSH_BACK, State as Endpoint, Why};
use super::event::{Action, Notice};
use super::machine::Lane;
use super::retry::delay_after;

/// A record that met a fault so often while others passed is rejected.
const FAULTS_MAX: u32 = 3;

/// So many records must have met a fault, and none of those tried since may have passed, for an endpoint to open. Two may be bad by chance.
const ACCUSED_MIN: usize = 3;

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

/// Which record is tried next, by its place among the ready ones.
pub(super) struct Choice {
    pub(super) place: usize,
    /// Whether it is there to show how the endpoint is.
    pub(super) is_trial: bool,
}

impl Lane {
    /// Takes in what an answer says of the endpoint.
    pub(super) fn hear(&mut self, key: DeliveryKey, attempt: &Attempt) -> Meaning {
        let now = self.now.tick;
        let trial = self.endpoint.take_trial(key);
        let cap = self.options.retry.retry_after_max;
        let why = Why::from(attempt);
        if matches!(
            attempt.outcome,
            Outcome::Retry | Outcome::EndpointFault | Outcome::Gone
        ) && let Some(asked) = attempt.retry_after
        {
            self.endpoint.hold.hold(now, asked.min(cap));
        }
        match attempt.outcome {
            Outcome::Delivered | Outcome::Reject | Outcome::Dropped => {
                self.passed(trial);
                Meaning::Ordinary
            }
            // Nothing was sent, so nothing was heard.
            Outcome::CannotBeMade | Outcome::Panicked => Meaning::Ordinary,
            Outcome::Retry => self.failed(key, trial, why),
            Outcome::EndpointFault => self.faulty(key, trial, why),
            Outcome::PushBack => self.pushed_back(key, trial, attempt),
            Outcome::Gone => self.gone(),
        }
    }

    /// The endpoint does its work. When that was to be found out, those that met a fault are suspects.
    fn passed(&mut self, trial: bool) {
        let now = self.now.tick;
        self.endpoint.passes += 1;
        self.endpoint.pressure.passed();
        self.endpoint.hold.delivered();
        self.endpoint.breaker.passed(&self.options.breaker, now);
        if !trial {
            return;
        }
        match std::mem::take(&mut self.endpoint.state) {
            Endpoint::Doubt(Doubt {
                charge, accused, ..
            }) => {
                for key in accused {
                    self.suspect(key, charge);
                }
            }
            Endpoint::Open(open) => {
                self.endpoint.breaker = Default::default();
                self.actions.push_back(Action::Tell(Notice::Closed {
                    open_for: now.since(open.since.tick),
                }));
                for key in open.alone {
                    self.suspect(key, Charge::Fault);
                }
            }
            other @ (Endpoint::Closed | Endpoint::Gone) => self.endpoint.state = other,
        }
    }

    fn failed(&mut self, key: DeliveryKey, trial: bool, why: Why) -> Meaning {
        let now = self.now;
        let id = self.delivery(key).map(|delivery| delivery.id);
        match self.endpoint.state {
            Endpoint::Open(_) if trial => self.probe_failed(key, why),
            Endpoint::Open(_) | Endpoint::Gone => Meaning::KeepsPlace,
            Endpoint::Closed | Endpoint::Doubt(_) => {
                let options = self.options.breaker;
                let too_many =
                    id.is_some_and(|id| self.endpoint.breaker.failed(&options, now.tick, id));
                if too_many {
                    self.open(Vec::new(), why);
                }
                Meaning::Ordinary
            }
        }
    }

    fn faulty(&mut self, key: DeliveryKey, trial: bool, why: Why) -> Meaning {
        match &mut self.endpoint.state {
            Endpoint::Open(_) if trial => self.probe_failed(key, why),
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
                self.acquit();
                self.doubt(key, Charge::Fault, why)
            }
        }
    }

    fn pushed_back(&mut self, key: DeliveryKey, trial: bool, attempt: &Attempt) -> Meaning {
        let now = self.now.tick;
        let lonely = self.is_pushed_back_alone(key, attempt);
        let cap = self.options.retry.retry_after_max;
        match &mut self.endpoint.state {
            Endpoint::Closed if lonely => {
                let charge = Charge::PushBack(attempt.retry_after);
                return self.doubt(key, charge, Why::from(attempt));
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
        self.endpoint.hold.push_back(now, attempt.retry_after, cap);
        match &mut self.endpoint.state {
            // The receiver pushes back others as well.
            Endpoint::Doubt(Doubt {
                charge: Charge::PushBack(_),
                ..
            }) => self.acquit(),
            Endpoint::Open(open) if trial => open.next_probe = self.endpoint.hold.until(),
            Endpoint::Closed | Endpoint::Doubt(_) | Endpoint::Open(_) | Endpoint::Gone => {}
        }
        self.count_probe(key);
        match self.bars_the_way(key) {
            true => Meaning::Parked,
            false => Meaning::GoesBehind,
        }
    }

    /// Whether it is the record that is pushed back and not everybody: the receiver has hardly pushed back any other lately, or since it last
    /// pushed back this one. Records that are known for it do not count as others.
    fn is_pushed_back_alone(&mut self, key: DeliveryKey, attempt: &Attempt) -> bool {
        let is_known = self.peek(key).is_some_and(|d| d.lonely_push_backs > 0);
        if !is_known {
            self.endpoint.pressure.pushed_back();
            self.endpoint.push_backs += 1;
        }
        let under_pressure = self.endpoint.pressure.is_high();
        let then = PushedBack {
            passes: self.endpoint.passes,
            push_backs: self.endpoint.push_backs,
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

    fn gone(&mut self) -> Meaning {
        if !matches!(self.endpoint.state, Endpoint::Gone) {
            self.leave_for_good();
            self.actions.push_back(Action::Tell(Notice::Gone));
        }
        Meaning::KeepsPlace
    }

    /// Leaves the endpoint alone until a person or another configuration says otherwise.
    pub(super) fn leave_for_good(&mut self) {
        self.acquit();
        self.endpoint.state = Endpoint::Gone;
    }

    fn doubt(&mut self, key: DeliveryKey, charge: Charge, why: Why) -> Meaning {
        self.endpoint.state = Endpoint::Doubt(Doubt {
            charge,
            accused: vec![key],
            trying: Vec::new(),
            has_waited: false,
            why,
        });
        Meaning::Accused
    }

    fn probe_failed(&mut self, key: DeliveryKey, why: Why) -> Meaning {
        let now = self.now.tick;
        let is_alone =
            matches!(&self.endpoint.state, Endpoint::Open(open) if open.alone.contains(&key));
        let innocent = self.peek(key).is_none_or(Delivery::is_innocent);
        let options = self.options.breaker;
        self.endpoint
            .probe_failed(now, &options, innocent && !is_alone, why);
        self.count_probe(key);
        if self.bars_the_way(key) {
            return Meaning::Parked;
        }
        Meaning::GoesBehind
    }

    /// Whether a record that has been tried again and again stands where nothing else can be read: then no other would ever be tried.
    fn bars_the_way(&self, key: DeliveryKey) -> bool {
        let tried = self
            .peek(key)
            .is_some_and(|d| d.probes >= PROBES_BEFORE_PARKING);
        let paused = self.partitions.get(&key.epoch).is_some_and(|p| p.paused);
        let innocent = |key: &DeliveryKey| self.peek(*key).is_some_and(Delivery::is_innocent);
        tried && (paused || self.is_full()) && !self.ready.iter().any(innocent)
    }

    fn count_probe(&mut self, key: DeliveryKey) {
        if let Some(delivery) = self.delivery(key) {
            delivery.probes += 1;
        }
    }

    /// Leaves the endpoint alone. The accused go back to their places: it was not them, or nobody can say.
    fn open(&mut self, alone: Vec<DeliveryKey>, why: Why) {
        self.acquit();
        self.counts.opens += 1;
        self.endpoint
            .open(self.now, &self.options.breaker, alone, why);
        self.actions.push_back(Action::Tell(Notice::Opened {
            why,
            next_probe: self.options.breaker.probe_interval,
        }));
    }

    /// Ends a doubt without a verdict.
    fn acquit(&mut self) {
        if let Endpoint::Doubt(doubt) = &mut self.endpoint.state {
            let accused = std::mem::take(&mut doubt.accused);
            self.endpoint.state = Endpoint::Closed;
            for key in accused.into_iter().rev() {
                self.enter(key, State::Ready);
                self.ready.push_front(key);
            }
        }
    }

    /// A record that was accused is not here any more.
    pub(super) fn acquit_of(&mut self, key: DeliveryKey) {
        if let Endpoint::Doubt(doubt) = &mut self.endpoint.state {
            doubt.accused.retain(|accused| *accused != key);
            if doubt.accused.is_empty() {
                self.endpoint.state = Endpoint::Closed;
            }
        }
    }

    /// A record met a fault, and another one passed right after it.
    fn suspect(&mut self, key: DeliveryKey, charge: Charge) {
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
                self.enter(key, State::Ready);
                return self.ready.push_back(key);
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

    /// Which ready record may be tried now. Says by `wake` when it is time to ask again, if nothing else happens before.
    pub(super) fn choose(&mut self) -> Option<Choice> {
        let now = self.now.tick;
        if let Some(until) = self.endpoint.stopped(now) {
            self.wake(until);
            return None;
        }
        if let Err(until) = self.brake.may_try(now) {
            self.wake(until);
            return None;
        }
        match &self.endpoint.state {
            Endpoint::Closed => self.choose_first(false),
            Endpoint::Doubt(doubt) if doubt.accused.len() < 2 => {
                self.choose_first(true).or_else(|| self.conclude())
            }
            Endpoint::Doubt(doubt) if doubt.trying.is_empty() => self.choose_trial(),
            Endpoint::Open(open) if open.trial.is_none() => {
                let (next_probe, due) = (open.next_probe, open.next_probe <= now);
                let place = if due {
                    self.choose_probe()
                } else {
                    self.choose_newcomer()
                };
                if place.is_none() && !due {
                    self.wake(Some(next_probe));
                }
                place.map(|place| Choice {
                    place,
                    is_trial: true,
                })
            }
            Endpoint::Doubt(_) | Endpoint::Open(_) | Endpoint::Gone => None,
        }
    }

    /// The oldest of the ready ones; but after one that has failed before, the oldest that has not. Bad records come back in bunches, and a bunch
    /// of them in a row would look like a broken endpoint.
    fn choose_first(&self, is_trial: bool) -> Option<Choice> {
        let failed = |key: &DeliveryKey| self.peek(*key).is_some_and(|d| d.attempts > 0);
        let first = self.ready.front()?;
        let place = match self.retried_last && failed(first) {
            true => self.ready.iter().position(|key| !failed(key)),
            false => None,
        };
        Some(Choice {
            place: place.unwrap_or(0),
            is_trial,
        })
    }

    /// A record that nothing speaks against, unless enough have been tried.
    fn choose_trial(&mut self) -> Option<Choice> {
        let innocent = |key: &DeliveryKey| self.peek(*key).is_none_or(Delivery::is_innocent);
        if let Endpoint::Doubt(doubt) = &self.endpoint.state {
            let innocents = doubt.accused.iter().filter(|key| innocent(key)).count();
            if doubt.accused.len() >= ACCUSED_MIN && innocents + 1 >= ACCUSED_MIN {
                let why = doubt.why;
                self.open(Vec::new(), why);
                return self.choose();
            }
        }
        match self.ready.iter().position(innocent) {
            Some(place) => Some(Choice {
                place,
                is_trial: true,
            }),
            None => self.conclude(),
        }
    }

    /// Ends a doubt for which there is no other record to try, and none will come from what is in flight. After a push-back the endpoint is held
    /// first, and one may arrive meanwhile.
    fn conclude(&mut self) -> Option<Choice> {
        if self.in_flight > 0 {
            return None;
        }
        if let Endpoint::Doubt(doubt) = &mut self.endpoint.state {
            let why = doubt.why;
            match doubt.charge {
                Charge::Fault => {
                    let alone = doubt.accused.clone();
                    self.open(alone, why);
                }
                Charge::PushBack(asked) if !doubt.has_waited => {
                    doubt.has_waited = true;
                    let cap = self.options.retry.retry_after_max;
                    self.endpoint.hold.push_back(self.now.tick, asked, cap);
                }
                Charge::PushBack(_) => self.judge_by_the_past(),
            }
            return self.choose();
        }
        None
    }

    /// Nobody has come who could be tried beside those that are pushed back alone: what counts is whether others have passed before.
    fn judge_by_the_past(&mut self) {
        let Endpoint::Doubt(doubt) = std::mem::take(&mut self.endpoint.state) else {
            return;
        };
        for key in doubt.accused {
            let pushed_back = self.peek(key).and_then(|delivery| delivery.pushed_back);
            if pushed_back.is_some_and(|then| then.others_passed) {
                self.suspect(key, doubt.charge);
            } else {
                self.enter(key, State::Ready);
                self.ready.push_back(key);
            }
        }
    }

    /// Probes take turns: the record that was tried least, and among those the oldest. So what has never been tried comes first, and a handful of
    /// bad records cannot keep an endpoint open that takes all others.
    fn choose_probe(&self) -> Option<usize> {
        let tried = |key: &DeliveryKey| {
            self.peek(*key).map_or((false, false, 0), |delivery| {
                let tried = delivery.first_attempt.is_some();
                (
                    !delivery.is_innocent(),
                    tried,
                    delivery.attempts + delivery.probes,
                )
            })
        };
        let places = self.ready.iter().enumerate();
        places
            .min_by_key(|(place, key)| (tried(key), *place))
            .map(|(place, _)| place)
    }

    /// The first record that has arrived since the endpoint was opened by one that was alone.
    fn choose_newcomer(&self) -> Option<usize> {
        let Endpoint::Open(open) = &self.endpoint.state else {
            return None;
        };
        if open.alone.is_empty() {
            return None;
        }
        self.ready.iter().position(|key| {
            !open.alone.contains(key) && self.peek(*key).is_none_or(Delivery::is_innocent)
        })
    }

    /// Something waits for this time, if it is known.
    fn wake(&mut self, until: Option<Tick>) {
        if let Some(until) = until {
            self.wake = Some(self.wake.map_or(until, |wake| wake.min(until)));
        }
    }

    /// Marks the request that shows how the endpoint is.
    pub(super) fn begin_trial(&mut self, key: DeliveryKey) {
        match &mut self.endpoint.state {
            Endpoint::Doubt(doubt) => doubt.trying.push(key),
            Endpoint::Open(open) => open.trial = Some(key),
            Endpoint::Closed | Endpoint::Gone => {}
        }
    }
}
