//! How far the ladder goes, and whether a group has something to read on it.

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
        self.with_records().next().is_some()
    }

    fn with_records(&self) -> impl Iterator<Item = (&TopicPartition, &Range<i64>)> {
        let known = self.0.iter();
        let known = known.filter_map(|(tp, offsets)| Some((tp, offsets.as_ref()?)));
        known.filter(|(_, offsets)| !offsets.is_empty())
    }

    /// Whether a group that has committed these offsets may have something left to read: unless it has committed the very end. What nobody has
    /// committed for is read from its beginning; and beyond the end it has read another topic, that had this name.
    fn is_for(&self, committed: &BTreeMap<TopicPartition, i64>) -> bool {
        self.with_records()
            .any(|(tp, offsets)| committed.get(tp) != Some(&offsets.end))
    }
}

impl ConsumerThread {
    /// Tells the lane when its group has something to read on the ladder. What it has committed decides, and nothing that anybody remembers: so no
    /// record is forgotten, whoever wrote it and whoever was to read it.
    pub(super) fn look_at_ladder(&self, extent: &LadderExtent) {
        self.beat(PATIENCE);
        let mut list = TopicPartitionList::new();
        for ((topic, partition), _) in extent.with_records() {
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
        if extent.is_for(&committed.collect()) {
            self.tell(FromConsumer::LadderWaits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        (Arc::from(topic), partition)
    }

    #[test]
    fn a_group_reads_until_it_has_committed_the_end() {
        let mut extent = LadderExtent::default();
        extent.add("1m", 0, Some(3..7));
        extent.add("1m", 1, Some(9..9));
        extent.add("5m", 0, None);
        let is_for = |committed: &[(TopicPartition, i64)]| {
            extent.is_for(&committed.iter().cloned().collect())
        };
        assert!(is_for(&[]), "nobody has read it");
        assert!(is_for(&[(partition("1m", 0), 6)]), "all but one");
        assert!(is_for(&[(partition("1m", 0), 1)]), "some expired");
        assert!(!is_for(&[(partition("1m", 0), 7)]));
        assert!(is_for(&[(partition("1m", 0), 12)]), "of another topic");
        let others = [(partition("1m", 1), 9), (partition("5m", 0), 7)];
        assert!(is_for(&others), "others do not count for it");
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
