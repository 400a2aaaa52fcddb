//! How far the ladder goes, and whether a lane has to read it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::debug;

use super::consumer::{ConsumerThread, FromConsumer, TopicPartition};

/// How long the broker may take to say what the group has committed. It is asked again soon.
const PATIENCE: Duration = Duration::from_secs(1);

/// The partitions of the ladder: the offset of the first record of each, and the one after its last. Of one that the brokers say nothing about
/// just now, nothing.
#[derive(Debug, Default)]
pub struct LadderExtent(BTreeMap<TopicPartition, Option<Range<i64>>>);

impl LadderExtent {
    pub(super) fn add(&mut self, topic: &str, partition: i32, offsets: Option<Range<i64>>) {
        self.0.insert((Arc::from(topic), partition), offsets);
    }

    /// How many records are in each topic, those that have been read among them. A topic of which not everything is known is left out.
    #[must_use]
    pub fn records(&self) -> BTreeMap<&str, i64> {
        let mut records: BTreeMap<&str, Option<i64>> = BTreeMap::new();
        for ((topic, _), offsets) in &self.0 {
            let count = records.entry(topic).or_insert(Some(0));
            let more = offsets.as_ref().map(|offsets| offsets.end - offsets.start);
            *count = count.and_then(|count| Some(count + more?));
        }
        let known = records.into_iter();
        known
            .filter_map(|(topic, count)| Some((topic, count?)))
            .collect()
    }

    /// Whether there is anything on the ladder.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.known().any(|(_, offsets)| !offsets.is_empty())
    }

    /// Whether there ever was.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.known().any(|(_, offsets)| offsets.end > 0)
    }

    fn is_known(&self) -> bool {
        self.0.values().all(Option::is_some)
    }

    fn known(&self) -> impl Iterator<Item = (&TopicPartition, &Range<i64>)> {
        let all = self.0.iter();
        all.filter_map(|(tp, offsets)| Some((tp, offsets.as_ref()?)))
    }

    /// Whether a group that has committed these offsets has not read what is gone by now: so much is said when its partition is read. And beyond
    /// the end it has read another topic, that had this name.
    fn was_missed(&self, committed: &BTreeMap<TopicPartition, i64>) -> bool {
        self.known()
            .any(|(tp, offsets)| committed.get(tp).is_some_and(|c| *c != offsets.end))
    }
}

impl ConsumerThread {
    /// Tells the lane when it has to read the ladder: when anything is there, or was and is gone unread.
    ///
    /// Where records are, it does not matter that the group has read them. A group in which nobody subscribes to a topic loses what it has committed
    /// for it after `offsets.retention.minutes`, a week by default, and would send all of them again.
    pub(super) fn look_at_ladder(&mut self, extent: &LadderExtent) {
        if extent.has_records() {
            return self.tell(FromConsumer::LadderWaits);
        }
        if self.knows_ladder {
            return;
        }
        self.beat(PATIENCE);
        let mut list = TopicPartitionList::new();
        for ((topic, partition), _) in extent.known() {
            list.add_partition(topic, *partition);
        }
        let found = match self.consumer.committed_offsets(list, PATIENCE) {
            Ok(found) => found,
            Err(error) => {
                return debug!(destination = %self.plan.destination, %error, "what is read of the ladder is not known");
            }
        };
        let committed = found.elements().into_iter().filter_map(|place| {
            let Offset::Offset(offset) = place.offset() else {
                return None;
            };
            Some(((Arc::from(place.topic()), place.partition()), offset))
        });
        if extent.was_missed(&committed.collect()) {
            return self.tell(FromConsumer::LadderWaits);
        }
        // Whatever comes from now on is seen before it is gone.
        self.knows_ladder = extent.is_known();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        (Arc::from(topic), partition)
    }

    #[test]
    fn what_is_gone_unread_is_told_from_what_was_read() {
        let mut extent = LadderExtent::default();
        assert!(!extent.was_used());
        extent.add("1m", 0, Some(7..7));
        extent.add("1m", 1, Some(0..0));
        assert!(extent.was_used() && extent.is_known());
        extent.add("5m", 0, None);
        assert!(!extent.is_known());
        let missed = |committed: &[(TopicPartition, i64)]| {
            extent.was_missed(&committed.iter().cloned().collect())
        };
        assert!(!missed(&[]), "nobody ever read it");
        assert!(!missed(&[(partition("1m", 0), 7)]));
        assert!(missed(&[(partition("1m", 0), 6)]), "one expired");
        assert!(missed(&[(partition("1m", 0), 12)]), "of another topic");
        assert!(!missed(&[(partition("5m", 0), 3)]), "nothing is known");
    }

    #[test]
    fn records_are_counted_where_all_is_known() {
        let mut extent = LadderExtent::default();
        assert!(!extent.has_records());
        extent.add("1m", 0, Some(3..3));
        extent.add("5m", 0, None);
        assert!(!extent.has_records());
        extent.add("5m", 1, Some(0..4));
        assert!(extent.has_records());
        extent.add("1m", 1, Some(3..5));
        assert_eq!(extent.records(), BTreeMap::from([("1m", 2)]));
    }
}
