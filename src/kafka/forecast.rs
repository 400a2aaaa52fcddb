//! How much a consumer group would be given of topics that it has not read: asked of the brokers, and nothing of it is read or joined.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::lane::StartAt;

/// How long the brokers may take for each answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The offsets of partitions, those that are known.
type Offsets = BTreeMap<(String, i32), i64>;

/// Asks the brokers for one group at a time.
pub struct Forecast {
    client: BaseConsumer,
}

impl Forecast {
    /// For a group, by a consumer's settings.
    ///
    /// # Errors
    /// When librdkafka refuses them.
    pub fn new(config: &ClientConfig, group: &str) -> Result<Self, KafkaError> {
        let mut config = config.clone();
        config.set("group.id", group);
        // Whoever asks is told by the answer; the log is not theirs.
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        let client = config.create()?;
        Ok(Self { client })
    }

    /// The names of the cluster's topics.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn topics(&self) -> Result<BTreeSet<String>, KafkaError> {
        let known = self.client.fetch_metadata(None, TIMEOUT)?;
        let names = known.topics().iter().map(|topic| topic.name().to_owned());
        Ok(names.collect())
    }

    /// How many records of `topic` the group would be given at most: those that compaction has taken are counted too. `None`: there is no such
    /// topic.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn records(&self, topic: &str, start_at: StartAt) -> Result<Option<u64>, KafkaError> {
        let known = self.client.fetch_metadata(Some(topic), TIMEOUT)?;
        let partitions: Vec<i32> = known
            .topics()
            .iter()
            .filter(|found| found.name() == topic)
            .flat_map(|found| found.partitions().iter().map(|partition| partition.id()))
            .collect();
        if partitions.is_empty() {
            return Ok(None);
        }
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition(topic, *partition);
        }
        let committed = offsets(&self.client.committed_offsets(list, TIMEOUT)?);
        let begins = self.ask(topic, &partitions, Offset::Beginning)?;
        let ends = self.ask(topic, &partitions, Offset::End)?;
        let starts = match start_at {
            _ if !committed.is_empty() => begins.clone(),
            StartAt::Earliest => begins.clone(),
            StartAt::Latest => ends.clone(),
            StartAt::Time(time) => self.ask(topic, &partitions, Offset::Offset(time.0))?,
        };
        let waits = |partition: &i32| {
            let key = (topic.to_owned(), *partition);
            let (begin, end) = (begins.get(&key)?, ends.get(&key)?);
            // Of a time behind the last record there is no offset.
            let start = committed.get(&key).or_else(|| starts.get(&key));
            let start = (*start.unwrap_or(end)).max(*begin);
            u64::try_from(end - start).ok()
        };
        Ok(Some(partitions.iter().filter_map(waits).sum()))
    }

    fn ask(&self, topic: &str, partitions: &[i32], what: Offset) -> Result<Offsets, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition_offset(topic, *partition, what)?;
        }
        Ok(offsets(&self.client.offsets_for_times(list, TIMEOUT)?))
    }
}

fn offsets(list: &TopicPartitionList) -> Offsets {
    let elements = list.elements();
    let known = elements.iter().filter(|found| found.error().is_ok());
    let known = known.filter_map(|found| match found.offset() {
        Offset::Offset(offset) => Some(((found.topic().to_owned(), found.partition()), offset)),
        Offset::Beginning
        | Offset::End
        | Offset::Stored
        | Offset::Invalid
        | Offset::OffsetTail(_) => None,
    });
    known.collect()
}
