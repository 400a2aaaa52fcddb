//! What waits on the ladder for one destination: read from where its group stands, by somebody who is no member of it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clock::Clock;
use crate::delivery::Carried;
use crate::lane::Step;
use crate::record::Record;

use super::complaints::Complaints;
use super::context::Plain;
use super::envelope::{Opened, open};
use super::raw::{Fetched, copied};
use super::topics::{OwnedTopic, step_of};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at the ladder.
pub struct LadderView {
    /// A consumer's settings.
    pub client: ClientConfig,
    /// What every group and every topic of our own begins with.
    pub prefix: String,
    /// Where librdkafka's complaints go.
    pub complaints: Arc<Complaints>,
}

/// A record on the ladder.
#[derive(Debug, Clone)]
pub struct WaitingRetry {
    /// The step it is on.
    pub step: Step,
    /// The record as it was on its first topic.
    pub record: Record,
    /// What it brings along.
    pub carried: Box<Carried>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct WaitingRetries {
    /// The first ones, as many as were asked for.
    pub first: Vec<WaitingRetry>,
    /// How many there are.
    pub total: u64,
    /// Whether the time was enough to look at all of them.
    pub complete: bool,
}

impl LadderView {
    /// Reads what waits for this destination, until the end of the ladder or the end of the time. What its lane has settled beyond its position
    /// is in it too. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn waiting(
        &self,
        destination_id: &str,
        first: usize,
        clock: Clock,
        time: Duration,
    ) -> Result<WaitingRetries, KafkaError> {
        let deadline = clock.now().tick + time;
        let mut config = self.client.clone();
        config.set("group.id", format!("{}.{destination_id}", self.prefix));
        let context = Plain(Arc::clone(&self.complaints));
        let consumer: BaseConsumer<Plain> = config.create_with_context(context)?;
        let mut found = WaitingRetries::default();
        let mut behind = begin(&consumer, &self.prefix)?;
        while behind > 0 {
            let left = deadline.since(clock.now().tick);
            if left == Duration::ZERO {
                return Ok(found);
            }
            match consumer.poll(left.min(TIMEOUT)) {
                Some(Ok(message)) => {
                    if let Fetched::Record(record) = copied(&message) {
                        found.add(record, &self.prefix, destination_id, first);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => behind -= 1,
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        found.complete = true;
        Ok(found)
    }
}

impl WaitingRetries {
    fn add(&mut self, record: Record, prefix: &str, destination_id: &str, first: usize) {
        let step = step_of(&format!("{prefix}."), &record.topic);
        let (Some(step), Ok(Opened::Ours { record, carried })) =
            (step, open(record, destination_id))
        else {
            return;
        };
        self.total += 1;
        if self.first.len() < first {
            self.first.push(WaitingRetry {
                step,
                record,
                carried,
            });
        }
    }
}

/// Places the consumer where the group stands in every partition of the ladder, and says how many there are. A partition that it has
/// committed nothing for, it reads from the beginning.
fn begin(consumer: &BaseConsumer<Plain>, prefix: &str) -> Result<usize, KafkaError> {
    let mut list = TopicPartitionList::new();
    for topic in OwnedTopic::read_by_lanes(prefix) {
        let metadata = consumer.fetch_metadata(Some(&topic.name), TIMEOUT)?;
        let known = metadata.topics().iter().filter(|t| t.name() == topic.name);
        for partition in known.flat_map(|topic| topic.partitions()) {
            list.add_partition(&topic.name, partition.id());
        }
    }
    if list.count() == 0 {
        return Ok(0);
    }
    let committed = consumer.committed_offsets(list, TIMEOUT)?;
    let mut from = TopicPartitionList::new();
    for place in committed.elements() {
        let offset = match place.offset() {
            Offset::Offset(offset) => Offset::Offset(offset),
            Offset::Beginning
            | Offset::End
            | Offset::Stored
            | Offset::Invalid
            | Offset::OffsetTail(_) => Offset::Beginning,
        };
        from.add_partition_offset(place.topic(), place.partition(), offset)?;
    }
    consumer.assign(&from)?;
    Ok(from.count())
}
