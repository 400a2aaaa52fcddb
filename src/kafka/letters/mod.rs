//! The dead letters for somebody who looks at them, replays them or deletes them: no member of any group, whether a daemon runs or not.
//!
//! [`scan`] reads them to where they end now, [`marks`] tells which were replayed, [`fetch`] gets single ones and what was left out of them
//! back, [`replay`] writes them where their lane reads them, [`purge`] deletes the oldest. [`open`] is for the daemon: it counts.

mod fetch;
mod marks;
mod open;
mod purge;
mod replay;
mod scan;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::clock::Clock;

use super::away::reach;
use super::complaints::Complaints;
use super::context::Plain;
use super::topics::OwnedTopic;

pub use fetch::Missing;
pub use marks::{Mark, Marks};
pub use open::{OpenCounts, OpenLetters};
pub use purge::Cut;
pub use replay::{Replayer, Round, Sent};
pub use scan::Scanned;

/// A question that takes longer will not be answered.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often somebody who wants to stop is listened to.
const TURN: Duration = Duration::from_millis(100);
/// Nothing came for so long: Kafka is away.
const SILENCE: Duration = Duration::from_secs(30);

/// Where the dead letters are.
pub struct Letters {
    /// A consumer's settings.
    pub consumer: ClientConfig,
    /// A producer's.
    pub producer: ClientConfig,
    /// What every group and every topic of our own begins with.
    pub prefix: String,
    /// Where librdkafka's complaints go.
    pub complaints: Arc<Complaints>,
    /// Set by whoever wants an end.
    pub stop: Arc<AtomicBool>,
}

/// Why it went no further.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    /// Somebody wanted an end.
    #[error("interrupted")]
    Interrupted,
    /// The cluster does not answer.
    #[error("Kafka does not answer: {0}")]
    Unreachable(String),
    /// Another replay has begun.
    #[error("another replay has begun, which ends this one")]
    Fenced,
    /// Something that is there cannot be read, and to go on would be to guess.
    #[error("{0}")]
    Unreadable(String),
    /// Kafka says no.
    #[error("Kafka refuses: {0}")]
    Refused(String),
}

impl From<KafkaError> for LettersError {
    fn from(error: KafkaError) -> Self {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced) => Self::Fenced,
            Some(
                Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::MessageTimedOut
                | Code::RequestTimedOut
                | Code::Resolve,
            ) => Self::Unreachable(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl Letters {
    /// The topic of the dead letters.
    #[must_use]
    pub fn topic(&self) -> String {
        OwnedTopic::dead_letters(&self.prefix).name
    }

    /// The id of the cluster.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn cluster_id(&self) -> Result<String, LettersError> {
        let consumer = self.open()?;
        let id = consumer.client().fetch_cluster_id(TIMEOUT);
        id.ok_or_else(|| self.away("it does not tell its id"))
    }

    /// Whether the cluster answers at all.
    ///
    /// # Errors
    /// Why it does not, as soon as that is known.
    pub fn reach(&self, clock: Clock) -> Result<(), LettersError> {
        reach(
            &self.consumer,
            &self.topic(),
            &self.complaints,
            clock,
            &|| self.stop.load(Ordering::Relaxed),
        )
        .map_err(|why| match self.go_on() {
            Ok(()) => LettersError::Unreachable(why),
            Err(interrupted) => interrupted,
        })
    }

    /// A consumer of single partitions; it joins nothing and commits nothing.
    fn open(&self) -> Result<BaseConsumer<Plain>, LettersError> {
        let mut config = self.consumer.clone();
        config.set("group.id", self.topic());
        config.set("fetch.wait.max.ms", "100");
        let context = Plain(Arc::clone(&self.complaints));
        Ok(config.create_with_context(context)?)
    }

    /// The partitions of a topic; none when it is not there.
    fn partitions(
        &self,
        consumer: &BaseConsumer<Plain>,
        topic: &str,
    ) -> Result<Vec<i32>, LettersError> {
        let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT);
        let metadata = metadata.map_err(|error| self.away(&error.to_string()))?;
        let found = metadata.topics().iter().filter(|t| t.name() == topic);
        Ok(found
            .flat_map(|topic| topic.partitions())
            .map(|partition| partition.id())
            .collect())
    }

    fn go_on(&self) -> Result<(), LettersError> {
        if self.stop.load(Ordering::Relaxed) {
            Err(LettersError::Interrupted)
        } else {
            Ok(())
        }
    }

    /// That nobody answers, with what librdkafka has found out about it.
    fn away(&self, error: &str) -> LettersError {
        LettersError::Unreachable(self.complaints.connection().unwrap_or_else(|| error.into()))
    }
}
