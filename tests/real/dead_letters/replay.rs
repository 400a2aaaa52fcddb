//! Replays that are interrupted, killed, repeated and begun twice: each record once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::{New, Stored};
use crate::harness::receiver::{Answer, Attempt, Receiver};
use crate::harness::relay::{Relay, binary};
use crate::harness::wait::wait_until;

use super::super::main_job::wait_no_lag;
use super::{NO_BRAKE, SOON, by_id, listed, object, wait_dead};

/// A replay that is under way.
fn begin(file: &Path, words: &str) -> Child {
    let mut command = binary();
    command.arg("-c").arg(file).args(["dead-letters", "replay"]);
    command
        .args(words.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Begins a replay of all, waits until there is more on the topic than before, sends it a signal and waits for its end.
fn strike(kafka: &Broker, topic: &str, file: &Path, rate: &str, signal: Signal) -> Output {
    let end = || kafka.end_offsets(topic).values().sum::<i64>();
    let before = end();
    let child = begin(file, &format!("--all --yes --rate {rate}"));
    wait_until(SOON, "something is replayed", || end() > before);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn five_thousand_are_replayed_once_each_through_three_interrupts_and_a_kill() {
    const COUNT: usize = 5000;
    let kafka = Broker::shared();
    kafka.create_topic("many-in", 4, &[]);
    let records: Vec<New> = (0..COUNT)
        .map(|n| {
            New::to("many-in")
                .key(format!("key-{}", n % 100))
                .header("trace", format!("t{n}"))
                .value(format!("{{\"n\": {n}}}"))
        })
        .collect();
    kafka.produce(&records);
    let receiver = Receiver::start(|_| Answer::status(422).body("no thanks"));
    let config = Config::new(kafka.brokers(), "many")
        .topics(&["many-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(NO_BRAKE)
                .lane("concurrency = 32"),
        );
    let mut relay = Relay::start(&config);
    wait_dead(&mut relay, COUNT);
    wait_no_lag(kafka, "many.hook", &["many-in"]);
    let refused = receiver.attempts();
    assert_eq!(relay.stop(SOON).code(), Some(0));
    let file = relay.file();
    assert_eq!(object(&file, "stats", 0)["open"], COUNT);

    // No daemon runs: what is replayed waits for one.
    let topic = "many.replay";
    for rate in ["300/s", "500/s", "500/s"] {
        let output = strike(kafka, topic, &file, rate, Signal::SIGINT);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{rate}: {error}");
        assert!(error.starts_with("interrupted: "), "{error}");
        assert!(error.contains("replays none twice"), "{error}");
    }
    let output = strike(kafka, topic, &file, "5000/s", Signal::SIGKILL);
    assert_eq!(output.status.code(), None, "it was killed on the way");
    let report = object(&file, "replay --all --yes", 0);
    let before = report["replayed_before"].as_u64().unwrap();
    assert!((1300..COUNT as u64).contains(&before), "{before}");
    assert_eq!(report["replayed"], COUNT as u64 - before);
    let report = object(&file, "replay --all --yes", 0);
    assert_eq!(report["replayed"], 0, "a repetition replays nothing");

    let replayed = kafka.read_all(topic);
    let ids = by_id(&replayed);
    assert_eq!(ids.len(), COUNT);
    assert!(ids.values().all(|count| *count == 1), "each exactly once");
    assert_in_order(&replayed);

    receiver.script(|_| Answer::ok());
    let relay = Relay::start_text(&std::fs::read_to_string(&file).unwrap(), port(&file));
    receiver.wait_accepted(COUNT, 2 * SOON);
    wait_no_lag(kafka, "many.hook", &["many-in", topic]);
    let attempts = receiver.attempts();
    let (old, new) = attempts.split_at(refused.len());
    assert_eq!(new.len(), COUNT, "each delivered once");
    let sent = |attempts: &[Attempt]| -> BTreeSet<_> {
        let one = attempts.iter().map(|a| (a.id.clone(), a.body.clone()));
        one.collect()
    };
    assert_eq!(
        sent(new),
        sent(old),
        "under their old ids, with their bodies"
    );
    assert!(new.iter().all(|a| a.attempt == Some(1)), "a new budget");
    let metrics = relay.metrics();
    let read = [("destination", "hook"), ("source", "replay")];
    assert_eq!(
        metrics.sum("postrider_records_read_total", &read),
        COUNT as f64
    );
    assert!(metrics.balance("hook").holds());
    assert_eq!(object(&file, "stats", 0)["open"], 0);
    assert!(listed(&file, "").is_empty());
}

/// Records of one key, which were in order in their first topic, are so on the replay.
fn assert_in_order(replayed: &[Stored]) {
    let mut last: BTreeMap<_, (i32, i64)> = BTreeMap::new();
    for record in replayed {
        let header = |name: &str| record.header(&format!("postrider-{name}")).unwrap();
        let origin = (header("partition").to_owned(), header("key").to_owned());
        let offset: i64 = header("offset").parse().unwrap();
        let place = (record.place.partition, offset);
        if let Some(before) = last.insert(origin, place) {
            assert_eq!(before.0, place.0, "in one partition");
            assert!(before.1 < place.1, "{before:?} {place:?}");
        }
    }
}

/// The port that the file names, so that the next instance is asked where the last one was.
fn port(file: &Path) -> u16 {
    let text = std::fs::read_to_string(file).unwrap();
    let (_, rest) = text.split_once("listen = \"127.0.0.1:").unwrap();
    rest.split('"').next().unwrap().parse().unwrap()
}

#[test]
fn a_second_replay_ends_the_first_and_what_a_killed_one_left_open() {
    const COUNT: usize = 300;
    let kafka = Broker::shared();
    kafka.create_topic("fence-in", 1, &[]);
    let record = |n: usize| New::to("fence-in").value(n.to_string());
    kafka.produce(&(0..COUNT).map(record).collect::<Vec<_>>());
    let receiver = Receiver::start(|_| Answer::status(422));
    let config = Config::new(kafka.brokers(), "fence")
        .topics(&["fence-in"])
        .destination(Destination::new("hook", &receiver.url()).lane(NO_BRAKE));
    let mut relay = Relay::start(&config);
    wait_dead(&mut relay, COUNT);
    wait_no_lag(kafka, "fence.hook", &["fence-in"]);
    receiver.script(|_| Answer::ok());
    let file = relay.file();
    // As if it had been killed within a transaction: what is open there has no mark that counts.
    let begun = kafka.begin_transaction("fence.replay", "fence.replay");

    let slow = begin(&file, "--all --yes --rate 20/s");
    receiver.wait_accepted(40, SOON);
    let report = object(&file, "replay --all --yes", 0);
    let output = slow.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("another replay has begun"), "{error}");
    let [now, before] = ["replayed", "replayed_before"].map(|name| report[name].as_u64().unwrap());
    assert!((40..COUNT as u64).contains(&before), "{report}");
    // The slow one may have come further while the fast one made its plan.
    assert!(now + before <= COUNT as u64, "{report}");
    receiver.wait_accepted(COUNT, SOON);
    wait_no_lag(kafka, "fence.hook", &["fence-in", "fence.replay"]);
    assert_eq!(receiver.accepted_count(), COUNT);
    let ids = by_id(&kafka.read_all("fence.replay"));
    assert_eq!(ids.len(), COUNT);
    assert!(ids.values().all(|count| *count == 1), "each exactly once");
    drop(begun);
}
