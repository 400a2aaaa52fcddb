//! The lanes that run: each can be begun and ended by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Health;
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DestinationConfig};
use crate::kafka::{
    AUDIT, Complaints, ConsumerPlan, KeptPositions, Members, MembersPlan, Producer, StartAtOption,
    start_members, topics_config,
};
use crate::lane::{Lane, LaneOptions, StartAt};
use crate::metrics::Metrics;
use crate::rules::{Matcher, RuleFile};
use crate::send::SystemTrust;

use super::RelayError;
use super::allotments::Allotments;
use super::doors::{Address, Door};
use super::in_force::InForce;
use super::judging::Unknown;
use super::lane_task::{LaneEnd, LaneParts, LaneTask};
use super::news::LaneWord;
use super::outlet::{Outlet, outlet};
use super::pulse;
use super::stillness::Stillness;
use super::thread::Berth;
use super::topics::Watched;

/// Orders that may wait for one lane.
const LANE_ASKS: usize = 64;

/// What all lanes have in common.
pub(super) struct Common {
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) complaints: Arc<Complaints>,
    pub(super) kept: Arc<KeptPositions>,
    pub(super) stillness: Arc<Stillness>,
    pub(super) allotments: Arc<Allotments>,
    pub(super) unknown: Arc<Unknown>,
    pub(super) in_force: Arc<InForce>,
    /// Where lanes say what every instance must know.
    pub(super) gone: mpsc::Sender<LaneWord>,
    pub(super) clock: Clock,
    /// The end of all of them.
    pub(super) stop: CancellationToken,
}

/// The lanes that run.
pub(super) struct Lanes {
    pub(super) common: Common,
    running: JoinSet<Ended>,
    /// How each that runs is asked to end.
    stops: BTreeMap<u64, CancellationToken>,
    /// Those that were asked to, alone.
    leaving: BTreeSet<u64>,
    begun: u64,
}

/// A lane whose thread has ended.
pub(super) struct Ended {
    pub(super) number: u64,
    pub(super) name: Arc<str>,
    /// Nothing when its thread panicked.
    pub(super) end: Option<LaneEnd>,
}

/// What the file says of one lane.
pub(super) struct LanePlan {
    pub(super) name: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) options: LaneOptions,
    pub(super) matcher: Matcher,
    /// `None` in the audit, which sends nothing.
    pub(super) outlet: Option<Arc<Outlet>>,
    pub(super) address: Arc<Address>,
    pub(super) retention_warning: Duration,
}

/// A lane whose clients and thread are there: nothing can fail any more.
pub(super) struct Prepared {
    plan: LanePlan,
    berth: Berth,
    members: Members,
    /// How many bytes may wait inside them.
    queued_bytes: usize,
    watched: Option<Arc<Watched>>,
}

impl Prepared {
    /// Whether it has the name or the group of this one, and begins when that one has left.
    pub(super) fn follows(&self, door: &Door) -> bool {
        self.plan.id == door.id || self.plan.name == door.name
    }
}

/// What lanes that are made together have in common, so that it is made and kept once.
pub(super) struct Together<'a> {
    rules: RuleFile<'a>,
    trust: SystemTrust,
}

impl<'a> Together<'a> {
    pub(super) fn of(config: &'a Config) -> Self {
        Self {
            rules: config.rule_file(),
            trust: SystemTrust::default(),
        }
    }
}

impl LanePlan {
    /// Of every lane of the file, the audit last.
    pub(super) fn all(config: &Config) -> Result<Vec<Self>, RelayError> {
        let plans = config.destinations.iter();
        let together = Together::of(config);
        let plans = plans.map(|destination| Self::of(config, destination, &together));
        let mut plans = plans.collect::<Result<Vec<_>, _>>()?;
        plans.extend(Self::of_audit(config));
        Ok(plans)
    }

    pub(super) fn of(
        config: &Config,
        destination: &DestinationConfig,
        together: &Together<'_>,
    ) -> Result<Self, RelayError> {
        Ok(Self {
            name: Arc::clone(&destination.name),
            id: Arc::clone(&destination.id),
            options: destination.lane.clone(),
            matcher: config.matcher(&together.rules, &destination.name),
            outlet: Some(outlet(config, destination, &together.trust)?),
            address: Arc::new(Address {
                name: destination.webhook.url.host(),
                fingerprint: destination.webhook.url.fingerprint(),
            }),
            retention_warning: destination.retention_warning,
        })
    }

    pub(super) fn of_audit(config: &Config) -> Option<Self> {
        let file = config.rule_file();
        let is_needed = file.needs_audit() && !config.destinations.is_empty();
        is_needed.then(|| Self {
            name: AUDIT.into(),
            id: AUDIT.into(),
            options: LaneOptions {
                commit_interval: config.kafka.commit_interval,
                ..LaneOptions::default()
            },
            matcher: Matcher::for_audit(&file),
            outlet: None,
            address: Arc::new(Address {
                name: AUDIT.to_owned(),
                fingerprint: AUDIT.to_owned(),
            }),
            retention_warning: Duration::from_secs(24 * 3600),
        })
    }
}

impl Lanes {
    pub(super) fn new(common: Common) -> Self {
        Self {
            common,
            running: JoinSet::new(),
            stops: BTreeMap::new(),
            leaving: BTreeSet::new(),
            begun: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Makes the clients of a lane. They stay out of its group until it begins, and end with what this gives.
    pub(super) fn prepare(&self, config: &Config, plan: LanePlan) -> Result<Prepared, RelayError> {
        let topics = plan.matcher.topics();
        // With patterns, the cluster is asked first: subscribing to the names and then to the rest would be two rebalances.
        let named = || topics.resolve(&BTreeSet::new(), &config.kafka.prefix);
        let named = (!topics.has_patterns()).then(named);
        let share = config.window_bytes() / config.lanes().max(1);
        let reading = ConsumerPlan {
            client: topics_config(&config.kafka, share),
            destination: Arc::clone(&plan.name),
            destination_id: Arc::clone(&plan.id),
            group: format!("{}.{}", config.kafka.prefix, plan.id),
            topics: named.map(|named| named.into_iter().collect()),
            owned_prefix: format!("{}.", config.kafka.prefix),
            topic_refresh: config.kafka.topic_refresh,
            start_at: start_at(config.kafka.start_at),
            on_records_lost: config.kafka.on_records_lost,
            complaints: Arc::clone(&self.common.complaints),
            kept: Arc::clone(&self.common.kept),
        };
        // The audit delivers nothing, so nothing of it is on the ladder.
        let with_ladder = plan.outlet.is_some();
        let members = MembersPlan::new(&config.kafka, reading, with_ladder, share);
        let queued_bytes = members.queued_bytes();
        let berth = Berth::new(&plan.name)?;
        let members = start_members(members, self.common.clock)?;
        let watched = topics.has_patterns().then(|| {
            let mailbox = members.of_topics();
            Arc::new(Watched::new(&plan.name, topics, mailbox))
        });
        Ok(Prepared {
            plan,
            berth,
            members,
            queued_bytes,
            watched,
        })
    }

    /// Begins a lane, and gives the way to it.
    pub(super) fn begin(&mut self, prepared: Prepared, producer: &Arc<Producer>) -> Arc<Door> {
        let Prepared {
            plan: lane,
            berth,
            members,
            queued_bytes,
            watched,
        } = prepared;
        self.begun += 1;
        let number = self.begun;
        let common = &self.common;
        let (asks, from_operators) = mpsc::channel(LANE_ASKS);
        let door = Arc::new(Door {
            number,
            rules: lane.matcher.fingerprint(),
            name: Arc::clone(&lane.name),
            id: Arc::clone(&lane.id),
            address: Arc::clone(&lane.address),
            asks,
            retention_warning: lane.retention_warning,
            ladder: members.bell(),
            watched,
        });
        let stop = common.stop.child_token();
        let parts = LaneParts {
            asks: from_operators,
            gone: common.gone.clone(),
            seat: common.stillness.seat(),
            allotted: common
                .allotments
                .place(&lane.options, lane.outlet.is_some(), queued_bytes),
            name: Arc::clone(&lane.name),
            lane: Lane::new(lane.options, Arc::clone(&lane.id)),
            id: lane.id,
            metrics: common.metrics.lane(&lane.name, &lane.matcher.rule_names()),
            matcher: lane.matcher,
            address: lane.address,
            outlet: lane.outlet,
            unknown: Arc::clone(&common.unknown),
            producer: Arc::clone(producer),
            health: Arc::clone(&common.health),
            beat: pulse::watch_lane(&common.health, &lane.name, &members, common.clock),
            members,
            clock: common.clock,
            in_force: Arc::clone(&common.in_force),
            stop: stop.clone(),
        };
        let ended = berth.run(LaneTask::new(parts));
        self.stops.insert(number, stop);
        let name = lane.name;
        self.running.spawn(async move {
            let end = ended.await.ok();
            Ended { number, name, end }
        });
        door
    }

    /// Asks one lane to drain and end.
    pub(super) fn end(&mut self, number: u64) {
        if let Some(stop) = self.stops.get(&number) {
            self.leaving.insert(number);
            stop.cancel();
        }
    }

    /// A lane that hangs: it ends at nobody's word.
    #[cfg(test)]
    pub(super) fn hang(&mut self, number: u64) {
        self.stops.insert(number, CancellationToken::new());
        self.running.spawn(std::future::pending());
    }

    /// Whether a lane that was asked to end alone has ended.
    pub(super) fn has_left(&self, number: u64) -> bool {
        !self.leaving.contains(&number)
    }

    /// The next lane that has ended; for ever when none runs.
    pub(super) async fn next_end(&mut self) -> Ended {
        loop {
            match self.running.join_next().await {
                Some(Ok(ended)) => {
                    self.stops.remove(&ended.number);
                    self.leaving.remove(&ended.number);
                    self.common.health.forget(&ended.name);
                    return ended;
                }
                // Waiting for a thread's word cannot panic, and nobody aborts it.
                Some(Err(_)) => {}
                None => return std::future::pending().await,
            }
        }
    }
}

/// An age becomes a time here, once for each lane when its clients are made.
pub(super) fn start_at(option: StartAtOption) -> StartAt {
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
