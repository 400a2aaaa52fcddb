//! The topics of our own, and whether the cluster answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::complaints::Complaints;
use super::context::Plain;
use super::options::OwnedTopicsOptions;

/// The largest record a topic of our own takes: what a webhook's record may weigh, with room for our headers.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);

/// A topic of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedTopic {
    /// Its name.
    pub name: String,
    /// Whether it keeps the latest record of each key, for good, instead of every record for some time.
    pub compacted: bool,
}

impl OwnedTopic {
    /// What is compacted is small, and one order for all of it is worth more than several partitions.
    fn partitions(&self, options: &OwnedTopicsOptions) -> i32 {
        if self.compacted {
            1
        } else {
            options.partitions
        }
    }
}

/// Why a topic of our own is not there. Tried again until it is.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The cluster does not answer.
    #[error("Kafka does not answer")]
    Unreachable(#[source] KafkaError),
    /// It is missing, and the file forbids making it.
    #[error(
        "topic {name} is missing and kafka.owned_topics.create is false; make it with:\n  {command}"
    )]
    Missing {
        /// The topic.
        name: String,
        /// The command that makes it.
        command: String,
    },
    /// The broker will not make it.
    #[error(
        "topic {name} is missing and the broker will not make it ({reason}); grant Create on it, or make it with:\n  {command}"
    )]
    Refused {
        /// The topic.
        name: String,
        /// The broker's reason.
        reason: String,
        /// The command that makes it.
        command: String,
    },
}

/// The cluster, as far as its topics are concerned.
pub struct Broker {
    client: AdminClient<Plain>,
    brokers: String,
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

    /// Makes sure that a topic is there.
    ///
    /// # Errors
    /// When it is not there and cannot be made.
    pub async fn ensure(
        self: &Arc<Self>,
        topic: &OwnedTopic,
        options: &OwnedTopicsOptions,
    ) -> Result<(), TopicError> {
        let this = Arc::clone(self);
        let name = topic.name.clone();
        let exists = tokio::task::spawn_blocking(move || this.exists(&name)).await;
        if exists.unwrap_or(Ok(false))? {
            return Ok(());
        }
        if !options.create {
            return Err(TopicError::Missing {
                name: topic.name.clone(),
                command: self.command(topic, options),
            });
        }
        self.create(topic, options).await
    }

    fn exists(&self, name: &str) -> Result<bool, TopicError> {
        let metadata = self
            .client
            .inner()
            .fetch_metadata(Some(name), TIMEOUT)
            .map_err(TopicError::Unreachable)?;
        Ok(metadata
            .topics()
            .iter()
            .any(|t| t.name() == name && !t.partitions().is_empty()))
    }

    async fn create(
        &self,
        topic: &OwnedTopic,
        options: &OwnedTopicsOptions,
    ) -> Result<(), TopicError> {
        let settings = settings(topic, options);
        let mut new = NewTopic::new(
            &topic.name,
            topic.partitions(options),
            TopicReplication::Fixed(options.replication.unwrap_or(-1)),
        );
        for (name, value) in &settings {
            new = new.set(name, value);
        }
        let admin = AdminOptions::new()
            .operation_timeout(Some(TIMEOUT))
            .request_timeout(Some(TIMEOUT));
        let results = self
            .client
            .create_topics(&[new], &admin)
            .await
            .map_err(TopicError::Unreachable)?;
        match results.into_iter().next() {
            Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
            Some(Err((name, code))) => Err(TopicError::Refused {
                name,
                reason: code.to_string(),
                command: self.command(topic, options),
            }),
        }
    }

    fn command(&self, topic: &OwnedTopic, options: &OwnedTopicsOptions) -> String {
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
    }
}

/// The settings of a topic of our own. `LogAppendTime`, because a dead letter that kept the timestamp of a ten-day-old record would be deleted
/// by the next retention check.
fn settings(topic: &OwnedTopic, options: &OwnedTopicsOptions) -> Vec<(&'static str, String)> {
    let mut settings = vec![("message.timestamp.type", "LogAppendTime".to_owned())];
    if topic.compacted {
        settings.push(("cleanup.policy", "compact".to_owned()));
    } else {
        settings.push(("cleanup.policy", "delete".to_owned()));
        settings.push(("retention.ms", options.retention.as_millis().to_string()));
        settings.push(("max.message.bytes", MESSAGE_BYTES_MAX.to_string()));
    }
    if let Some(replicas) = options.min_insync_replicas {
        settings.push(("min.insync.replicas", replicas.to_string()));
    }
    settings
}
