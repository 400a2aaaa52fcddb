//! What is known of a lane's partitions and records, as far as it follows from what the lane was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postrider::clock::Now;
use postrider::delivery::{DeliveryId, Verdict};
use postrider::lane::{AssignedPartition, Incoming, LaneOptions, Owner, Progress};

use crate::settings::AGE_MAX;
use crate::world::{MILLISECOND, Time, time_of};

/// One assignment of one partition.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) base: i64,
    pub(crate) read_to: i64,
    pub(crate) start_committed: bool,
    pub(crate) leaving: bool,
    pub(crate) paused: bool,
    pub(crate) unsettled: BTreeMap<i64, Book>,
    /// What was committed with its base.
    pub(crate) progress: Progress,
    /// Records of the ladder that were taken, so that a second copy is known for one.
    pub(crate) taken: BTreeSet<(DeliveryId, u32, u32)>,
}

/// One unsettled record.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) weight: usize,
    pub(crate) endpoint: Option<Arc<str>>,
    /// Attempts spent, and those that may be: it is for the lane to say whether an answer speaks of the record or of its endpoint.
    pub(crate) spent: u32,
    pub(crate) spent_at_most: u32,
    pub(crate) in_flight: bool,
    pub(crate) writing: bool,
    pub(crate) not_before: Time,
    pub(crate) last_ended: Time,
    pub(crate) read_at: Time,
}

impl Assignment {
    /// What is to be known of a record that the lane takes in; nothing of one that ends at once.
    pub(crate) fn takes(&mut self, now: Now, incoming: &Incoming) -> Option<Book> {
        let Incoming {
            offset,
            record,
            verdict,
            endpoint,
            carried,
            ..
        } = incoming;
        if *offset < self.base {
            return None;
        }
        self.read_to = self.read_to.max(offset + 1);
        let ends = matches!(
            verdict,
            Verdict::NotMatched | Verdict::Dropped | Verdict::Foreign
        );
        let settled = |run: &std::ops::Range<i64>| run.contains(offset);
        if ends || self.progress.settled.iter().any(settled) {
            return None;
        }
        if let Some(carried) = carried
            && !self
                .taken
                .insert((carried.id, carried.attempts, carried.hop))
        {
            return None;
        }
        let budgets = &self.progress.budgets;
        let budget = budgets.iter().find(|budget| budget.offset == *offset);
        let spent = carried.as_ref().map_or(0, |carried| carried.attempts);
        let spent = spent.max(budget.map_or(0, |budget| budget.attempts));
        let due = budget.map(|budget| budget.due);
        let due = due.or(carried.as_ref().map(|carried| carried.due));
        let left = due.map_or(0, |due| (due.0 - now.wall.0).max(0));
        Some(Book {
            weight: record.weight(),
            endpoint: endpoint
                .clone()
                .filter(|_| matches!(verdict, Verdict::Deliver { .. })),
            spent,
            spent_at_most: spent,
            read_at: time_of(now.tick),
            not_before: time_of(now.tick) + left as Time * MILLISECOND,
            ..Book::default()
        })
    }

    pub(crate) fn position_max(&self) -> i64 {
        self.unsettled.keys().next().copied().unwrap_or(i64::MAX)
    }
}

/// What was committed beside the base of a partition.
pub(crate) fn progress_of(
    cluster_id: &str,
    destination_id: &str,
    assigned: &AssignedPartition,
) -> Progress {
    let owner = Owner {
        cluster_id,
        destination_id,
        topic: &assigned.topic,
        partition: assigned.partition,
    };
    let found = assigned.metadata.as_deref().filter(|_| assigned.committed);
    let progress = found.and_then(|text| Progress::decode(owner, assigned.base, text));
    progress.unwrap_or_default()
}

/// The shortest wait that the schedule allows behind the attempt of this number.
pub(crate) fn least_wait(options: &LaneOptions, number: u32) -> Time {
    // Where the age is short the last attempt comes before its time.
    if options.max_age < AGE_MAX {
        return 0;
    }
    let retry = &options.retry;
    let delay = retry.schedule.get(number as usize - 1);
    let shortest = (1.0 - retry.jitter).max(0.0);
    delay.map_or(0, |delay| delay.mul_f64(shortest).as_nanos() as Time)
}
