//! What a seed says before the run begins: who there is, what they are set to, and what will go wrong when.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider::lane::{AfterDeadLetter, LaneOptions, OrderOptions, StartAt};

use crate::rng::Rng;
use crate::settings::{broker_mood, destination, start_at};
use crate::world::{HOUR, MILLISECOND, SECOND, Time};

/// Three kinds of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Members join and leave in good order and nothing else happens: nothing may be delivered twice.
    Calm,
    /// One destination is dead throughout, the broker and the instances are well: the other destination must not notice.
    Isolation,
    /// Anything.
    Rough,
    /// Hours and days, with schedules that go over the ladder.
    Long,
}

/// Everything that is decided before the run begins.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) class: Class,
    pub(crate) instances: usize,
    pub(crate) destinations: Vec<DestinationPlan>,
    pub(crate) topics: Vec<TopicPlan>,
    pub(crate) start_at: StartAt,
    /// A run that has not settled everything so long after its last fault never will.
    pub(crate) patience: Time,
    /// No fault begins after this.
    pub(crate) faults_end: Time,
    /// When the healthy destinations must be done.
    pub(crate) healthy_due: Time,
    /// How long a member may be silent.
    pub(crate) session: Time,
    pub(crate) revoke_wait: Time,
    pub(crate) drain_wait: Time,
    pub(crate) request_timeout: Time,
    /// An endpoint that is out asks to be left alone for so long at most.
    pub(crate) asks_for: Time,
    /// Records of one chunk come in any order.
    pub(crate) shuffle: bool,
    /// The first chunk of an assignment begins below its base, as a compressed batch may.
    pub(crate) below_base: bool,
    pub(crate) chunk: usize,
    pub(crate) hole_percent: u64,
    /// The clock wakes the lane up to this much late.
    pub(crate) wake_lag: Time,
    /// How far the clocks of the instances and of the broker are from the true time, in milliseconds.
    pub(crate) wall_skews: Vec<i64>,
    pub(crate) broker_skew: i64,
    pub(crate) ladder_partitions: usize,
    pub(crate) broker: BrokerMood,
    pub(crate) script: Vec<(Time, Step)>,
}

#[derive(Debug, Clone)]
pub(crate) struct DestinationPlan {
    pub(crate) id: Arc<str>,
    pub(crate) options: LaneOptions,
    /// Schedules that the file gets later.
    pub(crate) schedules: Vec<Vec<Duration>>,
    /// Its receiver takes everything at once.
    pub(crate) healthy: bool,
    pub(crate) outages: Vec<Outage>,
    pub(crate) mix: Mix,
    pub(crate) latency: (Time, Time),
    /// Its records go to so many addresses in turn.
    pub(crate) endpoints: usize,
    /// Its records have so many keys in turn and go by them in order; 0: in none.
    pub(crate) keys: usize,
}

impl DestinationPlan {
    /// What puts this record in order, when that is wanted.
    pub(crate) fn order_key_of(&self, number: usize) -> Option<Bytes> {
        (self.keys > 0).then(|| (number % self.keys).to_string().into())
    }

    /// What the endpoint of this record is known by, when there are several.
    pub(crate) fn endpoint_of(&self, number: usize) -> Option<Arc<str>> {
        (self.endpoints > 1).then(|| (number % self.endpoints).to_string().into())
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicPlan {
    pub(crate) partitions: usize,
    pub(crate) low: i64,
}

impl BrokerMood {
    pub(crate) fn is_well(self) -> bool {
        let Self {
            commit_fails,
            commit_answer_lost,
            commit_slow,
            question_fails,
            write_fails,
            write_ack_lost,
            write_slow,
        } = self;
        [
            commit_fails,
            commit_answer_lost,
            commit_slow,
            question_fails,
            write_fails,
            write_ack_lost,
            write_slow,
        ] == [0; 7]
    }
}

/// Which special kinds of records there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kinds {
    /// Those that end at the first try, as calm runs need it.
    DecidedAtOnce,
    /// Those that end within seconds.
    #[default]
    Quick,
    /// The same, for a window that holds too few records to find evidence in.
    Passing,
    /// Those that need their schedule, or evidence.
    Long,
}

/// In how many of a hundred cases the broker does this.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BrokerMood {
    pub(crate) commit_fails: u64,
    pub(crate) commit_answer_lost: u64,
    pub(crate) commit_slow: u64,
    pub(crate) question_fails: u64,
    pub(crate) write_fails: u64,
    pub(crate) write_ack_lost: u64,
    pub(crate) write_slow: u64,
}

/// How many of a hundred records are special for a destination.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mix {
    /// Of any kind.
    pub(crate) special: u64,
    pub(crate) kinds: Kinds,
    /// Not for this destination, or not what it should be.
    pub(crate) unsent: u64,
    /// Too large for the dead-letter topic.
    pub(crate) too_large: u64,
    /// Requests that come through only after their sender gave up.
    pub(crate) late: u64,
}

/// A time in which an endpoint answers everything alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) kind: OutageKind,
    /// Of many endpoints it is this one that is out; `None`: all.
    pub(crate) endpoint: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutageKind {
    Refused,
    Errors,
    ErrorsWithRetryAfter,
    PushBack,
    PushBackWithRetryAfter,
    Hangs,
    Unauthorized,
    Gone,
}

/// Something that happens to the world at a given time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Produce {
        topic: usize,
        burst: u64,
    },
    Start(usize),
    Leave(usize),
    Crash(usize),
    Freeze {
        instance: usize,
        time: Time,
    },
    Kick {
        instance: usize,
        destination: usize,
    },
    AddPartition {
        topic: usize,
    },
    Delete {
        topic: usize,
        back_after: Time,
    },
    Recreate {
        topic: usize,
    },
    Expire {
        topic: usize,
    },
    /// The file gets another schedule for this destination.
    ChangeSchedule {
        destination: usize,
        which: usize,
    },
    /// The destination is taken out of the file, and brought back later.
    Remove {
        destination: usize,
        back_after: Time,
    },
    BringBack {
        destination: usize,
    },
    /// One of the destination's rules is taken out of the file.
    RemoveRule {
        destination: usize,
    },
    /// A record that everybody takes, so that whoever waits for evidence gets it.
    Trickle(u32),
    /// The wall clock of an instance, or of the broker.
    WallJump {
        instance: Option<usize>,
        by: i64,
    },
    FaultsEnd,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let class = match rng.below(100) {
            0..12 => Class::Calm,
            12..20 => Class::Isolation,
            20..45 => Class::Long,
            _ => Class::Rough,
        };
        let rough = class == Class::Rough;
        let faults_end = match class {
            Class::Long => rng.pick(&[HOUR / 2, 3 * HOUR, 12 * HOUR, 40 * HOUR]),
            Class::Isolation => rng.between(10, 20) * SECOND,
            Class::Calm | Class::Rough => rng.between(4, 20) * SECOND,
        };
        let shaky = rough || class == Class::Long && rng.chance(40);
        let instances = rng.between(1, 3) as usize;
        let destination_count = if class == Class::Isolation {
            2
        } else {
            rng.between(1, 2)
        };
        let topics: Vec<TopicPlan> = (0..rng.between(1, 2))
            .map(|_| TopicPlan {
                partitions: rng.between(1, 4) as usize,
                low: rng.pick(&[0, 0, 0, 41]),
            })
            .collect();
        let destinations = (0..destination_count)
            .map(|number| destination(rng, class, number, faults_end))
            .collect();
        let mut plan = Self {
            class,
            patience: if class == Class::Long {
                400 * HOUR
            } else {
                // A clock that jumps back delays what was due by as much.
                12 * HOUR
            },
            instances,
            destinations,
            topics,
            start_at: start_at(rng),
            faults_end,
            healthy_due: faults_end
                + if class == Class::Isolation {
                    0
                } else {
                    90 * SECOND
                },
            session: rng.between(800, 4000) * MILLISECOND,
            revoke_wait: if rough { rng.between(20, 1500) } else { 5000 } * MILLISECOND,
            drain_wait: if rough { rng.between(20, 1500) } else { 5000 } * MILLISECOND,
            request_timeout: rng.between(if rough { 300 } else { 1000 }, 2000) * MILLISECOND,
            asks_for: (faults_end / 300).max(4 * SECOND),
            shuffle: shaky && rng.chance(35),
            below_base: rng.chance(20),
            chunk: rng.pick(&[1, 5, 20, 100]),
            hole_percent: rng.pick(&[0, 0, 10, 40]),
            wake_lag: rng.pick(&[0, 0, 3]) * MILLISECOND,
            wall_skews: (0..instances).map(|_| skew(rng)).collect(),
            broker_skew: skew(rng),
            ladder_partitions: rng.between(1, 2) as usize,
            broker: if shaky {
                broker_mood(rng, if rough { 100 } else { 20 })
            } else {
                BrokerMood::default()
            },
            script: Vec::new(),
        };
        plan.write_script(rng);
        plan.many_endpoints(rng);
        plan.order(rng);
        plan
    }

    /// Some destinations have several endpoints, and mostly one of them is out.
    fn many_endpoints(&mut self, rng: &mut Rng) {
        let class = self.class;
        let may = |_: &&mut DestinationPlan| matches!(class, Class::Rough | Class::Long);
        for destination in self.destinations.iter_mut().filter(may) {
            if !rng.chance(25) {
                continue;
            }
            destination.endpoints = rng.between(2, 6) as usize;
            for outage in &mut destination.outages {
                outage.endpoint = rng.chance(75).then_some(0);
            }
        }
    }

    /// Some destinations want their records in order. Then each partition is read in order, as it is.
    fn order(&mut self, rng: &mut Rng) {
        if self.class == Class::Isolation {
            return;
        }
        for destination in &mut self.destinations {
            if rng.chance(25) {
                destination.keys = rng.between(1, 12) as usize;
                // Whoever waits for a person is not in time.
                let after = match rng.chance(50) && !destination.healthy {
                    true => AfterDeadLetter::Hold,
                    false => AfterDeadLetter::Continue,
                };
                destination.options.order = OrderOptions::Key(after);
                self.shuffle = false;
            }
        }
    }

    /// Whether members only come and go in good order, and nothing is slow or refused.
    pub(crate) fn is_calm(&self) -> bool {
        let harmless =
            |(_, step): &(Time, Step)| !matches!(step, Step::Crash(_) | Step::Freeze { .. });
        match self.class {
            Class::Calm => true,
            Class::Long => self.broker.is_well() && self.script.iter().all(harmless),
            Class::Isolation | Class::Rough => false,
        }
    }

    fn write_script(&mut self, rng: &mut Rng) {
        let mut script = Vec::new();
        script.push((self.faults_end, Step::FaultsEnd));
        self.produce(rng, &mut script);
        for instance in 0..self.instances {
            let from = if instance == 0 {
                0
            } else {
                rng.below(self.faults_end / 2)
            };
            script.push((from, Step::Start(instance)));
        }
        match self.class {
            Class::Isolation => {}
            Class::Calm => self.comings_and_goings(rng, &mut script),
            Class::Rough => {
                if rng.chance(60) {
                    self.comings_and_goings(rng, &mut script);
                }
                self.faults(rng, &mut script);
                if rng.chance(15) {
                    self.churn(rng, &mut script);
                }
            }
            Class::Long => self.days(rng, &mut script),
        }
        self.script = script;
    }

    /// A topic that somebody's tests delete and make again and again: its first offsets repeat while answers to the old ones come in.
    fn churn(&mut self, rng: &mut Rng, script: &mut Vec<(Time, Step)>) {
        let topic = rng.index(self.topics.len());
        let mut at = rng.below(SECOND);
        while at < self.faults_end * 4 / 5 {
            script.push((
                at,
                Step::Delete {
                    topic,
                    back_after: rng.between(1, 20) * MILLISECOND,
                },
            ));
            at += rng.between(200, 1500) * MILLISECOND;
        }
        for destination in self
            .destinations
            .iter_mut()
            .filter(|destination| !destination.healthy)
        {
            destination.mix.special = 70;
            destination.latency.1 = 250 * MILLISECOND;
            destination.options.concurrency = 16;
            destination.options.window.records = 300;
            destination.options.window.bytes = 1 << 20;
        }
    }

    fn produce(&self, rng: &mut Rng, script: &mut Vec<(Time, Step)>) {
        let mut left = rng.between(50, if self.class == Class::Long { 120 } else { 300 });
        // An isolated destination is timed from the last record on.
        let last = if self.class == Class::Isolation {
            self.faults_end / 3
        } else {
            self.faults_end * 4 / 5
        };
        let backlog = rng.pick(&[0, 30, 70]);
        while left > 0 {
            let most = rng.pick(&[2, 10, 30]);
            let burst = rng.between(1, most).min(left);
            left -= burst;
            let at = if rng.chance(backlog) {
                0
            } else {
                rng.below(last)
            };
            script.push((
                at,
                Step::Produce {
                    topic: rng.index(self.topics.len()),
                    burst,
                },
            ));
        }
    }

    fn comings_and_goings(&self, rng: &mut Rng, script: &mut Vec<(Time, Step)>) {
        for _ in 0..rng.between(1, 6) {
            let instance = rng.index(self.instances);
            let at = rng.below(self.faults_end);
            script.push((at, Step::Leave(instance)));
            script.push((
                at + rng.between(1, 3000) * MILLISECOND,
                Step::Start(instance),
            ));
        }
        if rng.chance(40) {
            let topic = rng.index(self.topics.len());
            let at = rng.below(self.faults_end * 4 / 5);
            script.push((at, Step::AddPartition { topic }));
            script.push((
                at,
                Step::Produce {
                    topic,
                    burst: rng.between(1, 10),
                },
            ));
        }
    }

    /// Each kind of fault is there or not, so that a run is not always a bit of everything.
    fn faults(&self, rng: &mut Rng, script: &mut Vec<(Time, Step)>) {
        let end = self.faults_end;
        let several = |rng: &mut Rng, percent: u64, most: u64| {
            if rng.chance(percent) {
                rng.between(1, most)
            } else {
                0
            }
        };
        for _ in 0..several(rng, 60, 6) {
            script.push((rng.below(end), Step::Crash(rng.index(self.instances))));
        }
        for _ in 0..several(rng, 35, 3) {
            let (instance, time) = (
                rng.index(self.instances),
                rng.between(50, 8000) * MILLISECOND,
            );
            script.push((rng.below(end), Step::Freeze { instance, time }));
        }
        for _ in 0..several(rng, 35, 4) {
            let destination = rng.index(self.destinations.len());
            let instance = rng.index(self.instances);
            script.push((
                rng.below(end),
                Step::Kick {
                    instance,
                    destination,
                },
            ));
        }
        for _ in 0..several(rng, 30, 3) {
            let topic = rng.index(self.topics.len());
            let at = rng.below(end);
            script.push((at, Step::AddPartition { topic }));
            script.push((
                at,
                Step::Produce {
                    topic,
                    burst: rng.between(1, 20),
                },
            ));
        }
        for _ in 0..several(rng, 25, 4) {
            let topic = rng.index(self.topics.len());
            let back_after = rng.pick(&[1, 20, 100, 2000]) * MILLISECOND;
            script.push((rng.below(end * 4 / 5), Step::Delete { topic, back_after }));
        }
        for _ in 0..several(rng, 15, 2) {
            script.push((
                rng.below(end),
                Step::Expire {
                    topic: rng.index(self.topics.len()),
                },
            ));
        }
        for _ in 0..several(rng, 10, 3) {
            let jump = rng.between(1, 7_200_000) as i64;
            let jump = if rng.chance(50) { jump } else { -jump };
            let instance = rng.chance(70).then(|| rng.index(self.instances));
            script.push((rng.below(end), Step::WallJump { instance, by: jump }));
        }
    }
}

/// Most clocks are right, some are a little wrong, few are far off.
fn skew(rng: &mut Rng) -> i64 {
    let most = rng.pick(&[0, 0, 0, 300, 5000, 600_000]);
    let skew = rng.below(most + 1) as i64;
    if rng.chance(50) { skew } else { -skew }
}
