//! What the file may say about Kafka.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::lane::RecordsLostPolicy;

/// The `[kafka]` section, already checked.
#[derive(Debug, Clone, PartialEq)]
pub struct KafkaOptions {
    /// Where the cluster is asked for its brokers: `host:port`, at least one.
    pub brokers: Vec<String>,
    /// What every group and every owned topic begins with.
    pub prefix: String,
    /// Where a group begins on a rule's topic where it has nothing committed.
    pub start_at: StartAtOption,
    /// What to do when records expired before they were read.
    pub on_records_lost: RecordsLostPolicy,
    /// How the members of a group agree on who reads what.
    pub group_protocol: GroupProtocol,
    /// How often positions are committed; at least 10 ms.
    pub commit_interval: Duration,
    /// How soon new topics and partitions are seen; at least a second.
    pub topic_refresh: Duration,
    /// How the topics of our own are made.
    pub owned_topics: OwnedTopicsOptions,
    /// Passed to librdkafka as they are.
    pub properties: Properties,
}

/// `start_at` as it stands in the file. An age becomes a time when the lanes start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAtOption {
    /// At the oldest record there is.
    Earliest,
    /// Behind the newest record there is.
    Latest,
    /// At the first record that is not older than this.
    Time(Timestamp),
    /// At the first record that is not older than this age at the start.
    Ago(Duration),
}

/// How the members of a group agree on who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// One of the members decides; every broker knows it.
    #[default]
    Classic,
    /// The brokers decide (KIP-848): Apache Kafka 4.0 and newer.
    Consumer,
}

/// How the topics of our own are made where they are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedTopicsOptions {
    /// Whether to make them at all; else a missing one is an error that says how to.
    pub create: bool,
    /// Partitions of each; at least 1.
    pub partitions: i32,
    /// Copies of each partition; `None` leaves it to the broker.
    pub replication: Option<i32>,
    /// Copies that must have a write before it counts; `None` leaves it to the broker.
    pub min_insync_replicas: Option<i32>,
    /// How long they keep a record.
    pub retention: Duration,
}

impl Default for OwnedTopicsOptions {
    fn default() -> Self {
        Self {
            create: true,
            partitions: 4,
            replication: None,
            min_insync_replicas: None,
            retention: Duration::from_secs(14 * 24 * 3600),
        }
    }
}

/// librdkafka's own settings. Any of them may hold a secret, so `Debug` shows the names alone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Properties(pub BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
