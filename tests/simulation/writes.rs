//! The model topics of our own: what is written to them, when it lands, and what their writer hears of it.

use postrider::clock::Timestamp;
use postrider::delivery::{DeadLetterReason, DeliveryKey};
use postrider::lane::{DeadLetter, LadderRecord, Shed, WriteError};

use crate::coverage::Seen;
use crate::instance::{Note, Shell};
use crate::world::{What, World, trace};

/// Something on its way to a topic of our own.
#[derive(Debug)]
pub(crate) struct OwnedWrite {
    pub(crate) shell: usize,
    pub(crate) life: u32,
    pub(crate) destination: usize,
    pub(crate) number: usize,
    pub(crate) key: DeliveryKey,
    /// By the clock of the instance.
    pub(crate) asked: Timestamp,
    pub(crate) what: Written,
    pub(crate) result: Result<(), WriteError>,
}

/// What is written.
#[derive(Debug, Clone)]
pub(crate) enum Written {
    Letter(Box<DeadLetter>),
    Rung(Box<LadderRecord>),
}

impl World {
    pub(crate) fn write(&mut self, shell: usize, letter: DeadLetter) {
        let Shell {
            destination, life, ..
        } = self.shells[shell];
        let number = self.number_of(&letter.record);
        let result = if too_small(letter.shed, self.oracle.fate(destination, number).shed) {
            self.coverage.see(Seen::WritesTooLarge);
            Err(WriteError::TooLarge)
        } else {
            self.write_result()
        };
        self.set_out(OwnedWrite {
            shell,
            life,
            destination,
            number,
            key: letter.key,
            asked: self.now(shell).wall,
            what: Written::Letter(Box::new(letter)),
            result,
        });
    }

    pub(crate) fn write_result(&mut self) -> Result<(), WriteError> {
        if self.rng.chance(self.plan.broker.write_fails) {
            self.coverage.see(Seen::WritesFailed);
            Err(WriteError::Failed("not enough in-sync replicas".into()))
        } else {
            Ok(())
        }
    }

    pub(crate) fn set_out(&mut self, write: OwnedWrite) {
        let slow = if self.rng.chance(self.plan.broker.write_slow) {
            self.wait(1000, 15_000)
        } else {
            0
        };
        let lands = slow + self.wait(2, 80);
        let index = self.writes.len();
        self.writes.push(write);
        self.after(lands, What::WriteLands(index));
    }

    pub(crate) fn write_lands(&mut self, index: usize) {
        let OwnedWrite {
            shell,
            life,
            destination,
            number,
            asked,
            ref what,
            ref result,
            ..
        } = self.writes[index];
        if result.is_ok() {
            let what = what.clone();
            match &what {
                Written::Letter(letter) => self.letter_lands(destination, number, letter),
                Written::Rung(rung) => {
                    let stray = self.shells[shell].life != life || !self.owns(shell, rung.key);
                    self.rung_lands(destination, number, rung, asked, stray);
                }
            }
            if self.shells[shell].life != life {
                self.coverage.see(Seen::WritesLandedAfterCrash);
            }
            if self.rng.chance(self.plan.broker.write_ack_lost) {
                self.coverage.see(Seen::WriteAcksLost);
                self.oracle.fate(destination, number).doubled = true;
                self.writes[index].result = Err(WriteError::Failed("the answer never came".into()));
            }
        } else {
            trace!(
                self,
                "  record {number} of destination {destination} is not written: {result:?}"
            );
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

    fn letter_lands(&mut self, destination: usize, number: usize, letter: &DeadLetter) {
        trace!(
            self,
            "  dead-letter topic: record {number} of destination {destination}, {:?}",
            letter.reason
        );
        self.coverage.see(letter_seen(letter.reason));
        let buried = self.oracle.bury(destination, number, letter);
        if self.oracle.fate(destination, number).letters > 1 {
            self.coverage.see(Seen::LettersTwice);
        }
        self.judge(buried);
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
