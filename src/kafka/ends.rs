//! Where partitions end: one client for all lanes asks, so that what waits in Kafka is known and not only what was read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::complaints::Complaints;
use super::context::Plain;

/// A partition of a topic.
pub type TopicPartition = (Arc<str>, i32);

/// The client that asks.
pub struct Ends {
    config: ClientConfig,
    complaints: Arc<Complaints>,
    /// Made when it is first asked.
    client: Mutex<Option<BaseConsumer<Plain>>>,
}

impl Ends {
    /// Takes a consumer's settings; nothing is connected to yet.
    #[must_use]
    pub fn new(mut config: ClientConfig, complaints: Arc<Complaints>) -> Self {
        // It reads nothing, and joins nothing.
        config.remove("group.id");
        Self {
            config,
            complaints,
            client: Mutex::new(None),
        }
    }

    /// The ends of these partitions: the offsets after the last records that may be read. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When the broker does not answer in time. Of single partitions the answer may be missing.
    pub fn ends(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
        let mut ends = BTreeMap::new();
        if partitions.is_empty() {
            return Ok(ends);
        }
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &mut *client {
            Some(client) => client,
            none => {
                let context = Plain(Arc::clone(&self.complaints));
                none.insert(self.config.create_with_context(context)?)
            }
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, Offset::End)?;
        }
        for found in client.offsets_for_times(list, timeout)?.elements() {
            if let (Ok(()), Offset::Offset(end)) = (found.error(), found.offset()) {
                ends.insert((Arc::from(found.topic()), found.partition()), end);
            }
        }
        Ok(ends)
    }
}
