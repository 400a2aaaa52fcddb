//! The embedded broker: librdkafka's mock cluster, real TCP on 127.0.0.1. Good for showing, never the proof of a promise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::Offset;

use crate::clock::{Clock, Tick};

use super::notifications::{Notification, TOPICS};

/// Where the dead letters of the demo lie.
pub(super) const DEAD_LETTERS: &str = "postrider.dead-letters";

/// Where the relay keeps what operators asked for.
const STATE: &str = "postrider.state";

const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// A broker with GraphSpace's topics, each with one partition as in GraphSpace's own set-up.
pub(super) struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

/// A dead letter, as its headers tell it.
#[derive(Debug, Clone)]
pub(super) struct DeadLetter {
    /// Where it lies.
    pub(super) at: Origin,
    headers: BTreeMap<String, String>,
}

impl DeadLetter {
    /// What the header `postrider-{name}` says; empty when it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(&format!("postrider-{name}"))
            .map_or("", String::as_str)
    }
}

impl EmbeddedBroker {
    pub(super) fn start() -> anyhow::Result<Self> {
        let cluster = MockCluster::new(1).context("the embedded broker does not start")?;
        for topic in TOPICS.into_iter().chain([DEAD_LETTERS, STATE]) {
            cluster
                .create_topic(topic, 1, 1)
                .with_context(|| format!("topic {topic}"))?;
        }
        Ok(Self { cluster })
    }

    pub(super) fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// The producer that stands for GraphSpace.
    pub(super) fn producer(&self, clock: Clock) -> anyhow::Result<Graphspace> {
        let client = client(&self.address())
            .create()
            .context("the demo's producer cannot be made")?;
        Ok(Graphspace {
            client,
            clock,
            produced: Arc::default(),
        })
    }

    /// What lies in the dead-letter topic, read back from the broker.
    pub(super) async fn dead_letters(&self) -> anyhow::Result<Vec<DeadLetter>> {
        let config = reader(&self.address(), "demo");
        tokio::task::spawn_blocking(move || read_all(&config, DEAD_LETTERS))
            .await?
            .context("the dead letters cannot be read")
    }

    /// Where `group` stands in each of `topics`, and where the topic ends.
    pub(super) async fn positions(
        &self,
        group: &str,
        topics: &[&'static str],
    ) -> anyhow::Result<Vec<(i64, i64)>> {
        let config = reader(&self.address(), group);
        let topics = topics.to_vec();
        tokio::task::spawn_blocking(move || positions(&config, &topics)).await?
    }
}

/// Stands for GraphSpace: writes notifications and remembers when.
#[derive(Clone)]
pub(super) struct Graphspace {
    client: FutureProducer,
    clock: Clock,
    produced: Arc<Mutex<BTreeMap<Origin, Tick>>>,
}

impl Graphspace {
    /// Writes one notification, without key and headers as GraphSpace does.
    pub(super) async fn produce(&self, notification: &Notification) -> anyhow::Result<()> {
        let mut record: FutureRecord<'_, (), str> = FutureRecord::to(notification.topic);
        if let Some(value) = &notification.value {
            record = record.payload(value.as_str());
        }
        let at = self.clock.now().tick;
        let written = self.client.send(record, TIMEOUT).await;
        let written = written
            .map_err(|(error, _)| anyhow!(error))
            .context("a notification could not be produced")?;
        let topic = notification.topic.to_owned();
        let origin = Origin {
            topic,
            partition: written.partition,
            offset: written.offset,
        };
        self.produced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(origin, at);
        Ok(())
    }

    /// When the record at `origin` was handed to the broker.
    pub(super) fn produced_at(&self, origin: &Origin) -> Option<Tick> {
        self.produced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(origin)
            .copied()
    }

    /// How many the broker has in `topics`.
    pub(super) fn count(&self, topics: &[&str]) -> u64 {
        let produced = self.produced.lock().unwrap_or_else(PoisonError::into_inner);
        produced
            .keys()
            .filter(|origin| topics.contains(&origin.topic.as_str()))
            .count() as u64
    }
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("enable.metrics.push", "false");
    config
}

/// A consumer that joins no group; `group` is whose positions it asks for.
fn reader(address: &str, group: &str) -> ClientConfig {
    let mut config = client(address);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "10");
    config
}

/// Reads the one partition of `topic` from its beginning to its end.
fn read_all(config: &ClientConfig, topic: &str) -> anyhow::Result<Vec<DeadLetter>> {
    let consumer: BaseConsumer = config.create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    // A list that outlives the last use of its consumer keeps it from closing.
    drop(from);
    let (low, end) = consumer.fetch_watermarks(topic, 0, TIMEOUT)?;
    let mut found = Vec::new();
    let mut next = low;
    while next < end {
        let message = consumer.poll(TIMEOUT).context("no answer within 5 s")??;
        next = message.offset() + 1;
        found.push(dead_letter(&message));
    }
    Ok(found)
}

fn dead_letter(message: &BorrowedMessage<'_>) -> DeadLetter {
    let at = Origin {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
    };
    let text =
        |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), text(header.value)))
            .collect()
    });
    DeadLetter {
        at,
        headers: headers.unwrap_or_default(),
    }
}

fn positions(config: &ClientConfig, topics: &[&str]) -> anyhow::Result<Vec<(i64, i64)>> {
    let consumer: BaseConsumer = config.create()?;
    let mut found = Vec::new();
    for topic in topics {
        let (_, end) = consumer.fetch_watermarks(topic, 0, TIMEOUT)?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        let answer = consumer.committed_offsets(asked, TIMEOUT)?;
        let committed = answer
            .find_partition(topic, 0)
            .map(|partition| partition.offset());
        let Some(Offset::Offset(committed)) = committed else {
            return Err(anyhow!("nothing is committed for topic {topic}"));
        };
        found.push((committed, end));
    }
    Ok(found)
}
