//! Promise 1, judged from outside: whatever a group has committed past is settled, or can still be reached on the ladder.

use std::ops::Range;

use postrider::clock::Timestamp;
use postrider::lane::{Owner, Progress, StartAt};

use crate::broker::{Broker, CommitEntry, Group, Log, Stored, Tp};
use crate::check::{Check, Violation, ensure};
use crate::oracle::Oracle;

/// The cluster's id: part of every delivery's id, and of every progress.
pub(crate) const CLUSTER: &str = "simulated";

/// What a group has behind it in one partition.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    start: i64,
    upto: i64,
    /// What is settled beyond that, as the committed metadata says.
    skips: Vec<Range<i64>>,
}

impl Reached {
    pub(crate) fn starting_at(start: i64) -> Self {
        Self {
            start,
            upto: start,
            skips: Vec::new(),
        }
    }

    fn will_be_read(&self, offset: i64) -> bool {
        offset >= self.start.max(self.upto) && !self.skips.iter().any(|skip| skip.contains(&offset))
    }
}

impl Oracle {
    /// Where a member that asks now has to begin.
    pub(crate) fn licence(&self, group: &Group, tp: Tp, log: &Log, owned: bool) -> i64 {
        if let Some(committed) = group.committed.get(&tp) {
            return committed.offset.max(log.low);
        }
        let known = group.committed.keys().any(|other| other.topic == tp.topic);
        match self.start_at {
            _ if known || owned => log.low,
            StartAt::Earliest => log.low,
            StartAt::Latest => log.end,
            StartAt::Time(time) => self.first_not_before(log, time).unwrap_or(log.end),
        }
    }

    pub(crate) fn first_not_before(&self, log: &Log, time: Timestamp) -> Option<i64> {
        let in_time = |number: usize| self.produced[number].record.timestamp >= Some(time);
        log.records
            .iter()
            .find(|stored| in_time(stored.number))
            .map(|stored| stored.offset)
    }

    /// The broker takes a commit.
    pub(crate) fn committed(
        &mut self,
        destination: usize,
        entry: &CommitEntry,
        before: Option<i64>,
        topic: &str,
        log: &Log,
    ) -> Result<(), Violation> {
        let offset = entry.position.offset;
        let tp = entry.tp;
        let rewound = before.is_some_and(|before| offset < before);
        ensure!(
            !rewound,
            CommitRange,
            "{tp:?} of destination {destination} is taken back from {before:?} to {offset}"
        );
        ensure!(
            offset <= log.end,
            CommitRange,
            "{tp:?} is committed at {offset}, behind its end {}",
            log.end
        );
        let progress = self.progress_in(destination, topic, tp, entry);
        let start = before.map_or(entry.licence, |_| i64::MIN);
        let reached = self
            .reached
            .entry((destination, tp))
            .or_insert_with(|| Reached::starting_at(start));
        let from = reached.upto;
        reached.upto = offset.max(from);
        reached.skips = progress.settled;
        let skips = reached.skips.clone();
        let passed = log
            .from(from)
            .iter()
            .take_while(|stored| stored.offset < offset);
        let skipped = skips.iter().flat_map(|skip| {
            log.from(skip.start)
                .iter()
                .take_while(|stored| stored.offset < skip.end)
        });
        for stored in passed.chain(skipped) {
            self.is_cared_for(destination, tp, offset, stored)?;
        }
        for budget in &progress.budgets {
            if let Some(stored) = log
                .from(budget.offset)
                .first()
                .filter(|stored| stored.offset == budget.offset)
            {
                self.budget_committed(destination, stored, budget)?;
            }
        }
        Ok(())
    }

    fn progress_in(
        &self,
        destination: usize,
        topic: &str,
        tp: Tp,
        entry: &CommitEntry,
    ) -> Progress {
        let owner = Owner {
            cluster_id: CLUSTER,
            destination_id: &self.destination_ids[destination],
            topic,
            partition: tp.partition as i32,
        };
        let position = &entry.position;
        Progress::decode(owner, position.offset, position.metadata.as_bytes()).unwrap_or_default()
    }

    fn is_cared_for(
        &self,
        destination: usize,
        tp: Tp,
        offset: i64,
        stored: &Stored,
    ) -> Result<(), Violation> {
        if self.is_foreign(destination, stored) {
            return Ok(());
        }
        let fate = &self.produced[stored.number].fates[destination];
        ensure!(
            fate.settled() || self.reachable(destination, stored.number),
            Commit,
            "destination {destination} committed {tp:?} at {offset}, but record {} at offset {} is neither settled nor on \
             the ladder: {fate:?}",
            stored.number,
            stored.offset
        );
        Ok(())
    }

    /// Where the group has begun with this partition.
    pub(crate) fn start_of(&self, destination: usize, tp: Tp) -> i64 {
        let reached = self.reached.get(&(destination, tp));
        reached.map_or(0, |reached| reached.start)
    }

    pub(crate) fn is_foreign(&self, destination: usize, stored: &Stored) -> bool {
        stored
            .rung
            .is_some_and(|rung| self.rungs[rung].destination != destination)
    }

    /// Whether somebody will still come across this record, on its topic or on the ladder.
    fn reachable(&self, destination: usize, number: usize) -> bool {
        let produced = &self.produced[number];
        let will_be_read = |tp: Tp, offset: i64, unread: bool| {
            self.reached
                .get(&(destination, tp))
                .map_or(unread, |reached| reached.will_be_read(offset))
        };
        let fate = &produced.fates[destination];
        will_be_read(produced.tp, produced.record.offset, false)
            || fate.rungs.iter().any(|&rung| {
                let rung = &self.rungs[rung];
                will_be_read(rung.tp, rung.offset, true)
            })
    }

    /// Whether every record that this destination had to care for is settled, the ladder's included.
    pub(crate) fn all_settled(
        &self,
        destination: usize,
        broker: &Broker,
        check: Check,
    ) -> Result<(), Violation> {
        for tp in broker.partitions() {
            let Some(log) = broker.log(tp) else { continue };
            let Some(reached) = self.reached.get(&(destination, tp)) else {
                return Err(Violation::new(
                    check,
                    format!("destination {destination} never began with {tp:?}"),
                ));
            };
            for stored in log.from(reached.start) {
                let fate = &self.produced[stored.number].fates[destination];
                if !self.is_foreign(destination, stored) && !fate.settled() {
                    let Stored { offset, number, .. } = *stored;
                    let words = format!(
                        "destination {destination} has not settled record {number} ({tp:?} offset {offset}): {fate:?}"
                    );
                    return Err(Violation::new(check, words));
                }
            }
        }
        Ok(())
    }
}
