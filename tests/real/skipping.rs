//! A record that a person does not want tried any more, wherever it is, and by whichever instance it is held.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::{wait_for, wait_until};

use super::main_job::wait_no_lag;
use super::operations::{ask, done, status, wait_state};

const SOON: Duration = Duration::from_secs(30);

/// What `skip` answers, with its exit code.
fn skip(relay: &Relay, offset: i64) -> (Option<i32>, String) {
    let offset = offset.to_string();
    let record = [
        "--topic",
        "skipping-in",
        "--partition",
        "0",
        "--offset",
        &offset,
    ];
    let output = ask(
        &relay.file(),
        &[&["skip", "-d", "hook"], &record[..]].concat(),
    );
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[track_caller]
fn says(relay: &Relay, offset: i64, code: i32, what: &str) {
    let (found, text) = skip(relay, offset);
    assert_eq!(found, Some(code), "{text}");
    assert!(text.contains(what), "{offset}: {text}");
}

/// The offsets that became dead letters, with their last status.
fn dead(kafka: &Broker) -> BTreeMap<i64, Option<String>> {
    let letters = kafka.read_all("skipping.dead-letters");
    let of = |header: &str, letter: &crate::harness::place::Stored| {
        letter.header(header).map(str::to_owned)
    };
    for letter in &letters {
        assert_eq!(letter.header("postrider-reason"), Some("skipped"));
    }
    let letters = letters.iter().map(|letter| {
        let offset = of("postrider-offset", letter).unwrap().parse().unwrap();
        (offset, of("postrider-status", letter))
    });
    letters.collect()
}

#[test]
fn a_record_is_skipped_wherever_it_is() {
    let kafka = Broker::shared();
    kafka.create_topic("skipping-in", 1, &[]);
    let receiver = Receiver::start(|request| match request.offset() {
        0 => Answer::status(500).after(Duration::from_secs(6)),
        4 if request.earlier == 0 => Answer::status(500),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "skipping")
        .topics(&["skipping-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane("concurrency = 1")
                .lane(r#"retry = { schedule = ["2h"] }"#)
                .lane("breaker = { min_attempts = 1000 }"),
        );
    let mut first = Relay::start(&config);
    let mut second = Relay::start(&config);
    for relay in [&mut first, &mut second] {
        relay.wait_ready(SOON);
        wait_state(relay, "hook", "running");
    }
    let produce = |count| kafka.produce(&vec![New::to("skipping-in").value("{}"); count]);
    produce(3);
    receiver.wait_attempts(1, SOON);
    // Whichever instance is asked, the one that holds the record answers.
    says(&second, 0, 0, "it is being tried");
    says(
        &first,
        1,
        0,
        "it waited, and is written to the dead letters; 2 instances obey",
    );
    says(
        &first,
        99,
        1,
        "there is no record skipping-in 0 99: the partition ends at 3",
    );
    receiver.wait_accepted(1, SOON);
    wait_no_lag(kafka, "skipping.hook", &["skipping-in"]);
    let so_far = [(0, Some("500".to_owned())), (1, None)];
    assert_eq!(dead(kafka), so_far.into());
    for relay in [&first, &second] {
        says(relay, 2, 1, "is settled already: there is nothing to skip");
        says(relay, 1, 1, "is settled already: there is nothing to skip");
    }

    // Nobody holds it, and those who were told are killed.
    done(&first, &["pause", "-d", "hook", "--leave", "--reason", "r"]);
    for relay in [&first, &second] {
        wait_until(SOON, "the group is left", || {
            let words = status(relay, "hook")["words"].to_string();
            words.contains("out of its consumer group")
        });
    }
    produce(1);
    says(&first, 3, 0, "no instance holds skipping-in 0");
    first.kill9();
    second.kill9();
    let mut third = Relay::start(&config);
    third.wait_log("paused before this start", SOON);
    done(&third, &["resume", "-d", "hook", "--reason", "r"]);
    wait_until(SOON, "it is a dead letter", || dead(kafka).contains_key(&3));

    // It waits on the ladder.
    produce(1);
    let deferred = [("destination", "hook"), ("settlement", "deferred")];
    third.wait_metric("postrider_records_settled_total", &deferred, SOON, |n| {
        n == 1.0
    });
    says(&third, 4, 0, "it is on the ladder");
    let say = done(&third, &["retries", "release", "-d", "hook"]);
    assert!(say.contains("due now; 1 instance obeys\n"), "{say}");
    wait_until(SOON, "it is a dead letter", || dead(kafka).contains_key(&4));
    let tried = |offset| {
        receiver
            .attempts()
            .iter()
            .filter(|a| a.place.as_ref().is_some_and(|p| p.offset == offset))
            .count()
    };
    assert_eq!([0, 1, 2, 3, 4].map(tried), [1, 0, 1, 0, 1]);
    assert!(third.metrics().balance("hook").holds());

    // What has come to its end is not kept, nor is an instance that has ended.
    assert_eq!(third.stop(SOON).code(), Some(0));
    wait_for(SOON, "nothing is left in the state topic", || {
        let mut last = BTreeMap::new();
        for record in kafka.read_all("skipping.state") {
            let key = String::from_utf8(record.key.unwrap()).unwrap();
            last.insert(key, record.value);
        }
        let is_left = |key: &String| key.starts_with("skip/") || key.starts_with("instance/");
        let mut left = last
            .iter()
            .filter(|(key, value)| is_left(key) && value.is_some());
        left.next().is_none().then_some(())
    });
}
