//! The wiring: starts the lanes, watches them, and brings them to their end. The only place that knows all rooms.

mod desk;
mod lane_task;
mod outlet;
mod say;
mod topics;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::admin::{self, AdminError, Health};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DestinationConfig};
use crate::kafka::{
    self, AUDIT, Broker, Complaints, ConsumerPlan, KafkaError, OwnedTopic, Producer, StartAtOption,
    StartError, consumer_config, producer_config, start_consumer,
};
use crate::lane::{Lane, LaneOptions, RenderErrorPolicy, StartAt};
use crate::metrics::Metrics;
use crate::rules::{Matcher, ReadFormat, Renderer};
use crate::send::{Webhook, WebhookError};

use lane_task::{LaneEnd, LaneParts, LaneTask};
use outlet::Outlet;
use topics::{TopicWatch, Watched};
use upkeep::Upkeep;

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
    #[error("the lane of destination {0} ended unasked")]
    Unasked(String),
}

/// A relay whose parts all run.
pub struct Relay {
    /// Each lane's name and how it ended; nothing when its thread panicked.
    lanes: JoinSet<(String, Option<LaneEnd>)>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    complaints: Arc<Complaints>,
    stop: CancellationToken,
    stop_serving: CancellationToken,
}

/// What the lanes gave back unsettled when they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Records that are read again after the next start.
    pub released: u64,
    /// Whether every lane ended before its deadline.
    pub in_time: bool,
}

impl Relay {
    /// Starts everything; needs no broker and no receiver to be there. `stop` asks for the drain.
    ///
    /// # Errors
    /// When a part cannot be made from this configuration or on this machine.
    pub async fn start(
        config: &Config,
        clock: Clock,
        stop: CancellationToken,
    ) -> Result<Self, RelayError> {
        let metrics = Metrics::new()?;
        let health = Arc::new(Health::new(clock));
        let stop_serving = CancellationToken::new();
        let server = admin::serve(
            config.admin,
            Arc::clone(&metrics),
            Arc::clone(&health),
            stop_serving.clone(),
        )
        .await?;
        tokio::spawn(server);
        let complaints = Arc::new(Complaints::new(clock));
        let producer = Arc::new(Producer::new(
            producer_config(&config.kafka),
            &config.kafka.prefix,
            Arc::clone(&complaints),
        )?);
        let broker = Arc::new(Broker::new(
            &kafka::client_config(&config.kafka),
            Arc::clone(&complaints),
        )?);
        let upkeep = Upkeep {
            broker: Arc::clone(&broker),
            complaints: Arc::clone(&complaints),
            topics: vec![OwnedTopic {
                name: format!("{}.dead-letters", config.kafka.prefix),
            }],
            options: config.kafka.owned_topics.clone(),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
        };
        tokio::spawn(upkeep.run(stop_serving.clone()));
        let mut relay = Self {
            lanes: JoinSet::new(),
            health,
            metrics,
            complaints,
            stop,
            stop_serving,
        };
        let lanes = relay.start_lanes(config, &producer, clock)?;
        if !lanes.is_empty() {
            let watch = TopicWatch {
                broker,
                prefix: config.kafka.prefix.clone(),
                refresh: config.kafka.topic_refresh,
                lanes,
            };
            tokio::spawn(watch.run(relay.stop_serving.clone()));
        }
        Ok(relay)
    }

    /// Starts every lane; gives those that must be told which topics their patterns mean.
    fn start_lanes(
        &mut self,
        config: &Config,
        producer: &Arc<Producer>,
        clock: Clock,
    ) -> Result<Vec<Watched>, RelayError> {
        let file = config.rule_file();
        let names: Vec<&str> = config.destinations.iter().map(|d| &*d.name).collect();
        let mut watched = Vec::new();
        for destination in &config.destinations {
            let counting = (!file.needs_audit()).then_some(&names[..]);
            let plan = LanePlan {
                name: Arc::clone(&destination.name),
                id: Arc::clone(&destination.id),
                options: destination.lane.clone(),
                matcher: Matcher::for_destination(&file, &destination.name, counting),
                outlet: Some(outlet(config, destination)?),
            };
            watched.extend(self.start_lane(config, plan, producer, clock)?);
        }
        if file.needs_audit() && !config.destinations.is_empty() {
            let plan = LanePlan {
                name: AUDIT.into(),
                id: AUDIT.into(),
                options: LaneOptions {
                    commit_interval: config.kafka.commit_interval,
                    ..LaneOptions::default()
                },
                matcher: Matcher::for_audit(&file),
                outlet: None,
            };
            watched.extend(self.start_lane(config, plan, producer, clock)?);
        }
        Ok(watched)
    }

    fn start_lane(
        &mut self,
        config: &Config,
        lane: LanePlan,
        producer: &Arc<Producer>,
        clock: Clock,
    ) -> Result<Option<Watched>, RelayError> {
        let topics = lane.matcher.topics();
        // With patterns, the cluster is asked first: subscribing to the names and then to the rest would be two rebalances.
        let named = match topics.has_patterns() {
            true => BTreeSet::new(),
            false => topics.resolve(&BTreeSet::new(), &config.kafka.prefix),
        };
        let plan = ConsumerPlan {
            client: consumer_config(&config.kafka),
            destination: Arc::clone(&lane.name),
            group: format!("{}.{}", config.kafka.prefix, lane.id),
            topics: named.into_iter().collect(),
            owned_prefix: format!("{}.", config.kafka.prefix),
            start_at: start_at(config.kafka.start_at),
            on_records_lost: config.kafka.on_records_lost,
            complaints: Arc::clone(&self.complaints),
        };
        let consumer = start_consumer(plan, clock)?;
        self.health.watch(&lane.name, Arc::clone(&consumer.beat));
        let watched = topics
            .has_patterns()
            .then(|| Watched::new(&lane.name, topics, Arc::clone(&consumer.mailbox)));
        let parts = LaneParts {
            name: Arc::clone(&lane.name),
            id: Arc::clone(&lane.id),
            lane: Lane::new(lane.options, lane.id),
            metrics: self.metrics.lane(&lane.name, &lane.matcher.rule_names()),
            matcher: lane.matcher,
            outlet: lane.outlet,
            producer: Arc::clone(producer),
            consumer,
            clock,
            drain: config.limits.drain,
            stop: self.stop.clone(),
        };
        let ended = start_thread(&lane.name, LaneTask::new(parts))?;
        let name = lane.name.to_string();
        self.lanes.spawn(async move { (name, ended.await.ok()) });
        Ok(watched)
    }

    /// What the probes look at.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Every number.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Runs until every lane has ended.
    ///
    /// # Errors
    /// When a lane ends that nobody asked to end: the others are left as they are, for the process must end too.
    pub async fn wait(mut self) -> Result<Drained, RelayError> {
        let mut drained = Drained {
            released: 0,
            in_time: true,
        };
        if self.lanes.is_empty() {
            // Nothing is enabled. To end would be to be started again, and again, by whatever keeps services running.
            self.stop.cancelled().await;
        }
        while let Some(ended) = self.lanes.join_next().await {
            // Waiting for a thread's word cannot panic, and nobody aborts it.
            let Ok((name, end)) = ended else { continue };
            self.health.forget(&name);
            match end {
                Some(LaneEnd::Drained { released, in_time }) => {
                    drained.released += released;
                    drained.in_time &= in_time;
                }
                Some(LaneEnd::ConsumerGone) => return Err(RelayError::Unasked(name)),
                None => {
                    error!(destination = name, "the thread of a lane panicked");
                    return Err(RelayError::Unasked(name));
                }
            }
        }
        info!(
            released = drained.released,
            in_time = drained.in_time,
            "drained"
        );
        self.stop_serving.cancel();
        Ok(drained)
    }
}

/// What tells one lane from another.
struct LanePlan {
    name: Arc<str>,
    id: Arc<str>,
    options: LaneOptions,
    matcher: Matcher,
    outlet: Option<Arc<Outlet>>,
}

fn outlet(config: &Config, destination: &DestinationConfig) -> Result<Arc<Outlet>, RelayError> {
    let content_type = match config.read.format {
        ReadFormat::Json | ReadFormat::CloudEvents | ReadFormat::ConfluentJson => {
            "application/json"
        }
        ReadFormat::Bytes => "application/octet-stream",
    };
    let webhook = Webhook::new(
        destination.webhook.clone(),
        content_type,
        destination.excerpt_bytes,
    );
    let webhook = webhook.map_err(|source| RelayError::Webhook {
        destination: destination.name.to_string(),
        source,
    });
    let content = destination.content.clone();
    Ok(Arc::new(Outlet {
        webhook: webhook?,
        renderer: Renderer::new(content, &config.rules, config.read.clone()),
        drops: destination.lane.on_render_error == RenderErrorPolicy::Drop,
    }))
}

/// Runs a lane and its requests on a thread of its own, and says how it ended; or nothing when it panicked.
///
/// Threads that shared the requests of all lanes would have to wake each other for nearly every one, which costs as much again as
/// making it. And so a lane that is short of processor time takes none from another.
fn start_thread(
    destination: &str,
    lane: LaneTask,
) -> Result<oneshot::Receiver<LaneEnd>, RelayError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RelayError::Thread)?;
    let (say_end, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("l-{destination}"))
        .spawn(move || {
            let end = runtime.block_on(lane.run());
            runtime.shutdown_background();
            if say_end.send(end).is_err() {
                debug!("nobody waits for the end of the lane");
            }
        })
        .map_err(RelayError::Thread)?;
    Ok(ended)
}

/// An age becomes a time here, once, so that every lane begins at the same one.
fn start_at(option: StartAtOption) -> StartAt {
    match option {
        StartAtOption::Earliest => StartAt::Earliest,
        StartAtOption::Latest => StartAt::Latest,
        StartAtOption::Time(time) => StartAt::Time(time),
        StartAtOption::Ago(age) => {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            StartAt::Time(Timestamp(Clock::wall().0.saturating_sub(age_ms).max(0)))
        }
    }
}

/// How long a consumer may take to leave its group before the process goes on without it.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
