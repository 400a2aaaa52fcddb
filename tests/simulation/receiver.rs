//! The model receivers: what they do with a request, and when.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider::delivery::{Attempt, DeliveryId, DeliveryKey, FailureReason, Outcome};
use postrider::lane::Send;

use crate::broker::Stored;
use crate::check::{Check, Violation};
use crate::coverage::Seen;
use crate::instance::{Note, Shell};
use crate::oracle::Behaviour;
use crate::plan::OutageKind;
use crate::world::{MILLISECOND, SECOND, Time, WALL_AT_START, What, World, trace};

/// A request on its way. It goes on when its sender does not.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) shell: usize,
    pub(crate) life: u32,
    pub(crate) key: DeliveryKey,
    id: DeliveryId,
    destination: usize,
    pub(crate) number: usize,
    sent: Time,
    /// The sender has given up before the request arrives.
    late: bool,
    /// Its sender has left it off.
    aborted: bool,
    /// It met an outage.
    pub(crate) in_outage: bool,
    pub(crate) answer: Option<Attempt>,
}

impl World {
    // === Requests ===

    pub(crate) fn send(&mut self, shell: usize, send: Send) {
        let Shell {
            destination, life, ..
        } = self.shells[shell];
        let number = self.number_of(&send.record);
        let known = Arc::ptr_eq(&self.oracle.produced[number].record, &send.record);
        if !known {
            self.fail(Violation::new(
                Check::Attempt,
                format!("record {number} was changed on its way"),
            ));
        }
        let identified = self.oracle.identify(destination, number, send.id);
        self.judge(identified);
        if let Some(stored) = self.stored_at(shell, send.key) {
            let judged = self.oracle.sends_stored(&stored, self.now);
            self.judge(judged);
        }
        let tp = self.oracle.produced[number].tp;
        if let Some(log) = self.broker.log(tp) {
            let judged = self.oracle.in_turn(destination, number, log);
            self.judge(judged);
        }
        let owns = self.owns(shell, send.key);
        let judged = self
            .oracle
            .numbered(destination, number, send.attempt, owns);
        self.judge(judged);
        self.coverage.see(Seen::Sends);
        let mut request = Request {
            shell,
            life,
            key: send.key,
            id: send.id,
            destination,
            number,
            sent: self.now,
            late: false,
            aborted: false,
            in_outage: false,
            answer: None,
        };
        let index = self.requests.len();
        let fate = self.oracle.fate(destination, number);
        fate.requests += 1;
        let not_made = match fate.behaviour {
            Behaviour::CannotBeMade => Some((Outcome::CannotBeMade, Seen::CannotBeMade)),
            Behaviour::Panics => Some((Outcome::Panicked, Seen::Panicked)),
            _ => None,
        };
        if let Some((outcome, seen)) = not_made {
            fate.not_made += 1;
            self.coverage.see(seen);
            request.answer = Some(failed(outcome, None, None));
            self.requests.push(request);
            let wait = self.wait(0, 5);
            return self.note(shell, wait, Note::RequestEnds(index));
        }
        request.late = self
            .rng
            .chance(self.plan.destinations[destination].mix.late);
        self.requests.push(request);
        let slowest = self.plan.destinations[destination].latency.1;
        let mut wait = self.rng.between(MILLISECOND / 10, slowest);
        if self.requests[index].late {
            self.give_up(index);
            wait += self.plan.request_timeout;
        }
        self.after(wait, What::RequestArrives(index));
    }

    /// Whether this lane has the record, in the eyes of its group as well.
    pub(crate) fn owns(&self, shell: usize, key: DeliveryKey) -> bool {
        let Shell {
            destination,
            member,
            ref running,
            ..
        } = self.shells[shell];
        let Some(running) = running else { return false };
        let Some(owned) = running.owned.get(&key.epoch) else {
            return false;
        };
        let owner = self.broker.groups[destination].owner.get(&owned.tp);
        member.is_some() && owner.copied() == member && !running.watch.is_over(key.epoch)
    }

    /// The record that a key stands for, as its partition holds it.
    fn stored_at(&self, shell: usize, key: DeliveryKey) -> Option<Stored> {
        let running = self.shells[shell].running.as_ref()?;
        let tp = running.owned.get(&key.epoch)?.tp;
        let stored = *self.broker.log(tp)?.from(key.offset).first()?;
        (stored.offset == key.offset).then_some(stored)
    }

    pub(crate) fn number_of(&self, record: &postrider::record::Record) -> usize {
        let key = record.key.as_deref().unwrap_or_default();
        u32::from_be_bytes(key.try_into().unwrap_or_default()) as usize
    }

    /// Requests are left off. Whether they arrive nobody knows.
    pub(crate) fn abort(&mut self, shell: usize, keys: &[DeliveryKey]) {
        let life = self.shells[shell].life;
        for key in keys {
            let under_way = self.requests.iter_mut().rev().find(|request| {
                request.shell == shell && request.life == life && request.key == *key
            });
            if let Some(request) = under_way {
                request.aborted = true;
            }
            self.coverage.see(Seen::Aborted);
            self.note(shell, 0, Note::RequestAborted(*key));
        }
    }

    /// Whether an answer reaches somebody who waits for it.
    pub(crate) fn is_aborted(&self, request: usize) -> bool {
        self.requests[request].aborted
    }

    /// The request reaches the receiver, or whoever stands in its place.
    pub(crate) fn request_arrives(&mut self, index: usize) {
        let Request {
            shell,
            life,
            destination,
            number,
            late,
            id,
            ..
        } = self.requests[index];
        if late {
            self.coverage.see(Seen::ArrivedAfterTimeout);
        }
        if self.shells[shell].life != life {
            self.coverage.see(Seen::ArrivedAfterCrash);
        }
        let outages = &self.plan.destinations[destination].outages;
        let outage = outages.iter().find(|outage| {
            let here = outage
                .endpoint
                .is_none_or(|out| number % self.plan.destinations[destination].endpoints == out);
            here && (outage.from..outage.to).contains(&self.now)
        });
        trace!(
            self,
            "  receiver {destination} gets {id} (record {number}) outage {:?}",
            outage.map(|o| o.kind)
        );
        let kind = outage.map(|outage| outage.kind);
        self.requests[index].in_outage = kind.is_some();
        match kind {
            Some(kind) => self.answer_in_outage(index, kind),
            None => self.answer(index),
        }
    }

    fn answer_in_outage(&mut self, index: usize, kind: OutageKind) {
        let retry_after = self.retry_after(self.plan.asks_for);
        let (seen, answer) = match kind {
            OutageKind::Refused => (
                Seen::ConnectsRefused,
                failed(Outcome::Retry, Some(FailureReason::Connect), None),
            ),
            OutageKind::Errors => (
                Seen::Retries,
                failed(Outcome::Retry, Some(FailureReason::Http5xx), None),
            ),
            OutageKind::ErrorsWithRetryAfter => (
                Seen::Retries,
                failed(Outcome::Retry, Some(FailureReason::Http5xx), retry_after),
            ),
            OutageKind::PushBack => (
                Seen::PushBacks,
                failed(Outcome::PushBack, Some(FailureReason::Http429), None),
            ),
            OutageKind::PushBackWithRetryAfter => (
                Seen::PushBacks,
                failed(Outcome::PushBack, Some(FailureReason::Http429), retry_after),
            ),
            OutageKind::Unauthorized => (
                Seen::EndpointFaults,
                failed(Outcome::EndpointFault, Some(FailureReason::Http401), None),
            ),
            OutageKind::Gone => (
                Seen::Gone,
                failed(Outcome::Gone, Some(FailureReason::Http410), None),
            ),
            OutageKind::Hangs => return self.give_up(index),
        };
        self.coverage.see(seen);
        self.end_with(index, answer);
    }

    /// The receiver looks at the record.
    fn answer(&mut self, index: usize) {
        let Request {
            destination,
            number,
            ..
        } = self.requests[index];
        let retry_after = self.retry_after(4 * SECOND);
        let fate = self.oracle.fate(destination, number);
        let before = fate.tries;
        fate.tries += 1;
        match fate.behaviour {
            Behaviour::FailsFirst(times) if before < times => {
                self.coverage.see(Seen::Retries);
                self.end_with(
                    index,
                    failed(Outcome::Retry, Some(FailureReason::Http5xx), None),
                );
            }
            Behaviour::FailsAlways => {
                self.coverage.see(Seen::Retries);
                self.end_with(
                    index,
                    failed(Outcome::Retry, Some(FailureReason::Http408), None),
                );
            }
            Behaviour::PushesBackFirst(times) if before < times => {
                self.coverage.see(Seen::PushBacks);
                self.end_with(
                    index,
                    failed(Outcome::PushBack, Some(FailureReason::Http429), retry_after),
                );
            }
            Behaviour::FaultFirst(times) if before < times => {
                self.coverage.see(Seen::EndpointFaults);
                self.end_with(
                    index,
                    failed(Outcome::EndpointFault, Some(FailureReason::Http403), None),
                );
            }
            Behaviour::FaultsAlways => {
                self.coverage.see(Seen::EndpointFaults);
                self.end_with(
                    index,
                    failed(Outcome::EndpointFault, Some(FailureReason::Http403), None),
                );
            }
            Behaviour::PushesBackAlways => {
                self.coverage.see(Seen::PushBacks);
                self.end_with(
                    index,
                    failed(Outcome::PushBack, Some(FailureReason::Http429), retry_after),
                );
            }
            Behaviour::GoneFirst(times) if before < times => {
                self.coverage.see(Seen::Gone);
                self.end_with(
                    index,
                    failed(Outcome::Gone, Some(FailureReason::Http410), None),
                );
            }
            Behaviour::HangsFirst { times, accepting } if before < times => {
                if accepting {
                    self.accept(index);
                    self.coverage.see(Seen::AcceptedButTimedOut);
                }
                self.give_up(index);
            }
            Behaviour::Rejects => {
                self.coverage.see(Seen::Rejects);
                self.end_with(
                    index,
                    failed(Outcome::Reject, Some(FailureReason::Http4xx), None),
                );
            }
            Behaviour::Drops => {
                self.coverage.see(Seen::DroppedByAnswer);
                self.end_with(
                    index,
                    failed(Outcome::Dropped, Some(FailureReason::Http4xx), None),
                );
            }
            _ => {
                self.accept(index);
                self.end_with(index, Attempt::delivered(200));
            }
        }
    }

    fn accept(&mut self, index: usize) {
        let Request {
            destination,
            number,
            ..
        } = self.requests[index];
        let before = self.plan.faults_end / MILLISECOND;
        let written = self.oracle.produced[number].record.timestamp;
        if written.is_some_and(|at| at.0 - WALL_AT_START < before as i64) {
            self.oracle.all_taken_at = self.now;
        }
        let now = self.now;
        let fate = self.oracle.fate(destination, number);
        if fate.accepted == 0 {
            fate.taken_at = now;
        }
        let result = self.oracle.accept(destination, number);
        if self.oracle.fate(destination, number).accepted > 1 {
            self.coverage.see(Seen::Repeats);
        }
        self.judge(result);
    }

    /// The answer goes back and arrives within the sender's patience, or does not.
    fn end_with(&mut self, index: usize, answer: Attempt) {
        let Request {
            destination,
            number,
            sent,
            late,
            shell,
            life,
            in_outage,
            ..
        } = self.requests[index];
        if answer.outcome == Outcome::Gone
            && let Some(endpoint) = self.oracle.fate(destination, number).endpoint.clone()
        {
            self.oracle.gone.insert((destination, endpoint));
        }
        let fate = self.oracle.fate(destination, number);
        match answer.outcome {
            Outcome::Reject => fate.rejected += 1,
            Outcome::Dropped => fate.dropped += 1,
            Outcome::Retry => {
                fate.retried += 1;
                fate.own_failures += u32::from(!in_outage);
            }
            Outcome::EndpointFault | Outcome::Gone | Outcome::PushBack => {
                fate.faults += 1;
                fate.own_faults += u32::from(!in_outage);
            }
            Outcome::Delivered | Outcome::CannotBeMade | Outcome::Panicked => {}
        }
        let slowly = fate.behaviour == Behaviour::TakesSlowly;
        if late {
            return;
        }
        let (low, high) = self.plan.destinations[destination].latency;
        let mut wait = self.rng.between(low, high.max(low));
        if slowly {
            let patience = self.plan.request_timeout;
            wait += if self.oracle.is_calm() {
                patience / 2
            } else {
                self.rng.between(patience / 4, patience)
            };
        }
        if self.now + wait >= sent + self.plan.request_timeout {
            return self.give_up(index);
        }
        self.requests[index].answer = Some(answer);
        self.after(
            wait,
            What::Note {
                shell,
                life,
                note: Note::RequestEnds(index),
            },
        );
    }

    /// No answer: the sender stops waiting when its time is up.
    fn give_up(&mut self, index: usize) {
        let Request {
            destination,
            number,
            sent,
            late,
            shell,
            life,
            in_outage,
            ref answer,
            ..
        } = self.requests[index];
        if late && answer.is_some() {
            return;
        }
        self.coverage.see(Seen::Timeouts);
        let fate = self.oracle.fate(destination, number);
        fate.retried += 1;
        fate.own_failures += u32::from(!in_outage);
        self.requests[index].answer =
            Some(failed(Outcome::Retry, Some(FailureReason::Timeout), None));
        let at = sent + self.plan.request_timeout;
        self.at(
            at,
            What::Note {
                shell,
                life,
                note: Note::RequestEnds(index),
            },
        );
    }

    fn retry_after(&mut self, most: Time) -> Option<Duration> {
        let asked = self.rng.between(0, most / MILLISECOND);
        self.rng.chance(70).then(|| Duration::from_millis(asked))
    }
}

fn failed(
    outcome: Outcome,
    reason: Option<FailureReason>,
    retry_after: Option<Duration>,
) -> Attempt {
    Attempt {
        outcome,
        reason,
        status: None,
        error: String::new(),
        excerpt: Bytes::new(),
        retry_after,
    }
}
