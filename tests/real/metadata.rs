//! What is committed with an offset: other people's, too much of it, and offsets that hold no record.

use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::{New, Place};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn what_others_have_committed_beside_an_offset_disturbs_nobody() {
    let kafka = Broker::shared();
    let written: [&[u8]; 5] = [
        b"\xff\xfe\x00\x80 binary",
        b"pr1.AAAA",
        b"pr1.\xff\xff",
        "größe".as_bytes(),
        b"",
    ];
    kafka.create_topic("meta-in", 5, &[]);
    let to = |partition| New::to("meta-in").partition(partition).value("{}");
    kafka.produce(
        &(0..5)
            .flat_map(|p| [to(p), to(p), to(p)])
            .collect::<Vec<_>>(),
    );
    for (partition, metadata) in (0..).zip(written) {
        kafka.commit("meta.hook", &Place::new("meta-in", partition, 1), metadata);
    }
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "meta")
        .topics(&["meta-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(10, SOON);
    wait_no_lag(kafka, "meta.hook", &["meta-in"]);
    assert_eq!(receiver.attempt_count(), 10, "from where the group stood");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn a_broker_that_takes_no_metadata_gets_the_position_without_it() {
    let kafka = Broker::builder()
        .property("offset.metadata.max.bytes", "10")
        .start();
    kafka.create_topic("in", 1, &[]);
    let value = |n: usize| New::to("in").value(format!("{{\"n\": {n}}}"));
    kafka.produce(&(0..20).map(value).collect::<Vec<_>>());
    let failing = |body: &[u8]| body == b"{\"n\": 5}";
    let receiver = Receiver::start(move |request| match request.attempt() {
        Some(1 | 2) if failing(&request.body) => Answer::status(500),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "bare")
        .topics(&["in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["5s", "5s"], jitter = 0 }"#),
        );
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(19, SOON);
    wait_until(SOON, "the position is committed", || {
        kafka.committed("bare.hook").get(&("in".to_owned(), 0)) == Some(&5)
    });
    relay.wait_log("the broker takes no commit with so much metadata", SOON);
    let refused = [("destination", "hook"), ("reason", "metadata_too_large")];
    relay.wait_metric("postrider_commit_errors_total", &refused, SOON, |n| {
        n >= 1.0
    });
    receiver.wait_accepted(20, SOON);
    wait_no_lag(&kafka, "bare.hook", &["in"]);
    let refusals = relay
        .metrics()
        .sum("postrider_commit_errors_total", &refused);
    // One for each commit that was on its way when the broker said so, and then it is left out for a while.
    assert!((1.0..=4.0).contains(&refusals), "{refusals}");
    assert_eq!(relay.stop(SOON).code(), Some(0));
    assert_eq!(receiver.attempt_count(), 22);
}

#[test]
fn a_compacted_topic_and_an_aborted_end_are_committed_to_the_end_around_a_record_that_stays() {
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let kafka = Broker::builder()
        .property("log.cleaner.backoff.ms", "200")
        .start();
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    kafka.create_topic("in", 1, &compacted);
    let record = |n: usize| New::to("in").key((n % 10).to_string()).value(n.to_string());
    kafka.produce(&(0..200).map(record).collect::<Vec<_>>());
    // The newest segment is never compacted, so something must begin another one.
    wait_until(SOON * 2, "the older records are gone", || {
        kafka.produce(&[New::to("in").key("last").value("last")]);
        kafka.read_all("in").len() < 40
    });
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", kafka.brokers())
        .set("transactional.id", "holes");
    let producer: BaseProducer = client.create().unwrap();
    producer.init_transactions(SOON).unwrap();
    producer.begin_transaction().unwrap();
    for _ in 0..5 {
        let aborted = BaseRecord::to("in").key("aborted").payload("aborted");
        producer.send(aborted).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(SOON).unwrap();
    producer.abort_transaction(SOON).unwrap();

    let left = kafka.read_all("in");
    let stays = left[left.len() / 2].value.clone().unwrap();
    let receiver = Receiver::start(move |request| match request.attempt() {
        Some(1) if request.body[..] == stays[..] => Answer::status(500),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "holes")
        .topics(&["in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["8s"], jitter = 0 }"#),
        );
    let mut relay = Relay::start(&config);
    // Killed while one record waits: what lies behind it is known from the metadata, holes and all.
    receiver.wait_accepted(left.len() - 1, SOON);
    std::thread::sleep(Duration::from_secs(2));
    relay.kill9();
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(left.len(), SOON);
    wait_no_lag(&kafka, "holes.hook", &["in"]);
    assert_eq!(
        receiver.attempt_count(),
        left.len() + 1,
        "no other is sent again"
    );
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
