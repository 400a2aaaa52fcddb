//! The model ladder: five topics that all destinations share, and the gate that keeps a record back until its step has passed.

use std::sync::Arc;

use postrider::clock::{Now, Tick, Timestamp};
use postrider::delivery::{Carried, DeadLetterReason, DeliveryId, Verdict};
use postrider::lane::{Caller, Gate, Incoming, LadderRecord, Shed, Source, Step, WriteError};

use crate::broker::{Stored, Topic, Tp};
use crate::coverage::Seen;
use crate::instance::Shell;
use crate::mutant::Mutant;
use crate::world::{MILLISECOND, Time, World, time_of, trace};
use crate::writes::{OwnedWrite, Written};

/// What the gate does with a record of the ladder.
pub(crate) enum Turn {
    GoesIn(Incoming),
    /// It is looked at again after so long.
    Waits(Time),
}

impl World {
    // === Writing ===

    pub(crate) fn write_ladder(&mut self, shell: usize, asked: LadderRecord) {
        let Shell {
            destination, life, ..
        } = self.shells[shell];
        let number = self.number_of(&asked.record);
        let now = self.now(shell);
        let judged = self.oracle.asks_for_rung(destination, number, now, &asked);
        self.judge(judged);
        self.coverage.see(ladder_seen(asked.step));
        if asked.carried.hop > 1 {
            self.coverage.see(Seen::Hops);
        }
        // What must be cut for the dead letters cannot wait on the ladder: there it has to stay whole.
        let too_large = self.oracle.fate(destination, number).shed == Shed::Value;
        let result = if too_large {
            self.coverage.see(Seen::LadderTooLarge);
            Err(WriteError::TooLarge)
        } else {
            self.write_result()
        };
        let write = OwnedWrite {
            shell,
            life,
            destination,
            number,
            key: asked.key,
            asked: now.wall,
            what: Written::Rung(Box::new(asked)),
            result,
        };
        self.set_out(write);
    }

    /// The broker has the record; `stray`: its lane does not care any more.
    pub(crate) fn rung_lands(
        &mut self,
        destination: usize,
        number: usize,
        asked: &LadderRecord,
        written: Timestamp,
        stray: bool,
    ) {
        let topic = self.plan.topics.len()
            + Step::ALL
                .iter()
                .position(|step| *step == asked.step)
                .unwrap_or(0);
        let appended = self.broker_wall();
        let hole = self.rng.chance(self.plan.hole_percent);
        let Topic {
            incarnation,
            partitions,
            ..
        } = &mut self.broker.topics[topic];
        let DeliveryId(id) = asked.carried.id;
        let partition = usize::from(id[0]) % partitions.len();
        let tp = Tp {
            topic,
            incarnation: *incarnation,
            partition,
        };
        let log = &mut partitions[partition];
        log.end += i64::from(hole);
        let offset = log.end;
        log.end += 1;
        let rung = self.oracle.rung_lands(
            destination,
            number,
            asked,
            (appended, written),
            (tp, offset),
        );
        self.oracle.fate(destination, number).doubled |= stray;
        log.records.push(Stored {
            offset,
            number,
            rung: Some(rung),
        });
        trace!(
            self,
            "  ladder: record {number} of destination {destination} lands on {tp:?} at {offset} as {appended:?}: {:?}",
            asked.carried
        );
        for shell in 0..self.shells.len() {
            self.want_poll(shell);
        }
    }

    // === Reading ===

    /// What becomes of a record that was read, at the gate of this shell.
    pub(crate) fn gate(
        &mut self,
        shell: usize,
        source: Source,
        stored: Stored,
        arrived: Tick,
    ) -> Turn {
        let destination = self.shells[shell].destination;
        let produced = &self.oracle.produced[stored.number];
        let record = Arc::clone(&produced.record);
        let endpoint = produced.fates[destination].endpoint.clone();
        let order_key = produced.fates[destination].order_key.clone();
        let incoming = |verdict, carried| {
            Turn::GoesIn(Incoming {
                offset: stored.offset,
                record,
                verdict,
                endpoint,
                order_key,
                carried,
            })
        };
        let (Source::Ladder(_), Some(number)) = (source, stored.rung) else {
            let verdict = produced.fates[destination].verdict.clone();
            return incoming(verdict, None);
        };
        let now = self.now(shell);
        let rung = &self.oracle.rungs[number];
        if rung.destination != destination {
            self.coverage.see(Seen::Foreign);
            return incoming(Verdict::Foreign, None);
        }
        let carried = Box::new(Carried {
            appended: Some(rung.appended),
            ..rung.carried.clone()
        });
        if let Some(left) = self.keeps_back(now, number, arrived) {
            self.coverage.see(Seen::KeptBack);
            return Turn::Waits(left);
        }
        let judged = self.oracle.hands_over(number, now, arrived);
        self.judge(judged);
        self.coverage.see(Seen::CameUp);
        let removed = self
            .removed_rules
            .contains(&(destination, Arc::clone(&carried.rule)));
        let verdict = if removed {
            self.coverage.see(Seen::RuleRemoved);
            Verdict::DeadLetter {
                reason: DeadLetterReason::RuleRemoved,
                error: "the rule is gone".into(),
            }
        } else {
            Verdict::Deliver {
                rule: Arc::clone(&carried.rule),
            }
        };
        incoming(verdict, Some(carried))
    }

    /// The real gate is asked. It names no time, so the moment is worked out here at which it may think otherwise.
    fn keeps_back(&self, now: Now, rung: usize, arrived: Tick) -> Option<Time> {
        let rung = &self.oracle.rungs[rung];
        let caller = Caller {
            step: rung.step,
            written: Some(rung.written()),
            arrived,
        };
        match self.watching.mutant {
            Some(Mutant::LadderReadEarly) => return None,
            Some(Mutant::LadderReadNever) => return Some(Time::MAX / 4),
            _ if Gate::default().lets_in(caller, now) => return None,
            _ => {}
        }
        let by_the_clock = (rung.comes_up().0 - now.wall.0).max(1) as Time * MILLISECOND;
        let by_standing = time_of(arrived + rung.step.delay()).saturating_sub(time_of(now.tick));
        Some(by_the_clock.min(by_standing))
    }
}

fn ladder_seen(step: Step) -> Seen {
    match step {
        Step::OneMinute => Seen::Ladder1m,
        Step::FiveMinutes => Seen::Ladder5m,
        Step::HalfHour => Seen::Ladder30m,
        Step::TwoHours => Seen::Ladder2h,
        Step::EightHours => Seen::Ladder8h,
    }
}
