//! Under which of a partition's leaders its records were written (KIP-320).
//!
//! A broker that loses its power may lose the end of a log, and so may a partition whose leader was chosen out of those that were behind. What is
//! written there afterwards has offsets that have been used before. With each position the epoch of the leader is committed that wrote
//! what lies before it; where another leads at the next assignment, the broker is asked how far the log of the old one goes.

use std::collections::BTreeMap;

use crate::delivery::Epoch;

/// So many changes of leaders are remembered for one assignment.
const MOST: usize = 32;

/// For each assignment, from which offset on which leader wrote.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    of: BTreeMap<Epoch, Vec<(i64, i32)>>,
}

impl Leaders {
    /// An assignment begins at `base`; `leader` wrote what lies before it, where that is known.
    pub(super) fn begin(&mut self, epoch: Epoch, base: i64, leader: Option<i32>) {
        let before = leader.map(|leader| (base - 1, leader));
        self.of.insert(epoch, before.into_iter().collect());
    }

    /// The record at `offset` was written under `leader`, and those behind it too until another is told.
    pub(super) fn read(&mut self, epoch: Epoch, offset: i64, leader: i32) {
        let Some(changes) = self.of.get_mut(&epoch) else {
            return;
        };
        changes.retain(|(from, _)| *from < offset);
        changes.push((offset, leader));
        if changes.len() > MOST {
            changes.remove(0);
        }
    }

    /// Who wrote what lies right before this position.
    pub(super) fn before(&self, epoch: Epoch, position: i64) -> Option<i32> {
        let changes = self.of.get(&epoch)?;
        let last = changes.iter().rev().find(|(from, _)| *from < position)?;
        Some(last.1)
    }

    pub(super) fn forget(&mut self, epoch: Epoch) {
        self.of.remove(&epoch);
    }
}

/// How far the log goes that was read before, by librdkafka's word for a log that was cut; `None`: it does not say.
///
/// The number is in the text alone ("broker end offset is 12").
pub(super) fn end_of_old_log(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once("broker end offset is ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_of_the_leader_that_wrote_what_lies_before_it() {
        let epoch = Epoch(2);
        let mut leaders = Leaders::default();
        assert_eq!(leaders.before(epoch, 10), None);
        leaders.begin(epoch, 10, Some(3));
        assert_eq!(leaders.before(epoch, 10), Some(3));
        leaders.read(epoch, 10, 3);
        leaders.read(epoch, 15, 4);
        for (position, leader) in [(10, 3), (11, 3), (15, 3), (16, 4), (99, 4)] {
            assert_eq!(leaders.before(epoch, position), Some(leader), "{position}");
        }
        leaders.forget(epoch);
        leaders.read(epoch, 20, 5);
        assert_eq!(leaders.before(epoch, 21), None);
        leaders.begin(epoch, 10, None);
        assert_eq!(leaders.before(epoch, 10), None);
    }

    #[test]
    fn the_end_of_the_old_log_is_in_the_text() {
        let text = "Partition log truncation detected at offset 20 (leader epoch 0): broker end offset is 12 (offset leader epoch 0). \
                    Reset to INVALID.: Local: Partition log truncation detected (broker 1)";
        assert_eq!(end_of_old_log(text), Some(12));
        let unknown = "No epoch found less or equal to offset 3: broker end offset is -1 (offset leader epoch -1).";
        assert_eq!(end_of_old_log(unknown), None);
        assert_eq!(end_of_old_log("Broker: Offset out of range"), None);
    }
}
