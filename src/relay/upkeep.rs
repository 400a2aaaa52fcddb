//! What must be true of the cluster for the lanes to do their work: it answers, and the topics of our own are there.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::Health;
use crate::kafka::{Broker, Complaints, OwnedTopic, OwnedTopicsOptions, TopicError};
use crate::metrics::Metrics;

use super::panics;

const INTERVAL: Duration = Duration::from_secs(10);
/// After a failure the next look comes sooner.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Looks at the cluster again and again.
pub(super) struct Upkeep {
    pub(super) broker: Arc<Broker>,
    pub(super) complaints: Arc<Complaints>,
    pub(super) topics: Vec<OwnedTopic>,
    pub(super) options: OwnedTopicsOptions,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
}

impl Upkeep {
    /// Runs until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut last_problem: Option<String> = None;
        loop {
            let problem = self.look().await.err().map(|error| text(&error));
            let connection = self.complaints.connection();
            self.metrics
                .set_log_lines_suppressed(self.complaints.suppressed());
            self.metrics.set_panics(panics::count());
            self.health.connection_failed(connection.clone());
            if problem != last_problem {
                match &problem {
                    Some(problem) => warn!(connection, "{problem}"),
                    None => info!("Kafka answers and the topics of our own are there"),
                }
            }
            self.metrics
                .set_kafka_connected(self.health.broker_answers());
            let wait = if problem.is_some() {
                INTERVAL_AFTER_FAILURE
            } else {
                INTERVAL
            };
            last_problem = problem;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), TopicError> {
        let broker = Arc::clone(&self.broker);
        let answered = tokio::task::spawn_blocking(move || broker.ping()).await;
        if let Ok(answered) = answered {
            answered?;
            self.health.broker_answered();
        }
        for topic in &self.topics {
            let ensured = self.broker.ensure(topic, &self.options).await;
            self.health.owned_topics(ensured.as_ref().err().map(text));
            ensured?;
        }
        Ok(())
    }
}

fn text(error: &TopicError) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
