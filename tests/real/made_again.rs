//! Topics that are deleted, and made again under the same name; and records that expire while a person is to decide.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::{New, Place};
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::relay::{Relay, binary};
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(60);

fn records(topic: &str, name: &str, count: usize) -> Vec<New> {
    let value = |n: usize| New::to(topic).partition(0).value(format!("{name}-{n}"));
    (0..count).map(value).collect()
}

/// A receiver that takes long for what is early: the window stays full meanwhile, and nothing is read on.
fn slow_for_early() -> Receiver {
    Receiver::start(
        |request: &Request| match request.body.starts_with(b"early") {
            true => Answer::ok().after(Duration::from_secs(20)),
            false => Answer::ok(),
        },
    )
}

/// A destination with room for so many records.
fn narrow(receiver: &Receiver, records: usize) -> Destination {
    Destination::new("hook", &receiver.url())
        .lane(&format!(
            "window = {{ records = {records} }}\nconcurrency = {}",
            records.max(16)
        ))
        .webhook("timeouts = { total = \"60s\" }")
}

/// The values that were accepted and begin with this.
fn accepted(receiver: &Receiver, name: &str) -> BTreeSet<String> {
    let attempts = receiver.attempts().into_iter().filter(|a| a.accepted());
    let values = attempts.map(|a| String::from_utf8(a.body.unwrap().to_vec()).unwrap());
    values.filter(|value| value.starts_with(name)).collect()
}

fn committed_metadata(kafka: &Broker, group: &str, topic: &str) -> String {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", kafka.brokers())
        .set("group.id", group);
    let consumer: BaseConsumer = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let committed = consumer.committed_offsets(list, SOON).unwrap();
    committed.elements()[0].metadata().to_owned()
}

#[test]
fn a_topic_made_again_while_it_is_read_is_read_from_its_beginning_however_far_it_has_grown() {
    let kafka = Broker::start();
    kafka.create_topic("again-in", 1, &[]);
    kafka.create_topic("other-in", 1, &[]);
    kafka.produce(&records("again-in", "old", 50));
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "again")
        .kafka("topic_refresh = \"2s\"")
        .topics(&["again-in", "other-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(50, SOON);
    wait_no_lag(&kafka, "again.hook", &["again-in"]);
    kafka.delete_topic("again-in");
    kafka.create_topic("again-in", 1, &[]);
    kafka.produce(&records("again-in", "new", 300));
    wait_until(SOON, "all of the new topic is delivered", || {
        accepted(&receiver, "new").len() == 300
    });
    relay.wait_log("the topic was deleted and made again", SOON);
    wait_no_lag(&kafka, "again.hook", &["again-in"]);

    // A topic that stays away is named, once, and the other one goes on. It may have been missed before, between its end and its beginning.
    let said = |relay: &Relay| relay.log().matches("the topic does not exist").count();
    let before = said(&relay);
    kafka.delete_topic("again-in");
    wait_until(SOON, "it is missed", || said(&relay) > before);
    let line = relay.wait_log("the topic does not exist (any more)", SOON);
    assert!(line.contains("again-in"), "{line}");
    kafka.produce(&records("other-in", "other", 10));
    wait_until(SOON, "the other topic is read", || {
        accepted(&receiver, "other").len() == 10
    });
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(said(&relay), before + 1, "it is said once");
    kafka.create_topic("again-in", 1, &[]);
    kafka.produce(&records("again-in", "third", 5));
    wait_until(SOON, "it is read as soon as it is there", || {
        accepted(&receiver, "third").len() == 5
    });
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn a_topic_whose_offsets_went_with_it_is_read_from_its_beginning_though_the_file_says_latest() {
    let kafka = Broker::start();
    kafka.create_topic("latest-in", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "latest")
        .kafka("topic_refresh = \"1s\"")
        .start_at("latest")
        .topics(&["latest-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_log("partition assigned", SOON);
    kafka.produce(&records("latest-in", "old", 5));
    receiver.wait_accepted(5, SOON);
    wait_no_lag(&kafka, "latest.hook", &["latest-in"]);
    kafka.delete_topic("latest-in");
    relay.wait_log("the topic does not exist (any more)", SOON);
    kafka.create_topic("latest-in", 1, &[]);
    kafka.produce(&records("latest-in", "new", 20));
    wait_until(SOON, "all of the new topic is delivered", || {
        accepted(&receiver, "new").len() == 20
    });
    relay.wait_log("the topic was deleted and made again", SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn an_offset_of_the_topic_that_was_deleted_is_not_believed_at_a_start() {
    let kafka = Broker::start();
    kafka.create_topic("twice-in", 1, &[]);
    kafka.produce(&records("twice-in", "old", 20));
    let receiver = Receiver::ok();
    // A commit for the old topic that reaches Kafka when the new one is there: Kafka takes it for the new one.
    let config = Config::new(kafka.brokers(), "twice")
        .kafka("topic_refresh = \"1h\"")
        .topics(&["twice-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(20, SOON);
    wait_no_lag(&kafka, "twice.hook", &["twice-in"]);
    let metadata = committed_metadata(&kafka, "twice.hook", "twice-in");
    assert_eq!(relay.stop(SOON).code(), Some(0));
    kafka.delete_topic("twice-in");
    kafka.create_topic("twice-in", 1, &[]);
    kafka.produce(&records("twice-in", "new", 60));
    let place = Place::new("twice-in", 0, 20);
    kafka.commit("twice.hook", &place, metadata.as_bytes());
    let mut relay = Relay::start(&config);
    wait_until(SOON, "all of the new topic is delivered", || {
        accepted(&receiver, "new").len() == 60
    });
    relay.wait_log("the topic was deleted and made again", SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn where_records_expired_unread_a_person_may_want_to_decide() {
    let kafka = Broker::start();
    kafka.create_topic("decide-in", 2, &[]);
    kafka.produce(&records("decide-in", "first", 10));
    let receiver = Receiver::ok();
    let config = |policy: &str| {
        Config::new(kafka.brokers(), "decide")
            .kafka(&format!("on_records_lost = \"{policy}\""))
            .topics(&["decide-in"])
            .destination(Destination::new("hook", &receiver.url()))
    };
    let mut relay = Relay::start(&config("stop"));
    receiver.wait_accepted(10, SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    kafka.produce(&records("decide-in", "second", 10));
    kafka.delete_records("decide-in", 0, 15);
    let mut relay = Relay::start(&config("stop"));
    relay.wait_log("nothing of this partition is read", SOON);
    kafka.produce(&[New::to("decide-in").partition(1).value("elsewhere")]);
    wait_until(SOON, "the other partition is read", || {
        accepted(&receiver, "elsewhere").len() == 1
    });
    assert!(accepted(&receiver, "second").is_empty());
    let (code, ready) = relay.get("/readyz").unwrap();
    assert!(
        code == 503 && ready.contains("5 records of decide-in partition 0 expired"),
        "{ready}"
    );
    let lost = [("destination", "hook"), ("topic", "decide-in")];
    let metrics = relay.metrics();
    assert_eq!(metrics.sum("postrider_records_lost_total", &lost), 5.0);
    let output = binary()
        .arg("-c")
        .arg(relay.file())
        .arg("status")
        .output()
        .unwrap();
    let status = String::from_utf8_lossy(&output.stdout);
    assert!(
        status.contains("stands still: 5 records expired"),
        "{status}"
    );
    assert_eq!(relay.stop(SOON).code(), Some(0));

    let mut relay = Relay::start(&config("earliest"));
    wait_until(SOON, "what is left is read after the decision", || {
        accepted(&receiver, "second").len() == 5
    });
    wait_no_lag(&kafka, "decide.hook", &["decide-in"]);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn records_that_expire_while_their_partition_is_not_read_on_are_counted() {
    let kafka = Broker::start();
    kafka.create_topic("slow-in", 1, &[]);
    kafka.produce(&records("slow-in", "early", 10));
    let receiver = slow_for_early();
    let config = Config::new(kafka.brokers(), "slow")
        .topics(&["slow-in"])
        .destination(narrow(&receiver, 10));
    let mut relay = Relay::start_loud(&config);
    wait_until(SOON, "the window is full", || {
        receiver.attempt_count() == 10
    });
    // Without room nothing more is fetched, after some seconds; before, records would be read although they have expired.
    relay.wait_log("no room for long: partitions paused", SOON);
    kafka.produce(&records("slow-in", "late", 400));
    kafka.delete_records("slow-in", 0, 310);
    assert!(accepted(&receiver, "early").is_empty(), "too late");
    wait_until(SOON, "what is left is delivered", || {
        accepted(&receiver, "late").len() == 100
    });
    assert_eq!(accepted(&receiver, "early").len(), 10, "was read before");
    relay.wait_log("records expired before they were read", SOON);
    wait_no_lag(&kafka, "slow.hook", &["slow-in"]);
    let lost = [("destination", "hook"), ("topic", "slow-in")];
    let lost = relay.metrics().sum("postrider_records_lost_total", &lost);
    assert_eq!(lost, 300.0);
    assert_eq!(receiver.attempt_count(), 110, "nothing is repeated");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn a_partition_whose_records_expired_while_it_was_paused_waits_for_a_person() {
    let kafka = Broker::start();
    kafka.create_topic("halt-in", 1, &[]);
    kafka.produce(&records("halt-in", "early", 5));
    let receiver = slow_for_early();
    let config = Config::new(kafka.brokers(), "halt")
        .kafka("on_records_lost = \"stop\"")
        .topics(&["halt-in"])
        .destination(narrow(&receiver, 5));
    let mut relay = Relay::start_loud(&config);
    relay.wait_log("no room for long: partitions paused", SOON);
    kafka.produce(&records("halt-in", "late", 40));
    kafka.delete_records("halt-in", 0, 25);
    relay.wait_log("nothing more of this partition is read", SOON);
    wait_until(SOON, "what was read before is delivered", || {
        accepted(&receiver, "early").len() == 5
    });
    kafka.produce(&records("halt-in", "more", 5));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(receiver.attempt_count(), 5, "nobody has decided yet");
    let lost = [("destination", "hook"), ("topic", "halt-in")];
    let lost = relay.metrics().sum("postrider_records_lost_total", &lost);
    assert_eq!(lost, 20.0);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    let place = ("halt-in".to_owned(), 0);
    assert_eq!(kafka.committed("halt.hook").get(&place), Some(&5));
}

#[test]
fn partitions_that_go_astray_together_are_all_read_on() {
    const PARTITIONS: i32 = 96;
    let kafka = Broker::start();
    kafka.create_topic("wide-in", PARTITIONS, &[]);
    let on_each = |name: &str, count: usize| -> Vec<New> {
        let of = |p: i32| move |n: usize| (p, n);
        let places = (0..PARTITIONS).flat_map(|p| (0..count).map(of(p)));
        let record = |(p, n)| {
            let value = format!("{name}-{p}-{n}");
            New::to("wide-in").partition(p).value(value)
        };
        places.map(record).collect()
    };
    kafka.produce(&on_each("early", 1));
    let receiver = slow_for_early();
    let config = Config::new(kafka.brokers(), "wide")
        .topics(&["wide-in"])
        .destination(narrow(&receiver, 96));
    let mut relay = Relay::start_loud(&config);
    relay.wait_log("no room for long: partitions paused", SOON);
    kafka.produce(&on_each("late", 3));
    for partition in 0..PARTITIONS {
        kafka.delete_records("wide-in", partition, 2);
    }
    wait_until(SOON, "what is left is delivered", || {
        accepted(&receiver, "late").len() == 2 * PARTITIONS as usize
    });
    wait_no_lag(&kafka, "wide.hook", &["wide-in"]);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn what_is_written_where_a_broker_has_lost_its_last_records_is_delivered() {
    the_end_of_the_log_is_lost("cut", false);
}

#[test]
fn the_same_when_nobody_reads_meanwhile() {
    the_end_of_the_log_is_lost("cut-away", true);
}

fn the_end_of_the_log_is_lost(name: &str, nobody_reads: bool) {
    let (topic, group) = (format!("{name}-in"), format!("{name}.hook"));
    let kafka = Broker::start();
    kafka.create_topic(&topic, 1, &[]);
    for n in 0..20 {
        let record = New::to(&topic).partition(0).value(format!("old-{n}"));
        kafka.produce(&[record]);
    }
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), name)
        .topics(&[&topic])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start_loud(&config);
    receiver.wait_accepted(20, SOON);
    wait_no_lag(&kafka, &group, &[&topic]);
    if nobody_reads {
        assert_eq!(relay.stop(SOON).code(), Some(0));
    }
    kafka.stop();
    kafka.lose_end(&topic, 12);
    kafka.restart();
    kafka.produce(&records(&topic, "new", 15));
    assert_eq!(kafka.watermarks(&topic), [(0, 27)]);
    if nobody_reads {
        relay.start_again();
    }
    wait_until(SOON, "what was written since is delivered", || {
        accepted(&receiver, "new").len() == 15
    });
    wait_no_lag(&kafka, &group, &[&topic]);
    assert_eq!(receiver.attempt_count(), 35, "nothing is repeated");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
