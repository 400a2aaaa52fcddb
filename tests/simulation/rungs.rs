//! What the oracle knows of the ladder: what landed on it, when it comes up, and when it may be sent.

use std::sync::Arc;

use postrider::clock::{Now, Tick, Timestamp};
use postrider::delivery::{Carried, Verdict};
use postrider::lane::{Budget, LadderRecord, Step};

use crate::broker::{Stored, Tp};
use crate::check::{Violation, ensure};
use crate::oracle::Oracle;
use crate::reach::CLUSTER;
use crate::world::{MILLISECOND, SECOND, Time, time_of};

/// Times in commit metadata are in whole seconds.
const ROUNDING: Time = SECOND;

/// A record on the ladder.
#[derive(Debug)]
pub(crate) struct Rung {
    pub(crate) destination: usize,
    pub(crate) number: usize,
    pub(crate) step: Step,
    pub(crate) carried: Carried,
    /// By the broker's clock.
    pub(crate) appended: Timestamp,
    /// By the clock of the instance that wrote it: a broker whose clock is behind would let it come up at once, again and again.
    written: Timestamp,
    pub(crate) tp: Tp,
    pub(crate) offset: i64,
    /// Before this it may not be sent: when it was handed over first, and how long it had to wait then.
    not_before: Option<Time>,
}

impl Rung {
    /// By the clock that says later, the broker's or the writer's.
    pub(crate) fn written(&self) -> Timestamp {
        self.appended.max(self.written)
    }

    pub(crate) fn comes_up(&self) -> Timestamp {
        self.step.comes_up(self.written())
    }
}

impl Oracle {
    /// A lane asks for a record to be written to the ladder, `now` by its own clocks.
    pub(crate) fn asks_for_rung(
        &mut self,
        destination: usize,
        number: usize,
        now: Now,
        asked: &LadderRecord,
    ) -> Result<(), Violation> {
        let LadderRecord {
            record,
            step,
            carried,
            makes_room,
            ..
        } = asked;
        self.identify(destination, number, carried.id)?;
        let produced = &self.produced[number];
        ensure!(
            Arc::ptr_eq(&produced.record, record),
            Ladder,
            "record {number} was changed on its way to the ladder"
        );
        let in_order = produced.fates[destination].order_key.is_some();
        let is_rung = !self.produced[number].fates[destination].rungs.is_empty();
        ensure!(
            !in_order || is_rung,
            Order,
            "record {number} has a place in an order and goes to the ladder"
        );
        let left = carried.due.0 - now.wall.0;
        let delay = step.delay().as_millis() as i64;
        ensure!(
            *makes_room || left + (ROUNDING / MILLISECOND) as i64 >= delay,
            Ladder,
            "record {number} is due in {left} ms and goes to the step of {delay} ms: it would come up late"
        );
        ensure!(
            carried.hop >= 1 && &*carried.cluster_id == CLUSTER,
            Ladder,
            "what record {number} brings along is not right: {carried:?}"
        );
        let verdict = &produced.fates[destination].verdict;
        // A lane goes by the rules that it was started with.
        let wanted = self.rules_removed
            || matches!(verdict, Verdict::Deliver { rule } if *rule == carried.rule);
        ensure!(
            wanted,
            Ladder,
            "record {number} is deferred for the rule {:?}: {verdict:?}",
            carried.rule
        );
        Ok(())
    }

    /// The broker has it. The number of the rung is the answer.
    pub(crate) fn rung_lands(
        &mut self,
        destination: usize,
        number: usize,
        asked: &LadderRecord,
        (appended, written): (Timestamp, Timestamp),
        (tp, offset): (Tp, i64),
    ) -> usize {
        let rung = self.rungs.len();
        // An acknowledgement was lost: what landed before was not known to be there.
        let twice = |&rung: &usize| self.rungs[rung].carried.hop >= asked.carried.hop;
        let fate = &self.produced[number].fates[destination];
        let doubled = fate.rungs.iter().any(twice);
        self.rungs.push(Rung {
            destination,
            number,
            step: asked.step,
            carried: asked.carried.clone(),
            appended,
            written,
            tp,
            offset,
            not_before: None,
        });
        let fate = self.fate(destination, number);
        fate.doubled |= doubled;
        fate.rungs.push(rung);
        rung
    }

    /// The consumer hands it to its lane, `now` by the instance's clocks.
    ///
    /// Whatever the clocks say, nobody waits at the gate for longer than its step.
    pub(crate) fn hands_over(
        &mut self,
        rung: usize,
        now: Now,
        arrived: Tick,
    ) -> Result<(), Violation> {
        let rung = &mut self.rungs[rung];
        let up = rung.comes_up();
        ensure!(
            now.wall >= up || now.tick.since(arrived) >= rung.step.delay(),
            Ladder,
            "record {} is taken from the step of {:?} {} ms before that has passed",
            rung.number,
            rung.step.delay(),
            up.0 - now.wall.0
        );
        let left = (rung.carried.due.0 - now.wall.0).max(0) as Time * MILLISECOND;
        let not_before = time_of(now.tick) + left;
        rung.not_before = Some(
            rung.not_before
                .map_or(not_before, |before| before.min(not_before)),
        );
        Ok(())
    }

    /// Somebody's wall clock jumped: what is due by it may be due sooner.
    pub(crate) fn jumps(&mut self, ahead: Time) {
        for rung in &mut self.rungs {
            rung.not_before = rung.not_before.map(|time| time.saturating_sub(ahead));
        }
    }

    /// A request leaves for what was read there.
    pub(crate) fn sends_stored(&self, stored: &Stored, now: Time) -> Result<(), Violation> {
        let Some(rung) = stored.rung.map(|rung| &self.rungs[rung]) else {
            return Ok(());
        };
        let Some(not_before) = rung.not_before else {
            return Ok(());
        };
        ensure!(
            now + ROUNDING >= not_before,
            Ladder,
            "record {} is sent {} ms before it is due",
            rung.number,
            (not_before - now) / MILLISECOND
        );
        Ok(())
    }

    /// A commit says what was spent on a record that is still being tried.
    pub(crate) fn budget_committed(
        &mut self,
        destination: usize,
        stored: &Stored,
        budget: &Budget,
    ) -> Result<(), Violation> {
        let fate = self.fate(destination, stored.number);
        ensure!(
            budget.attempts <= fate.requests,
            Budget,
            "{} attempts are committed for record {}, which was sent {} times",
            budget.attempts,
            stored.number,
            fate.requests
        );
        Ok(())
    }
}
