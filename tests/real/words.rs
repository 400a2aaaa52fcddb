//! Words of the command line that need a broker: `explain` of a record that is in Kafka, `drain`, names that are nobody's.

use std::time::Duration;

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;

use super::main_job::wait_no_lag;
use super::operations::{ask, done, status};

const SOON: Duration = Duration::from_secs(30);

/// What is explained is what was sent, the id included; and a drained destination is out of its group, with nothing under way, until it is
/// resumed.
#[test]
fn a_record_is_explained_as_it_was_sent_and_a_drain_ends_in_good_order() {
    let kafka = Broker::shared();
    kafka.create_topic("words-in", 1, &[]);
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(300)));
    let config = Config::new(kafka.brokers(), "words")
        .topics(&["words-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    kafka.produce(&vec![New::to("words-in").key("k").value("{\"n\":1}"); 20]);
    receiver.wait_attempts(1, SOON);

    let said = done(&relay, &["drain", "-d", "hook", "--reason", "they move"]);
    assert!(said.starts_with("hook: paused over restarts too"), "{said}");
    let attempts = receiver.attempts();
    assert_eq!(receiver.waiting_count(), 0, "nothing is under way");
    let report = status(&relay, "hook");
    let words = report["words"].as_str().unwrap();
    assert!(words.contains("out of its consumer group"), "{words}");
    done(
        &relay,
        &["resume", "-d", "hook", "--reason", "they have moved"],
    );
    receiver.wait_accepted(20, SOON);
    wait_no_lag(kafka, "words.hook", &["words-in"]);
    assert_eq!(receiver.attempt_count(), 20, "none of them twice");

    let first = &attempts[0];
    let offset = first.place.as_ref().unwrap().offset.to_string();
    let explain = ["explain", "--topic", "words-in", "--partition", "0"];
    let words = [&explain[..], &["--offset", &offset, "--format", "json"]].concat();
    let report: Value = serde_json::from_str(&done(&relay, &words)).unwrap();
    let fate = &report["destinations"][0];
    assert_eq!(fate["destination"], "hook");
    let request = &fate["request"];
    assert_eq!(
        request["headers"]["webhook-id"].as_str(),
        first.id.as_deref()
    );
    assert_eq!(request["body"], "{\"n\":1}");
    let output = ask(
        &relay.file(),
        &[&explain[..], &["--offset", "1000"]].concat(),
    );
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    let output = ask(&relay.file(), &["dead-letters", "list", "-d", "hok"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("did you mean hook?"), "{text}");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
