//! `postrider explain`: where a record goes, why it goes nowhere else, and what is sent there.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::delivery::Verdict;
use crate::kafka::{Complaints, Letters, LettersError, consumer_config, producer_config};
use crate::record::{Header, Record};
use crate::rules::TopicSelector;

use super::common::{Common, no_destination};
use super::progress::spinner;
use super::trial::{Fate, Shown, Trial};
use super::{complain, exit, load, say};

/// A record that is longer is none of Kafka's usual ones.
const VALUE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Show where a record goes, why it goes nowhere else, and what is sent there
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "postrider explain --record FILE|- [--topic T] [--key K] [--header N=V]...
       postrider explain --topic T --partition P --offset N",
    after_help = "Examples:
  postrider explain --record order.json --topic orders        a record that was never written
  echo '{\"type\": \"x\"}' | postrider explain --record - -d shop
  postrider explain --topic orders --partition 3 --offset 42  one that is in Kafka

Nothing is sent, and nothing is committed. Secrets are shown as [secret].

Exit codes: 0 shown, 1 there is no such record, 2 usage, 69 Kafka is away, 78 the file is wrong"
)]
pub(super) struct ExplainArguments {
    /// The file that holds the record's value; - reads it from the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "offset")]
    record: Option<PathBuf>,
    /// Its topic; may be left out when the rules name only one
    #[arg(long)]
    topic: Option<String>,
    /// Its key
    #[arg(long, requires = "record")]
    key: Option<String>,
    /// One of its headers
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, requires = "record")]
    header: Vec<(String, String)>,
    /// Its partition
    #[arg(long, required_unless_present = "record")]
    partition: Option<i32>,
    /// Its offset in Kafka
    #[arg(long, required_unless_present = "record")]
    offset: Option<i64>,
    /// One destination only
    #[arg(short, long, value_name = "NAME")]
    destination: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write it as name=value".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn main(common: &Common, arguments: &ExplainArguments) -> u8 {
    explain(common, arguments).map_or_else(|code| code, |()| exit::OK)
}

fn explain(common: &Common, arguments: &ExplainArguments) -> Result<(), u8> {
    let config = load(common.config())?;
    if let Some(wanted) = &arguments.destination {
        let names: Vec<&str> = config.destinations.iter().map(|d| &*d.name).collect();
        if !names.contains(&wanted.as_str()) {
            return Err(no_destination(wanted, &names));
        }
    }
    let topic = topic(&config, arguments)?;
    let (record, cluster_id) = match &arguments.record {
        Some(file) => (of_file(file, topic, arguments)?, "explain".to_owned()),
        None => of_kafka(&config, &topic, arguments)?,
    };
    let record = Arc::new(record);
    let mut trial = Trial::new(&config, &cluster_id);
    let fates = trial.fates(&record, arguments.destination.as_deref());
    let reserved = trial.is_reserved(&record.topic);
    let kind = trial.kind(&record);
    if common.is_json() {
        let fates: Vec<Value> = fates.iter().map(as_json).collect();
        let report = json!({
            "record": { "topic": &*record.topic, "partition": record.partition, "offset": record.offset, "type": kind },
            "never_read": reserved,
            "destinations": fates,
        });
        say(&format!("{report}\n"));
        return Ok(());
    }
    say(&head(&record, kind.as_deref()));
    if reserved {
        say("no rule ever reads this topic: it is one of our own, or of Kafka's\n");
        return Ok(());
    }
    fates.iter().for_each(|fate| say(&shown(fate)));
    Ok(())
}

/// The topic that was named, or the only one that there is.
fn topic(config: &Config, arguments: &ExplainArguments) -> Result<String, u8> {
    if let Some(topic) = &arguments.topic {
        return Ok(topic.clone());
    }
    let named = config.rules.iter().flat_map(|rule| &rule.topics);
    let mut topics: Vec<&str> = named.map(TopicSelector::text).collect();
    topics.sort_unstable();
    topics.dedup();
    match topics.as_slice() {
        [only] if !only.starts_with('^') => Ok((*only).to_owned()),
        several => {
            let several = several.join(", ");
            complain(&format!(
                "error: which topic? say --topic; the rules read: {several}"
            ));
            Err(exit::USAGE)
        }
    }
}

fn of_file(file: &PathBuf, topic: String, arguments: &ExplainArguments) -> Result<Record, u8> {
    let mut value = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin()
            .take(VALUE_BYTES_MAX)
            .read_to_end(&mut value)
    } else {
        fs::File::open(file).and_then(|open| open.take(VALUE_BYTES_MAX).read_to_end(&mut value))
    };
    if let Err(error) = read {
        complain(&format!("error: cannot read {}: {error}", file.display()));
        return Err(exit::USAGE);
    }
    let header = |(name, value): &(String, String)| Header {
        name: Bytes::from(name.clone()),
        value: Some(Bytes::from(value.clone())),
    };
    Ok(Record {
        topic: topic.into(),
        partition: arguments.partition.unwrap_or(0),
        offset: 0,
        timestamp: Some(Clock::wall()),
        key: arguments.key.clone().map(Bytes::from),
        value: Some(Bytes::from(value)),
        headers: arguments.header.iter().map(header).collect(),
    })
}

/// The record as it is in Kafka, and the id of its cluster.
fn of_kafka(
    config: &Config,
    topic: &str,
    arguments: &ExplainArguments,
) -> Result<(Record, String), u8> {
    let clock = Clock::start();
    let reader = Letters {
        consumer: consumer_config(&config.kafka),
        producer: producer_config(&config.kafka),
        prefix: config.kafka.prefix.clone(),
        complaints: Arc::new(Complaints::new(clock)),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let (partition, offset) = (
        arguments.partition.unwrap_or_default(),
        arguments.offset.unwrap_or_default(),
    );
    let spinner = spinner("asking Kafka");
    let ask = || -> Result<_, LettersError> {
        reader.reach(clock)?;
        Ok((
            reader.record(topic, partition, offset)?,
            reader.cluster_id()?,
        ))
    };
    let asked = ask();
    drop(spinner);
    match asked {
        Ok((Some(record), cluster_id)) => Ok((record, cluster_id)),
        Ok((None, _)) => {
            complain(&format!(
                "error: there is no record at offset {offset} of topic {topic}, partition {partition}: it was never written, or is deleted by now"
            ));
            Err(exit::NO)
        }
        Err(error @ LettersError::Unreachable(_)) => {
            complain(&format!("error: {error}"));
            Err(exit::UNAVAILABLE)
        }
        Err(error) => {
            complain(&format!("error: {error}"));
            Err(exit::NO)
        }
    }
}

fn head(record: &Record, kind: Option<&str>) -> String {
    let Record {
        topic,
        partition,
        offset,
        ..
    } = record;
    let bytes = record.value.as_ref().map_or(0, Bytes::len);
    let kind = kind.map_or("has no type that can be read".to_owned(), |kind| {
        format!("type {}", plain(kind))
    });
    let time = record.timestamp.unwrap_or(Timestamp(0));
    let time = jiff::Timestamp::from_millisecond(time.0).unwrap_or_default();
    format!(
        "record: topic {topic}, partition {partition}, offset {offset}, {bytes} bytes, {time:.3}; {kind}\n"
    )
}

/// What becomes of the record in one lane.
fn shown(fate: &Fate) -> String {
    let mut text = format!("\n{}: {}\n", fate.destination, ending(fate));
    let width = fate.answers.iter().map(|answer| answer.rule.len()).max();
    let width = width.unwrap_or(0);
    for answer in &fate.answers {
        let mark = if answer.decides { '*' } else { ' ' };
        let (rule, words) = (&answer.rule, plain(&answer.text));
        text.push_str(&format!("  {mark} rule {rule:width$}  {words}\n"));
    }
    if let Some(Ok(request)) = &fate.request {
        text.push_str(&request_shown(request));
    }
    text
}

/// In a few words.
pub(super) fn ending(fate: &Fate) -> String {
    match (&fate.verdict, &fate.request) {
        (_, Some(Err(unmade))) if unmade.drops => {
            format!("dropped, for nothing can be sent: {}", plain(&unmade.why))
        }
        (_, Some(Err(unmade))) => {
            format!(
                "a dead letter, for nothing can be sent: {}",
                plain(&unmade.why)
            )
        }
        (Verdict::Deliver { rule }, _) => format!("delivered, by rule {rule}"),
        (Verdict::DeadLetter { reason, error }, _) => {
            format!("a dead letter ({}): {}", reason.name(), plain(error))
        }
        (Verdict::Dropped, _) => match &fate.dropped_by {
            Some(rule) => format!("dropped, by rule {rule}"),
            None => "dropped, for the file says so of such values".to_owned(),
        },
        (Verdict::NotMatched | Verdict::Foreign, _) => "not for it".to_owned(),
    }
}

fn request_shown(request: &Shown) -> String {
    let Shown {
        method,
        address,
        headers,
        body,
    } = request;
    let mut text = format!("    {method} {address}\n");
    for (name, value) in headers {
        text.push_str(&format!("    {name}: {}\n", plain(value)));
    }
    text.push('\n');
    for line in String::from_utf8_lossy(body).lines() {
        text.push_str(&format!("    {}\n", plain(line)));
    }
    text
}

fn as_json(fate: &Fate) -> Value {
    let rules = fate.answers.iter().map(
        |answer| json!({ "rule": &*answer.rule, "decides": answer.decides, "text": answer.text }),
    );
    let request = match &fate.request {
        Some(Ok(request)) => {
            let headers = request.headers.iter().cloned();
            let headers = headers.map(|(name, value)| (name, Value::from(value)));
            json!({
                "method": request.method,
                "address": request.address,
                "headers": Value::Object(headers.collect()),
                "body": String::from_utf8_lossy(&request.body),
            })
        }
        Some(Err(_)) | None => Value::Null,
    };
    json!({
        "destination": &*fate.destination,
        "delivered": matches!(fate.request, Some(Ok(_))),
        "outcome": ending(fate),
        "rules": rules.collect::<Vec<_>>(),
        "request": request,
    })
}

/// Fit for a terminal, whatever a record holds.
pub(super) fn plain(text: &str) -> String {
    let shown = text.chars().map(|c| match c {
        '\t' => '\t',
        c if c.is_control() => '\u{fffd}',
        c => c,
    });
    shown.collect()
}
