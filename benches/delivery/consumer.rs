//! A bare consumer: reads every record and does nothing with it.

use std::time::Instant;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// Reads `records` records of `topic`, and says how long that took from the first to the last.
pub(crate) fn run(brokers: &str, topic: &str, records: usize) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("consumer-{}", std::process::id()))
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    let mut begin = None;
    let mut bytes = 0;
    for _ in 0..records {
        let message = consumer
            .iter()
            .next()
            .expect("without end")
            .expect("a record");
        begin.get_or_insert_with(Instant::now);
        bytes += message.payload_len();
    }
    assert!(bytes >= records, "every record has a value");
    super::done(begin.map_or(0.0, |begin| begin.elapsed().as_secs_f64()));
}
