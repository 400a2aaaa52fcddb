//! What is known of the address behind a destination: whether it does its work, is doubted, or is left alone, and for how long.
//!
//! "This record is bad" and "this endpoint is broken" look the same in one answer. Which of the two it is, is found out by trying another
//! record; `evidence.rs` does that, this file keeps the state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Now, Tick};
use crate::delivery::{Attempt, DeliveryKey, Epoch, FailureReason};

use super::breaker::Breaker;
use super::options::BreakerOptions;
use super::retry::Hold;
use super::status::LastFailure;

/// One endpoint.
#[derive(Debug, Default)]
pub(super) struct Endpoint {
    /// What it is known by among many.
    pub(super) key: Option<Arc<str>>,
    /// Its deliveries that may be sent as soon as there is a place, oldest first.
    pub(super) ready: VecDeque<DeliveryKey>,
    /// Its records in the window, and its requests under way.
    pub(super) here: usize,
    pub(super) in_flight: usize,
    /// Whether its last request was for a record that had failed before.
    pub(super) retried_last: bool,
    /// Whether it takes part in the round, and when it comes back if it does not.
    pub(super) has_turn: bool,
    pub(super) wakes_at: Option<Tick>,
    /// When it was last heard of.
    pub(super) heard: Tick,
    /// Its last attempt that failed.
    pub(super) last_failure: Option<LastFailure>,
    pub(super) state: State,
    pub(super) hold: Hold,
    pub(super) breaker: Breaker,
    /// How many requests it may have under way after it was left alone; `None`: as many as the
    /// lane.
    pub(super) ramp: Option<usize>,
    pub(super) stopwatch: Stopwatch,
    /// Records that the receiver took or said it never will, since the start.
    pub(super) passes: u64,
    /// Push-backs since the start, those of records left out that alone are pushed back.
    pub(super) push_backs: u64,
    /// How much the receiver pushes back.
    pub(super) pressure: Pressure,
}

/// So many passes make up for one record that was pushed back.
pub(super) const PASSES_PER_PUSH_BACK: u64 = 50;

/// With so much of it, a push-back says something of the receiver and not of the record.
const PRESSURE_MIN: u64 = 3;

/// How much a receiver pushes back: each push-back adds to it, passes take it away.
#[derive(Debug)]
pub(super) struct Pressure {
    /// In passes.
    to_make_up: u64,
}

impl Default for Pressure {
    /// Of a receiver that has taken nothing yet, a push-back speaks against the receiver.
    fn default() -> Self {
        Self {
            to_make_up: PRESSURE_MIN * PASSES_PER_PUSH_BACK,
        }
    }
}

impl Pressure {
    pub(super) fn passed(&mut self) {
        self.to_make_up = self.to_make_up.saturating_sub(1);
    }

    pub(super) fn pushed_back(&mut self) {
        let most = 2 * PRESSURE_MIN * PASSES_PER_PUSH_BACK;
        self.to_make_up = (self.to_make_up + PASSES_PER_PUSH_BACK).min(most);
    }

    /// Whether a push-back says something of the receiver.
    pub(super) fn is_high(&self) -> bool {
        self.to_make_up >= PRESSURE_MIN * PASSES_PER_PUSH_BACK
    }
}

/// Whether an endpoint is tried.
#[derive(Debug, Default)]
pub(super) enum State {
    /// It does its work.
    #[default]
    Closed,
    /// An answer speaks against the record or against the endpoint, and another record is tried to find out which.
    Doubt(Doubt),
    /// It is left alone but for a probe now and then.
    Open(Open),
    /// It said that it has gone (410): nothing is tried until a person or another configuration says so.
    Gone,
}

/// What an endpoint was doubted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charge {
    /// An endpoint fault.
    Fault,
    /// A push-back that no other record gets.
    PushBack(Option<Duration>),
}

/// The search for evidence.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) charge: Charge,
    /// The records that met it. They wait for the end of the doubt.
    pub(super) accused: Vec<DeliveryKey>,
    /// Requests that were begun since the doubt: the first of them that passes ends it.
    pub(super) trying: Vec<DeliveryKey>,
    /// Whether it has been held for another record to arrive.
    pub(super) has_waited: bool,
    pub(super) why: Why,
}

/// An endpoint that is left alone.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) since: Now,
    pub(super) interval: Duration,
    pub(super) next_probe: Tick,
    pub(super) trial: Option<DeliveryKey>,
    /// The records that opened it without another one to compare them with: the next to arrive is the evidence.
    pub(super) alone: Vec<DeliveryKey>,
    pub(super) why: Why,
}

/// The answer that made the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Why {
    /// Its status, when there was an answer.
    pub status: Option<u16>,
    /// What kind of failure it was.
    pub reason: Option<FailureReason>,
}

impl From<&Attempt> for Why {
    fn from(attempt: &Attempt) -> Self {
        Self {
            status: attempt.status,
            reason: attempt.reason,
        }
    }
}

impl Endpoint {
    /// Whether this request was the one that shows how the endpoint is; it is not any more.
    pub(super) fn take_trial(&mut self, key: DeliveryKey) -> bool {
        match &mut self.state {
            State::Doubt(doubt) => {
                let place = doubt.trying.iter().position(|trying| *trying == key);
                place.map(|place| doubt.trying.swap_remove(place)).is_some()
            }
            State::Open(open) => open.trial.take_if(|trial| *trial == key).is_some(),
            State::Closed | State::Gone => false,
        }
    }

    /// Leaves the endpoint alone.
    pub(super) fn open(
        &mut self,
        now: Now,
        options: &BreakerOptions,
        alone: Vec<DeliveryKey>,
        why: Why,
    ) {
        self.hold.distrust();
        self.state = State::Open(Open {
            since: now,
            interval: options.probe_interval,
            next_probe: now.tick + options.probe_interval,
            trial: None,
            alone,
            why,
        });
    }

    /// It took a probe: it is tried again, at first with one request at a time.
    pub(super) fn close(&mut self) {
        self.breaker = Breaker::default();
        self.ramp = Some(1);
    }

    /// It took a record: behind a breaker that has closed, twice as many requests may be under way
    /// from now on.
    pub(super) fn ramps_up(&mut self, concurrency: usize) {
        self.ramp = self
            .ramp
            .map(|places| places.saturating_mul(2))
            .filter(|places| *places < concurrency);
    }

    /// Whether it has as many requests under way as it may have by itself.
    pub(super) fn is_at_its_ramp(&self) -> bool {
        self.ramp.is_some_and(|places| self.in_flight >= places)
    }

    /// A probe failed: the next one comes after twice the time. A record that nothing speaks against is evidence that it was not the record
    /// that opened the endpoint.
    pub(super) fn probe_failed(
        &mut self,
        now: Tick,
        options: &BreakerOptions,
        is_evidence: bool,
        why: Why,
    ) {
        if let State::Open(open) = &mut self.state {
            if is_evidence {
                open.alone.clear();
            }
            open.interval = (open.interval * 2).min(options.probe_interval_max);
            open.next_probe = now + open.interval;
            open.why = why;
        }
    }

    /// Whether it is to be left alone whatever waits: until when, if that is known.
    pub(super) fn stopped(&self, now: Tick) -> Option<Option<Tick>> {
        if matches!(self.state, State::Gone) {
            return Some(None);
        }
        self.hold.is_held(now).then(|| Some(self.hold.until()))
    }

    /// Whether records wait for the endpoint itself, and not for a place or for their time.
    pub(super) fn is_waited_for(&self, now: Tick) -> bool {
        self.stopped(now).is_some() || !matches!(self.state, State::Closed)
    }

    /// Whether it takes no records for longer than a trial lasts.
    pub(super) fn is_left_alone(&self) -> bool {
        matches!(self.state, State::Open(_) | State::Gone)
    }

    /// Whether its records only stand in the way of others.
    pub(super) fn keeps_others_waiting(&self, now: Tick) -> bool {
        matches!(self.state, State::Open(_)) || self.hold.is_held(now)
    }

    /// Whether it is one of many that has gone: its records end as dead letters, and the others go on.
    pub(super) fn is_one_gone_of_many(&self) -> bool {
        self.key.is_some() && matches!(self.state, State::Gone)
    }

    /// Whether nothing of it is here.
    pub(super) fn is_idle(&self) -> bool {
        self.here == 0 && self.in_flight == 0
    }

    /// Whether something is known of it that is worth remembering.
    pub(super) fn is_remarkable(&self, now: Tick) -> bool {
        self.is_waited_for(now) || self.breaker.has_failures()
    }

    /// Forgets the records of assignments that have ended.
    pub(super) fn forget(&mut self, epochs: &[Epoch]) {
        let kept = |key: &DeliveryKey| !epochs.contains(&key.epoch);
        self.ready.retain(kept);
        match &mut self.state {
            State::Doubt(doubt) => {
                doubt.accused.retain(kept);
                if doubt.accused.is_empty() {
                    self.state = State::Closed;
                }
            }
            State::Open(open) => open.alone.retain(kept),
            State::Closed | State::Gone => {}
        }
    }
}

/// Counts the time in which an endpoint was held or left alone: it does not count towards `max_age`.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    /// What was counted up to `read`.
    counted: Duration,
    read: Tick,
    /// Until when it is known to be stopped.
    until: Tick,
}

impl Stopwatch {
    /// The time counted up to `now`.
    pub(super) fn total(&self, now: Tick) -> Duration {
        self.counted + now.min(self.until).since(self.read)
    }

    /// From now on it is stopped until then.
    pub(super) fn stopped_until(&mut self, now: Tick, until: Tick) {
        if until != self.until {
            self.counted = self.total(now);
            self.read = now;
            self.until = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stopwatch_counts_only_while_stopped_and_nothing_twice() {
        let at = |seconds| Tick(Duration::from_secs(seconds));
        let mut watch = Stopwatch::default();
        assert_eq!(watch.total(at(10)), Duration::ZERO);
        watch.stopped_until(at(10), at(15));
        assert_eq!(watch.total(at(12)), Duration::from_secs(2));
        assert_eq!(watch.total(at(30)), Duration::from_secs(5));
        watch.stopped_until(at(30), Tick(Duration::MAX));
        assert_eq!(watch.total(at(100)), Duration::from_secs(75));
        watch.stopped_until(at(100), at(0));
        assert_eq!(watch.total(at(200)), Duration::from_secs(75));
    }
}
