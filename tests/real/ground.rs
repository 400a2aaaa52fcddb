//! The ground itself: does the harness' broker do what the other tests take for granted?

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::broker::Broker;
use crate::harness::kafka::Kafka;
use crate::harness::place::{New, Stored};

/// Commits offsets for a group that has no members.
fn commit(kafka: &Kafka, group: &str, topic: &str, partition: i32, offset: i64) {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.brokers())
        .set("group.id", group);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))
        .unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

fn numbered(topic: &str, partitions: i32, count: usize) -> Vec<New> {
    let partition = |n: usize| i32::try_from(n).unwrap() % partitions;
    (0..count)
        .map(|n| {
            New::to(topic)
                .partition(partition(n))
                .key(n.to_string())
                .value(format!("value {n}"))
        })
        .collect()
}

#[test]
fn records_come_back_as_they_were_produced() {
    let kafka = Broker::shared();
    kafka.create_topic("ground-bytes", 2, &[("max.message.bytes", "10000000")]);
    let odd = [
        New::to("ground-bytes")
            .partition(0)
            .key("k")
            .value("v")
            .header("a", "1")
            .header("a", "2")
            .null_header("b"),
        New::to("ground-bytes").partition(0),
        New::to("ground-bytes")
            .partition(1)
            .key("")
            .value("")
            .timestamp(1_700_000_000_123),
        New::to("ground-bytes")
            .partition(1)
            .key([0xff, 0xfe])
            .value([0xc3, 0x28])
            .header("bad value", [0xff]),
        New::to("ground-bytes")
            .partition(1)
            .value(vec![b'x'; 5_000_000]),
        New::to("ground-bytes")
            .partition(0)
            .value("v")
            .header([0xff, b'n'], "v")
            .header("good", "g"),
    ];
    let mut produced = kafka.produce(&odd);
    assert_eq!(produced[2].timestamp, Some(1_700_000_000_123));
    assert_eq!(produced[5].headers[0].0, [0xff, b'n']);
    produced.sort_by(|a, b| a.place.cmp(&b.place));
    let read = kafka.read_all("ground-bytes");
    assert_eq!(read.len(), produced.len());
    for (read, produced) in read.iter().zip(&produced) {
        assert!(read == produced, "{} differs", produced.place);
    }
    let ends: Vec<i64> = kafka.end_offsets("ground-bytes").into_values().collect();
    assert_eq!(ends, [3, 3]);
    assert_eq!(kafka.cluster_id().len(), 22);
}

#[test]
fn twenty_thousand_records_are_produced_in_order() {
    let kafka = Broker::shared();
    kafka.create_topic("ground-many", 8, &[]);
    let begin = std::time::Instant::now();
    let produced = kafka.produce(&numbered("ground-many", 8, 20_000));
    let took = begin.elapsed();
    assert!(
        took < Duration::from_secs(20),
        "20,000 records took {took:?}"
    );
    for (n, record) in produced.iter().enumerate() {
        assert_eq!(record.place.offset, i64::try_from(n / 8).unwrap());
    }
    let mut read: Vec<Stored> = kafka.read_all("ground-many");
    read.sort_by_key(|r| {
        std::str::from_utf8(r.key.as_ref().unwrap())
            .unwrap()
            .parse::<u32>()
            .unwrap()
    });
    assert!(read == produced, "read and produced differ");
}

#[test]
fn topics_offsets_and_groups() {
    let kafka = Broker::shared();
    kafka.create_topic("ground-topics", 1, &[]);
    kafka.add_partitions("ground-topics", 3);
    assert_eq!(kafka.partitions("ground-topics"), 3);
    kafka.produce(&numbered("ground-topics", 3, 30));
    assert!(kafka.committed("ground-group").is_empty());
    assert_eq!(kafka.lag("ground-group", "ground-topics"), 30);
    commit(kafka, "ground-group", "ground-topics", 1, 7);
    let committed = kafka.committed("ground-group");
    assert_eq!(committed.len(), 1);
    assert_eq!(committed[&("ground-topics".to_owned(), 1)], 7);
    assert_eq!(kafka.lag("ground-group", "ground-topics"), 23);
    kafka.delete_records("ground-topics", 2, 4);
    assert_eq!(
        kafka.watermarks("ground-topics"),
        [(0, 10), (0, 10), (4, 10)]
    );
    assert_eq!(kafka.read_all("ground-topics").len(), 26);
    assert_eq!(kafka.members("ground-group"), 0);
    kafka.delete_topic("ground-topics");
    assert!(!kafka.topics().contains("ground-topics"));
}

/// Every way to hurt a broker, on one version; what was acknowledged before is there after.
fn survives(version: &str) {
    let broker = Broker::builder()
        .version(version)
        .property("message.max.bytes", "2000000")
        .start();
    broker.create_topic("ground", 2, &[]);
    let mut produced = broker.produce(&numbered("ground", 2, 100));
    commit(&broker, "group", "ground", 0, 50);
    let brokers = broker.brokers().to_owned();

    let status = broker.stop();
    assert!(!broker.is_running());
    assert!(
        !broker.answers(Duration::from_millis(300)),
        "a broker that was stopped answers"
    );
    // Java ends with 128 + SIGTERM after an orderly end.
    assert_eq!(status.code(), Some(143), "{status}");
    broker.restart();
    assert_eq!(broker.brokers(), brokers);
    assert_eq!(broker.read_all("ground").len(), 100);

    produced.extend(broker.produce(&numbered("ground", 2, 100)));
    broker.kill9();
    assert!(
        !broker.answers(Duration::from_millis(300)),
        "a broker that was killed answers"
    );
    broker.restart();

    broker.freeze();
    assert!(broker.is_running());
    assert!(
        !broker.answers(Duration::from_millis(300)),
        "a frozen broker answers"
    );
    broker.thaw();
    assert!(
        broker.answers(Duration::from_secs(10)),
        "a broker that was thawed does not answer"
    );

    produced.sort_by(|a, b| a.place.cmp(&b.place));
    assert!(
        broker.read_all("ground") == produced,
        "read and produced differ"
    );
    assert_eq!(broker.committed("group")[&("ground".to_owned(), 0)], 50);
}

#[test]
fn a_broker_4_1_is_stopped_killed_frozen_and_comes_back_with_its_data() {
    survives("4.1.0");
}

#[test]
fn a_broker_3_9_is_stopped_killed_frozen_and_comes_back_with_its_data() {
    survives("3.9.1");
}
