//! The topics of our own, and whether the cluster answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::lane::Step;

use super::complaints::Complaints;
use super::context::Plain;
use super::extent::LadderExtent;
use super::options::OwnedTopicsOptions;

/// The largest record a topic of our own takes: what a webhook's record may weigh, with room for our headers.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);

/// A topic of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedTopic {
    /// Its name.
    pub name: String,
    /// The step of the ladder that it is, if it is one.
    pub step: Option<Step>,
    /// Whether it keeps the latest record of each key, for good, instead of every record for some time.
    pub compacted: bool,
}

impl OwnedTopic {
    /// The dead letters.
    #[must_use]
    pub fn dead_letters(prefix: &str) -> Self {
        Self {
            name: format!("{prefix}.dead-letters"),
            step: None,
            compacted: false,
        }
    }

    /// What must outlive a process and be known to every instance.
    #[must_use]
    pub fn state(prefix: &str) -> Self {
        Self {
            name: format!("{prefix}.state"),
            step: None,
            compacted: true,
        }
    }

    /// The ladder, the shortest step first.
    #[must_use]
    pub fn ladder(prefix: &str) -> Vec<Self> {
        let topic = |step: Step| Self {
            name: format!("{prefix}.retry.{}", step.name()),
            step: Some(step),
            compacted: false,
        };
        Step::ALL.map(topic).into()
    }

    /// Where replayed dead letters come back: a step with no delay.
    #[must_use]
    pub fn replay(prefix: &str) -> Self {
        Self {
            name: format!("{prefix}.{}", Step::Replay.name()),
            step: Some(Step::Replay),
            compacted: false,
        }
    }

    /// Those that every lane reads: the ladder, the shortest step first, and the replay.
    #[must_use]
    pub fn read_by_lanes(prefix: &str) -> Vec<Self> {
        let mut topics = Self::ladder(prefix);
        topics.push(Self::replay(prefix));
        topics
    }

    /// How long a record must stay readable: what the ladder loses is lost for good, so there it is the step and a day for those who come late.
    pub(super) fn retention_needed(&self) -> Option<Duration> {
        self.step.map(|step| step.delay() + ALLOWANCE_MIN)
    }

    /// What is compacted is small, and one order for all of it is worth more than several partitions.
    fn partitions(&self, options: &OwnedTopicsOptions) -> i32 {
        if self.compacted {
            1
        } else {
            options.partitions
        }
    }

    /// How long it keeps records when it is made here.
    fn retention(&self, options: &OwnedTopicsOptions) -> Duration {
        let step = self.step.map(|step| step.delay() + options.retention);
        step.max(self.retention_needed())
            .unwrap_or(options.retention)
    }
}

/// The step of the ladder that a topic is, if it is one. `owned_prefix` ends with its dot.
pub(super) fn step_of(owned_prefix: &str, topic: &str) -> Option<Step> {
    let name = topic.strip_prefix(owned_prefix)?;
    if name == Step::Replay.name() {
        return Some(Step::Replay);
    }
    let name = name.strip_prefix("retry.")?;
    Step::ALL.into_iter().find(|step| step.name() == name)
}

/// How late a record of the ladder may be read and still be there.
const ALLOWANCE_MIN: Duration = Duration::from_secs(24 * 3600);

/// Why topics of our own are not there. Tried again until they are.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The cluster does not answer.
    #[error("Kafka does not answer")]
    Unreachable(#[source] KafkaError),
    /// They are missing, and the file forbids making them.
    #[error(
        "missing: {names}; and kafka.owned_topics.create is false; make what is missing with:\n  {commands}"
    )]
    Missing {
        /// The topics.
        names: String,
        /// The commands that make them.
        commands: String,
    },
    /// The broker will not make them.
    #[error(
        "missing: {names}; and the broker will not make what is missing ({reason}); grant Create on it, or make it with:\n  {commands}"
    )]
    Refused {
        /// The topics.
        names: String,
        /// The broker's reason.
        reason: String,
        /// The commands that make them.
        commands: String,
    },
}

/// The cluster, as far as its topics are concerned.
pub struct Broker {
    pub(super) client: AdminClient<Plain>,
    pub(super) brokers: String,
}

impl Broker {
    /// A client for questions and for making topics.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn new(config: &ClientConfig, complaints: Arc<Complaints>) -> Result<Self, KafkaError> {
        let brokers = config
            .get("bootstrap.servers")
            .unwrap_or_default()
            .to_owned();
        Ok(Self {
            client: config.create_with_context(Plain(complaints))?,
            brokers,
        })
    }

    /// Whether the cluster answers a metadata request within five seconds. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When it does not.
    pub fn ping(&self) -> Result<(), TopicError> {
        let answer = self
            .client
            .inner()
            .fetch_metadata(Some("__consumer_offsets"), TIMEOUT);
        answer.map(|_| ()).map_err(TopicError::Unreachable)
    }

    /// The names of the topics that can be read. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn topics(&self) -> Result<BTreeSet<String>, TopicError> {
        let metadata = self
            .client
            .inner()
            .fetch_metadata(None, TIMEOUT)
            .map_err(TopicError::Unreachable)?;
        let readable = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none() && !topic.partitions().is_empty());
        Ok(readable.map(|topic| topic.name().to_owned()).collect())
    }

    /// Makes sure that topics are there; says whether any had to be made.
    ///
    /// # Errors
    /// When one is not there and cannot be made.
    pub async fn ensure(
        self: &Arc<Self>,
        topics: &[OwnedTopic],
        options: &OwnedTopicsOptions,
    ) -> Result<bool, TopicError> {
        let made = self.make(topics, options, &admin_options()).await;
        made.map(|made| !made.is_empty())
    }

    /// The names of the topics that [`ensure`](Self::ensure) would make. The broker says whether it would; nothing is made.
    ///
    /// # Errors
    /// When one is not there and cannot be made.
    pub async fn rehearse(
        self: &Arc<Self>,
        topics: &[OwnedTopic],
        options: &OwnedTopicsOptions,
    ) -> Result<Vec<String>, TopicError> {
        let asking = admin_options().validate_only(true);
        let missing = self.make(topics, options, &asking).await?;
        Ok(missing.into_iter().map(|topic| topic.name).collect())
    }

    /// Makes what is missing, and says what was.
    async fn make(
        self: &Arc<Self>,
        topics: &[OwnedTopic],
        options: &OwnedTopicsOptions,
        asking: &AdminOptions,
    ) -> Result<Vec<OwnedTopic>, TopicError> {
        let this = Arc::clone(self);
        let asked = topics.to_vec();
        let missing = tokio::task::spawn_blocking(move || this.missing(asked)).await;
        let missing = missing.unwrap_or_else(|_| Ok(Vec::new()))?;
        if missing.is_empty() {
            return Ok(missing);
        }
        if !options.create {
            return Err(TopicError::Missing {
                names: names(&missing),
                commands: self.commands(&missing, options),
            });
        }
        self.create(&missing, options, asking).await?;
        Ok(missing)
    }

    /// How far the ladder goes at this moment. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When the cluster does not answer. Of a single partition the answer may be missing.
    pub fn ladder_extent(&self, prefix: &str) -> Result<LadderExtent, TopicError> {
        let client = self.client.inner();
        let mut extent = LadderExtent::default();
        for OwnedTopic { name, .. } in OwnedTopic::read_by_lanes(prefix) {
            let metadata = client.fetch_metadata(Some(&name), TIMEOUT);
            let metadata = metadata.map_err(TopicError::Unreachable)?;
            for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
                let offsets = client.fetch_watermarks(&name, partition.id(), TIMEOUT);
                let offsets = offsets.map(|(low, high)| low..high);
                extent.add(&name, partition.id(), offsets.ok());
            }
        }
        Ok(extent)
    }

    fn missing(&self, mut topics: Vec<OwnedTopic>) -> Result<Vec<OwnedTopic>, TopicError> {
        let mut there = BTreeSet::new();
        for OwnedTopic { name, .. } in &topics {
            let metadata = self
                .client
                .inner()
                .fetch_metadata(Some(name), TIMEOUT)
                .map_err(TopicError::Unreachable)?;
            let found = metadata.topics().iter();
            there.extend(
                found
                    .filter(|topic| !topic.partitions().is_empty())
                    .map(|topic| topic.name().to_owned()),
            );
        }
        topics.retain(|topic| !there.contains(&topic.name));
        Ok(topics)
    }

    async fn create(
        &self,
        topics: &[OwnedTopic],
        options: &OwnedTopicsOptions,
        asking: &AdminOptions,
    ) -> Result<(), TopicError> {
        let settings: Vec<_> = topics
            .iter()
            .map(|topic| settings(topic, options))
            .collect();
        let new = topics.iter().zip(&settings).map(|(topic, settings)| {
            let replication = TopicReplication::Fixed(options.replication.unwrap_or(-1));
            let mut new = NewTopic::new(&topic.name, topic.partitions(options), replication);
            for (name, value) in settings {
                new = new.set(name, value);
            }
            new
        });
        let new: Vec<NewTopic<'_>> = new.collect();
        let results = self
            .client
            .create_topics(&new, asking)
            .await
            .map_err(TopicError::Unreachable)?;
        let mut refused = Vec::new();
        let mut reason = String::new();
        for result in results {
            if let Err((name, code)) = result
                && code != RDKafkaErrorCode::TopicAlreadyExists
            {
                reason = code.to_string();
                refused.extend(topics.iter().filter(|topic| topic.name == name).cloned());
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(TopicError::Refused {
            names: names(&refused),
            reason,
            commands: self.commands(&refused, options),
        })
    }

    fn commands(&self, topics: &[OwnedTopic], options: &OwnedTopicsOptions) -> String {
        let command = |topic: &OwnedTopic| {
            let configs: String = settings(topic, options)
                .iter()
                .map(|(name, value)| format!(" --config {name}={value}"))
                .collect();
            let replication = options
                .replication
                .map(|n| format!(" --replication-factor {n}"))
                .unwrap_or_default();
            format!(
                "kafka-topics.sh --bootstrap-server {} --create --topic {} --partitions {}{replication}{configs}",
                self.brokers,
                topic.name,
                topic.partitions(options)
            )
        };
        let commands: Vec<String> = topics.iter().map(command).collect();
        commands.join("\n  ")
    }
}

pub(super) fn admin_options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(TIMEOUT))
        .request_timeout(Some(TIMEOUT))
}

fn names(topics: &[OwnedTopic]) -> String {
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    names.join(", ")
}

/// When a segment of a compacted topic is closed.
const SEGMENT_MS: u32 = 3_600_000;

/// The settings of a topic of our own. `LogAppendTime`, because a dead letter that kept the timestamp of a ten-day-old record would be deleted
/// by the next retention check, and a step of the ladder begins when the broker has the record.
fn settings(topic: &OwnedTopic, options: &OwnedTopicsOptions) -> Vec<(&'static str, String)> {
    let mut settings = vec![("message.timestamp.type", "LogAppendTime".to_owned())];
    if topic.compacted {
        settings.push(("cleanup.policy", "compact".to_owned()));
        // Instances say every twenty seconds that they are there, and only what is in a closed segment is compacted.
        settings.push(("segment.ms", SEGMENT_MS.to_string()));
    } else {
        let retention_ms = topic.retention(options).as_millis();
        settings.push(("cleanup.policy", "delete".to_owned()));
        settings.push(("retention.ms", retention_ms.to_string()));
        settings.push(("max.message.bytes", MESSAGE_BYTES_MAX.to_string()));
        // A limit that is the broker's default would delete what waits, however new it is.
        settings.push(("retention.bytes", "-1".to_owned()));
    }
    if let Some(replicas) = options.min_insync_replicas {
        settings.push(("min.insync.replicas", replicas.to_string()));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_the_ladder_is_known_by_its_name() {
        for topic in OwnedTopic::read_by_lanes("p") {
            assert_eq!(step_of("p.", &topic.name), topic.step);
        }
        for other in [
            "p.retry.1h",
            "p.retry.replay",
            "p.dead-letters",
            "q.retry.1m",
            "retry.1m",
        ] {
            assert_eq!(step_of("p.", other), None, "{other}");
        }
    }
}
