//! What tests do with a Kafka that runs, ours or librdkafka's mock: topics, records in, records out, offsets.
//!
//! Every call is plain and blocking, opens what it needs and closes it again, so that nothing of one test is left to the next.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header as HeaderView, Headers, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::{Offset, TopicPartitionList};

use super::place::{Header, New, Offsets, Place, Stored};
use super::wait::wait_until;
use super::wire;

/// No request of a test takes longer unless something is wrong.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A Kafka, by its address.
#[derive(Debug, Clone)]
pub struct Kafka {
    brokers: String,
}

impl Kafka {
    /// The Kafka at these bootstrap servers.
    pub fn at(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
        }
    }

    /// Its bootstrap servers.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Whether it answers a metadata request.
    pub fn answers(&self, timeout: Duration) -> bool {
        self.consumer("harness")
            .fetch_metadata(None, timeout)
            .is_ok()
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> String {
        self.consumer("harness")
            .client()
            .fetch_cluster_id(TIMEOUT)
            .expect("a cluster id")
    }

    /// Makes a topic and waits until every partition has a leader.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let results = block_on(self.admin().create_topics([&topic], &options()));
        results.expect("the request is answered")[0]
            .as_ref()
            .expect("the topic is made");
        self.wait_partitions(name, usize::try_from(partitions).expect("a count"));
    }

    /// Sets these settings of a topic, and every other to the broker's default.
    pub fn alter_topic(&self, name: &str, configs: &[(&str, &str)]) {
        let mut topic = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let results = block_on(self.admin().alter_configs([&topic], &options()));
        results.expect("the request is answered")[0]
            .as_ref()
            .expect("the settings are taken");
    }

    /// What a setting of a topic is, wherever that comes from.
    pub fn topic_setting(&self, topic: &str, setting: &str) -> String {
        let asked = [ResourceSpecifier::Topic(topic)];
        let answer = block_on(self.admin().describe_configs(&asked, &options()));
        let topic = answer.expect("the request is answered").remove(0);
        let entries = topic.expect("the settings are told").entries;
        let found = entries.into_iter().find(|entry| entry.name == setting);
        found.and_then(|entry| entry.value).unwrap_or_default()
    }

    /// Gives a topic more partitions, `total` in all.
    pub fn add_partitions(&self, name: &str, total: usize) {
        let more = NewPartitions::new(name, total);
        let results = block_on(self.admin().create_partitions([&more], &options()));
        results.expect("the request is answered")[0]
            .as_ref()
            .expect("the partitions are made");
        self.wait_partitions(name, total);
    }

    /// Removes a topic and waits until the broker does not know it.
    pub fn delete_topic(&self, name: &str) {
        let results = block_on(self.admin().delete_topics(&[name], &options()));
        results.expect("the request is answered")[0]
            .as_ref()
            .expect("the topic is removed");
        wait_until(TIMEOUT, &format!("topic {name} is gone"), || {
            !self.topics().contains(name)
        });
    }

    /// Deletes a group that has no members, with everything that it had committed; waits until its
    /// last member is gone.
    pub fn delete_group(&self, group: &str) {
        wait_until(TIMEOUT, &format!("group {group} is deleted"), || {
            let results = block_on(self.admin().delete_groups(&[group], &options()));
            results.is_ok_and(|results| results.iter().all(Result::is_ok))
        });
    }

    /// Removes every record of a partition below `offset`, as retention would.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .expect("an offset");
        block_on(self.admin().delete_records(&list, &options())).expect("the records are removed");
    }

    /// Every topic there is.
    pub fn topics(&self) -> BTreeSet<String> {
        let consumer = self.consumer("harness");
        let metadata = consumer.fetch_metadata(None, TIMEOUT).expect("metadata");
        metadata
            .topics()
            .iter()
            .map(|t| t.name().to_owned())
            .collect()
    }

    /// The number of partitions of a topic; 0 when there is no such topic.
    pub fn partitions(&self, topic: &str) -> i32 {
        let consumer = self.consumer("harness");
        let metadata = consumer
            .fetch_metadata(Some(topic), TIMEOUT)
            .expect("metadata");
        let count = metadata.topics().iter().find(|t| t.name() == topic);
        count.map_or(0, |t| i32::try_from(t.partitions().len()).expect("a count"))
    }

    /// Produces the records, each partition's in the order given, and says where each one is. Panics unless all are acknowledged.
    pub fn produce(&self, records: &[New]) -> Vec<Stored> {
        let (plain, raw): (Vec<_>, Vec<_>) = records.iter().enumerate().partition(|(_, r)| {
            r.headers
                .iter()
                .all(|(name, _)| std::str::from_utf8(name).is_ok())
        });
        let mut stored = self.produce_plain(&plain);
        for (index, record) in raw {
            stored.push((index, wire::produce(&self.brokers, record)));
        }
        stored.sort_by_key(|(index, _)| *index);
        stored.into_iter().map(|(_, record)| record).collect()
    }

    /// Begins a transaction with a record of no use, and leaves it open.
    pub fn begin_transaction(&self, id: &str, topic: &str) -> BaseProducer {
        let mut client = self.client();
        let producer: BaseProducer = client
            .set("transactional.id", id)
            .set("transaction.timeout.ms", "600000")
            .create()
            .expect("a producer");
        producer.init_transactions(TIMEOUT).expect("the id is free");
        producer.begin_transaction().expect("it is begun");
        let record = BaseRecord::<[u8], [u8]>::to(topic).payload(b"open");
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("it is queued");
        producer.flush(TIMEOUT).expect("it is written");
        producer
    }

    /// Every record of a topic, by partition and offset; of transactions only what was committed.
    pub fn read_all(&self, topic: &str) -> Vec<Stored> {
        let consumer = self.consumer("harness-reader");
        let partitions = self.partitions(topic);
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        list.set_all_offsets(Offset::Beginning).expect("a position");
        consumer.assign(&list).expect("an assignment");
        drop(list);
        let (mut ended, mut stored) = (BTreeSet::new(), vec![]);
        let begin = Instant::now();
        while ended.len() < usize::try_from(partitions).expect("a count") {
            assert!(
                begin.elapsed() < TIMEOUT * 4,
                "{topic} was not read to its end in time"
            );
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => stored.push(self.stored(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(error))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OffsetOutOfRange) => {}
                Some(Err(error)) => panic!("reading {topic}: {error}"),
                None => {}
            }
        }
        stored.sort_by(|a, b| a.place.cmp(&b.place));
        stored
    }

    /// Commits an offset for a group without members, with metadata of any bytes.
    pub fn commit(&self, group: &str, place: &Place, metadata: &[u8]) {
        // Asking first makes the broker load the group.
        self.committed(group);
        wire::commit(&self.brokers, group, place, metadata);
    }

    /// What a group has committed; partitions without a committed offset are absent.
    pub fn committed(&self, group: &str) -> Offsets {
        let consumer = self.consumer(group);
        let list = self.every_partition(&consumer);
        let committed = consumer
            .committed_offsets(list, TIMEOUT)
            .expect("committed offsets");
        let mut offsets = Offsets::new();
        for element in committed.elements() {
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert((element.topic().to_owned(), element.partition()), offset);
            }
        }
        offsets
    }

    /// The first offset and the one after the last, by partition.
    pub fn watermarks(&self, topic: &str) -> Vec<(i64, i64)> {
        let consumer = self.consumer("harness");
        let one = |partition| consumer.fetch_watermarks(topic, partition, TIMEOUT);
        (0..self.partitions(topic))
            .map(|p| one(p).expect("watermarks"))
            .collect()
    }

    /// The offset after the last one, by partition.
    pub fn end_offsets(&self, topic: &str) -> Offsets {
        let ends = self.watermarks(topic).into_iter().map(|(_, high)| high);
        (0..)
            .zip(ends)
            .map(|(partition, high)| ((topic.to_owned(), partition), high))
            .collect()
    }

    /// How many records a group has still to read of a topic. A partition without a committed offset counts whole.
    pub fn lag(&self, group: &str, topic: &str) -> i64 {
        let committed = self.committed(group);
        let marks = (0..).zip(self.watermarks(topic));
        marks
            .map(|(partition, (low, high))| {
                high - committed
                    .get(&(topic.to_owned(), partition))
                    .copied()
                    .unwrap_or(low)
            })
            .sum()
    }

    /// The members of a group at this moment, by client id and host.
    pub fn members(&self, group: &str) -> usize {
        let consumer = self.consumer("harness");
        let groups = consumer
            .fetch_group_list(Some(group), TIMEOUT)
            .expect("a group list");
        groups
            .groups()
            .iter()
            .filter(|g| g.name() == group)
            .map(|g| g.members().len())
            .sum()
    }

    fn produce_plain(&self, records: &[(usize, &New)]) -> Vec<(usize, Stored)> {
        if records.is_empty() {
            return vec![];
        }
        let producer: ThreadedProducer<Reports> = self
            .client()
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.max.bytes", "20000000")
            .set("queue.buffering.max.messages", "1000000")
            .create_with_context(Reports::default())
            .expect("a producer");
        for (index, record) in records {
            let mut outgoing = base_record(record, *index);
            while let Err((error, again)) = producer.send(outgoing) {
                let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                assert!(full, "producing to {}: {error}", record.topic);
                std::thread::sleep(Duration::from_millis(5));
                outgoing = again;
            }
        }
        producer
            .flush(TIMEOUT * 2)
            .expect("every record is acknowledged in time");
        let reports = producer.context().reports.lock().unwrap();
        assert_eq!(reports.len(), records.len(), "every record is reported");
        let record = |index: usize| &records[records.partition_point(|(i, _)| *i < index)].1;
        let stored = |(index, result): &(usize, Result<Report, String>)| match result {
            Ok(report) => (*index, report.stored(record(*index))),
            Err(error) => panic!("producing to {}: {error}", record(*index).topic),
        };
        reports.iter().map(stored).collect()
    }

    fn stored(&self, message: &BorrowedMessage<'_>) -> Stored {
        let place = Place::new(message.topic(), message.partition(), message.offset());
        // The client library panics on a header name that is not UTF-8; the wire gives it as it is.
        let headers = catch_unwind(AssertUnwindSafe(|| headers(message)));
        let headers = headers.unwrap_or_else(|_| wire::fetch(&self.brokers, &place).headers);
        let bytes = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
        Stored {
            timestamp: message.timestamp().to_millis(),
            key: bytes(message.key()),
            value: bytes(message.payload()),
            headers,
            place,
        }
    }

    fn every_partition(&self, consumer: &BaseConsumer<Quiet>) -> TopicPartitionList {
        let metadata = consumer.fetch_metadata(None, TIMEOUT).expect("metadata");
        let mut list = TopicPartitionList::new();
        for topic in metadata
            .topics()
            .iter()
            .filter(|t| !t.name().starts_with("__"))
        {
            for partition in topic.partitions() {
                list.add_partition(topic.name(), partition.id());
            }
        }
        list
    }

    fn wait_partitions(&self, topic: &str, count: usize) {
        let consumer = self.consumer("harness");
        wait_until(
            TIMEOUT,
            &format!("topic {topic} has {count} partitions"),
            || {
                let metadata = consumer
                    .fetch_metadata(Some(topic), TIMEOUT)
                    .expect("metadata");
                let topic = metadata.topics().iter().find(|t| t.name() == topic);
                topic.is_some_and(|t| {
                    t.partitions().iter().filter(|p| p.leader() >= 0).count() == count
                })
            },
        );
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("reconnect.backoff.max.ms", "500")
            .set("enable.metrics.push", "false")
            .set_log_level(RDKafkaLogLevel::Emerg);
        config
    }

    fn consumer(&self, group: &str) -> BaseConsumer<Quiet> {
        self.client()
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "20")
            .create_with_context(Quiet)
            .expect("a consumer")
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client")
    }
}

/// A client that says nothing by itself: results tell what went wrong.
#[derive(Debug, Clone, Copy)]
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

/// Collects where each record went, by its index.
#[derive(Debug, Default)]
struct Reports {
    reports: Mutex<Vec<(usize, Result<Report, String>)>>,
}

/// Where one record went.
#[derive(Debug)]
struct Report {
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
}

impl Report {
    fn stored(&self, record: &New) -> Stored {
        Stored {
            place: Place::new(&record.topic, self.partition, self.offset),
            timestamp: self.timestamp,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        let report = match result {
            Ok(message) => Ok(Report {
                partition: message.partition(),
                offset: message.offset(),
                timestamp: message.timestamp().to_millis(),
            }),
            Err((error, _)) => Err(error.to_string()),
        };
        self.reports.lock().unwrap().push((*index, report));
    }
}

fn base_record(record: &New, index: usize) -> BaseRecord<'_, [u8], [u8], Box<usize>> {
    let mut outgoing = BaseRecord::with_opaque_to(&record.topic, Box::new(index));
    if let Some(partition) = record.partition {
        outgoing = outgoing.partition(partition);
    }
    if let Some(timestamp) = record.timestamp {
        outgoing = outgoing.timestamp(timestamp);
    }
    if let Some(key) = &record.key {
        outgoing = outgoing.key(key.as_slice());
    }
    if let Some(value) = &record.value {
        outgoing = outgoing.payload(value.as_slice());
    }
    if !record.headers.is_empty() {
        let add = |headers: OwnedHeaders, (name, value): &Header| {
            let key = std::str::from_utf8(name).expect("others go by wire");
            headers.insert(HeaderView {
                key,
                value: value.as_ref(),
            })
        };
        outgoing = outgoing.headers(record.headers.iter().fold(OwnedHeaders::new(), add));
    }
    outgoing
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let Some(headers) = message.headers() else {
        return vec![];
    };
    headers
        .iter()
        .map(|h| (h.key.as_bytes().to_vec(), h.value.map(<[u8]>::to_vec)))
        .collect()
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(TIMEOUT))
        .request_timeout(Some(TIMEOUT))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}
