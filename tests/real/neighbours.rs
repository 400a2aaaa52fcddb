//! A dead destination does not delay a healthy one.

use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::kafka::Kafka;
use crate::harness::place::New;
use crate::harness::port::free_port;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;

const SOON: Duration = Duration::from_secs(30);
const ROUNDS: usize = 5;
/// Records of one round, and how many are produced at once, how often: 600 a second for two seconds and a half.
const RECORDS: usize = 1500;
const BURST: usize = 6;
const PAUSE: Duration = Duration::from_millis(10);

/// Produces one round and returns its latencies, from the call that produces a record to its arrival, sorted.
fn round(kafka: &Kafka, topic: &str, receiver: &Receiver, begin: Instant) -> Vec<Duration> {
    let before = receiver.attempt_count();
    for _ in 0..RECORDS / BURST {
        let now = begin.elapsed().as_micros().to_string();
        kafka.produce(&vec![New::to(topic).value(&now); BURST]);
        std::thread::sleep(PAUSE);
    }
    receiver.wait_accepted(before + RECORDS, SOON);
    let latency = |attempt: &crate::harness::ledger::Attempt| {
        let text = String::from_utf8(attempt.body.as_deref().unwrap().to_vec()).unwrap();
        let produced = begin + Duration::from_micros(text.parse().unwrap());
        attempt.arrived.saturating_duration_since(produced)
    };
    let mut latencies: Vec<Duration> = receiver.attempts()[before..].iter().map(latency).collect();
    latencies.sort();
    latencies
}

fn median(mut values: Vec<Duration>) -> f64 {
    values.sort();
    values[values.len() / 2].as_secs_f64() * 1000.0
}

#[test]
fn a_dead_destination_does_not_delay_a_healthy_one() {
    let kafka = Broker::shared();
    kafka.create_topic("alone-in", 4, &[]);
    kafka.create_topic("shared-in", 4, &[]);
    let (alone, shared) = (Receiver::ok(), Receiver::ok());
    let hanging = Receiver::start(|_| Answer::hang());
    let config_alone = Config::new(kafka.brokers(), "alone")
        .topics(&["alone-in"])
        .destination(Destination::new("healthy", &alone.url()));
    let refused = format!("http://127.0.0.1:{}/", free_port());
    let config_shared = Config::new(kafka.brokers(), "shared")
        .topics(&["shared-in"])
        .destination(Destination::new("healthy", &shared.url()))
        .destination(Destination::new("hanging", &hanging.url()))
        .destination(Destination::new("refused", &refused));
    let _alone = Relay::start(&config_alone);
    let relay = Relay::start(&config_shared);
    let begin = Instant::now();
    // One round each to warm up: connections, caches, the group.
    round(kafka, "alone-in", &alone, begin);
    round(kafka, "shared-in", &shared, begin);

    let [mut p50, mut p99] = [[vec![], vec![]], [vec![], vec![]]];
    for _ in 0..ROUNDS {
        let sides = [("alone-in", &alone), ("shared-in", &shared)];
        for (side, (topic, receiver)) in sides.into_iter().enumerate() {
            let latencies = round(kafka, topic, receiver, begin);
            p50[side].push(latencies[latencies.len() / 2]);
            p99[side].push(latencies[latencies.len() * 99 / 100]);
        }
    }
    let [alone_p50, shared_p50] = p50.map(median);
    let [alone_p99, shared_p99] = p99.map(median);
    println!("p50: alone {alone_p50:.2} ms, beside two dead ones {shared_p50:.2} ms");
    println!("p99: alone {alone_p99:.2} ms, beside two dead ones {shared_p99:.2} ms");
    let waiting = |d| {
        relay
            .metrics()
            .sum("postrider_records_waiting", &[("destination", d)])
    };
    assert!(
        waiting("hanging") > 1000.0 && waiting("refused") > 1000.0,
        "the dead ones are dead"
    );
    assert!(
        shared_p50 <= alone_p50 * 1.2,
        "p50 {shared_p50:.2} ms is over 1.2 x {alone_p50:.2} ms"
    );
    assert!(
        shared_p99 <= alone_p99 * 1.5,
        "p99 {shared_p99:.2} ms is over 1.5 x {alone_p99:.2} ms"
    );
}
