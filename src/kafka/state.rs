//! The state topic: small, compacted, read by every instance from its beginning and followed; a key has its latest value, or none.
//!
//! What is read is handed on as it is: what a key means is the relay's to know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message as _, OwnedHeaders};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::clock::Timestamp;
use crate::lane::WriteError;

use super::complaints::Complaints;
use super::context::Plain;
use super::producer::Producer;
use super::raw::{Fetched, copied};

/// Anything longer was not written by us.
pub const STATE_VALUE_MAX: usize = 512 * 1024;

const TIMEOUT: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(500);

/// One record of the state topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRecord {
    /// Its key.
    pub key: String,
    /// Its value; `None` takes away what the key had.
    pub value: Option<Vec<u8>>,
    /// Its headers, as far as they are text.
    pub headers: BTreeMap<String, String>,
    /// When the broker appended it.
    pub appended: Option<Timestamp>,
}

/// What the reader has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromState {
    /// A record, in the order of the topic. After the topic had to be opened again, all come again.
    Record(StateRecord),
    /// Everything that was there has been handed on.
    CaughtUp,
    /// The topic cannot be read, for this reason. It is tried again.
    Unreadable(String),
}

/// Reads the state topic.
pub struct StateReader {
    /// A consumer's settings.
    pub client: ClientConfig,
    /// The topic. Also what the client calls its group, which it never joins: librdkafka wants a name.
    pub topic: String,
    /// Where librdkafka's complaints go.
    pub complaints: Arc<Complaints>,
}

/// A consumer at the beginning of every partition; and the partitions that have records, with their ends.
type Opened = (StreamConsumer<Plain>, BTreeMap<i32, i64>);

impl ConsumerContext for Plain {}

impl StateReader {
    /// Reads, and tells what it reads, until `stop`.
    pub async fn run(self, tell: mpsc::Sender<FromState>, stop: CancellationToken) {
        let read = async {
            loop {
                let reason = match self.open().await {
                    Ok(Some((consumer, ends))) => follow(&consumer, ends, &tell).await,
                    // It is being made.
                    Ok(None) => None,
                    Err(reason) => Some(reason),
                };
                if let Some(reason) = reason
                    && tell.send(FromState::Unreadable(reason)).await.is_err()
                {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = read => {}
        }
    }

    /// Nothing when the topic is not there.
    async fn open(&self) -> Result<Option<Opened>, String> {
        let mut config = self.client.clone();
        config.set("group.id", &self.topic);
        // Small and read once: what is kept ready for a lane's speed would only be memory here.
        config.set("queued.max.messages.kbytes", "1024");
        // The only transactions here write the marks of replays, which are nothing to a lane. One that was killed would else keep an
        // operator's orders from every instance until the broker ends it.
        config.set("isolation.level", "read_uncommitted");
        let context = Plain(Arc::clone(&self.complaints));
        let topic = self.topic.clone();
        let opened = tokio::task::spawn_blocking(move || open(&config, context, &topic)).await;
        opened.map_err(|error| error.to_string())?
    }
}

fn open(config: &ClientConfig, context: Plain, topic: &str) -> Result<Option<Opened>, String> {
    let text = |error: KafkaError| error.to_string();
    let consumer: StreamConsumer<Plain> = config.create_with_context(context).map_err(text)?;
    let metadata = consumer
        .fetch_metadata(Some(topic), TIMEOUT)
        .map_err(text)?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let ids = found.map(|topic| topic.partitions().iter().map(|p| p.id()).collect());
    let partitions: BTreeSet<i32> = ids.unwrap_or_default();
    if partitions.is_empty() {
        return Ok(None);
    }
    let mut from = TopicPartitionList::new();
    for partition in &partitions {
        from.add_partition_offset(topic, *partition, Offset::Beginning)
            .map_err(text)?;
    }
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let watermarks = consumer.fetch_watermarks(topic, partition, TIMEOUT);
        let (low, high) = watermarks.map_err(text)?;
        if low < high {
            ends.insert(partition, high);
        }
    }
    consumer.assign(&from).map_err(text)?;
    Ok(Some((consumer, ends)))
}

/// Hands on what is read, until the topic must be opened again; gives the reason, if there is one to tell.
async fn follow(
    consumer: &StreamConsumer<Plain>,
    mut behind: BTreeMap<i32, i64>,
    tell: &mpsc::Sender<FromState>,
) -> Option<String> {
    let mut caught_up = false;
    loop {
        // The broker says that there is no more only after it has waited for more; where the end was is known before.
        if !caught_up && behind.is_empty() {
            caught_up = true;
            tell.send(FromState::CaughtUp).await.ok()?;
        }
        let word = match consumer.recv().await {
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                if behind.get(&partition).is_some_and(|end| offset + 1 >= *end) {
                    behind.remove(&partition);
                }
                record(&message).map(FromState::Record)
            }
            // What stands before the end may be nothing that is read.
            Err(KafkaError::PartitionEOF(partition)) => {
                behind.remove(&partition);
                None
            }
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::Fatal,
                ) => return Some(error.to_string()),
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    Some(FromState::Unreadable(error.to_string()))
                }
                // The client mends it by itself.
                _ => {
                    debug!(%error, "the state topic's consumer");
                    None
                }
            },
        };
        if let Some(word) = word
            && tell.send(word).await.is_err()
        {
            return None;
        }
    }
}

/// `None`: not written by us.
fn record(message: &BorrowedMessage<'_>) -> Option<StateRecord> {
    let Fetched::Record(record) = copied(message) else {
        return None;
    };
    let too_long = |value: &bytes::Bytes| value.len() > STATE_VALUE_MAX;
    if record.value.as_ref().is_some_and(too_long) {
        return None;
    }
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let headers = record
        .headers
        .iter()
        .filter_map(|header| Some((text(&header.name)?, text(header.value.as_deref()?)?)));
    Some(StateRecord {
        key: text(record.key.as_deref()?)?,
        headers: headers.collect(),
        value: record.value.map(|value| value.to_vec()),
        appended: record.timestamp,
    })
}

impl Producer {
    /// Writes a record of the state topic; `Ok` when every in-sync replica has it.
    ///
    /// # Errors
    /// When it is not known to be written; it may be.
    pub async fn write_state(
        &self,
        topic: &str,
        key: &str,
        value: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) -> Result<(), WriteError> {
        let mut own = OwnedHeaders::new_with_capacity(headers.len());
        for (key, value) in headers {
            let value = Some(*value);
            own = own.insert(Header { key, value });
        }
        self.write(topic, Some(key.as_bytes()), value, own).await
    }
}
