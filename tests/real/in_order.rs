//! Order by key on a real Kafka: failures, a restart and a frozen instance change nothing in the order in which a receiver gets the records of a key.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::ledger::{Attempt, Request};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::{Relay, Signal};

use super::main_job::wait_no_lag;
use super::operations::{done, status, wait_state};

const RECORDS: i32 = 3000;
const KEYS: i32 = 48;
const PARTITIONS: i32 = 4;
const SOON: Duration = Duration::from_secs(60);
/// The shortest that brokers allow, and what is well beyond it.
const SESSION: &str = "6000";
const FROZEN: Duration = Duration::from_secs(9);

/// One in ten, spread evenly, fails at its first tries.
fn fails(request: &Request) -> bool {
    let place = request.place().expect("every request says its place");
    let number = place.offset.unsigned_abs() * 7 + u64::from(place.partition.unsigned_abs());
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let tries = 1 + usize::from(spread % 20 >= 10);
    spread.is_multiple_of(10) && request.earlier < tries
}

#[test]
fn a_key_keeps_its_order_through_failures_a_restart_and_a_frozen_instance() {
    let kafka = Broker::start();
    kafka.create_topic("ordered", PARTITIONS, &[]);
    let records: Vec<New> = (0..RECORDS)
        .map(|n| {
            let key = n % KEYS;
            New::to("ordered")
                .partition(key % PARTITIONS)
                .key(format!("key-{key}"))
                .value(format!("{{\"n\": {n}}}"))
        })
        .collect();
    let produced = kafka.produce(&records);
    let receiver = Receiver::start(|request| {
        let answer = match fails(request) {
            true => Answer::status(503),
            false => Answer::ok(),
        };
        answer.after(Duration::from_millis(40))
    });
    let config = Config::new(kafka.brokers(), "order")
        .topics(&["ordered"])
        .property("session.timeout.ms", SESSION)
        .property("heartbeat.interval.ms", "1000")
        .destination(Destination::new("hook", &receiver.url()).lane(
            "order = \"key\"\nretry = { schedule = [\"300ms\", \"1s\", \"3s\"] }\nbreaker = { probe_interval = \"1s\", probe_interval_max = \"1s\" }\nconcurrency = 8",
        ));
    let mut frozen = Relay::start(&config);
    let mut restarted = Relay::start(&config);
    receiver.wait_attempts(300, SOON);
    assert_eq!(restarted.stop(SOON).code(), Some(0));
    let mut restarted = Relay::start(&config);
    receiver.wait_attempts(700, SOON);
    frozen.signal(Signal::SIGSTOP);
    let since = Instant::now();
    std::thread::sleep(FROZEN);
    frozen.signal(Signal::SIGCONT);
    println!("frozen for {:?}", since.elapsed());
    receiver.wait_accepted(produced.len(), 2 * SOON);
    wait_no_lag(&kafka, "order.hook", &["ordered"]);

    let attempts = receiver.attempts();
    let keys: BTreeMap<(i32, i64), Vec<u8>> = produced
        .iter()
        .map(|stored| {
            let place = (stored.place.partition, stored.place.offset);
            (place, stored.key.clone().unwrap_or_default())
        })
        .collect();
    in_order(&attempts, &keys);
    let failed = attempts.iter().filter(|a| a.status == Some(503)).count();
    assert!(failed >= produced.len() / 12, "{failed} attempts failed");
    assert!(kafka.read_all("order.dead-letters").is_empty());
    assert_eq!(frozen.stop(SOON).code(), Some(0));
    assert_eq!(restarted.stop(SOON).code(), Some(0));
}

#[test]
fn after_a_dead_letter_a_key_waits_over_a_restart_until_it_is_released() {
    let kafka = Broker::shared();
    kafka.create_topic("held-in", 1, &[]);
    let record = |n: usize| {
        let key = if n.is_multiple_of(2) { "even" } else { "odd" };
        New::to("held-in").key(key).value(format!("{{\"n\": {n}}}"))
    };
    let produce = |numbers: std::ops::Range<usize>| {
        kafka.produce(&numbers.map(record).collect::<Vec<_>>());
    };
    produce(0..20);
    let receiver = Receiver::start(|request| match request.offset() {
        4 => Answer::status(400),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "held")
        .topics(&["held-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane("order = { after_dead_letter = \"hold\" }"),
        );
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(12, SOON);
    relay.wait_log("the others of its key wait", SOON);
    relay.wait_for(SOON, "the state topic knows it", |_| {
        let all = kafka.read_all("held.state");
        let key = |stored: &crate::harness::place::Stored| {
            stored.key.as_deref() == Some(b"held/hook/ZXZlbg".as_slice())
        };
        all.iter().any(key).then_some(())
    });
    // Until the dead letter is committed past.
    std::thread::sleep(Duration::from_millis(1500));
    relay.kill9();
    let mut relay = Relay::start(&config);
    wait_state(&mut relay, "hook", "running");
    produce(20..30);
    receiver.wait_accepted(17, SOON);
    relay.wait_for(SOON, "the status names the key", |relay| {
        let report = status(relay, "hook");
        let held = &report["held_keys"][0];
        let words = report["words"].as_str().unwrap_or_default();
        let named = held["key"] == "even" && held["waiting"] == 12 && words.contains("even");
        named.then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(receiver.accepted_count(), 17);
    let say = done(
        &relay,
        &[
            "release",
            "-d",
            "hook",
            "--key",
            "even",
            "--reason",
            "looked at",
        ],
    );
    assert!(
        say.starts_with("hook: the records of this key go on"),
        "{say}"
    );
    receiver.wait_accepted(29, SOON);
    wait_no_lag(kafka, "held.hook", &["held-in"]);
    let even = |attempt: &Attempt| attempt.place.as_ref().map(|place| place.offset);
    let offsets: Vec<i64> = receiver.attempts().iter().filter_map(even).collect();
    let even: Vec<i64> = offsets.iter().copied().filter(|o| o % 2 == 0).collect();
    assert_eq!(even, (0..15).map(|n| 2 * n).collect::<Vec<i64>>());
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

/// Whenever a record arrived, every record of its key before it had been taken.
fn in_order(attempts: &[Attempt], keys: &BTreeMap<(i32, i64), Vec<u8>>) {
    let mut taken: BTreeMap<(i32, i64), Instant> = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.accepted()) {
        let place = attempt
            .place
            .as_ref()
            .expect("every request says its place");
        let finished = attempt.finished.expect("it was answered");
        let at = taken
            .entry((place.partition, place.offset))
            .or_insert(finished);
        *at = finished.min(*at);
    }
    let mut rows: BTreeMap<(i32, &[u8]), Vec<i64>> = BTreeMap::new();
    for ((partition, offset), key) in keys {
        rows.entry((*partition, key)).or_default().push(*offset);
    }
    let mut last: BTreeMap<(i32, &[u8]), Instant> = BTreeMap::new();
    for attempt in attempts {
        let place = attempt
            .place
            .as_ref()
            .expect("every request says its place");
        let key = keys[&(place.partition, place.offset)].as_slice();
        let row = &rows[&(place.partition, key)];
        for before in row.iter().take_while(|offset| **offset < place.offset) {
            let when = taken.get(&(place.partition, *before));
            assert!(
                when.is_some_and(|when| *when <= attempt.arrived),
                "{place} was tried before {before} of the same key had been taken"
            );
        }
    }
    for ((partition, key), row) in &rows {
        for offset in row {
            let when = taken[&(*partition, *offset)];
            let before = last.insert((*partition, key), when);
            assert!(
                before.is_none_or(|before| before <= when),
                "{partition} {offset}"
            );
        }
    }
}
