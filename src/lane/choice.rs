//! Which record of an endpoint is tried next: the oldest, one that shows how the endpoint is, or none for now.

use crate::clock::Tick;
use crate::delivery::DeliveryKey;

use super::delivery::{Delivery, State};
use super::endpoint::{Charge, State as Endpoint};
use super::endpoints::Slot;
use super::machine::Lane;

/// So many records must have met a fault, and none of those tried since may have passed, for an endpoint to open. Two may be bad by chance.
const ACCUSED_MIN: usize = 3;

/// Which record is tried next, by its place among the ready ones.
pub(super) struct Choice {
    pub(super) place: usize,
    /// Whether it is there to show how the endpoint is.
    pub(super) is_trial: bool,
}

/// Nothing may be tried before this time, or before something happens.
pub(super) type NotBefore = Option<Tick>;

impl Lane {
    /// Which ready record of an endpoint may be tried now; else, when it is time to ask again if nothing else happens before.
    pub(super) fn choose(&mut self, slot: Slot) -> Result<Choice, NotBefore> {
        let now = self.now.tick;
        let endpoint = &self.endpoints[slot];
        if endpoint.is_one_gone_of_many() {
            let place = 0;
            let is_trial = false;
            return Ok(Choice { place, is_trial });
        }
        if let Some(until) = endpoint.stopped(now) {
            return Err(until);
        }
        if slot != Slot::SOLE && endpoint.in_flight >= self.concurrency().div_ceil(2) {
            return Err(None);
        }
        if endpoint.is_at_its_ramp() {
            return Err(None);
        }
        match &endpoint.state {
            Endpoint::Closed => self.choose_first(slot, false).ok_or(None),
            Endpoint::Doubt(doubt) if doubt.accused.len() < 2 => {
                match self.choose_first(slot, true) {
                    Some(choice) => Ok(choice),
                    None => self.conclude(slot),
                }
            }
            Endpoint::Doubt(doubt) if doubt.trying.is_empty() => self.choose_trial(slot),
            Endpoint::Open(open) if open.trial.is_none() => {
                let (next_probe, due) = (open.next_probe, open.next_probe <= now);
                let (place, not_before) = if due {
                    (self.choose_probe(slot), None)
                } else {
                    (self.choose_newcomer(slot), Some(next_probe))
                };
                let is_trial = true;
                place
                    .map(|place| Choice { place, is_trial })
                    .ok_or(not_before)
            }
            Endpoint::Doubt(_) | Endpoint::Open(_) | Endpoint::Gone => Err(None),
        }
    }

    /// The oldest of the ready ones; but after one that has failed before, the oldest that has not. Bad records come back in bunches, and a bunch
    /// of them in a row would look like a broken endpoint.
    fn choose_first(&self, slot: Slot, is_trial: bool) -> Option<Choice> {
        let failed = |key: &DeliveryKey| self.peek(*key).is_some_and(|d| d.attempts > 0);
        let endpoint = &self.endpoints[slot];
        let first = endpoint.ready.front()?;
        let place = match endpoint.retried_last && failed(first) {
            true => endpoint.ready.iter().position(|key| !failed(key)),
            false => None,
        };
        Some(Choice {
            place: place.unwrap_or(0),
            is_trial,
        })
    }

    /// A record that nothing speaks against, unless enough have been tried.
    fn choose_trial(&mut self, slot: Slot) -> Result<Choice, NotBefore> {
        let innocent = |key: &DeliveryKey| self.peek(*key).is_none_or(Delivery::is_innocent);
        if let Endpoint::Doubt(doubt) = &self.endpoints[slot].state {
            let innocents = doubt.accused.iter().filter(|key| innocent(key)).count();
            if doubt.accused.len() >= ACCUSED_MIN && innocents + 1 >= ACCUSED_MIN {
                let why = doubt.why;
                self.open(slot, Vec::new(), why);
                return self.choose(slot);
            }
        }
        match self.endpoints[slot].ready.iter().position(innocent) {
            Some(place) => Ok(Choice {
                place,
                is_trial: true,
            }),
            None => self.conclude(slot),
        }
    }

    /// Ends a doubt for which there is no other record to try, and none will come from what is in flight. After a push-back the endpoint is held
    /// first, and one may arrive meanwhile.
    fn conclude(&mut self, slot: Slot) -> Result<Choice, NotBefore> {
        if self.endpoints[slot].in_flight > 0 {
            return Err(None);
        }
        if let Endpoint::Doubt(doubt) = &mut self.endpoints[slot].state {
            let why = doubt.why;
            match doubt.charge {
                Charge::Fault => {
                    let alone = doubt.accused.clone();
                    self.open(slot, alone, why);
                }
                Charge::PushBack(asked) if !doubt.has_waited => {
                    doubt.has_waited = true;
                    let cap = self.options.retry.retry_after_max;
                    self.endpoints[slot]
                        .hold
                        .push_back(self.now.tick, asked, cap);
                }
                Charge::PushBack(_) => self.judge_by_the_past(slot),
            }
            return self.choose(slot);
        }
        Err(None)
    }

    /// Nobody has come who could be tried beside those that are pushed back alone: what counts is whether others have passed before.
    fn judge_by_the_past(&mut self, slot: Slot) {
        let Endpoint::Doubt(doubt) = std::mem::take(&mut self.endpoints[slot].state) else {
            return;
        };
        for key in doubt.accused {
            let pushed_back = self.peek(key).and_then(|delivery| delivery.pushed_back);
            if pushed_back.is_some_and(|then| then.others_passed) {
                self.suspect(key, doubt.charge);
            } else {
                self.enter(key, State::Ready);
                self.queue_last(slot, key);
            }
        }
    }

    /// Probes take turns: the record that was tried least, and among those the oldest. So what has never been tried comes first, and a handful of
    /// bad records cannot keep an endpoint open that takes all others.
    fn choose_probe(&self, slot: Slot) -> Option<usize> {
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
        let places = self.endpoints[slot].ready.iter().enumerate();
        places
            .min_by_key(|(place, key)| (tried(key), *place))
            .map(|(place, _)| place)
    }

    /// The first record that has arrived since the endpoint was opened by one that was alone.
    fn choose_newcomer(&self, slot: Slot) -> Option<usize> {
        let Endpoint::Open(open) = &self.endpoints[slot].state else {
            return None;
        };
        if open.alone.is_empty() {
            return None;
        }
        self.endpoints[slot].ready.iter().position(|key| {
            !open.alone.contains(key) && self.peek(*key).is_none_or(Delivery::is_innocent)
        })
    }

    /// Marks the request that shows how the endpoint is.
    pub(super) fn begin_trial(&mut self, slot: Slot, key: DeliveryKey) {
        match &mut self.endpoints[slot].state {
            Endpoint::Doubt(doubt) => doubt.trying.push(key),
            Endpoint::Open(open) => open.trial = Some(key),
            Endpoint::Closed | Endpoint::Gone => {}
        }
    }
}
