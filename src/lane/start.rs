//! Where a partition begins, decided from what the broker says.

use std::num::NonZeroU128;

use crate::clock::Timestamp;

/// What tells a topic from another that had its name before: the UUID that Kafka gives to each topic it makes, since 2.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicId(NonZeroU128);

impl TopicId {
    /// The id of these bits; `None` for zero, which is how a broker says that it has none.
    #[must_use]
    pub fn new(bits: u128) -> Option<Self> {
        NonZeroU128::new(bits).map(Self)
    }

    /// Its bits, never zero.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.0.get()
    }
}

/// Where a group begins on a rule's topic where it has nothing committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the oldest record there is.
    Earliest,
    /// Behind the newest record there is.
    Latest,
    /// At the first record that is not older than this.
    Time(Timestamp),
}

/// What to do when records between the committed offset and the oldest one there is have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordsLostPolicy {
    /// Go on at the oldest record there is.
    #[default]
    Earliest,
    /// Go on behind the newest.
    Latest,
    /// Read nothing until a person has decided.
    Stop,
}

/// What is known of a topic as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFacts {
    /// Whether it is one of our own topics: these always begin at their beginning.
    pub owned: bool,
    /// Whether the group has a committed offset on any partition of the topic, assigned to us or not.
    pub any_committed: bool,
}

/// What the broker says of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionFacts {
    /// The group's committed offset.
    pub committed: Option<i64>,
    /// The oldest offset there is.
    pub low: i64,
    /// The offset after the newest one.
    pub high: i64,
    /// The first offset that is not older than the time of [`StartAt::Time`]; `None` when there is none.
    pub at_time: Option<i64>,
    /// Whether the group read another topic of the same name, which has been deleted since: the offset was committed for that one, or went
    /// with it.
    pub made_again: bool,
    /// Whether it is known which leader wrote what lies before the committed offset: then the broker can be asked how far the log is what was
    /// read, and an offset beyond its end need not mean its beginning.
    pub leader_known: bool,
}

/// Where to begin, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The first offset to read.
    pub offset: i64,
    /// Why there.
    pub reason: StartReason,
    /// Records that the group never read and nobody can read any more.
    pub lost: i64,
}

/// Why a partition begins where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReason {
    /// The group was there before.
    Committed,
    /// Nothing of the topic is committed: the file's `start_at`.
    StartAt,
    /// The group knows the topic but not this partition: it is new, so it is read from its beginning.
    NewPartition,
    /// One of our own topics without a committed offset.
    Owned,
    /// Records expired before they were read.
    Expired,
    /// The same, and the file wants a person to decide: nothing is to be read.
    Stopped,
    /// The committed offset is beyond the end: the topic was cut, or deleted and made again.
    BeyondEnd,
    /// The group read a topic that was deleted; this one has its name and another id.
    MadeAgain,
}

/// Where a partition begins (pure).
///
/// A partition without a committed offset on a topic that has one elsewhere begins at its beginning, never at `start_at`: it was added
/// after the group had started, and `latest` would step over what was written to it in the meantime.
#[must_use]
pub fn start_position(
    topic: TopicFacts,
    facts: PartitionFacts,
    start_at: StartAt,
    on_records_lost: RecordsLostPolicy,
) -> Start {
    let PartitionFacts {
        committed,
        low,
        high,
        at_time,
        made_again,
        leader_known,
    } = facts;
    let from_beginning = |reason| Start {
        offset: low,
        reason,
        lost: 0,
    };
    if made_again {
        return from_beginning(StartReason::MadeAgain);
    }
    let Some(committed) = committed else {
        let (offset, reason) = if topic.owned {
            (low, StartReason::Owned)
        } else if topic.any_committed {
            (low, StartReason::NewPartition)
        } else {
            let offset = match start_at {
                StartAt::Earliest => low,
                StartAt::Latest => high,
                StartAt::Time(_) => at_time.unwrap_or(high),
            };
            (offset, StartReason::StartAt)
        };
        return Start {
            offset,
            reason,
            lost: 0,
        };
    };
    if committed > high && !leader_known {
        return from_beginning(StartReason::BeyondEnd);
    }
    if committed >= low {
        return Start {
            offset: committed,
            reason: StartReason::Committed,
            lost: 0,
        };
    }
    let (offset, reason, lost) = match on_records_lost {
        RecordsLostPolicy::Earliest => (low, StartReason::Expired, low - committed),
        RecordsLostPolicy::Latest => (high, StartReason::Expired, high - committed),
        RecordsLostPolicy::Stop => (committed, StartReason::Stopped, low - committed),
    };
    Start {
        offset,
        reason,
        lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE_TOPIC: TopicFacts = TopicFacts {
        owned: false,
        any_committed: false,
    };
    const KNOWN_TOPIC: TopicFacts = TopicFacts {
        owned: false,
        any_committed: true,
    };
    const OWNED_TOPIC: TopicFacts = TopicFacts {
        owned: true,
        any_committed: false,
    };

    fn start(topic: TopicFacts, committed: Option<i64>, at: StartAt) -> (i64, StartReason, i64) {
        let facts = PartitionFacts {
            committed,
            low: 10,
            high: 20,
            at_time: Some(15),
            made_again: false,
            leader_known: false,
        };
        let start = start_position(topic, facts, at, RecordsLostPolicy::Earliest);
        (start.offset, start.reason, start.lost)
    }

    #[test]
    fn a_topic_never_read_begins_where_the_file_says() {
        assert_eq!(
            start(RULE_TOPIC, None, StartAt::Earliest),
            (10, StartReason::StartAt, 0)
        );
        assert_eq!(
            start(RULE_TOPIC, None, StartAt::Latest),
            (20, StartReason::StartAt, 0)
        );
        let time = StartAt::Time(Timestamp(1));
        assert_eq!(start(RULE_TOPIC, None, time), (15, StartReason::StartAt, 0));
    }

    #[test]
    fn a_time_after_the_last_record_begins_at_the_end() {
        let facts = PartitionFacts {
            committed: None,
            low: 10,
            high: 20,
            at_time: None,
            made_again: false,
            leader_known: false,
        };
        let time = StartAt::Time(Timestamp(1));
        let start = start_position(RULE_TOPIC, facts, time, RecordsLostPolicy::Earliest);
        assert_eq!(start.offset, 20);
    }

    #[test]
    fn a_new_partition_of_a_known_topic_is_read_from_its_beginning() {
        assert_eq!(
            start(KNOWN_TOPIC, None, StartAt::Latest),
            (10, StartReason::NewPartition, 0)
        );
    }

    #[test]
    fn an_owned_topic_is_read_from_its_beginning() {
        assert_eq!(
            start(OWNED_TOPIC, None, StartAt::Latest),
            (10, StartReason::Owned, 0)
        );
    }

    #[test]
    fn a_committed_offset_wins_over_start_at() {
        assert_eq!(
            start(KNOWN_TOPIC, Some(13), StartAt::Latest),
            (13, StartReason::Committed, 0)
        );
        assert_eq!(
            start(KNOWN_TOPIC, Some(20), StartAt::Latest),
            (20, StartReason::Committed, 0)
        );
    }

    #[test]
    fn records_that_expired_unread_are_counted() {
        assert_eq!(
            start(KNOWN_TOPIC, Some(4), StartAt::Latest),
            (10, StartReason::Expired, 6)
        );
    }

    #[test]
    fn a_committed_offset_beyond_the_end_starts_over() {
        assert_eq!(
            start(KNOWN_TOPIC, Some(99), StartAt::Latest),
            (10, StartReason::BeyondEnd, 0)
        );
    }

    #[test]
    fn a_topic_made_again_is_read_from_its_beginning_wherever_the_old_one_was_left() {
        // The broker forgets the offsets of a deleted topic, unless they are committed once more.
        for committed in [None, Some(5), Some(10), Some(15), Some(20), Some(25)] {
            let facts = PartitionFacts {
                committed,
                low: 10,
                high: 20,
                at_time: None,
                made_again: true,
                leader_known: true,
            };
            let policy = RecordsLostPolicy::Latest;
            let start = start_position(KNOWN_TOPIC, facts, StartAt::Latest, policy);
            let expected = (10, StartReason::MadeAgain, 0);
            assert_eq!((start.offset, start.reason, start.lost), expected);
        }
    }

    #[test]
    fn beyond_the_end_it_begins_anew_unless_the_broker_can_be_asked_how_far_the_log_goes() {
        for (leader_known, expected) in [
            (false, (10, StartReason::BeyondEnd, 0)),
            (true, (25, StartReason::Committed, 0)),
        ] {
            let facts = PartitionFacts {
                committed: Some(25),
                low: 10,
                high: 20,
                at_time: None,
                made_again: false,
                leader_known,
            };
            let policy = RecordsLostPolicy::Earliest;
            let start = start_position(KNOWN_TOPIC, facts, StartAt::Latest, policy);
            assert_eq!((start.offset, start.reason, start.lost), expected);
        }
    }
}
