//! One whole run on a real Kafka, judged by the oracle: the harness and the daemon, put together for the first time.

use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::oracle::Oracle;
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn two_destinations_get_every_record_once_and_a_refused_one_is_a_dead_letter() {
    const PARTITIONS: i32 = 4;
    const COUNT: usize = 1000;
    let kafka = Broker::shared();
    kafka.create_topic("first-run", PARTITIONS, &[]);
    let record = |n: usize| {
        let partition = i32::try_from(n).unwrap() % PARTITIONS;
        let value = format!("{{\"type\":\"create\",\"resource\":\"graph\",\"n\":{n}}}");
        New::to("first-run")
            .partition(partition)
            .key((n % 50).to_string())
            .value(value)
    };
    let produced = kafka.produce(&(0..COUNT).map(record).collect::<Vec<_>>());

    let plain = Receiver::ok();
    let refused = produced[17].place.clone();
    let picky = Receiver::start({
        let refused = refused.clone();
        move |request| match request.place() {
            Some(place) if place == refused => Answer::status(422).body("not this one"),
            Some(place) if place.offset % 100 == 7 && request.earlier == 0 => Answer::status(503),
            _ => Answer::ok(),
        }
    });
    let config = Config::new(kafka.brokers(), "first-run-relay")
        .topics(&["first-run"])
        .kafka("owned_topics = { partitions = 1 }")
        .destination(Destination::new("plain", &plain.url()))
        .destination(
            Destination::new("picky", &picky.url()).lane(r#"retry = { schedule = ["100ms"] }"#),
        );
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    plain.wait_accepted(COUNT, SOON);
    picky.wait_accepted(COUNT - 1, SOON);
    let settled = "postrider_records_settled_total";
    for name in ["plain", "picky"] {
        let labels = [("destination", name)];
        relay.wait_metric(settled, &labels, SOON, |v| (v - 1000.0).abs() < 0.5);
        let balance = relay.metrics().balance(name);
        assert!(balance.holds(), "{name}: {balance}");
    }
    let status = relay.stop(SOON);
    assert_eq!(status.code(), Some(0), "{status}");

    for name in ["plain", "picky"] {
        assert_eq!(
            kafka.lag(&config.group(name), "first-run"),
            0,
            "{name} has lag"
        );
    }
    let (plain_seen, picky_seen) = (plain.attempts(), picky.attempts());
    let letters = kafka.read_all(&config.dead_letters());
    let [plain_group, picky_group] =
        ["plain", "picky"].map(|name| kafka.committed(&config.group(name)));
    let report = Oracle::new(&produced)
        .dead_letters(&letters)
        .destination("plain", &plain_seen)
        .committed(&plain_group)
        .destination("picky", &picky_seen)
        .committed(&picky_group)
        .judge();
    report.assert_exactly_once();
    assert_eq!(report.of("picky").dead_lettered, 1, "{report}");
    assert_eq!(letters[0].header("postrider-reason"), Some("rejected"));
    assert_eq!(
        letters[0].header("postrider-offset"),
        Some(refused.offset.to_string().as_str())
    );
}

/// A broker may limit every topic that does not say otherwise.
#[test]
fn topics_of_our_own_are_made_without_the_limits_of_the_broker() {
    let kafka = Broker::builder()
        .property("log.retention.bytes", "1000000")
        .start();
    kafka.create_topic("in", 1, &[]);
    let config = Config::new(kafka.brokers(), "limited")
        .topics(&["in"])
        .destination(Destination::new("hook", "http://127.0.0.1:9/"));
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    let topics = kafka.topics();
    let own = topics.iter().filter(|topic| topic.starts_with("limited."));
    let own: Vec<&String> = own.filter(|topic| !topic.ends_with(".state")).collect();
    assert!(own.len() >= 7, "{own:?}");
    for topic in own {
        assert_eq!(
            kafka.topic_setting(topic, "retention.bytes"),
            "-1",
            "{topic}"
        );
    }
}
