//! librdkafka's settings, each with the reason where it is not its default.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::options::{GroupProtocol, KafkaOptions};
use super::queued::{bound_ladder, bound_topics};

/// What every client shares: the file's properties first, so that what a promise needs stands last and wins.
#[must_use]
pub fn client_config(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in &options.properties.0 {
        config.set(name, value);
    }
    config
        .set("bootstrap.servers", options.brokers.join(","))
        // It sends telemetry to the brokers by default.
        .set("enable.metrics.push", "false")
        .set("allow.auto.create.topics", "false")
        .set_log_level(RDKafkaLogLevel::Info);
    let default = [
        ("client.id", "postrider"),
        ("socket.keepalive.enable", "true"),
        // Back within half a second after a broker returns, instead of five to nine.
        ("reconnect.backoff.max.ms", "1000"),
    ];
    set_defaults(&mut config, &default);
    config
}

/// A consumer's settings, complete but for its group.
#[must_use]
pub fn consumer_config(options: &KafkaOptions) -> ClientConfig {
    let mut config = client_config(options);
    config
        // Offsets are committed by the consumer thread, when the lane says so, and by nothing else.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Every start is explicit; this is for a partition whose oldest records expire while it is read.
        .set("auto.offset.reset", "earliest")
        // With everything settled, the end of the partition is committable, markers and holes included.
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed");
    match options.group_protocol {
        GroupProtocol::Classic => config.set("partition.assignment.strategy", "cooperative-sticky"),
        // Partitions come and go one by one with every assignor of the brokers.
        GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
    };
    let default = [
        // Bounds on what waits inside librdkafka. The back-off is what keeps the bounds from costing speed: by default it stops
        // fetching for a second whenever its queue is full.
        ("queued.max.messages.kbytes", "8192"),
        ("queued.min.messages", "10000"),
        ("fetch.queue.backoff.ms", "5"),
        ("fetch.max.bytes", "4194304"),
    ];
    set_defaults(&mut config, &default);
    // Partitions that are added, and topics that are named before they are there.
    let refresh = options.topic_refresh.as_millis().to_string();
    set_defaults(
        &mut config,
        &[("topic.metadata.refresh.interval.ms", &refresh)],
    );
    config
}

/// The settings of the consumer of a lane's topics, complete but for its group; `share` is what the lane has of the process's memory, in bytes.
#[must_use]
pub fn topics_config(options: &KafkaOptions, share: usize) -> ClientConfig {
    let mut config = consumer_config(options);
    bound_topics(&mut config, &options.properties, share);
    config
}

/// The settings of the ladder's consumer, complete but for its group. Next to nothing comes from there, none of it in a hurry: it waits
/// longer for it, and keeps less.
#[must_use]
pub(super) fn ladder_config(options: &KafkaOptions, share: usize) -> ClientConfig {
    let mut config = consumer_config(options);
    bound_ladder(&mut config, &options.properties, share);
    let ladder = [
        // A partition that is read on has to wait for the end of the request that is under way without it.
        ("fetch.wait.max.ms", "2000"),
        ("queued.min.messages", "1000"),
    ];
    for (name, value) in ladder {
        if !options.properties.0.contains_key(name) {
            config.set(name, value);
        }
    }
    config
}

/// The producer's settings.
#[must_use]
pub fn producer_config(options: &KafkaOptions) -> ClientConfig {
    let mut config = client_config(options);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // What is too large is for the topic to say, not for the client.
        .set("message.max.bytes", "100000000")
        .set("message.timeout.ms", "30000");
    set_defaults(
        &mut config,
        &[("linger.ms", "5"), ("compression.type", "lz4")],
    );
    config
}

/// Sets what the file has not set.
fn set_defaults(config: &mut ClientConfig, defaults: &[(&str, &str)]) {
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(*name, *value);
        }
    }
}
