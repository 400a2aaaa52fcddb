//! Promise 4, judged from outside: what was surely spent is never forgotten but by an unclean end, and nothing is spent twice.

use std::collections::VecDeque;

use postrider::delivery::{Attempt, Outcome};
use postrider::lane::{BreakerOptions, Notice, Owner, Progress};

use crate::broker::{Committed, Log, Stored, Tp};
use crate::check::{Violation, ensure};
use crate::oracle::Oracle;
use crate::reach::CLUSTER;
use crate::world::Time;

/// So many failures in a row open an endpoint.
const IN_A_ROW: usize = 5;

/// Whether the endpoint may be open in the eyes of a lane. It says yes too often rather than too rarely.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    recent: VecDeque<(Time, bool)>,
    in_a_row: Vec<usize>,
    may_be_open: bool,
    /// The lane says so. That excuses it here; what it makes of it is judged elsewhere.
    says_open: bool,
    says_gone: bool,
}

impl Suspicion {
    pub(crate) fn told_of(&mut self, notice: &Notice) {
        match notice {
            Notice::Opened { .. } => self.says_open = true,
            Notice::Closed { .. } => self.says_open = false,
            Notice::Gone { .. } => self.says_gone = true,
            _ => {}
        }
    }

    /// Whether the lane says that it leaves the endpoint alone.
    pub(crate) fn is_left_alone(&self) -> bool {
        self.says_open || self.says_gone
    }

    pub(crate) fn resumed(&mut self) {
        self.says_gone = false;
    }

    /// Whether this answer spends an attempt beyond doubt.
    pub(crate) fn surely_spends(
        &mut self,
        now: Time,
        number: usize,
        attempt: &Attempt,
        options: &BreakerOptions,
    ) -> bool {
        let before = self.may_be_open || self.is_left_alone();
        match attempt.outcome {
            Outcome::Delivered => {
                self.in_a_row.clear();
                self.recent.push_back((now, true));
                self.may_be_open = false;
            }
            Outcome::Retry => {
                self.in_a_row.push(number);
                self.recent.push_back((now, false));
            }
            Outcome::EndpointFault | Outcome::Gone => self.may_be_open = true,
            _ => {}
        }
        let since = now.saturating_sub(options.window.as_nanos() as Time);
        while self.recent.front().is_some_and(|(at, _)| *at < since) {
            self.recent.pop_front();
        }
        let failed = self.recent.iter().filter(|(_, passed)| !passed).count();
        let many = self.recent.len() >= options.min_attempts as usize
            && failed as f64 >= options.failure_ratio * self.recent.len() as f64;
        let mut records = self.in_a_row.clone();
        records.dedup();
        self.may_be_open |= many || self.in_a_row.len() >= IN_A_ROW && records.len() > 1;
        attempt.outcome == Outcome::Retry
            && attempt.retry_after.is_none()
            && !before
            && !self.may_be_open
    }
}

impl Oracle {
    /// A request leaves with this number. `owner`: its lane owns the partition in the eyes of the group.
    pub(crate) fn numbered(
        &mut self,
        destination: usize,
        number: usize,
        attempt: u32,
        owner: bool,
    ) -> Result<(), Violation> {
        self.highest_attempt = self.highest_attempt.max(attempt);
        let fate = &self.produced[number].fates[destination];
        let longest = self.schedules[destination].longest as u32;
        ensure!(
            attempt <= fate.requests + 1 && (!owner || attempt <= longest + 1 + fate.reborn),
            Budget,
            "attempt {attempt} of record {number}, which was sent {} times; the schedule has {longest} entries",
            fate.requests
        );
        ensure!(
            !owner || fate.doubled || attempt + fate.lost > fate.spent,
            Budget,
            "record {number} has surely spent {} attempts, {} of them lost in unclean ends, and is sent with the number \
             {attempt}",
            fate.spent,
            fate.lost
        );
        Ok(())
    }

    /// A member begins with a partition where the group has this committed. After a clean end nothing may be forgotten.
    pub(crate) fn begins(
        &mut self,
        destination: usize,
        (tp, topic): (Tp, &str),
        log: &Log,
        committed: Option<&Committed>,
    ) -> Result<(), Violation> {
        let unclean = self.unclean.remove(&(destination, tp));
        let Some(committed) = committed else {
            return Ok(());
        };
        let owner = Owner {
            cluster_id: CLUSTER,
            destination_id: &self.destination_ids[destination],
            topic,
            partition: tp.partition as i32,
        };
        // What was said beside an offset that retention has passed is of no use.
        let expired = committed.offset < log.low;
        let unclean = unclean || expired;
        let progress = Progress::decode(owner, committed.offset, &committed.metadata);
        let progress = progress.filter(|_| !expired).unwrap_or_default();
        for stored in log.from(committed.offset) {
            let settled = progress
                .settled
                .iter()
                .any(|run| run.contains(&stored.offset));
            if settled || self.is_foreign(destination, stored) {
                continue;
            }
            let budget = progress
                .budgets
                .iter()
                .find(|budget| budget.offset == stored.offset);
            let carried = stored.rung.map(|rung| self.rungs[rung].carried.attempts);
            let known = budget.map(|budget| budget.attempts).or(carried);
            self.is_known(destination, stored, known.unwrap_or(0), unclean)?;
        }
        Ok(())
    }

    fn is_known(
        &mut self,
        destination: usize,
        stored: &Stored,
        known: u32,
        unclean: bool,
    ) -> Result<(), Violation> {
        let doubled = self.is_doubled(destination, stored);
        let one_at_most = self.steady;
        let shortest = self.schedules[destination].shortest as u32;
        let fate = self.fate(destination, stored.number);
        fate.doubled |= doubled;
        // Given up, but the dead letter was not written: the next owner tries it once more.
        fate.reborn += u32::from(known > shortest);
        if fate.doubled {
            return Ok(());
        }
        let forgotten = (fate.spent - fate.lost).saturating_sub(known);
        ensure!(
            forgotten == 0 || unclean || fate.settled(),
            Budget,
            "record {} has spent {} attempts, {} of them lost before, and goes to the next owner with {known}, although \
             it was handed over in good order",
            stored.number,
            fate.spent,
            fate.lost
        );
        ensure!(
            forgotten <= 1 || !one_at_most,
            Budget,
            "an unclean end forgets {forgotten} attempts of record {}",
            stored.number
        );
        fate.lost += forgotten;
        Ok(())
    }

    /// Whether the record can be come across at another place as well, further on.
    fn is_doubled(&self, destination: usize, stored: &Stored) -> bool {
        let fate = &self.produced[stored.number].fates[destination];
        let hop = |rung: usize| self.rungs[rung].carried.hop;
        let here = stored.rung.map_or(0, hop);
        fate.rungs
            .iter()
            .any(|&rung| Some(rung) != stored.rung && hop(rung) >= here)
    }
}
