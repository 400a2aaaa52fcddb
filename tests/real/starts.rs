//! Where a group begins, and that it never steps over what is its to read.

use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);

fn record(topic: &str, partition: i32, value: &str) -> New {
    New::to(topic).partition(partition).value(value)
}

fn bodies(receiver: &Receiver) -> Vec<String> {
    let mut bodies: Vec<String> = receiver
        .attempts()
        .iter()
        .map(|a| String::from_utf8_lossy(a.body.as_deref().unwrap_or_default()).into_owned())
        .collect();
    bodies.sort();
    bodies
}

#[test]
fn latest_counts_once_and_a_partition_added_while_away_is_read_from_its_beginning() {
    let kafka = Broker::shared();
    kafka.create_topic("latest-in", 1, &[]);
    kafka.produce(&[record("latest-in", 0, "before the first start")]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "latest")
        .start_at("latest")
        .topics(&["latest-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    // The start is committed before anything is sent, so it is there although nothing was.
    wait_until(SOON, "the start is committed", || {
        kafka.committed("latest.hook").values().sum::<i64>() == 1
    });
    assert_eq!(relay.stop(SOON).code(), Some(0));
    kafka.produce(&[record("latest-in", 0, "while away")]);
    kafka.add_partitions("latest-in", 2);
    wait_until(SOON, "the partition is there", || {
        kafka.partitions("latest-in") == 2
    });
    kafka.produce(&[record("latest-in", 1, "new partition, while away")]);

    let _relay = Relay::start(&config);
    receiver.wait_accepted(2, SOON);
    wait_no_lag(kafka, "latest.hook", &["latest-in"]);
    assert_eq!(
        bodies(&receiver),
        ["new partition, while away", "while away"]
    );
}

#[test]
fn a_start_position_is_committed_before_the_first_send_even_when_nothing_can_be_sent() {
    let kafka = Broker::shared();
    kafka.create_topic("first-in", 2, &[]);
    kafka.produce(&[record("first-in", 0, "a"), record("first-in", 1, "b")]);
    let receiver = Receiver::start(|_| Answer::hang());
    let config = Config::new(kafka.brokers(), "first")
        .topics(&["first-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_attempts(2, SOON);
    let mut committed = kafka.committed("first.hook");
    committed.retain(|(topic, _), _| topic == "first-in");
    assert_eq!(
        committed.values().copied().collect::<Vec<_>>(),
        [0, 0],
        "{committed:?}"
    );
    relay.kill9();
}

#[test]
fn records_that_expired_unread_are_counted_and_said() {
    let kafka = Broker::shared();
    kafka.create_topic("expired-in", 1, &[]);
    kafka.produce(&vec![record("expired-in", 0, "a"); 10]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "expired")
        .topics(&["expired-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(10, SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    kafka.produce(&vec![record("expired-in", 0, "b"); 10]);
    kafka.delete_records("expired-in", 0, 15);
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(15, SOON);
    relay.wait_log("records expired before they were read", SOON);
    let lost = [
        ("destination", "hook"),
        ("topic", "expired-in"),
        ("cause", "retention"),
    ];
    assert_eq!(
        relay.metrics().sum("postrider_records_lost_total", &lost),
        5.0
    );
}

#[test]
fn transactions_and_aborted_records_leave_no_lag() {
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let kafka = Broker::shared();
    kafka.create_topic("tx-in", 1, &[]);
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", kafka.brokers())
        .set("transactional.id", "tx-in");
    let producer: BaseProducer = client.create().unwrap();
    producer.init_transactions(SOON).unwrap();
    for abort in [false, true, false, true] {
        producer.begin_transaction().unwrap();
        for _ in 0..10 {
            producer
                .send(BaseRecord::<(), str>::to("tx-in").payload("{}"))
                .map_err(|(e, _)| e)
                .unwrap();
        }
        producer.flush(SOON).unwrap();
        if abort {
            producer.abort_transaction(SOON).unwrap();
        } else {
            producer.commit_transaction(SOON).unwrap();
        }
    }
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "tx")
        .topics(&["tx-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let _relay = Relay::start(&config);
    receiver.wait_accepted(20, SOON);
    wait_no_lag(kafka, "tx.hook", &["tx-in"]);
    assert_eq!(receiver.attempt_count(), 20, "aborted records are nobody's");
}

#[test]
fn a_topic_made_again_while_it_is_read_is_read_from_its_beginning() {
    let kafka = Broker::shared();
    kafka.create_topic("again-in", 1, &[]);
    kafka.produce(&vec![record("again-in", 0, "first life"); 50]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "again")
        .topics(&["again-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(50, SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    // This one begins at 50, above everything the topic will have in its second life.
    let mut relay = Relay::start(&config);
    relay.wait_log("partition assigned", SOON);
    kafka.delete_topic("again-in");
    wait_until(SOON, "the topic is gone", || {
        !kafka.topics().contains("again-in")
    });
    kafka.create_topic("again-in", 1, &[]);
    kafka.produce(&vec![record("again-in", 0, "second life"); 20]);
    receiver.wait_attempts(70, SOON);
    wait_no_lag(kafka, "again.hook", &["again-in"]);
    relay.wait_log("offsets of the partition have gone back", SOON);
    assert!(relay.metrics().balance("hook").holds());
}

/// Kafka deletes the offsets of a group that had no members for `offsets.retention.minutes`; a
/// person can delete a group at any time.
#[test]
fn records_written_after_kafka_has_forgotten_the_group_are_not_stepped_over() {
    let kafka = Broker::shared();
    for start_at in ["latest", "earliest"] {
        let topic = format!("forgotten-{start_at}");
        let prefix = format!("forgotten-by-{start_at}");
        let group = format!("{prefix}.hook");
        kafka.create_topic(&topic, 1, &[]);
        let receiver = Receiver::ok();
        let config = Config::new(kafka.brokers(), &prefix)
            .start_at(start_at)
            .topics(&[&topic])
            .destination(Destination::new("hook", &receiver.url()));
        let mut relay = Relay::start(&config);
        wait_until(SOON, "the start is committed", || {
            kafka.committed(&group).contains_key(&(topic.clone(), 0))
        });
        let before: Vec<String> = (0..5).map(|n| format!("before {n}")).collect();
        kafka.produce(
            &before
                .iter()
                .map(|b| record(&topic, 0, b))
                .collect::<Vec<_>>(),
        );
        receiver.wait_accepted(5, SOON);
        assert_eq!(relay.stop(SOON).code(), Some(0));
        kafka.delete_group(&group);
        let after: Vec<String> = (0..4).map(|n| format!("after {n}")).collect();
        kafka.produce(
            &after
                .iter()
                .map(|b| record(&topic, 0, b))
                .collect::<Vec<_>>(),
        );

        let mut relay = Relay::start(&config);
        receiver.wait_accepted(9, SOON);
        relay.wait_log("Kafka has forgotten the position of the group", SOON);
        wait_no_lag(kafka, &group, &[&topic]);
        let mut all = [before, after].concat();
        all.sort();
        assert_eq!(bodies(&receiver), all, "each once, start_at = {start_at}");
    }
}

/// The kept position is one in a topic, not in a name.
#[test]
fn a_kept_position_says_nothing_of_a_topic_that_was_made_again() {
    let kafka = Broker::shared();
    kafka.create_topic("kept-again", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "kept-by")
        .topics(&["kept-again"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    kafka.produce(&[
        record("kept-again", 0, "old 1"),
        record("kept-again", 0, "old 2"),
    ]);
    receiver.wait_accepted(2, SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    kafka.delete_group("kept-by.hook");
    kafka.delete_topic("kept-again");
    kafka.create_topic("kept-again", 1, &[]);
    kafka.produce(&[
        record("kept-again", 0, "new 1"),
        record("kept-again", 0, "new 2"),
        record("kept-again", 0, "new 3"),
    ]);
    let _relay = Relay::start(&config);
    // Two of them have the places of the old ones, so requests are counted.
    receiver.wait_attempts(5, SOON);
    wait_no_lag(kafka, "kept-by.hook", &["kept-again"]);
    assert_eq!(
        bodies(&receiver),
        ["new 1", "new 2", "new 3", "old 1", "old 2"]
    );
}
