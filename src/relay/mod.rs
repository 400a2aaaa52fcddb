//! The wiring: starts the lanes, watches them, and brings them to their end. The only place that knows all rooms.

mod background;
mod blocked;
mod book;
mod descriptors;
mod desk;
mod error;
mod instances;
mod judging;
mod lag;
mod lane_task;
mod letters;
mod log_level;
mod margin;
mod membership;
mod operators;
mod orders;
mod outlet;
mod overview;
mod panics;
mod peers;
mod pulse;
mod report;
mod requests;
mod rollout;
mod say;
mod sentence;
mod stillness;
mod thread;
mod topics;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::admin::{self, AdminError, Ask, DEFAULT_SOCKET, Health, SocketFile};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::kafka::{
    self, AUDIT, Broker, Complaints, ConsumerPlan, Ends, LadderView, Mailbox, MembersPlan,
    OwnedTopic, Producer, StartAtOption, StateReader, consumer_config, producer_config,
    start_members,
};
use crate::lane::{Lane, LaneOptions, StartAt};
use crate::metrics::Metrics;
use crate::rules::Matcher;
use crate::systemd;

pub use error::RelayError;

use background::Background;
use instances::Myself;
use judging::Unknown;
use lane_task::{LaneEnd, LaneParts, LaneTask};
use margin::Margins;
use operators::{Door, FrontDesk, Known, LaneWord, Operators, StateTopic};
pub(crate) use outlet::{Outlet, outlet};
use peers::Peers;
use rollout::{Rollout, Watch};
use stillness::Stillness;
use thread::start_thread;
use topics::{TopicWatch, Watched};
use upkeep::Upkeep;

/// A relay whose parts all run.
pub struct Relay {
    /// Each lane's name and how it ended; nothing when its thread panicked.
    lanes: JoinSet<(String, Option<LaneEnd>)>,
    /// What the consumers of the ladder are told through.
    mailboxes: Vec<Arc<Mailbox>>,
    background: Background,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    complaints: Arc<Complaints>,
    stop: CancellationToken,
    stop_serving: CancellationToken,
    /// The ways to the lanes, until those who use them are started.
    doors: Vec<Door>,
    /// Where lanes say what every instance must know, and who hears it.
    gone: (mpsc::Sender<LaneWord>, Option<mpsc::Receiver<LaneWord>>),
    /// Who takes leave of the other instances.
    desk: Option<Arc<FrontDesk>>,
    stillness: Arc<Stillness>,
    _socket: Option<SocketFile>,
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
        panics::watch();
        descriptors::of(config)?;
        let metrics = Metrics::new()?;
        let health = Arc::new(Health::watched(clock, systemd::watchdog_time()));
        let stop_serving = CancellationToken::new();
        let (asks, inbox) = mpsc::channel(ASKS);
        let server = admin::serve(
            &config.admin,
            Arc::clone(&metrics),
            Arc::clone(&health),
            asks.clone(),
            stop_serving.clone(),
        )
        .await?;
        let mut background = Background::new(stop_serving.clone());
        background.spawn("the admin server", server);
        let pulse = pulse::of_runtime(&health, clock, stop_serving.clone());
        background.spawn("the runtime's heartbeat", pulse);
        let socket = start_socket(config, asks, &mut background, &stop_serving)?;
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
        let mut relay = Self {
            lanes: JoinSet::new(),
            mailboxes: Vec::new(),
            background,
            health,
            metrics,
            complaints,
            stop,
            stop_serving,
            doors: Vec::new(),
            gone: gone_channel(),
            desk: None,
            stillness: Stillness::new(),
            _socket: socket,
        };
        let lanes = relay.start_lanes(config, &producer, clock)?;
        relay.start_operators(
            config,
            Arc::clone(&producer),
            Arc::clone(&broker),
            inbox,
            clock,
        );
        let prefix = &config.kafka.prefix;
        let mut topics = vec![OwnedTopic::dead_letters(prefix), OwnedTopic::state(prefix)];
        if !config.destinations.is_empty() {
            topics.extend(OwnedTopic::read_by_lanes(prefix));
        }
        let upkeep = Upkeep {
            broker: Arc::clone(&broker),
            complaints: Arc::clone(&relay.complaints),
            topics,
            options: config.kafka.owned_topics.clone(),
            producer,
            lanes: std::mem::take(&mut relay.mailboxes),
            health: Arc::clone(&relay.health),
            metrics: Arc::clone(&relay.metrics),
            said_there: false,
            unfit: None,
            said_hidden: false,
        };
        let looking = upkeep.run(relay.stop_serving.clone());
        relay.background.spawn("the look at Kafka", looking);
        if !lanes.is_empty() {
            let watch = TopicWatch {
                broker,
                prefix: config.kafka.prefix.clone(),
                refresh: config.kafka.topic_refresh,
                lanes,
            };
            let watching = watch.run(relay.stop_serving.clone());
            relay.background.spawn("the look for topics", watching);
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
        let known = config.ids.iter().cloned().collect();
        let mut unknown = Some(Unknown {
            known,
            said: BTreeSet::new(),
        });
        for destination in &config.destinations {
            let counting = (!file.needs_audit()).then_some(&names[..]);
            let plan = LanePlan {
                name: Arc::clone(&destination.name),
                id: Arc::clone(&destination.id),
                options: destination.lane.clone(),
                matcher: Matcher::for_destination(&file, &destination.name, counting),
                outlet: Some(outlet(config, destination)?),
                endpoint: destination.webhook.url.host(),
                fingerprint: destination.webhook.url.fingerprint(),
                retention_warning: destination.retention_warning,
                unknown: unknown.take(),
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
                endpoint: AUDIT.to_owned(),
                fingerprint: AUDIT.to_owned(),
                retention_warning: Duration::from_secs(24 * 3600),
                unknown: None,
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
        let named = || topics.resolve(&BTreeSet::new(), &config.kafka.prefix);
        let named = (!topics.has_patterns()).then(named);
        let reading = ConsumerPlan {
            client: consumer_config(&config.kafka),
            destination: Arc::clone(&lane.name),
            destination_id: Arc::clone(&lane.id),
            group: format!("{}.{}", config.kafka.prefix, lane.id),
            topics: named.map(|named| named.into_iter().collect()),
            owned_prefix: format!("{}.", config.kafka.prefix),
            topic_refresh: config.kafka.topic_refresh,
            start_at: start_at(config.kafka.start_at),
            on_records_lost: config.kafka.on_records_lost,
            complaints: Arc::clone(&self.complaints),
        };
        // The audit delivers nothing, so nothing of it is on the ladder.
        let plan = MembersPlan::new(&config.kafka, reading, lane.outlet.is_some());
        let members = start_members(plan, clock)?;
        self.mailboxes.extend(members.of_ladder());
        let beat = pulse::watch_lane(&self.health, &lane.name, &members, clock);
        let watched = topics
            .has_patterns()
            .then(|| Watched::new(&lane.name, topics, members.of_topics()));
        let (asks, from_operators) = mpsc::channel(LANE_ASKS);
        self.doors.push(Door {
            rules: lane.matcher.fingerprint(),
            name: Arc::clone(&lane.name),
            id: Arc::clone(&lane.id),
            endpoint: lane.endpoint,
            asks,
            fingerprint: lane.fingerprint,
            retention_warning: lane.retention_warning,
        });
        let parts = LaneParts {
            asks: from_operators,
            gone: self.gone.0.clone(),
            seat: self.stillness.seat(),
            name: Arc::clone(&lane.name),
            id: Arc::clone(&lane.id),
            lane: Lane::new(
                descriptors::bounded(lane.options, &lane.name, config)?,
                lane.id,
            ),
            metrics: self.metrics.lane(&lane.name, &lane.matcher.rule_names()),
            matcher: lane.matcher,
            outlet: lane.outlet,
            unknown: lane.unknown,
            producer: Arc::clone(producer),
            health: Arc::clone(&self.health),
            members,
            beat,
            clock,
            drain: config.limits.drain,
            stop: self.stop.clone(),
        };
        let ended = start_thread(&lane.name, LaneTask::new(parts))?;
        let name = lane.name.to_string();
        self.lanes.spawn(async move { (name, ended.await.ok()) });
        Ok(watched)
    }

    /// Starts those who listen to operators and to the state topic.
    fn start_operators(
        &mut self,
        config: &Config,
        producer: Arc<Producer>,
        broker: Arc<Broker>,
        asks: mpsc::Receiver<Ask>,
        clock: Clock,
    ) {
        let reader = StateReader {
            client: consumer_config(&config.kafka),
            topic: OwnedTopic::state(&config.kafka.prefix).name,
            complaints: Arc::clone(&self.complaints),
        };
        if descriptors::suffice_for_letters(config) {
            self.count_open_letters(config);
        }
        let (tell, state) = mpsc::channel(ASKS);
        let Some(gone) = self.gone.1.take() else {
            return;
        };
        let reading = reader.run(tell, self.stop_serving.clone());
        self.background.spawn("the reader of the state", reading);
        let me = Myself::new();
        let rules = self.doors.iter().map(Door::rules).collect();
        // A file from the future would be the newest for ever.
        let now = Clock::wall();
        let placed = config.placed.map_or(now, |placed| placed.min(now));
        let operators = Operators::new(FrontDesk {
            rollout: Rollout::new(Peers::new(me.name.clone(), placed, rules)),
            doors: std::mem::take(&mut self.doors),
            disabled: config.disabled.clone(),
            topic: StateTopic {
                name: OwnedTopic::state(&config.kafka.prefix).name,
                producer,
                metrics: Arc::clone(&self.metrics),
            },
            health: Arc::clone(&self.health),
            clock,
            me,
            known: Mutex::new(Known::default()),
            ladder: Arc::new(LadderView {
                client: consumer_config(&config.kafka),
                prefix: config.kafka.prefix.clone(),
                complaints: Arc::clone(&self.complaints),
            }),
            ends: Arc::new(Ends::new(
                consumer_config(&config.kafka),
                Arc::clone(&self.complaints),
            )),
        });
        self.desk = Some(Arc::clone(&operators.desk));
        if systemd::listens() {
            let telling = sentence::tell(
                Arc::clone(&operators.desk),
                self.stop.clone(),
                self.stop_serving.clone(),
            );
            self.background.spawn("the sentence for systemd", telling);
        }
        let lag = lag::show(
            Arc::clone(&operators.desk),
            Margins::new(broker, Arc::clone(&self.metrics), clock),
            self.stop_serving.clone(),
        );
        self.background.spawn("the look at what waits", lag);
        let watching = Watch::new(Arc::clone(&operators.desk)).run(self.stop_serving.clone());
        self.background
            .spawn("the look at other instances", watching);
        let serving = operators.run(asks, state, gone, self.stop_serving.clone());
        self.background.spawn("the operators' desk", serving);
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
    /// When a lane or a task ends that nobody asked to end: the others are left as they are, for the process must end too.
    pub async fn wait(mut self) -> Result<Drained, RelayError> {
        let mut drained = Drained {
            released: 0,
            in_time: true,
        };
        if self.lanes.is_empty() {
            // Nothing is enabled. To end would be to be started again, and again, by whatever keeps services running.
            tokio::select! {
                () = self.stop.cancelled() => {}
                name = self.background.ended_unasked() => {
                    return Err(RelayError::Unasked(name.to_owned()));
                }
            }
        }
        loop {
            let ended = tokio::select! {
                ended = self.lanes.join_next() => ended,
                name = self.background.ended_unasked() => {
                    return Err(RelayError::Unasked(name.to_owned()));
                }
            };
            let Some(ended) = ended else { break };
            // Waiting for a thread's word cannot panic, and nobody aborts it.
            let Ok((name, end)) = ended else { continue };
            self.health.forget(&name);
            match end {
                Some(LaneEnd::Drained { released, in_time }) => {
                    drained.released += released;
                    drained.in_time &= in_time;
                }
                Some(LaneEnd::ConsumerGone) => return Err(lane_ended(&name)),
                None => {
                    error!(destination = name, "the thread of a lane panicked");
                    return Err(lane_ended(&name));
                }
            }
        }
        info!(
            released = drained.released,
            in_time = drained.in_time,
            "drained"
        );
        if let Some(desk) = &self.desk {
            desk.leave().await;
        }
        self.stop_serving.cancel();
        Ok(drained)
    }
}

fn gone_channel() -> (mpsc::Sender<LaneWord>, Option<mpsc::Receiver<LaneWord>>) {
    let (say, hear) = mpsc::channel(ASKS);
    (say, Some(hear))
}

/// Opens the operators' socket. The one that nobody named may be missing: whoever tries the daemon by hand cannot make it.
fn start_socket(
    config: &Config,
    asks: mpsc::Sender<Ask>,
    background: &mut Background,
    stop: &CancellationToken,
) -> Result<Option<SocketFile>, RelayError> {
    let Some(path) = &config.admin.socket else {
        return Ok(None);
    };
    match admin::serve_socket(path, asks, stop.clone()) {
        Ok((file, server)) => {
            background.spawn("the operators' socket", server);
            Ok(Some(file))
        }
        Err(error) if path.as_os_str() == DEFAULT_SOCKET => {
            operators::without_socket(&error);
            Ok(None)
        }
        Err(error) => Err(AdminError::from(error).into()),
    }
}

fn lane_ended(destination: &str) -> RelayError {
    RelayError::Unasked(format!("the lane of destination {destination}"))
}

/// What tells one lane from another.
struct LanePlan {
    name: Arc<str>,
    id: Arc<str>,
    options: LaneOptions,
    matcher: Matcher,
    outlet: Option<Arc<Outlet>>,
    /// What operators are told that its endpoint is called.
    endpoint: String,
    fingerprint: String,
    retention_warning: Duration,
    unknown: Option<Unknown>,
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

/// Questions of operators that may wait, and words of the state topic.
const ASKS: usize = 64;
/// Orders that may wait for one lane.
const LANE_ASKS: usize = 64;

/// How long a consumer may take to leave its group before the process goes on without it.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_unasked_ends_the_relay() {
        let clock = Clock::start();
        let (stop, stop_serving) = (CancellationToken::new(), CancellationToken::new());
        let mut background = Background::new(stop_serving.clone());
        background.spawn("the shaky one", async { panic!("on purpose") });
        let relay = Relay {
            lanes: JoinSet::new(),
            mailboxes: Vec::new(),
            background,
            health: Arc::new(Health::new(clock)),
            metrics: Metrics::new().unwrap(),
            complaints: Arc::new(Complaints::new(clock)),
            stop,
            stop_serving,
            doors: Vec::new(),
            stillness: Stillness::new(),
            gone: gone_channel(),
            desk: None,
            _socket: None,
        };
        let error = relay.wait().await.unwrap_err();
        assert_eq!(error.to_string(), "the shaky one ended unasked");
    }
}
