//! Kafka: whether it answers, whether the topics are there and ours to use, and whether they keep their records long enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::clock::Clock;
use crate::config::{Config, DestinationConfig};
use crate::kafka::{Broker, Complaints, OwnedTopic, TopicError, client_config, why_away};
use crate::lane::OrderOptions;
use crate::rules::Matcher;

use super::finding::{Findings, State};
use super::rights::{Granting, needs};

/// Asks Kafka everything; when it does not answer, one question is enough.
pub(super) fn look(
    config: &Config,
    destinations: &[&DestinationConfig],
    runtime: &Runtime,
    findings: &mut Findings,
) {
    let complaints = Arc::new(Complaints::new(Clock::start()));
    let client = client_config(&config.kafka);
    let broker = match Broker::new(&client, Arc::clone(&complaints)) {
        Ok(broker) => Arc::new(broker),
        Err(error) => {
            return findings.add(State::Wrong, "kafka", format!("no client: {error}"));
        }
    };
    let addresses = config.kafka.brokers.join(", ");
    let existing = match broker.ping().and_then(|()| broker.topics()) {
        Ok(existing) => existing,
        Err(error) => {
            let why = why_away(&client, &complaints);
            // What librdkafka says begins with the address.
            let cause = why.unwrap_or_else(|| format!("{addresses}: {}", causes(&error)));
            let text = format!(
                "does not answer: {cause}; look at `brokers` in [kafka] and at [kafka.properties]"
            );
            return findings.add(State::Unreachable, "kafka", text);
        }
    };
    findings.add(State::Ok, "kafka", format!("answers at {addresses}"));
    let read = topics_read(config, destinations, &existing, findings);
    let named: BTreeSet<String> = read.values().flatten().cloned().collect();
    let owned = owned(config);
    let names = owned.iter().map(|topic| topic.name.clone());
    let there: BTreeSet<String> = names.filter(|name| existing.contains(name)).collect();
    let granting = Granting::new(config);
    for need in needs(config, destinations, named.clone(), there) {
        match broker.rights(need.of, &need.names) {
            Ok(held) => need.judge(&held, &granting, findings),
            Err(error) => {
                let text = format!("are not known: {error}");
                findings.add(State::Warning, "rights", text);
            }
        }
    }
    runtime.block_on(look_at_owned(&broker, config, &owned, findings));
    let topics: BTreeSet<Arc<str>> = named.iter().map(|name| Arc::from(&**name)).collect();
    match runtime.block_on(broker.retentions(&topics)) {
        Ok(retentions) => {
            for destination in destinations {
                let topics = read.get(&*destination.name);
                retention(destination, topics, &retentions, findings);
            }
        }
        Err(error) => findings.add(
            State::Warning,
            "retention",
            format!("is not known: {error}"),
        ),
    }
}

/// The topics of each destination; those of the audit belong to nobody.
fn topics_read<'a>(
    config: &Config,
    destinations: &[&'a DestinationConfig],
    existing: &BTreeSet<String>,
    findings: &mut Findings,
) -> BTreeMap<&'a str, BTreeSet<String>> {
    let file = config.rule_file();
    let prefix = &config.kafka.prefix;
    let mut read = BTreeMap::new();
    for destination in destinations {
        let topics = Matcher::for_destination(&file, &destination.name, None).topics();
        let found = topics.resolve(existing, prefix);
        if found.is_empty() {
            let text = "no topic fits the patterns of its rules: topics of our own never do, nor those that we may not describe";
            let about = format!("destination {}", destination.name);
            findings.add(State::Warning, about, text);
        }
        read.insert(&*destination.name, found);
    }
    read
}

/// Every topic of our own that the daemon would want.
fn owned(config: &Config) -> Vec<OwnedTopic> {
    let prefix = &config.kafka.prefix;
    let mut topics = vec![OwnedTopic::dead_letters(prefix), OwnedTopic::state(prefix)];
    topics.extend(OwnedTopic::read_by_lanes(prefix));
    topics
}

/// Whether topics of our own are there or would be made, and keep what is written to them.
async fn look_at_owned(
    broker: &Arc<Broker>,
    config: &Config,
    owned: &[OwnedTopic],
    findings: &mut Findings,
) {
    let about = "topics of our own";
    let mut fine = true;
    match broker.rehearse(owned, &config.kafka.owned_topics).await {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => {
            let text = format!("will be made at the start: {}", missing.join(", "));
            findings.add(State::Ok, about, text);
        }
        Err(error) => {
            fine = false;
            findings.add(state(&error), about, causes(&error));
        }
    }
    match broker.inspect(owned).await {
        Ok(found) => {
            for unfit in found.unfit {
                fine = false;
                let about = format!("topic {}", unfit.topic);
                findings.add(State::Wrong, about, unfit.to_string());
            }
            if let Some((topic, reason)) = found.hidden {
                fine = false;
                let text = format!(
                    "the settings of {topic} cannot be seen ({reason}): grant DescribeConfigs on it"
                );
                findings.add(State::Warning, about, text);
            }
        }
        Err(error) => {
            fine = false;
            findings.add(state(&error), about, causes(&error));
        }
    }
    if fine {
        findings.add(State::Ok, about, "their settings lose nothing");
    }
}

/// Whether the topics of a destination keep a record for as long as it may wait there to be tried.
fn retention(
    destination: &DestinationConfig,
    topics: Option<&BTreeSet<String>>,
    retentions: &BTreeMap<Arc<str>, Duration>,
    findings: &mut Findings,
) {
    let needed = longest_wait(destination);
    let about = format!("retention for {}", destination.name);
    let mut shortest: Option<Duration> = None;
    let mut fine = true;
    for topic in topics.into_iter().flatten() {
        let Some(kept) = retentions.get(topic.as_str()) else {
            continue;
        };
        shortest = Some(shortest.map_or(*kept, |shortest| shortest.min(*kept)));
        if *kept < needed {
            fine = false;
            let text = format!(
                "topic {topic} keeps records for {}, and they may wait there for {} before they are delivered: raise retention.ms of the topic, or shorten `retry.schedule` or `retention_warning`",
                spoken(*kept),
                spoken(needed)
            );
            findings.add(State::Warning, &about, text);
        }
    }
    if let (true, Some(shortest)) = (fine, shortest) {
        let text = format!(
            "records are kept for {} or longer, and may wait for {}",
            spoken(shortest),
            spoken(needed)
        );
        findings.add(State::Ok, about, text);
    }
}

/// How long a record may wait in its own topic. Without an order, what waits long waits on the ladder; with one, it stays, through all of
/// its schedule. In both, a receiver that is away is waited for as long as the file wants to be warned ahead.
fn longest_wait(destination: &DestinationConfig) -> Duration {
    let lane = &destination.lane;
    let schedule: Duration = lane.retry.schedule.iter().sum();
    let schedule = match lane.order {
        OrderOptions::None => Duration::ZERO,
        OrderOptions::Key(_) => schedule.min(lane.max_age),
    };
    schedule.saturating_add(destination.retention_warning)
}

fn state(error: &TopicError) -> State {
    match error {
        TopicError::Unreachable(_) => State::Unreachable,
        TopicError::Missing { .. } | TopicError::Refused { .. } => State::Wrong,
    }
}

/// An error and its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// `90s` as `1m30s`: the two largest units.
fn spoken(time: Duration) -> String {
    let mut rest = time.as_secs();
    let mut text = String::new();
    let mut parts = 0;
    for (unit, seconds) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
        if rest >= seconds && parts < 2 {
            text.push_str(&format!("{}{unit}", rest / seconds));
            rest %= seconds;
            parts += 1;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spoken_in_their_two_largest_units() {
        let of = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!([of(0), of(90), of(86_400)], ["0s", "1m30s", "1d"]);
        assert_eq!(of(7 * 86_400 + 3661), "7d1h");
    }
}
