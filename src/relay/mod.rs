//! The wiring: starts the lanes, watches them, and brings them to their end. The only place that knows all rooms.

mod allotments;
mod background;
mod blocked;
mod book;
mod descriptors;
mod desk;
mod doors;
mod error;
mod in_force;
mod instances;
mod judging;
mod keep_positions;
mod lag;
mod lane_task;
mod lanes;
mod letters;
mod log_level;
mod margin;
mod membership;
mod news;
mod operators;
mod orders;
mod outlet;
mod overview;
mod panics;
mod peers;
mod preview;
mod pulse;
mod reload;
mod report;
mod requests;
mod retries;
mod rollout;
mod say;
mod sentence;
mod sources;
mod stillness;
mod swap;
mod thread;
mod topics;
mod upkeep;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::admin::{self, Access, AdminError, Ask, DEFAULT_SOCKET, Health, SocketFile};
use crate::clock::Clock;
use crate::config::Config;
use crate::kafka::{
    self, Broker, Complaints, Ends, LadderView, OwnedTopic, Producer, StateReader, consumer_config,
    producer_config,
};
use crate::metrics::Metrics;
use crate::systemd;

pub use error::RelayError;

use allotments::{Allotments, Limits};
use background::Background;
use doors::{Door, Doors};
pub use in_force::InForce;
use instances::Myself;
use judging::Unknown;
use lane_task::LaneEnd;
use lanes::{Common, Ended, LanePlan, Lanes};
use margin::Margins;
use news::LaneWord;
use operators::{FrontDesk, Known, Operators, StateTopic};
pub(crate) use outlet::{Outlet, outlet};
use peers::Peers;
pub(crate) use preview::preview;
pub use reload::{Loader, Reading, ReloadAsk};
use retries::RetryWatch;
use rollout::{Rollout, Watch};
use stillness::Stillness;
use topics::TopicWatch;
use upkeep::Upkeep;

/// A relay whose parts all run.
pub struct Relay {
    lanes: Lanes,
    background: Background,
    health: Arc<Health>,
    /// Whom the admin server lets.
    access: Arc<Access>,
    metrics: Arc<Metrics>,
    complaints: Arc<Complaints>,
    producer: Arc<Producer>,
    in_force: Arc<InForce>,
    stop: CancellationToken,
    stop_serving: CancellationToken,
    /// Who reads the file again.
    loader: Option<Loader>,
    /// Where that is asked for.
    reloads: (mpsc::Sender<ReloadAsk>, mpsc::Receiver<ReloadAsk>),
    /// What was drained since the stop.
    drained: Drained,
    /// What everything begins anew with when all have ended.
    anew: Option<Box<Config>>,
    /// Who takes leave of the other instances.
    desk: Option<Arc<FrontDesk>>,
    _socket: Option<SocketFile>,
}

/// What the lanes gave back unsettled when they ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Drained {
    /// Records that are read again after the next start.
    pub released: u64,
    /// Whether every lane ended before its deadline.
    pub in_time: bool,
    /// With which file everything is to begin again, if that is what it ended for.
    pub anew: Option<Box<Config>>,
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
        let access = Arc::new(Access::new(&config.admin));
        let server = admin::serve(
            config.admin.listen,
            Arc::clone(&access),
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
        let in_force = Arc::new(InForce::new(config, &metrics));
        let limits = Limits::of(config);
        limits.say_what_is_missing(config);
        let allotments = Allotments::new(limits);
        let sharing = Arc::clone(&allotments).run(stop_serving.clone());
        background.spawn("the sharing of limits", sharing);
        let (say_gone, gone) = mpsc::channel(ASKS);
        let lanes = Lanes::new(Common {
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            complaints: Arc::clone(&complaints),
            kept: Arc::default(),
            stillness: Stillness::new(),
            allotments,
            unknown: Arc::new(Unknown::new(config)),
            in_force: Arc::clone(&in_force),
            gone: say_gone,
            clock,
            stop: stop.clone(),
        });
        let mut relay = Self {
            lanes,
            background,
            health,
            access,
            metrics,
            complaints,
            producer,
            in_force,
            stop,
            stop_serving,
            loader: None,
            reloads: mpsc::channel(RELOADS),
            drained: Drained {
                released: 0,
                in_time: true,
                anew: None,
            },
            anew: None,
            desk: None,
            _socket: socket,
        };
        let doors = relay.begin_lanes(config)?;
        relay.start_operators(config, doors, Arc::clone(&broker), inbox, gone);
        relay.start_looks(config, broker);
        Ok(relay)
    }

    /// Starts those who look at Kafka for the lanes.
    fn start_looks(&mut self, config: &Config, broker: Arc<Broker>) {
        let Some(desk) = self.desk.clone() else {
            return;
        };
        let upkeep = Upkeep {
            broker: Arc::clone(&broker),
            complaints: Arc::clone(&self.complaints),
            prefix: config.kafka.prefix.clone(),
            options: config.kafka.owned_topics.clone(),
            producer: Arc::clone(&self.producer),
            desk: Arc::clone(&desk),
            health: Arc::clone(&self.health),
            metrics: Arc::clone(&self.metrics),
            unfit: None,
            said_hidden: false,
        };
        let looking = upkeep.run(self.stop_serving.clone());
        self.background.spawn("the look at Kafka", looking);
        let watch = TopicWatch {
            broker: Arc::clone(&broker),
            prefix: config.kafka.prefix.clone(),
            refresh: config.kafka.topic_refresh,
            desk: Arc::clone(&desk),
        };
        let watching = watch.run(self.stop_serving.clone());
        self.background.spawn("the look for topics", watching);
        let retries = RetryWatch {
            broker,
            prefix: config.kafka.prefix.clone(),
            desk,
            metrics: Arc::clone(&self.metrics),
        };
        let watching = retries.run(self.stop_serving.clone());
        self.background.spawn("the look at the ladder", watching);
    }

    /// Begins every lane of the file.
    fn begin_lanes(&mut self, config: &Config) -> Result<Vec<Arc<Door>>, RelayError> {
        let plans = LanePlan::all(config)?;
        let mut doors = Vec::with_capacity(plans.len());
        for plan in plans {
            let prepared = self.lanes.prepare(config, plan)?;
            doors.push(self.lanes.begin(prepared, &self.producer));
        }
        Ok(doors)
    }

    /// Starts those who listen to operators and to the state topic.
    fn start_operators(
        &mut self,
        config: &Config,
        doors: Vec<Arc<Door>>,
        broker: Arc<Broker>,
        asks: mpsc::Receiver<Ask>,
        gone: mpsc::Receiver<LaneWord>,
    ) {
        let clock = self.lanes.common.clock;
        let reader = StateReader {
            client: consumer_config(&config.kafka),
            topic: OwnedTopic::state(&config.kafka.prefix).name,
            complaints: Arc::clone(&self.complaints),
        };
        let (tell, state) = mpsc::channel(ASKS);
        let (rosters, roll) = mpsc::channel(1);
        let reading = reader.run(tell, self.stop_serving.clone());
        self.background.spawn("the reader of the state", reading);
        let me = Myself::new();
        let rules = doors.iter().map(|door| door.rules()).collect();
        // A file from the future would be the newest for ever.
        let now = Clock::wall();
        let placed = config.placed.map_or(now, |placed| placed.min(now));
        let operators = Operators::new(FrontDesk {
            rollout: Rollout::new(Peers::new(me.name.clone(), placed, rules)),
            doors: Doors::new(doors, config.disabled.clone()),
            lanes_changed: Notify::new(),
            in_force: Arc::clone(&self.in_force),
            rosters,
            reloads: self.reloads.0.clone(),
            topic: StateTopic {
                name: OwnedTopic::state(&config.kafka.prefix).name,
                producer: Arc::clone(&self.producer),
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
        if descriptors::suffice_for_letters(config) {
            self.count_open_letters(config, Arc::clone(&operators.desk));
        }
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
        let serving = operators.run(asks, state, gone, roll, self.stop_serving.clone());
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

    /// What is in force, whatever the file at the start said.
    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force)
    }

    /// Runs until it is asked to end and every lane has ended. Nothing enabled is no reason to: it would be started again, and again, by
    /// whatever keeps services running.
    ///
    /// # Errors
    /// When a lane or a task ends that nobody asked to end: the others are left as they are, for the process must end too.
    pub async fn wait(mut self) -> Result<Drained, RelayError> {
        while !self.stop.is_cancelled() {
            let stop = self.stop.clone();
            let next = tokio::select! {
                () = stop.cancelled() => break,
                ended = self.lanes.next_end() => Next::Ended(ended),
                name = self.background.ended_unasked() => {
                    return Err(RelayError::Unasked(name.to_owned()));
                }
                Some(ask) = self.reloads.1.recv() => Next::Reload(ask),
            };
            match next {
                Next::Ended(ended) => self.ended(ended)?,
                Next::Reload(ask) => self.reload(ask).await?,
            }
        }
        while !self.lanes.is_empty() {
            tokio::select! {
                ended = self.lanes.next_end() => self.ended(ended)?,
                name = self.background.ended_unasked() => {
                    return Err(RelayError::Unasked(name.to_owned()));
                }
                Some(ask) = self.reloads.1.recv() => ask.come_too_late(),
            }
        }
        let mut drained = self.drained;
        info!(
            released = drained.released,
            in_time = drained.in_time,
            "drained"
        );
        if let Some(desk) = &self.desk {
            desk.leave().await;
        }
        self.stop_serving.cancel();
        drained.anew = self.anew.take();
        if drained.anew.is_some() {
            let ended = self.background.ended();
            drop(tokio::time::timeout(SERVING_ENDS, ended).await);
        }
        Ok(drained)
    }

    /// Does this while it is watched that nobody ends unasked.
    async fn while_watching<T>(&mut self, work: impl Future<Output = T>) -> Result<T, RelayError> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                watched = self.watch() => watched?,
            }
        }
    }

    /// Waits for a lane that ends.
    async fn watch(&mut self) -> Result<(), RelayError> {
        tokio::select! {
            ended = self.lanes.next_end() => self.ended(ended),
            name = self.background.ended_unasked() => Err(RelayError::Unasked(name.to_owned())),
        }
    }

    /// What a lane that ends has not settled counts when everything ends; at a reload others, or the same one, read it again at once.
    fn ended(&mut self, ended: Ended) -> Result<(), RelayError> {
        let destination = &*ended.name;
        match ended.end {
            Some(LaneEnd::Drained { released, in_time }) => {
                if self.stop.is_cancelled() {
                    self.drained.released += released;
                    self.drained.in_time &= in_time;
                }
                Ok(())
            }
            Some(LaneEnd::ConsumerGone) => Err(lane_ended(destination)),
            None => {
                error!(destination, "the thread of a lane panicked");
                Err(lane_ended(destination))
            }
        }
    }
}

/// What the relay has to look at.
enum Next {
    Ended(Ended),
    Reload(ReloadAsk),
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

/// Questions of operators that may wait, and words of the state topic.
const ASKS: usize = 64;
/// Reloads that may wait for the one under way.
const RELOADS: usize = 8;
/// How long those who serve may take to end before everything begins anew.
const SERVING_ENDS: Duration = Duration::from_secs(5);

/// How long a consumer may take to leave its group before the process goes on without it.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(in crate::relay) mod tests {
    use super::*;

    /// Nothing is enabled, and nobody listens.
    pub(in crate::relay) fn config() -> Config {
        let text = "[kafka]\nbrokers = [\"localhost:1\"]\nprefix = \"p\"\nstart_at = \"earliest\"\n\
            [admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"\"\n\
            [destinations.shop]\nenabled = false\nwebhook.url = \"http://localhost:1\"\n\
            [[rules]]\nname = \"all\"\ntopics = [\"t\"]\ndeliver_to = [\"shop\"]\n";
        match Config::parse(text, std::path::Path::new("p.toml"), &|_| None) {
            Ok(config) => config,
            Err(problems) => panic!("{}", problems.render(false)),
        }
    }

    #[tokio::test]
    async fn a_task_that_ends_unasked_ends_the_relay() {
        let clock = Clock::start();
        let stop = CancellationToken::new();
        let mut relay = Relay::start(&config(), clock, stop).await.unwrap();
        relay
            .background
            .spawn("the shaky one", async { panic!("on purpose") });
        let error = relay.wait().await.unwrap_err();
        assert_eq!(error.to_string(), "the shaky one ended unasked");
    }
}
