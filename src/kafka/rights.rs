//! What this client may do, as the brokers say it themselves (KIP-430): nothing is tried, so nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::raw;
use super::topics::Broker;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Something that rights are given on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
}

/// What somebody may do, by the names of Kafka's own tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read a topic, or be a member of a group.
    Read,
    /// Write to a topic.
    Write,
    /// Make a topic.
    Create,
    /// See that it is there.
    Describe,
    /// See its settings.
    DescribeConfigs,
}

/// What is known of our rights on one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// These.
    Rights(BTreeSet<Right>),
    /// There is no such thing.
    Missing,
    /// Not even to know whether it is there.
    Nothing,
    /// The broker does not tell.
    Unknown(String),
}

impl Right {
    /// The name in Kafka's tools.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::Describe => "Describe",
            Self::DescribeConfigs => "DescribeConfigs",
        }
    }

    /// By the number of Kafka's protocol; of those that nothing here needs, none.
    fn of(number: i32) -> Option<Self> {
        Some(match number {
            3 => Self::Read,
            4 => Self::Write,
            5 => Self::Create,
            8 => Self::Describe,
            10 => Self::DescribeConfigs,
            _ => return None,
        })
    }
}

impl Broker {
    /// Our rights on topics or groups of these names. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When the cluster does not answer, or is too old for the question.
    pub fn rights(
        &self,
        of: Resource,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Held>, KafkaError> {
        let names: Result<Vec<CString>, _> =
            names.iter().map(|name| CString::new(&**name)).collect();
        let names = names.map_err(|_| KafkaError::Canceled)?;
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let client = self.client.inner();
        let answer = raw::operations(client, of == Resource::Group, &names, TIMEOUT)
            .map_err(|error| KafkaError::AdminOp(error.into()))?;
        let held = answer.into_iter().map(|(name, operations)| {
            let held = operations.map_or_else(|error| refused(error.into()), rights);
            (name, held)
        });
        Ok(held.collect())
    }
}

fn rights(numbers: Vec<i32>) -> Held {
    if numbers.is_empty() {
        return Held::Unknown("the broker does not tell".to_owned());
    }
    Held::Rights(numbers.into_iter().filter_map(Right::of).collect())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "librdkafka has two hundred errors"
)]
fn refused(error: RDKafkaErrorCode) -> Held {
    use RDKafkaErrorCode as Code;
    match error {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::GroupIdNotFound => Held::Missing,
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => Held::Nothing,
        other => Held::Unknown(other.to_string()),
    }
}
