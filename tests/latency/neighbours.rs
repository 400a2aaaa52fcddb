//! A dead destination does not delay a healthy one.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::port::free_port;
use crate::harness::receiver::Receiver;
use crate::harness::relay::Relay;

const SOON: Duration = Duration::from_secs(30);
const ROUNDS: usize = 5;
/// Records of one round, and how many are produced at once, how often: 600 a second for two seconds and a half.
const RECORDS: usize = 1500;
const BURST: usize = 6;
const PAUSE: Duration = Duration::from_millis(10);

/// Produces one round and returns its latencies, from the call that produces a record to its arrival, sorted.
fn round(
    producer: &BaseProducer,
    topic: &str,
    receiver: &Receiver,
    begin: Instant,
) -> Vec<Duration> {
    let before = receiver.attempt_count();
    for _ in 0..RECORDS / BURST {
        for _ in 0..BURST {
            let now = begin.elapsed().as_micros().to_string();
            let record = BaseRecord::<(), str>::to(topic).payload(&now);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.poll(Duration::ZERO);
        std::thread::sleep(PAUSE);
    }
    producer.flush(SOON).unwrap();
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
    let config_alone = Config::new(kafka.brokers(), "alone")
        .topics(&["alone-in"])
        .destination(Destination::new("healthy", &alone.url()));
    let dead = format!("http://127.0.0.1:{}/", free_port());
    let config_shared = Config::new(kafka.brokers(), "shared")
        .topics(&["shared-in"])
        .destination(Destination::new("healthy", &shared.url()))
        .destination(Destination::new("dead", &dead));
    let _alone = Relay::start(&config_alone);
    let relay = Relay::start(&config_shared);
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", kafka.brokers())
        .set("linger.ms", "0");
    let producer: BaseProducer = client.create().unwrap();
    let begin = Instant::now();
    // So many that the dead one's window is full, then one round each to warm up: connections, caches, the group.
    for _ in 0..5000 {
        let now = begin.elapsed().as_micros().to_string();
        let record = BaseRecord::<(), str>::to("shared-in").payload(&now);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(SOON).unwrap();
    shared.wait_accepted(5000, SOON);
    round(&producer, "alone-in", &alone, begin);
    round(&producer, "shared-in", &shared, begin);

    let [mut p50, mut p99] = [[vec![], vec![]], [vec![], vec![]]];
    for _ in 0..ROUNDS {
        let sides = [("alone-in", &alone), ("shared-in", &shared)];
        for (side, (topic, receiver)) in sides.into_iter().enumerate() {
            let latencies = round(&producer, topic, receiver, begin);
            p50[side].push(latencies[latencies.len() / 2]);
            p99[side].push(latencies[latencies.len() * 99 / 100]);
        }
    }
    let [alone_p50, shared_p50] = p50.map(median);
    let [alone_p99, shared_p99] = p99.map(median);
    println!("p50: alone {alone_p50:.2} ms, beside a dead one {shared_p50:.2} ms");
    println!("p99: alone {alone_p99:.2} ms, beside a dead one {shared_p99:.2} ms");
    // What it has not read yet waits in Kafka; how much that is, is asked every 15 s.
    let waiting = relay
        .metrics()
        .sum("postrider_lag_records", &[("destination", "dead")]);
    assert!(waiting > 1000.0, "the dead one is dead: {waiting}");
    assert!(
        shared_p50 <= alone_p50 * 1.2,
        "p50 {shared_p50:.2} ms is over 1.2 x {alone_p50:.2} ms"
    );
    assert!(
        shared_p99 <= alone_p99 * 1.5,
        "p99 {shared_p99:.2} ms is over 1.5 x {alone_p99:.2} ms"
    );
}
