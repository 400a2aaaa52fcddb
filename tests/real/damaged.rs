//! A batch that is damaged where it lies: nothing of it is delivered, nothing behind it is read in
//! silence, and a person can have it stepped over.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::Receiver;
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;
use super::operations::{code, done, status};

const SOON: Duration = Duration::from_secs(60);

/// What was produced as one batch.
fn batch(kafka: &Broker, topic: &str, name: &str) -> Vec<String> {
    let value = |n: usize| format!("{topic} {name} {n}: {}", "the value ".repeat(20 + n));
    let values: Vec<String> = (0..5).map(value).collect();
    let new = |value: &String| New::to(topic).partition(0).value(value);
    kafka.produce(&values.iter().map(new).collect::<Vec<_>>());
    values
}

fn accepted(receiver: &Receiver) -> BTreeSet<String> {
    let attempts = receiver.attempts().into_iter().filter(|a| a.accepted());
    let values = attempts.map(|a| String::from_utf8_lossy(&a.body.unwrap()).into_owned());
    values.collect()
}

fn says_everywhere(relay: &Relay, topic: &str) {
    let place = format!("{topic} partition 0 stands still at offset 5");
    wait_until(SOON, "the readiness says it", || {
        let ready = relay.get("/readyz");
        ready.is_some_and(|(code, body)| code == 200 && body.contains(&place))
    });
    let line = relay.log();
    let line = line
        .lines()
        .find(|line| line.contains("a batch does not read") && line.contains(topic));
    assert!(line.is_some_and(|line| line.contains("offset=5") || line.contains("\"offset\":5")));
}

#[test]
fn a_damaged_batch_stops_its_partition_until_it_is_stepped_over() {
    let kafka = Broker::shared();
    let [packed, plain] = ["damaged-packed", "damaged-plain"];
    kafka.create_topic(packed, 1, &[("compression.type", "gzip")]);
    kafka.create_topic(plain, 1, &[("compression.type", "uncompressed")]);
    let mut before = BTreeSet::new();
    let mut behind = BTreeSet::new();
    for topic in [packed, plain] {
        before.extend(batch(kafka, topic, "before"));
        batch(kafka, topic, "damaged");
        behind.extend(batch(kafka, topic, "behind"));
    }
    kafka.damage(packed, 5, |batch| {
        let middle = batch.len() / 2;
        for byte in &mut batch[middle..middle + 16] {
            *byte = !*byte;
        }
    });
    kafka.damage(plain, 5, |batch| {
        let value = b"damaged 3";
        let at = batch.windows(value.len()).position(|found| found == value);
        batch[at.unwrap()] = b'D';
    });

    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "damaged")
        .topics(&[packed, plain])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    wait_until(SOON, "what lies before is delivered", || {
        accepted(&receiver).len() >= 10
    });
    for topic in [packed, plain] {
        says_everywhere(&relay, topic);
    }
    let words = status(&relay, "hook")["words"].to_string();
    let cure = "skip -d hook --topic damaged-packed --partition 0 --offset 5";
    assert!(words.contains(cure), "{words}");
    assert_eq!(accepted(&receiver), before, "and nothing else");
    assert_eq!(
        code(&relay.file(), &["health"]),
        Some(1),
        "a person is needed"
    );

    for topic in [packed, plain] {
        let place = ["--topic", topic, "--partition", "0", "--offset", "5"];
        let said = done(&relay, &[&["skip", "-d", "hook"], &place[..]].concat());
        assert!(said.contains("does not read"), "{said}");
        let lost = [
            ("destination", "hook"),
            ("topic", topic),
            ("cause", "damaged"),
        ];
        relay.wait_metric("postrider_records_lost_total", &lost, SOON, |lost| {
            lost == 5.0
        });
    }
    wait_until(SOON, "what lies behind is delivered", || {
        accepted(&receiver).len() >= 20
    });
    wait_no_lag(kafka, "damaged.hook", &[packed, plain]);
    assert_eq!(accepted(&receiver), &before | &behind);
    let log = relay.log();
    let gone = log
        .lines()
        .filter(|line| line.contains("was stepped over: the records"));
    for line in gone.collect::<Vec<_>>() {
        assert!(
            line.contains("first=5") || line.contains("\"first\":5"),
            "{line}"
        );
        assert!(
            line.contains("last=9") || line.contains("\"last\":9"),
            "{line}"
        );
    }
    assert_eq!(relay.get("/readyz"), Some((200, "ready\n".to_owned())));
    assert_eq!(code(&relay.file(), &["health"]), Some(0));
    assert!(relay.metrics().balance("hook").holds());
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
