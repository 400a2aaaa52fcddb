//! The unclean ends of one partition: what was found beside its position, and what is to be committed there.

use crate::lane::progress::{ACCUSED_MAX, Caution, Progress};

/// So many unclean ends at one position make a lane cautious.
const UNCLEAN_ENDS: u32 = 3;

/// A record against which so much speaks is not sent any more.
pub(super) const CONVICTED: u32 = 5;

/// The unclean ends of one partition.
#[derive(Debug, Default)]
pub(in crate::lane) struct Ends {
    pub(super) known: Caution,
    /// Whether a record was read that is to be delivered: an assignment without one proves nothing and counts for nothing.
    begun: bool,
    /// The record that ended the process is settled, and the broker has not acknowledged that yet.
    pub(super) closing: Option<i64>,
    /// Whether the assignment ends gracefully.
    pub(super) parting: bool,
    /// The position that the starts are counted for.
    at: i64,
    /// How many records beyond it are settled. A partition whose first record waits for long goes on behind it, and kills from outside then meet it at
    /// the same position each time: as long as something is settled in between, no record keeps it from that.
    settled: u64,
    /// The position that the broker has acknowledged: what is only known here is read again after the next unclean end.
    acknowledged: i64,
}

impl Ends {
    /// What follows from what was found; `read_ahead` is the highest offset that an earlier assignment may have sent.
    pub(in crate::lane) fn after(
        mut found: Caution,
        base: i64,
        settled: u64,
        read_ahead: i64,
    ) -> Self {
        if let Some((offset, weight)) = found.alone.take() {
            let room = found.accused.len() < ACCUSED_MAX;
            if room || found.accused.contains_key(&offset) {
                let points = found.accused.entry(offset).or_default();
                *points = points.saturating_add(weight);
            }
        }
        if found.starts >= UNCLEAN_ENDS && found.until.is_none() {
            found.until = Some(read_ahead);
        }
        Self {
            known: found,
            begun: false,
            closing: None,
            parting: false,
            at: base,
            settled,
            acknowledged: base,
        }
    }

    /// Whether records of this partition go one at a time.
    pub(super) fn is_cautious(&self) -> bool {
        let until = self.known.until;
        until.is_some_and(|until| self.acknowledged < until) || self.closing.is_some()
    }

    /// Records that something is said against.
    pub(super) fn accused(&self) -> impl Iterator<Item = i64> {
        self.known.accused.keys().copied()
    }

    /// The first record to deliver was read. False when it was not the first.
    pub(super) fn begin(&mut self, position: i64) -> bool {
        if self.begun {
            return false;
        }
        self.begun = true;
        let found = if position == self.at {
            self.known.starts
        } else {
            0
        };
        self.at = position;
        self.known.starts = found.saturating_add(1);
        true
    }

    /// What is to be committed at this position, with so many records settled beyond it.
    pub(in crate::lane) fn worth_committing(&mut self, position: i64, settled: u64) -> Caution {
        if (position, settled) > (self.at, self.settled) {
            self.known.starts = 0;
        }
        (self.at, self.settled) = (position, settled);
        self.known.accused.retain(|offset, _| *offset >= position);
        let mut caution = self.known.clone();
        caution.until = caution.until.filter(|until| *until > position);
        if let Some(settled) = self.closing {
            caution.accused.remove(&settled);
        }
        if self.begun && self.parting {
            caution.starts = 0;
        }
        caution.alone = caution
            .alone
            .filter(|(offset, _)| !self.parting && *offset >= position);
        caution
    }

    /// The broker has acknowledged this position.
    pub(super) fn acknowledge(&mut self, position: i64) {
        self.acknowledged = self.acknowledged.max(position);
        let acknowledged = self.acknowledged;
        self.known.until = self.known.until.filter(|until| *until > acknowledged);
    }

    /// There is no reason for caution any more, but for records that are accused too often.
    pub(super) fn calm_down(&mut self, explained: bool) {
        self.known.until = None;
        self.known.starts = 0;
        if explained {
            self.known.accused.retain(|_, points| *points >= CONVICTED);
        }
    }

    /// Nothing beyond this was there to be sent.
    pub(in crate::lane) fn reach_end(&mut self, offset: i64) {
        self.known.until = self.known.until.map(|until| until.min(offset));
    }

    /// Whether a commit with this caution says that this assignment has begun.
    pub(super) fn is_begun_by(&self, acknowledged: &Caution) -> bool {
        self.begun && acknowledged.starts >= self.known.starts
    }

    pub(super) fn points(&self, offset: i64) -> u32 {
        self.known.accused.get(&offset).copied().unwrap_or(0)
    }
}

/// How far an assignment that began at `base` may have sent: a window ahead, and beyond what is known to be settled.
pub(in crate::lane) fn read_ahead(progress: &Progress, base: i64, window: usize) -> i64 {
    let settled = progress.settled.last().map_or(base, |range| range.end);
    let window = i64::try_from(window).unwrap_or(i64::MAX);
    base.saturating_add(window)
        .max(settled.saturating_add(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_passed_is_not_left_before_the_broker_knows_it() {
        let found = Caution {
            starts: UNCLEAN_ENDS,
            ..Caution::default()
        };
        let mut ends = Ends::after(found, 125, 0, 130);
        assert!(ends.is_cautious());
        // Records that need no sending are passed without a word to the broker, and the next unclean end begins at 125 again.
        assert!(ends.is_cautious());
        assert_eq!(ends.worth_committing(140, 0).until, None);
        ends.acknowledge(140);
        assert!(!ends.is_cautious());
    }
}
