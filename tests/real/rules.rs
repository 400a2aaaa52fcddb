//! Rules on a real cluster: topics by pattern, the first match, defaults, and what is dropped or wanted by nobody.

use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::Config;
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);

fn destination(name: &str, receiver: &Receiver) -> String {
    format!(
        "[destinations.{name}.webhook]\nurl = \"{}\"\n",
        receiver.url()
    )
}

fn bodies(receiver: &Receiver) -> Vec<String> {
    let attempts = receiver.attempts();
    let body = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    let mut bodies: Vec<String> = attempts
        .iter()
        .map(|a| body(a.body.as_deref().unwrap_or_default()))
        .collect();
    bodies.sort();
    bodies
}

fn sorted<const N: usize>(mut values: [&str; N]) -> [&str; N] {
    values.sort_unstable();
    values
}

#[test]
fn a_topic_made_later_is_read_in_time_and_the_others_are_not_disturbed() {
    let kafka = Broker::shared();
    kafka.create_topic("late.a", 2, &[]);
    kafka.create_topic("other.a", 1, &[]);
    kafka.produce(&[
        New::to("late.a").value("first"),
        New::to("other.a").value("no"),
    ]);
    // The first record stays in flight while the topics change: a partition that is taken away would have to give it up.
    let receiver = Receiver::start(|request| match &request.body[..] {
        b"slow" => Answer::ok().after(Duration::from_secs(12)),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "pattern")
        .kafka("topic_refresh = \"2s\"")
        .more(&destination("hook", &receiver))
        .more("[[rules]]\nname = \"late\"\ntopics = ['^late\\..+']\ndeliver_to = [\"hook\"]\n");
    let relay = Relay::start(&config);
    receiver.wait_accepted(1, SOON);
    kafka.produce(&[New::to("late.a").value("slow")]);
    receiver.wait_attempts(2, SOON);
    let revoked = [("destination", "hook"), ("kind", "revoked")];
    let before = relay.metrics().sum("postrider_rebalances_total", &revoked);

    kafka.create_topic("late.b", 2, &[]);
    kafka.produce(&[New::to("late.b").value("second")]);
    let made = Instant::now();
    receiver.wait_attempts(3, SOON);
    // The refresh, the answer, and a rebalance with heartbeats of a second.
    assert!(
        made.elapsed() < Duration::from_secs(10),
        "{:?}",
        made.elapsed()
    );
    receiver.wait_accepted(3, SOON);
    wait_no_lag(kafka, "pattern.hook", &["late.a", "late.b"]);
    let metrics = relay.metrics();
    assert_eq!(metrics.sum("postrider_rebalances_total", &revoked), before);
    assert_eq!(metrics.sum("postrider_records_released_total", &[]), 0.0);
    assert_eq!(bodies(&receiver), ["first", "second", "slow"]);
}

#[test]
fn no_pattern_reaches_topics_of_our_own_or_of_kafka() {
    // A cluster of its own: the pattern takes every topic there is.
    let kafka = Broker::start();
    kafka.create_topic("all-in", 1, &[]);
    kafka.create_topic("all.retry.1m", 1, &[]);
    kafka.create_topic("__secret", 1, &[]);
    kafka.create_topic("allies", 1, &[]);
    let topics = ["all-in", "all.retry.1m", "__secret", "allies"];
    kafka.produce(&topics.map(|topic| New::to(topic).value(topic)));
    let receiver = Receiver::start(|request| match &request.body[..] {
        b"all-in" => Answer::status(400),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "all")
        .kafka("topic_refresh = \"1s\"")
        .more(&destination("hook", &receiver))
        .more("[[rules]]\nname = \"all\"\ntopics = ['^.*']\ndeliver_to = [\"hook\"]\n");
    let relay = Relay::start(&config);
    receiver.wait_attempts(2, SOON);
    wait_until(SOON, "the dead letter is written", || {
        kafka.topics().contains("all.dead-letters") && kafka.read_all("all.dead-letters").len() == 1
    });
    // Long enough for several looks at a cluster that has a topic of dead letters, and one of offsets.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(bodies(&receiver), ["all-in", "allies"]);
    let read = relay.metrics().sum("postrider_records_read_total", &[]);
    assert_eq!(read, 2.0, "what must not be read was read and not sent");
}

#[test]
fn the_first_rule_wins_defaults_take_the_rest_and_drops_are_counted() {
    let kafka = Broker::shared();
    kafka.create_topic("rules-in", 1, &[]);
    let values = [
        r#"{"type": "share", "resource_id": 7}"#,
        r#"{"type": "share", "resource_id": "8"}"#,
        r#"{"type": "share", "resource_id": 9}"#,
        r#"{"type": "noise"}"#,
        r#"{"type": "noise", "resource_id": 7}"#,
        r#"{"type": "rest"}"#,
        r#"{"type": "nobody"}"#,
        "not json",
    ];
    kafka.produce(&values.map(|value| New::to("rules-in").value(value)));
    let (one, two) = (Receiver::ok(), Receiver::ok());
    let config = Config::new(kafka.brokers(), "rules")
        .notification("type = { field = \"/type\" }\nunmatched = \"dead_letter\"")
        .more(&destination("one", &one))
        .more(&destination("two", &two))
        .more(
            r#"
[[rules]]
name = "ids"
topics = ["rules-in"]
match = { resource_id = { is = [7, 8], lenient = true } }
deliver_to = ["one"]
[[rules]]
name = "noise"
topics = ["rules-in"]
types = ["noise"]
on_error = "no_match"
action = "drop"
[[rules]]
name = "shares"
topics = ["rules-in"]
types = ["share", "noise"]
on_error = "no_match"
deliver_to = ["one", "two"]
[[rules]]
name = "rest"
topics = ["rules-in"]
types = ["share", "rest"]
default = true
deliver_to = ["two"]
"#,
        );
    let relay = Relay::start(&config);
    for group in ["rules.one", "rules.two", "rules.audit"] {
        wait_no_lag(kafka, group, &["rules-in"]);
    }
    assert_eq!(bodies(&one), sorted([0, 1, 2, 4].map(|n| values[n])));
    // The share 7 is for `one` by the first rule, and still for `two` by the third.
    assert_eq!(bodies(&two), sorted([0, 1, 2, 5].map(|n| values[n])));
    let metrics = relay.metrics();
    let settled = |d, how| {
        let labels = [("destination", d), ("settlement", how)];
        metrics.sum("postrider_records_settled_total", &labels)
    };
    assert_eq!(settled("audit", "dropped"), 2.0);
    assert_eq!(settled("audit", "dead_lettered"), 1.0);
    assert_eq!(settled("audit", "not_matched"), 5.0);
    assert_eq!(
        (settled("one", "dropped"), settled("two", "dropped")),
        (0.0, 0.0)
    );
    let matches = |rule| metrics.sum("postrider_rule_matches_total", &[("rule", rule)]);
    assert_eq!(
        ["ids", "noise", "shares", "rest"].map(matches),
        [3.0, 2.0, 4.0, 1.0]
    );
    let unmatched = [("topic", "rules-in")];
    assert_eq!(
        metrics.sum("postrider_unmatched_records_total", &unmatched),
        1.0
    );
    for destination in ["one", "two", "audit"] {
        assert!(metrics.balance(destination).holds());
    }
    let mut dead: Vec<_> = kafka
        .read_all("rules.dead-letters")
        .into_iter()
        .map(|letter| {
            let header = |name| letter.header(name).unwrap_or_default().to_owned();
            (header("postrider-destination"), header("postrider-reason"))
        })
        .collect();
    dead.sort();
    let letter = |destination: &str, reason: &str| (destination.to_owned(), reason.to_owned());
    assert_eq!(
        dead,
        [letter("audit", "unmatched"), letter("one", "undecodable")],
        "the topic ends at {:?}",
        kafka.end_offsets("rules.dead-letters")
    );
}

#[test]
fn without_an_audit_what_nobody_takes_is_counted_once() {
    let kafka = Broker::shared();
    kafka.create_topic("nobody-in", 1, &[]);
    kafka.produce(&[
        New::to("nobody-in").value(r#"{"type": "a"}"#),
        New::to("nobody-in").value(r#"{"type": "b"}"#),
        New::to("nobody-in").value(r#"{"type": "c"}"#),
    ]);
    let (one, two) = (Receiver::ok(), Receiver::ok());
    let rule = |name: &str| {
        format!(
            "[[rules]]\nname = \"{name}\"\ntopics = [\"nobody-in\"]\ntypes = [\"{name}\"]\ndeliver_to = [\"{name}\"]\n"
        )
    };
    let config = Config::new(kafka.brokers(), "nobody")
        .notification("type = { field = \"/type\" }")
        .more(&destination("a", &one))
        .more(&destination("b", &two))
        .more(&rule("a"))
        .more(&rule("b"));
    let relay = Relay::start(&config);
    wait_no_lag(kafka, "nobody.a", &["nobody-in"]);
    wait_no_lag(kafka, "nobody.b", &["nobody-in"]);
    let metrics = relay.metrics();
    assert_eq!(metrics.sum("postrider_unmatched_records_total", &[]), 1.0);
    assert_eq!(
        metrics.sum(
            "postrider_records_settled_total",
            &[("destination", "audit")]
        ),
        0.0
    );
    assert_eq!(kafka.members("nobody.audit"), 0);
    assert_eq!((one.attempt_count(), two.attempt_count()), (1, 1));
}
