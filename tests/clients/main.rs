//! The clients that the first users have: each produces GraphSpace's records to a real Kafka, with every compression that it knows, and the
//! receiver gets each record exactly. `make test` prepares the clients; which of them ran is printed.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test that cannot go on stops"
)]
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "which clients ran is what this test has to say"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for real processes in real time"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "the unexpected is a panic")]

#[path = "../harness/mod.rs"]
mod harness;
mod producer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use harness::broker::Broker;
use harness::config::{Config, Destination};
use harness::ledger::Attempt;
use harness::receiver::Receiver;
use harness::relay::Relay;
use producer::{CODECS, Producer, Said, Sample};

/// The last version that the old ones can talk to.
const KAFKA_VERSION: &str = "3.9.1";
const CLIENTS: [&str; 6] = [
    "kafka-python",
    "kafka-python-1.4.7",
    "kafka-python-1.3.3",
    "pykafka",
    "confluent-kafka",
    "aiokafka",
];
/// With fewer than this the test proves too little.
const CLIENTS_MIN: usize = 4;
const SOON: Duration = Duration::from_secs(60);

/// What GraphSpace writes, what it is known to write by accident, and what is hard on the way from a producer to a receiver.
fn samples() -> Vec<Sample> {
    let mut values: Vec<Vec<u8>> = [
        r#"{"owner_email": "user1@example.com", "message": "New graph wnt uploaded.", "resource": "graph", "resource_id": 7, "type": "upload"}"#,
        r#"{"type": "delete", "resource": "layout", "resource_id": "7", "message": "Layout removed.", "owner_email": null}"#,
        r#"{"group_id": "3", "message": "Graph wnt shared.", "resource": "graph", "resource_id": "7", "type": "share", "owner_email": "user1@example.com"}"#,
        r#"{"group_ids": [3, 5], "message": "Graph wnt shared.", "resource": "graph", "resource_id": 7, "type": "share"}"#,
        r#"{"group_ids": [], "message": "Layout shared.", "resource": "layout", "resource_id": 7, "type": "unshare", "added_later": {"deep": [1.50, 1e3]}}"#,
        r#"{"group_id": 3, "message": "A member joined.", "resource": "group_member", "resource_id": 12, "type": "add", "owner_email": null}"#,
        "{ \"type\" : \"update\",\t\"message\":\"Gr\u{fc}\u{df}e \\u00e9 \u{1f4c8}\",\r\n\"resource\":\"graph\" }\n",
        "this is not JSON",
        "",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    values.push((0..=255).collect());
    // Larger than one block of snappy or lz4, so that their framing matters.
    values.push(
        format!(
            r#"{{"type": "upload", "message": "{}"}}"#,
            "wnt ".repeat(50_000)
        )
        .into_bytes(),
    );
    values.extend((0..50).map(|n| {
        format!(r#"{{"owner_email": "user{n}@example.com", "message": "New graph uploaded.", "resource": "graph", "resource_id": {n}, "type": "create"}}"#).into_bytes()
    }));
    let key = |n: usize| n.is_multiple_of(3).then(|| format!("key {n}").into_bytes());
    (0..)
        .zip(values)
        .map(|(n, value)| Sample { key: key(n), value })
        .collect()
}

#[test]
fn every_client_with_every_compression_reaches_the_receiver_byte_for_byte() {
    let samples = samples();
    let kafka = Broker::builder().version(KAFKA_VERSION).start();
    let topics: Vec<String> = CLIENTS
        .iter()
        .flat_map(|client| CODECS.map(|codec| format!("{client}.{codec}")))
        .collect();
    for topic in &topics {
        kafka.create_topic(topic, 1, &[]);
    }
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "clients")
        .topics(&names)
        // Values that are no JSON are GraphSpace's too, and nothing here looks into one.
        .notification("type = { topic = true }")
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);

    let mut report = String::from("clients on Apache Kafka 3.9.1:\n");
    let mut sent: Vec<String> = vec![];
    let mut problems: Vec<String> = vec![];
    let (mut ran, mut carried) = (0, BTreeSet::new());
    for client in CLIENTS {
        let producer = match Producer::find(client) {
            Ok(producer) => producer,
            Err(why) => {
                writeln!(report, "  {client:<20} did not run: {why}").unwrap();
                continue;
            }
        };
        let said = producer.produce(kafka.brokers(), &samples);
        ran += usize::from(said.values().any(|said| *said == Said::Done));
        write!(report, "  {client:<20}").unwrap();
        for codec in CODECS {
            let said = said.get(codec).cloned().unwrap_or(Said::Nothing);
            write!(report, " {codec}: {said};").unwrap();
            match said {
                Said::Done => {
                    sent.push(format!("{client}.{codec}"));
                    carried.insert(codec);
                }
                // Plain and gzip are in every one of them.
                Said::Cannot(_) if codec != "none" && codec != "gzip" => {}
                _ => problems.push(format!("{client} with {codec}: {said}")),
            }
        }
        writeln!(report).unwrap();
    }
    // Not by `println`, which a test that passes keeps for itself.
    std::io::stderr().write_all(report.as_bytes()).unwrap();
    assert!(problems.is_empty(), "{report}\n{problems:#?}");
    assert!(
        ran >= CLIENTS_MIN,
        "{ran} clients ran, at least {CLIENTS_MIN} are needed\n{report}"
    );
    assert_eq!(
        carried,
        BTreeSet::from(CODECS),
        "a compression that nobody used\n{report}"
    );

    let expected = sent.len() * samples.len();
    receiver.wait_accepted(expected, SOON);
    for topic in &sent {
        relay.wait_for(SOON, &format!("{topic} is settled"), |_| {
            (kafka.lag("clients.hook", topic) == 0).then_some(())
        });
    }
    let attempts = receiver.attempts();
    assert_eq!(attempts.len(), expected, "each record is sent once");
    let bodies = by_topic(&attempts);
    for topic in &sent {
        let received = bodies.get(topic.as_str()).expect("its records arrived");
        for (n, sample) in samples.iter().enumerate() {
            let attempt = received[&i64::try_from(n).unwrap()];
            assert!(
                attempt.body_sha256 == harness::place::sha256(&sample.value),
                "{topic}, record {n}: {} bytes arrived as {}: {:?}",
                sample.value.len(),
                attempt.body_length,
                attempt.body.as_deref().map(String::from_utf8_lossy)
            );
        }
    }
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

/// The attempts by topic and offset.
fn by_topic(attempts: &[Attempt]) -> BTreeMap<&str, BTreeMap<i64, &Attempt>> {
    let mut bodies: BTreeMap<&str, BTreeMap<i64, &Attempt>> = BTreeMap::new();
    for attempt in attempts {
        let place = attempt
            .place
            .as_ref()
            .expect("every request names its record");
        bodies
            .entry(&place.topic)
            .or_default()
            .insert(place.offset, attempt);
    }
    bodies
}
