//! Which offsets have been counted as expired unread, so that none is counted twice, and none is left out.
//!
//! A partition that was read on behind a gap, and is given up before anything behind it is settled, has the gap before it again at its next
//! assignment, and with it what was read before the gap and is gone by now; one that stands still until a person decides has it at each.

use std::collections::BTreeMap;
use std::ops::Range;

use super::consumer::TopicPartition;

/// The last gap of each partition that was counted.
#[derive(Debug, Default)]
pub(super) struct Losses {
    counted: BTreeMap<TopicPartition, Range<i64>>,
}

impl Losses {
    /// How many of the `lost` records from the offset `from` on have not been counted before. They have been now.
    pub(super) fn count(&mut self, tp: &TopicPartition, from: i64, lost: u64) -> u64 {
        if lost == 0 {
            return 0;
        }
        let gap = from..from.saturating_add_unsigned(lost);
        let Some(counted) = self.counted.get_mut(tp) else {
            self.counted.insert(tp.clone(), gap);
            return lost;
        };
        if gap.end < counted.start || gap.start > counted.end {
            *counted = gap;
            return lost;
        }
        let both = counted.start.min(gap.start)..counted.end.max(gap.end);
        let more = (both.end - both.start) - (counted.end - counted.start);
        *counted = both;
        more.unsigned_abs()
    }

    /// The partition's offsets are others from now on.
    pub(super) fn begin_anew(&mut self, tp: &TopicPartition) {
        self.counted.remove(tp);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn tp() -> TopicPartition {
        (Arc::from("orders"), 0)
    }

    #[test]
    fn a_gap_that_is_met_again_is_not_counted_twice() {
        let mut losses = Losses::default();
        assert_eq!(losses.count(&tp(), 10, 300), 300);
        assert_eq!(losses.count(&tp(), 10, 300), 0);
    }

    #[test]
    fn what_was_read_before_the_gap_and_expired_unsettled_is_counted_too() {
        let mut losses = Losses::default();
        assert_eq!(losses.count(&tp(), 10, 300), 300);
        assert_eq!(losses.count(&tp(), 5, 305), 5);
        assert_eq!(losses.count(&tp(), 5, 305), 0);
    }

    #[test]
    fn only_what_the_gap_has_grown_by_is_counted() {
        let mut losses = Losses::default();
        assert_eq!(losses.count(&tp(), 10, 20), 20);
        assert_eq!(losses.count(&tp(), 10, 25), 5);
        assert_eq!(losses.count(&tp(), 40, 2), 2, "another gap behind it");
        assert_eq!(losses.count(&(Arc::from("orders"), 1), 10, 25), 25);
    }

    #[test]
    fn a_topic_that_was_made_again_is_counted_from_nothing() {
        let mut losses = Losses::default();
        assert_eq!(losses.count(&tp(), 10, 300), 300);
        losses.begin_anew(&tp());
        assert_eq!(losses.count(&tp(), 10, 300), 300);
    }
}
