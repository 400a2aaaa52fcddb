//! What must be true of the cluster for the lanes to do their work: it answers, and the topics of our own are there.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::Health;
use crate::kafka::{
    Broker, Complaints, Inspection, OwnedTopic, OwnedTopicsOptions, Producer, TopicError,
};
use crate::metrics::Metrics;

use super::operators::FrontDesk;
use super::panics;

const INTERVAL: Duration = Duration::from_secs(10);
/// After a failure the next look comes sooner.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Looks at the cluster again and again.
pub(super) struct Upkeep {
    pub(super) broker: Arc<Broker>,
    pub(super) complaints: Arc<Complaints>,
    pub(super) prefix: String,
    pub(super) options: OwnedTopicsOptions,
    pub(super) producer: Arc<Producer>,
    /// The ways to the lanes: those that read the ladder are told when its topics were made, so that they find them at once.
    pub(super) desk: Arc<FrontDesk>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    /// What was said of the settings of the topics.
    pub(super) unfit: Option<String>,
    /// Whether it was said that settings cannot be seen.
    pub(super) said_hidden: bool,
}

impl Upkeep {
    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
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

    /// The topics of our own that must be there. Nobody needs the ladder as long as nothing is delivered.
    fn topics(&self) -> Vec<OwnedTopic> {
        let prefix = &self.prefix;
        let mut topics = vec![OwnedTopic::dead_letters(prefix), OwnedTopic::state(prefix)];
        if !self.desk.doors.is_empty() {
            topics.extend(OwnedTopic::read_by_lanes(prefix));
        }
        topics
    }

    async fn look(&mut self) -> Result<(), TopicError> {
        let topics = self.topics();
        let broker = Arc::clone(&self.broker);
        let answered = tokio::task::spawn_blocking(move || broker.ping()).await;
        if let Ok(answered) = answered {
            answered?;
            self.health.broker_answered();
        }
        let made = self.broker.ensure(&topics, &self.options).await;
        if made.as_ref().is_ok_and(|anything| *anything) {
            for door in self.desk.doors.all() {
                if let Some(ladder) = &door.ladder {
                    ladder.look_again();
                }
            }
        }
        if let Err(error) = &made {
            self.health.owned_topics(Some(text(error)));
        }
        // Also when one is missing: those that are there are written to.
        let unfit = self.inspect(&topics).await?;
        made?;
        self.health.owned_topics(unfit);
        Ok(())
    }

    /// Shuts the topics that must not be written to, and says which.
    async fn inspect(&mut self, topics: &[OwnedTopic]) -> Result<Option<String>, TopicError> {
        let Inspection { unfit, hidden } = self.broker.inspect(topics).await?;
        self.say_hidden(hidden);
        let why = unfit
            .iter()
            .map(|unfit| (unfit.topic.clone(), unfit.to_string()));
        self.producer.shut(why.collect());
        let said: Vec<String> = unfit.iter().map(ToString::to_string).collect();
        let problem = (!said.is_empty()).then(|| said.join("\n"));
        if problem != self.unfit {
            if let Some(problem) = &problem {
                error!("{problem}");
            }
            self.unfit.clone_from(&problem);
        }
        Ok(problem)
    }

    /// A right that is missing is said once; the topics are taken for what they should be.
    fn say_hidden(&mut self, hidden: Option<(String, String)>) {
        if let Some((topic, reason)) = hidden
            && !std::mem::replace(&mut self.said_hidden, true)
        {
            warn!(
                topic,
                reason,
                "the settings of a topic of our own cannot be seen; grant DescribeConfigs on it, so that one that would lose records is noticed"
            );
        }
    }
}

fn text(error: &TopicError) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
