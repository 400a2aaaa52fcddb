//! Kafka: reading with one or two consumer threads per lane, writing with one shared producer.
//!
//! [`consumer`] is a thread; [`members`] is what a lane has of its two; [`extent`] says whether it needs the second; [`mailbox`] is how it talks to one; [`start`] asks where partitions begin; [`topics`] makes the topics of
//! our own; [`envelope`] is what a dead letter looks like. Only [`raw`] is unsafe.

mod astray;
mod awaited;
mod away;
mod client;
mod commit_error;
mod commits;
mod complaints;
mod consumer;
mod context;
mod damaged;
mod ends;
mod envelope;
mod extent;
mod forecast;
mod gatehouse;
mod inspection;
mod kept_positions;
mod leaders;
mod letters;
mod losses;
mod made_again;
mod mailbox;
mod members;
mod names;
mod options;
mod pauses;
mod producer;
mod properties;
mod queued;
mod raw;
mod raw_leaders;
mod raw_topics;
mod reading;
mod rebalance;
#[cfg(test)]
mod rebalance_tests;
mod retention;
mod rights;
mod settings;
mod stall;
mod start;
mod state;
mod topics;
mod waiting;

pub use away::{reach, why_away};
pub use client::{client_config, consumer_config, producer_config, topics_config};
pub use complaints::Complaints;
pub use consumer::{ConsumerPlan, FromConsumer, StartError};
pub use damaged::FromDamage;
pub use ends::{Ends, TopicPartition};
pub use envelope::{Letter, Opened, dead_letter_headers};
pub use extent::LadderExtent;
pub use forecast::Forecast;
pub use gatehouse::FromLadder;
pub use inspection::{Inspection, Unfit};
pub use kept_positions::{KeptPosition, KeptPositions};
pub use letters::{
    Cut, Letters, LettersError, Mark, Marks, Missing, OpenCounts, OpenLetters, Replayer, Round,
    Scanned, Sent,
};
pub use mailbox::Mailbox;
pub use members::{LadderBell, Members, MembersPlan, Part, start_members};
pub use names::{AUDIT, NameError, TOPIC_MAX, check_topic};
pub use options::{GroupProtocol, KafkaOptions, OwnedTopicsOptions, Properties, StartAtOption};
pub use producer::Producer;
pub use properties::{Reserved, reserved};
pub use queued::QUEUED_BYTES_MIN;
pub use rights::{Held, Resource, Right};
pub use settings::{SettingError, check_setting, check_settings};
pub use state::{FromState, STATE_VALUE_MAX, StateReader, StateRecord};
pub use topics::{Broker, OwnedTopic, TopicError};
pub use waiting::{LadderView, WaitingRetries, WaitingRetry};

/// librdkafka's own word for what went wrong, for those who pass it on.
pub use rdkafka::error::KafkaError;
