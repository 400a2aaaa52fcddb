//! The main job on real input: GraphSpace's notifications from a real Kafka to a real receiver.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::kafka::Kafka;
use crate::harness::oracle::Oracle;
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);

fn fails_twice(request: &Request) -> bool {
    let number = |n: u32| format!("{{\"n\": {}}}", 33 * n);
    (0..4).any(|n| request.body == number(n).as_bytes())
}

/// Waits until the group has committed everything there is in the topics.
pub(crate) fn wait_no_lag(kafka: &Kafka, group: &str, topics: &[&str]) {
    wait_until(SOON, &format!("{group} has no lag"), || {
        topics.iter().all(|topic| kafka.lag(group, topic) == 0)
    });
}

fn graphspace(topics: &[&str; 3], count: usize) -> Vec<New> {
    let [owner, group, watching] = topics;
    (0..count)
        .map(|n| match n % 3 {
            0 => New::to(owner).value(format!(
                r#"{{"owner_email": "user{n}@example.com", "message": "New graph wnt uploaded.", "resource": "graph", "resource_id": {n}, "type": "upload"}}"#
            )),
            1 => New::to(group).value(format!(
                r#"{{"group_ids": [], "message": "Graph wnt shared.", "resource": "graph", "resource_id": "{n}", "type": "share", "owner_email": null}}"#
            )),
            _ => New::to(watching).value(format!(
                r#"{{"message": "Layout changed.", "resource": "layout", "resource_id": {n}, "type": "update"}}"#
            )),
        })
        .collect()
}

#[test]
fn graphspace_notifications_reach_the_webhook_once_and_as_they_are() {
    let kafka = Broker::shared();
    let topics = ["gs-owner", "gs-group", "gs-watching"];
    for topic in topics {
        kafka.create_topic(topic, 1, &[]);
    }
    let produced = kafka.produce(&graphspace(&topics, 300));
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "gs")
        .topics(&topics)
        .destination(Destination::new("graphspace", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(300, SOON);
    wait_no_lag(kafka, "gs.graphspace", &topics);
    relay.wait_ready(SOON);

    let committed = kafka.committed("gs.graphspace");
    let attempts = receiver.attempts();
    Oracle::new(&produced)
        .destination("graphspace", &attempts)
        .committed(&committed)
        .judge()
        .assert_exactly_once();
    for attempt in &attempts {
        assert_eq!(attempt.header("content-type"), Some("application/json"));
        assert_eq!(attempt.attempt, Some(1));
        let id = attempt.id.as_deref().unwrap();
        assert!(id.starts_with("msg_") && !id.contains('.'), "{id}");
        let timestamp: i64 = attempt
            .header("webhook-timestamp")
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            timestamp > 1_700_000_000,
            "seconds, not milliseconds: {timestamp}"
        );
    }
    let balance = relay.metrics().balance("graphspace");
    assert!(balance.holds(), "{balance}");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn a_failing_receiver_gets_the_same_id_again_and_a_rejected_record_becomes_a_dead_letter() {
    let kafka = Broker::shared();
    kafka.create_topic("retry-in", 2, &[]);
    let records: Vec<New> = (0..100)
        .map(|n| {
            New::to("retry-in")
                .key(n.to_string())
                .header("trace", "t1")
                .value(format!("{{\"n\": {n}}}"))
        })
        .collect();
    let produced = kafka.produce(&records);
    // Four records fail twice, too few to open the endpoint, and number 7 is refused for good.
    let receiver = Receiver::start(|request| match request.attempt() {
        _ if request.body.ends_with(b" 7}") => Answer::status(422).body("no such graph"),
        Some(1 | 2) if fails_twice(request) => Answer::status(500),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "retry")
        .topics(&["retry-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["100ms", "200ms", "300ms"] }"#),
        );
    let relay = Relay::start(&config);
    receiver.wait_accepted(99, SOON);
    wait_no_lag(kafka, "retry.hook", &["retry-in"]);

    let committed = kafka.committed("retry.hook");
    let dead = kafka.read_all("retry.dead-letters");
    let attempts = receiver.attempts();
    Oracle::new(&produced)
        .destination("hook", &attempts)
        .committed(&committed)
        .dead_letters(&dead)
        .judge()
        .assert_exactly_once();
    assert_eq!(
        attempts.len(),
        95 + 4 * 3 + 1,
        "a rejected record is not tried again"
    );

    let [letter] = &dead[..] else {
        panic!("one dead letter, not {}", dead.len())
    };
    let source = produced
        .iter()
        .find(|r| r.value.as_deref() == Some(b"{\"n\": 7}"))
        .unwrap();
    assert_eq!((&letter.key, &letter.value), (&source.key, &source.value));
    assert_eq!(
        letter.headers[0], source.headers[0],
        "its own headers come first, untouched"
    );
    let refused = attempts.iter().find(|a| a.status == Some(422)).unwrap();
    let header = |name: &str| letter.header(&format!("postrider-{name}"));
    assert_eq!(header("version"), Some("1"));
    assert_eq!(header("id"), refused.id.as_deref());
    assert_eq!(header("destination"), Some("hook"));
    assert_eq!(header("rule"), Some("hook"));
    assert_eq!(header("reason"), Some("rejected"));
    assert_eq!(header("status"), Some("422"));
    assert_eq!(header("excerpt"), Some("no such graph"));
    assert_eq!(header("attempts"), Some("1"));
    assert_eq!(header("topic"), Some("retry-in"));
    assert_eq!(header("cluster"), Some(kafka.cluster_id().as_str()));
    assert_eq!(
        header("timestamp"),
        source.timestamp.map(|t| t.to_string()).as_deref()
    );
    let metrics = relay.metrics();
    let dead = [("destination", "hook"), ("reason", "rejected")];
    assert_eq!(metrics.sum("postrider_dead_letters_total", &dead), 1.0);
    assert_eq!(
        metrics.sum("postrider_attempts_total", &[("outcome", "retry")]),
        8.0
    );
}

#[test]
fn a_schedule_that_ends_leaves_a_dead_letter_with_every_attempt_counted() {
    let kafka = Broker::shared();
    kafka.create_topic("exhaust-in", 1, &[]);
    kafka.produce(&[New::to("exhaust-in").value("{}")]);
    let receiver = Receiver::start(|_| Answer::status(503));
    let config = Config::new(kafka.brokers(), "exhaust")
        .topics(&["exhaust-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["50ms", "50ms", "50ms"] }"#),
        );
    let _relay = Relay::start(&config);
    wait_no_lag(kafka, "exhaust.hook", &["exhaust-in"]);
    let dead = kafka.read_all("exhaust.dead-letters");
    assert_eq!(dead[0].header("postrider-reason"), Some("exhausted"));
    assert_eq!(dead[0].header("postrider-attempts"), Some("4"));
    let attempts = receiver.attempts();
    let ids: BTreeSet<_> = attempts.iter().map(|a| a.id.clone()).collect();
    assert_eq!((attempts.len(), ids.len()), (4, 1));
    assert_eq!(
        attempts.iter().map(|a| a.attempt).collect::<Vec<_>>(),
        [1, 2, 3, 4].map(Some)
    );
}

#[test]
fn push_back_holds_the_endpoint_and_spends_no_attempt() {
    let kafka = Broker::shared();
    kafka.create_topic("push-in", 1, &[]);
    let produced = kafka.produce(&vec![New::to("push-in").value("{}"); 50]);
    let begin = std::time::Instant::now();
    let receiver = Receiver::start(move |_| {
        if begin.elapsed() < Duration::from_secs(8) {
            Answer::status(429).header("retry-after", "1")
        } else {
            Answer::ok()
        }
    });
    let config = Config::new(kafka.brokers(), "push")
        .topics(&["push-in"])
        .destination(
            Destination::new("hook", &receiver.url()).lane(r#"retry = { schedule = ["50ms"] }"#),
        );
    let _relay = Relay::start(&config);
    receiver.wait_accepted(50, SOON);
    wait_no_lag(kafka, "push.hook", &["push-in"]);
    let attempts = receiver.attempts();
    let dead = kafka.read_all("push.dead-letters");
    Oracle::new(&produced)
        .destination("hook", &attempts)
        .dead_letters(&dead)
        .judge()
        .assert_exactly_once();
    assert!(
        attempts.iter().all(|a| a.attempt == Some(1)),
        "a pushed-back attempt keeps its number"
    );
    let pushed = attempts.iter().filter(|a| a.status == Some(429)).count();
    assert!(
        pushed <= 16 * 9,
        "the endpoint was not held: {pushed} attempts were pushed back"
    );
}
