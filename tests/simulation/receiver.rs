//! The model receivers and the model dead-letter topic: what they do with a request or a letter, and when.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider::delivery::{
    Attempt, DeadLetterReason, DeliveryId, DeliveryKey, FailureReason, Outcome,
};
use postrider::lane::{DeadLetter, Send, Shed, WriteError};

use crate::check::{Check, Violation};
use crate::coverage::Seen;
use crate::instance::{Note, Shell};
use crate::oracle::Behaviour;
use crate::plan::OutageKind;
use crate::world::{MILLISECOND, Time, What, World, trace};

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
    pub(crate) answer: Option<Attempt>,
}

/// A dead letter on its way.
#[derive(Debug)]
pub(crate) struct LetterWrite {
    shell: usize,
    life: u32,
    pub(crate) destination: usize,
    number: usize,
    pub(crate) letter: DeadLetter,
    pub(crate) result: Result<(), WriteError>,
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
            answer: None,
        };
        let index = self.requests.len();
        let fate = self.oracle.fate(destination, number);
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

    fn number_of(&self, record: &postrider::record::Record) -> usize {
        let key = record.key.as_deref().unwrap_or_default();
        u32::from_be_bytes(key.try_into().unwrap_or_default()) as usize
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
        let outage = outages
            .iter()
            .find(|outage| (outage.from..outage.to).contains(&self.now));
        trace!(
            self,
            "  receiver {destination} gets {id} (record {number}) outage {:?}",
            outage.map(|o| o.kind)
        );
        match outage.map(|outage| outage.kind) {
            Some(kind) => self.answer_in_outage(index, kind),
            None => self.answer(index),
        }
    }

    fn answer_in_outage(&mut self, index: usize, kind: OutageKind) {
        let retry_after = self.retry_after();
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
        let retry_after = self.retry_after();
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
            ..
        } = self.requests[index];
        let fate = self.oracle.fate(destination, number);
        match answer.outcome {
            Outcome::Reject => fate.rejected += 1,
            Outcome::Dropped => fate.dropped += 1,
            Outcome::Retry | Outcome::EndpointFault | Outcome::Gone => fate.retried += 1,
            Outcome::Delivered | Outcome::PushBack | Outcome::CannotBeMade | Outcome::Panicked => {}
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
            ref answer,
            ..
        } = self.requests[index];
        if late && answer.is_some() {
            return;
        }
        self.coverage.see(Seen::Timeouts);
        self.oracle.fate(destination, number).retried += 1;
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

    fn retry_after(&mut self) -> Option<Duration> {
        let asked = self.rng.between(0, 4000);
        self.rng.chance(70).then(|| Duration::from_millis(asked))
    }

    // === Dead letters ===

    pub(crate) fn write(&mut self, shell: usize, letter: DeadLetter) {
        let Shell {
            destination, life, ..
        } = self.shells[shell];
        let number = self.number_of(&letter.record);
        let mood = self.plan.broker;
        let result = if too_small(letter.shed, self.oracle.fate(destination, number).shed) {
            self.coverage.see(Seen::WritesTooLarge);
            Err(WriteError::TooLarge)
        } else if self.rng.chance(mood.write_fails) {
            self.coverage.see(Seen::WritesFailed);
            Err(WriteError::Failed("not enough in-sync replicas".into()))
        } else {
            Ok(())
        };
        let slow = if self.rng.chance(mood.write_slow) {
            self.wait(1000, 15_000)
        } else {
            0
        };
        let lands = slow + self.wait(2, 80);
        let index = self.writes.len();
        self.writes.push(LetterWrite {
            shell,
            life,
            destination,
            number,
            letter,
            result,
        });
        self.after(lands, What::WriteLands(index));
    }

    pub(crate) fn write_lands(&mut self, index: usize) {
        let LetterWrite {
            shell,
            life,
            destination,
            number,
            ref letter,
            ref result,
        } = self.writes[index];
        trace!(
            self,
            "  dead-letter topic: record {number} of destination {destination}, {:?}: {result:?}",
            letter.reason
        );
        if result.is_ok() {
            self.coverage.see(letter_seen(letter.reason));
            let buried = self.oracle.bury(destination, number, letter);
            if self.oracle.fate(destination, number).letters > 1 {
                self.coverage.see(Seen::LettersTwice);
            }
            if self.shells[shell].life != life {
                self.coverage.see(Seen::WritesLandedAfterCrash);
            }
            if self.rng.chance(self.plan.broker.write_ack_lost) {
                self.coverage.see(Seen::WriteAcksLost);
                self.writes[index].result = Err(WriteError::Failed("the answer never came".into()));
            }
            self.judge(buried);
        }
        let wait = self.wait(1, 30);
        self.after(
            wait,
            What::Note {
                shell,
                life,
                note: Note::WriteEnds(index),
            },
        );
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

/// Whether a letter that leaves out `shed` is refused where `needed` has to be left out.
fn too_small(shed: Shed, needed: Shed) -> bool {
    shed < needed
}

fn letter_seen(reason: DeadLetterReason) -> Seen {
    match reason {
        DeadLetterReason::Rejected | DeadLetterReason::RuleRemoved | DeadLetterReason::Skipped => {
            Seen::LettersRejected
        }
        DeadLetterReason::Exhausted | DeadLetterReason::Gone => Seen::LettersExhausted,
        DeadLetterReason::Expired => Seen::LettersExpired,
        // The simulation's rules are verdicts; it plays no audit.
        DeadLetterReason::Unmatched | DeadLetterReason::Undecodable => Seen::LettersUndecodable,
        DeadLetterReason::Unrenderable => Seen::LettersUnrenderable,
        DeadLetterReason::Panic => Seen::LettersPanic,
    }
}
