//! Kafka at the edge: the consumer of a lane, the shared producer, the topics Postrider owns.

mod names;
mod options;
mod properties;

pub use names::{NameError, TOPIC_MAX, check_topic};
pub use options::{KafkaOptions, OwnedTopicsOptions, Properties, StartAtOption};
pub use properties::{Reserved, reserved};
