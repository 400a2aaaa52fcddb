//! `[kafka]`.

use std::time::Duration;

use super::properties;
use super::reader::{Reader, Value};
use super::refusal::Refusal;
use super::units;
use crate::clock::Timestamp;
use crate::kafka::{
    GroupProtocol, KafkaOptions, OwnedTopicsOptions, Properties, StartAtOption, check_topic,
};
use crate::lane::RecordsLostPolicy;

/// Leaves room in a topic's 249 characters for the ends of our own names, and in a group's for an id of 63.
const PREFIX_MAX: usize = 100;
const DAY: Duration = Duration::from_secs(24 * 3600);
const LEAST: &str = "the least that is needed:\n\
    [kafka]\n\
    brokers = [\"localhost:9092\"]\n\
    prefix = \"postrider\"\n\
    start_at = \"earliest\"";

/// The section, with defaults where it says nothing or something wrong.
pub(super) fn read(root: &Reader<'_>) -> KafkaOptions {
    let mut options = KafkaOptions {
        brokers: Vec::new(),
        prefix: String::new(),
        start_at: StartAtOption::Earliest,
        on_records_lost: RecordsLostPolicy::default(),
        group_protocol: GroupProtocol::default(),
        commit_interval: Duration::from_millis(500),
        topic_refresh: Duration::from_secs(30),
        owned_topics: OwnedTopicsOptions::default(),
        properties: Properties::default(),
    };
    let Some(section) = root.take("kafka") else {
        if !root.mistyped("kafka") {
            root.error_at_header("kafka", "the file has no section [kafka]", LEAST);
        }
        return options;
    };
    let Some(reader) = section.table() else {
        return options;
    };
    options.brokers = reader
        .require("brokers", "write brokers = [\"localhost:9092\"]")
        .and_then(|value| brokers(&value))
        .unwrap_or_default();
    let hint = "write prefix = \"postrider\": groups and topics of our own begin with it";
    options.prefix = reader
        .require("prefix", hint)
        .and_then(|value| prefix(&value))
        .unwrap_or_default();
    let hint = "choose where to begin on topics never read before:\n\
                start_at = \"earliest\"   (every record there is)\n\
                start_at = \"latest\"     (only what comes from here on)";
    if let Some(start) = reader
        .require("start_at", hint)
        .and_then(|value| start_at(&value))
    {
        options.start_at = start;
    }
    let policies = [
        ("earliest", RecordsLostPolicy::Earliest),
        ("latest", RecordsLostPolicy::Latest),
        ("stop", RecordsLostPolicy::Stop),
    ];
    options.on_records_lost = reader.read("on_records_lost", options.on_records_lost, |value| {
        value.one_of(&policies, &[])
    });
    let protocols = [
        ("classic", GroupProtocol::Classic),
        ("consumer", GroupProtocol::Consumer),
    ];
    options.group_protocol = reader.read("group_protocol", options.group_protocol, |value| {
        value.one_of(&protocols, &[])
    });
    let range = Duration::from_millis(10)..=Duration::from_secs(60);
    options.commit_interval = reader.read("commit_interval", options.commit_interval, |value| {
        value.duration(range)
    });
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    options.topic_refresh = reader.read("topic_refresh", options.topic_refresh, |value| {
        value.duration(range)
    });
    reader.section("owned_topics", |section| {
        owned_topics(section, &mut options.owned_topics)
    });
    let section = reader.take("properties").and_then(|value| value.table());
    if let Some(section) = &section {
        options.properties = properties::read(section, options.group_protocol);
    }
    reader.finish();
    if let Some(section) = &section {
        properties::check_together(section, &options);
    }
    options
}

fn brokers(value: &Value<'_>) -> Option<Vec<String>> {
    let texts = value.texts("[\"localhost:9092\"]")?;
    let checked = texts
        .into_iter()
        .filter_map(|(entry, text)| entry.accept(broker(&text)).map(|()| text));
    Some(checked.collect())
}

fn broker(text: &str) -> Result<(), Refusal> {
    if text.contains("://") {
        let hint = "write host:port; how to connect is `security.protocol` in [kafka.properties]";
        return Err(Refusal::new("begins with a protocol", hint));
    }
    if text.contains(',') {
        let hint = "write each in quotes of its own: [\"kafka-1:9092\", \"kafka-2:9092\"]";
        return Err(Refusal::new("is several brokers in one string", hint));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
        if text.starts_with(':') {
            return Err(Refusal::new(
                "has no host",
                format!("write \"localhost{text}\""),
            ));
        }
        return Err(Refusal::new(
            "has no port",
            format!("write \"{text}:9092\""),
        ));
    };
    if port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err(Refusal::new(
            "has a port that is none",
            "a port is a number from 1 to 65535",
        ));
    }
    let address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let valid = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(named),
    };
    if valid {
        return Ok(());
    }
    let hint =
        "write a host name or an address; an IPv6 address stands in brackets: \"[::1]:9092\"";
    Err(Refusal::new("has a host that is none", hint))
}

fn prefix(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let hint = format!("write 1 to {PREFIX_MAX} letters, digits, dots, dashes and underscores");
    if let Err(error) = check_topic(&text) {
        value.error(error.to_string(), hint);
        return None;
    }
    if text.len() > PREFIX_MAX {
        value.error(format!("is longer than {PREFIX_MAX} characters"), hint);
        return None;
    }
    if text.starts_with("__") {
        value.error(
            "begins with `__`, which Kafka keeps for its own topics",
            "take the underscores out",
        );
        return None;
    }
    Some(text)
}

fn start_at(value: &Value<'_>) -> Option<StartAtOption> {
    if let Some(time) = value.datetime() {
        return value.accept(moment(&time)).map(StartAtOption::Time);
    }
    let text = value.text()?;
    match text.as_str() {
        "earliest" => return Some(StartAtOption::Earliest),
        "latest" => return Some(StartAtOption::Latest),
        _ => {}
    }
    if let Some(age) = text.strip_prefix('-') {
        let hint = "write an age as a number and its unit, like \"-7d\" or \"-12h\"";
        let age = units::duration(age).map_err(|refusal| Refusal::new(refusal.message, hint));
        return value.accept(age).map(StartAtOption::Ago);
    }
    if let Ok(age) = units::duration(&text) {
        let hint = format!("write \"-{}\": that long ago", units::duration_text(age));
        value.error("is an age without its minus sign", hint);
        return None;
    }
    value.accept(moment(&text)).map(StartAtOption::Time)
}

fn moment(text: &str) -> Result<Timestamp, Refusal> {
    let hint = "write \"earliest\", \"latest\", an age like \"-7d\", or a time like \"2026-01-31T08:00:00Z\"";
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Timestamp(time.as_millisecond())),
        Err(_) if text.parse::<jiff::civil::DateTime>().is_ok() => {
            let hint =
                "write it like \"2026-01-31T08:00:00Z\", or with an offset like +01:00 for the Z";
            Err(Refusal::new("is a time without its offset from UTC", hint))
        }
        Err(_) => Err(Refusal::new("is neither a place to begin nor a time", hint)),
    }
}

fn owned_topics(reader: &Reader<'_>, options: &mut OwnedTopicsOptions) {
    options.create = reader.read("create", options.create, Value::boolean);
    let number =
        |value: &Value<'_>, most| value.integer(1..=most).and_then(|n| i32::try_from(n).ok());
    options.partitions = reader.read("partitions", options.partitions, |value| {
        number(value, 10_000)
    });
    options.replication = reader.read("replication", None, |value| number(value, 100).map(Some));
    let insync = reader.take("min_insync_replicas");
    options.min_insync_replicas = insync.as_ref().and_then(|value| number(value, 100));
    if let (Some(value), Some(replicas), Some(all)) =
        (insync, options.min_insync_replicas, options.replication)
        && replicas > all
    {
        let hint = "a write needs that many copies, so there must be at least as many";
        value.error(format!("is larger than `replication`, {all}"), hint);
    }
    if let Some(value) = reader.take("retention") {
        let range = Duration::from_secs(60)..=3650 * DAY;
        options.retention = value.duration(range).unwrap_or(options.retention);
        if options.retention < DAY {
            let hint = "Kafka deletes dead letters after it, read by a person or not";
            value.warning("keeps dead letters for less than a day", hint);
        }
    }
}
