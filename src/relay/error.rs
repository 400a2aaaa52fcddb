//! Why there is no relay.

use crate::admin::AdminError;
use crate::descriptors::TooFew;
use crate::kafka::{KafkaError, StartError};
use crate::send::WebhookError;

/// Why the relay does not run, or runs no more.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// librdkafka refuses the settings.
    #[error("the Kafka client cannot be made; look at [kafka] and [kafka.properties]")]
    Kafka(#[from] KafkaError),
    /// A consumer cannot be started.
    #[error(transparent)]
    Consumer(#[from] StartError),
    /// A destination's HTTP client cannot be made.
    #[error("destination {destination}")]
    Webhook {
        /// The destination.
        destination: String,
        /// Why.
        source: WebhookError,
    },
    /// The system allows too few file descriptors for the lanes of this file.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The system gives no thread.
    #[error("the thread of a lane cannot be started")]
    Thread(#[source] std::io::Error),
    /// The admin address cannot be had.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The metrics cannot be registered.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// A part of the program ended that nobody asked to end.
    #[error("{0} ended unasked")]
    Unasked(String),
}

impl RelayError {
    /// What it is and what it comes from, in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    }
}
