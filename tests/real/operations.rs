//! What a person sees of a running daemon, and what it does when a person asks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::oracle::Oracle;
use crate::harness::place::{New, Stored};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::{Relay, binary};
use crate::harness::wait::wait_for;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);

/// `postrider -c FILE WORDS`.
pub(super) fn ask(file: &Path, words: &[&str]) -> Output {
    let mut command = binary();
    command.env_remove("POSTRIDER_SOCKET").arg("-c").arg(file);
    command.args(words).output().unwrap()
}

#[track_caller]
pub(super) fn done(relay: &Relay, words: &[&str]) -> String {
    let output = ask(&relay.file(), words);
    let [out, error] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(0), "{words:?}: {out}{error}");
    out
}

pub(super) fn code(file: &Path, words: &[&str]) -> Option<i32> {
    ask(file, words).status.code()
}

/// What the status says of a destination.
pub(super) fn status(relay: &Relay, destination: &str) -> Value {
    try_status(relay, destination).expect("the socket answers")
}

/// The same; `None` when nobody answers yet.
pub(super) fn try_status(relay: &Relay, destination: &str) -> Option<Value> {
    let words = ["status", "-d", destination, "--format", "json"];
    let output = ask(&relay.file(), &words);
    let report: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(report["destinations"][0].clone())
}

#[track_caller]
pub(super) fn wait_state(relay: &mut Relay, destination: &str, state: &str) -> Value {
    let what = format!("{destination} is {state}");
    relay.wait_for(SOON, &what, |relay| {
        try_status(relay, destination).filter(|report| report["state"] == state)
    })
}

#[test]
fn a_pause_is_obeyed_by_every_instance_and_over_restarts() {
    let kafka = Broker::shared();
    kafka.create_topic("paused-in", 4, &[]);
    let receiver = Receiver::ok();
    let other = Receiver::ok();
    let config = Config::new(kafka.brokers(), "paused")
        .topics(&["paused-in"])
        .destination(Destination::new("hook", &receiver.url()))
        .destination(Destination::new("other", &other.url()));
    let mut first = Relay::start(&config);
    let mut second = Relay::start(&config);
    first.wait_ready(SOON);
    second.wait_ready(SOON);
    for relay in [&mut first, &mut second] {
        wait_state(relay, "hook", "running");
    }
    // An instance counts as soon as the other has heard that it is there.
    wait_until(SOON, "both instances obey", || {
        let say = done(&first, &["pause", "-d", "hook", "--reason", "their move"]);
        say.starts_with("hook: paused over restarts too, until it is resumed; 2 instances obey")
    });
    for relay in [&mut first, &mut second] {
        let report = wait_state(relay, "hook", "paused");
        assert_eq!(report["paused"]["reason"], "their move");
        let words = report["words"].as_str().unwrap();
        assert!(
            words.starts_with("paused by ") && words.contains(": their move;"),
            "{words}"
        );
        assert!(report["paused"]["who"].as_str().unwrap().contains("uid "));
        relay.wait_log("asked by an operator", SOON);
        let paused = [("destination", "hook"), ("state", "paused")];
        relay.wait_metric("postrider_lane_state", &paused, SOON, |v| v == 1.0);
    }
    let produced = kafka.produce(&vec![New::to("paused-in").value("{}"); 400]);
    other.wait_accepted(400, SOON);
    assert_eq!(
        receiver.attempts().len(),
        0,
        "the other one is not held up, this one is"
    );

    first.kill9();
    assert_eq!(second.stop(SOON).code(), Some(0));
    let mut third = Relay::start(&config);
    third.wait_log("paused before this start", SOON);
    let read = [("destination", "hook")];
    third.wait_metric("postrider_records_read_total", &read, SOON, |v| v >= 8.0);
    assert_eq!(receiver.attempts().len(), 0, "still paused");
    let report = third.wait_for(SOON, "it is known what waits", |relay| {
        Some(status(relay, "hook")).filter(|report| report["lag"] == 400)
    });
    let lag = [("destination", "hook"), ("topic", "paused-in")];
    third.wait_metric("postrider_lag_records", &lag, SOON, |v| v == 400.0);
    let words = report["words"].as_str().unwrap();
    assert!(words.ends_with("400 records wait, nothing lost"), "{words}");

    let say = done(&third, &["resume", "-d", "hook", "--reason", "moved"]);
    // The one that was killed is missed once.
    assert!(
        say.starts_with("hook: resumed; 1 instance obeys; 1 more has not answered"),
        "{say}"
    );
    receiver.wait_accepted(400, SOON);
    wait_no_lag(kafka, "paused.hook", &["paused-in"]);
    assert_eq!(third.stop(SOON).code(), Some(0));
    let fourth = Relay::start(&config);
    let produced_more = kafka.produce(&vec![New::to("paused-in").value("{}"); 100]);
    receiver.wait_accepted(500, SOON);
    assert!(!fourth.log().contains("paused before this start"));
    let attempts = receiver.attempts();
    Oracle::new(&[produced, produced_more].concat())
        .destination("hook", &attempts)
        .judge()
        .assert_exactly_once();
}

#[test]
fn a_skipped_record_becomes_a_dead_letter_and_the_others_go_on() {
    let kafka = Broker::shared();
    kafka.create_topic("skip-in", 1, &[]);
    let receiver = Receiver::start(|request| match request.place() {
        Some(place) if place.offset == 1 => Answer::status(500).body("not yet"),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "skip")
        .topics(&["skip-in"])
        .destination(
            Destination::new("hook", &receiver.url()).lane(r#"retry = { schedule = ["50s"] }"#),
        );
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    let produced = kafka.produce(&vec![New::to("skip-in").value("{}"); 3]);
    receiver.wait_accepted(2, SOON);
    let waits = relay.wait_for(SOON, "the record waits", |relay| {
        Some(status(relay, "hook")).filter(|report| report["waiting"]["retry"] == 1)
    });
    assert_eq!(waits["state"], "running");
    let skip = [
        "skip",
        "-d",
        "hook",
        "--topic",
        "skip-in",
        "--partition",
        "0",
        "--offset",
        "1",
    ];
    done(&relay, &skip);
    wait_no_lag(kafka, "skip.hook", &["skip-in"]);
    let dead = kafka.read_all("skip.dead-letters");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("postrider-reason"), Some("skipped"));
    assert_eq!(dead[0].header("postrider-status"), Some("500"));
    assert_eq!(dead[0].header("postrider-offset"), Some("1"));
    assert!(relay.metrics().balance("hook").holds());
    let attempts = receiver.attempts();
    Oracle::new(&produced)
        .destination("hook", &attempts)
        .dead_letters(&dead)
        .judge()
        .assert_sound();
}

#[test]
fn the_socket_answers_and_the_exit_code_says_how() {
    let kafka = Broker::shared();
    kafka.create_topic("asked-in", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "asked")
        .topics(&["asked-in"])
        .destination(Destination::new("hook", &receiver.url()))
        .destination(Destination::new("off", &receiver.url()).lane("enabled = false"));
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    wait_state(&mut relay, "hook", "running");
    let table = done(&relay, &["status"]);
    let words = "running: nothing waits";
    assert!(
        table.starts_with("DESTINATION  STATE") && table.contains(words),
        "{table}"
    );
    assert!(table.contains("off          disabled"), "{table}");
    assert_eq!(done(&relay, &["health"]), "well\n");

    let file = relay.file();
    let reason = ["--reason", "because"];
    let unknown = [&["pause", "-d", "nobody"], &reason[..]].concat();
    assert_eq!(code(&file, &unknown), Some(2));
    assert_eq!(code(&file, &["status", "-d", "nobody"]), Some(2));
    assert_eq!(code(&file, &["pause", "-d", "hook"]), Some(2), "no reason");
    let elsewhere = ["status", "--socket", "/nowhere/p.sock"];
    assert_eq!(code(&file, &elsewhere), Some(69));

    let socket = file.with_file_name("p.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let (status, text) = relay.get("/api/v1/status").unwrap();
    assert_eq!(status, 200);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["state_known"], true);
    let answer = post(&relay.admin(), "/api/v1/pause", "127.0.0.1");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let answer = post(&relay.admin(), "/api/v1/status", "evil.example");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");

    assert_eq!(relay.stop(SOON).code(), Some(0));
    assert!(!socket.exists(), "taken away at the end");
    assert_eq!(code(&file, &["health"]), Some(69));
}

#[test]
fn a_socket_that_a_kill_left_is_replaced_and_one_in_use_is_not() {
    let kafka = Broker::shared();
    let receiver = Receiver::ok();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("p.sock");
    let config = Config::new(kafka.brokers(), "in-use")
        .topics(&["in-use-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let start = || {
        let port = crate::harness::port::free_port();
        let path = socket.display().to_string();
        Relay::start_text(&config.text(port).replace("p.sock", &path), port)
    };
    let mut first = start();
    first.wait_log("postrider runs", SOON);
    let mut second = start();
    second.wait_log("another process listens", SOON);
    assert_eq!(second.wait_exit(SOON).code(), Some(69));
    first.kill9();
    assert!(socket.exists());
    let mut third = start();
    third.wait_log("postrider runs", SOON);
    assert_eq!(code(&third.file(), &["status"]), Some(0));
}

fn post(address: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let method = if path.ends_with("status") {
        "GET"
    } else {
        "POST"
    };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_endpoint_that_is_gone_stays_so_over_restarts_until_it_is_resumed() {
    let kafka = Broker::shared();
    kafka.create_topic("gone-in", 1, &[]);
    let first = AtomicBool::new(true);
    let receiver = Receiver::start(move |_| match first.swap(false, Ordering::Relaxed) {
        true => Answer::status(410),
        false => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "gone")
        .topics(&["gone-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    wait_state(&mut relay, "hook", "running");
    kafka.produce(&vec![New::to("gone-in").value("{}"); 3]);
    wait_state(&mut relay, "hook", "gone");
    let state = kafka_state(kafka, "gone.state", "gone/hook");
    assert!(state.contains("\"status\":410"), "{state}");
    // What somebody else writes there is no business of ours.
    let foreign = New::to("gone.state").key(b"\xff").header(b"\xfe", "x");
    kafka.produce(&[
        foreign.value("{"),
        New::to("gone.state").key("skip/hook").value("7"),
    ]);
    let before = receiver.attempts().len();
    assert_eq!(relay.stop(SOON).code(), Some(0));

    let mut relay = Relay::start(&config);
    let report = wait_state(&mut relay, "hook", "gone");
    let words = report["words"].as_str().unwrap();
    assert!(words.contains("gone for good (410)"), "{words}");
    assert_eq!(receiver.attempts().len(), before);
    let resume = ["resume", "-d", "hook", "--reason", "it is back"];
    done(&relay, &resume);
    receiver.wait_accepted(3, SOON);
    wait_no_lag(kafka, "gone.hook", &["gone-in"]);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    let mut relay = Relay::start(&config);
    wait_state(&mut relay, "hook", "running");
}

/// The value that a key of the state topic has in the end.
fn kafka_state(kafka: &Broker, topic: &str, key: &str) -> String {
    wait_for(SOON, &format!("{topic} has {key}"), || {
        let records = kafka.read_all(topic);
        let of_key = |record: &&Stored| record.key.as_deref() == Some(key.as_bytes());
        let last = records.iter().rfind(of_key)?;
        Some(String::from_utf8_lossy(last.value.as_deref()?).into_owned())
    })
}

#[test]
fn what_waits_in_the_ladder_is_released_or_cancelled() {
    let kafka = Broker::shared();
    kafka.create_topic("ladder-orders-in", 1, &[]);
    let receiver = Receiver::start(|request| match request.earlier {
        0 => Answer::status(500),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "ladder-orders")
        .topics(&["ladder-orders-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["2h"] }"#)
                .lane(r#"breaker = { min_attempts = 1000, probe_interval = "1s" }"#),
        );
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    wait_state(&mut relay, "hook", "running");
    let deferred = [("destination", "hook"), ("settlement", "deferred")];
    kafka.produce(&vec![New::to("ladder-orders-in").value("{}"); 2]);
    let settled = "postrider_records_settled_total";
    relay.wait_metric(settled, &deferred, SOON, |v| v == 2.0);
    let list = done(&relay, &["retries", "list", "-d", "hook"]);
    assert!(list.ends_with("2 records wait in the ladder\n"), "{list}");
    assert!(
        list.contains("ladder-orders-in 0 1  attempts 1  500"),
        "{list}"
    );
    done(&relay, &["retries", "release", "-d", "hook"]);
    receiver.wait_accepted(2, SOON);

    kafka.produce(&[New::to("ladder-orders-in").value("{}")]);
    relay.wait_metric(settled, &deferred, SOON, |v| v == 3.0);
    let cancel = ["retries", "cancel", "-d", "hook", "--reason", "not wanted"];
    done(&relay, &cancel);
    let dead = wait_for(SOON, "it is a dead letter", || {
        Some(kafka.read_all("ladder-orders.dead-letters")).filter(|dead| !dead.is_empty())
    });
    assert_eq!(dead[0].header("postrider-reason"), Some("skipped"));
    assert_eq!(receiver.accepted_count(), 2);
    assert!(relay.metrics().balance("hook").holds());
}

#[test]
fn what_kafka_is_about_to_delete_is_said_ahead() {
    let kafka = Broker::shared();
    kafka.create_topic("margin-in", 1, &[("retention.ms", "3600000")]);
    let receiver = Receiver::start(|_| Answer::status(500));
    let config = Config::new(kafka.brokers(), "margin")
        .topics(&["margin-in"])
        .destination(
            Destination::new("hook", &receiver.url()).lane(r#"retry = { schedule = ["50s"] }"#),
        );
    let mut relay = Relay::start(&config);
    kafka.produce(&[New::to("margin-in").value("{}")]);
    let line = relay.wait_log("Kafka is about to delete", SOON * 2);
    assert!(
        line.contains("margin-in") && line.contains("ERROR"),
        "{line}"
    );
    let labels = [("destination", "hook"), ("topic", "margin-in")];
    let margin = "postrider_retention_margin_seconds";
    relay.wait_metric(margin, &labels, SOON, |v| v > 3000.0 && v <= 3600.0);
}

#[test]
fn an_order_that_kafka_has_not_taken_is_not_called_done() {
    let kafka = Broker::start();
    kafka.create_topic("away-in", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "away")
        .topics(&["away-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    wait_state(&mut relay, "hook", "running");
    kafka.kill9();
    let words = ["pause", "-d", "hook", "--reason", "too early"];
    let output = ask(&relay.file(), &words);
    assert_eq!(output.status.code(), Some(69));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("it may still"), "{error}");
    let report = status(&relay, "hook");
    assert_ne!(report["state"], "paused");
}
