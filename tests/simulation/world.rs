//! The world of one run: virtual time, the queue of what happens next, and the end.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use postrider::clock::{Now, Tick, Timestamp};
use postrider::lane::{LaneOptions, Source, Step as LadderStep};

use crate::broker::{Broker, CommitRequest, Group, Log, Topic, Tp};
use crate::check::{Check, Violation};
use crate::coverage::{Coverage, Seen};
use crate::instance::{Note, Shell};
use crate::mutant::Mutant;
use crate::oracle::Oracle;
use crate::plan::{Class, Plan, Step};
use crate::poison::Asking;
use crate::receiver::Request;
use crate::rng::Rng;
use crate::writes::OwnedWrite;

/// Virtual time in nanoseconds since the run began.
pub(crate) type Time = u64;

pub(crate) const MILLISECOND: Time = 1_000_000;
pub(crate) const SECOND: Time = 1000 * MILLISECOND;
pub(crate) const HOUR: Time = 3600 * SECOND;
/// What people's clocks show when a run begins, in milliseconds.
pub(crate) const WALL_AT_START: i64 = 1_760_000_000_000;

/// More events than the longest honest run needs.
const EVENTS_MAX: u64 = 1_000_000;

pub(crate) fn tick(time: Time) -> Tick {
    Tick(Duration::from_nanos(time))
}

pub(crate) fn time_of(tick: Tick) -> Time {
    Time::try_from(tick.0.as_nanos()).unwrap_or(Time::MAX)
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum What {
    Step(Step),
    Rebalance {
        group: usize,
    },
    SessionEnds {
        group: usize,
        member: u32,
    },
    CommitArrives(Box<CommitRequest>),
    QuestionArrives {
        shell: usize,
        life: u32,
    },
    RequestArrives(usize),
    WriteLands(usize),
    Note {
        shell: usize,
        life: u32,
        note: Note,
    },
    HealthyDue,
    Look,
    /// A record that was sent ends its sender.
    Dies {
        shell: usize,
        life: u32,
    },
}

struct Due {
    at: Time,
    sequence: u64,
    what: What,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// What counts as found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LooksFor {
    Anything,
    /// A bug that makes the lane stumble at once has not been seen to break a promise.
    AnythingButPanics,
    This(Check),
}

impl LooksFor {
    pub(crate) fn counts(self, check: Check) -> bool {
        match self {
            Self::Anything => true,
            Self::AnythingButPanics => check != Check::Panic,
            Self::This(wanted) => check == wanted,
        }
    }
}

/// How a run is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watching {
    pub(crate) mutant: Option<Mutant>,
    /// Whether every step of the lanes is checked as well, or only what can be seen from outside.
    pub(crate) steps: bool,
    pub(crate) looks_for: LooksFor,
    pub(crate) trace: bool,
}

/// One run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    /// How far the clocks are from the true time: the instances', the broker's.
    pub(crate) wall_skews: Vec<i64>,
    pub(crate) broker_skew: i64,
    /// Rules that are gone from the file, with their destinations.
    /// The lanes' settings as the file has them now.
    pub(crate) options: Vec<LaneOptions>,
    pub(crate) removed: BTreeSet<usize>,
    /// Only the first instance goes on.
    pub(crate) alone: bool,
    pub(crate) removed_rules: BTreeSet<(usize, Arc<str>)>,
    queue: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    pub(crate) faults_over: bool,
    pub(crate) broker: Broker,
    pub(crate) shells: Vec<Shell>,
    /// For each instance.
    pub(crate) asking: Vec<Asking>,
    pub(crate) requests: Vec<Request>,
    pub(crate) writes: Vec<OwnedWrite>,
    pub(crate) oracle: Oracle,
    pub(crate) coverage: Coverage,
    pub(crate) watching: Watching,
    violation: Option<Violation>,
    done: bool,
}

/// Prints a line of the run, when somebody reads it.
macro_rules! trace {
    ($world:expr, $($words:tt)+) => {
        if $world.watching.trace {
            $world.print(format_args!($($words)+));
        }
    };
}
pub(crate) use trace;

impl World {
    pub(crate) fn new(seed: u64, watching: Watching) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        Self::with(&mut rng, plan, watching)
    }

    /// A run of this plan.
    pub(crate) fn with(rng: &mut Rng, plan: Plan, watching: Watching) -> Self {
        let topic = |(number, topic): (usize, &crate::plan::TopicPlan)| Topic {
            name: format!("topic-{number}").into(),
            source: Source::Topic,
            exists: true,
            incarnation: 0,
            partitions: vec![Log::starting_at(topic.low); topic.partitions],
        };
        let ladder = LadderStep::ALL.map(|step| Topic {
            name: format!("postrider.retry.{}", step.name()).into(),
            source: Source::Ladder(step),
            exists: true,
            incarnation: 0,
            partitions: vec![Log::starting_at(0); plan.ladder_partitions],
        });
        let broker = Broker {
            topics: plan
                .topics
                .iter()
                .enumerate()
                .map(topic)
                .chain(ladder)
                .collect(),
            groups: vec![Group::default(); plan.destinations.len()],
        };
        let per_instance = plan.destinations.len();
        let shells = (0..plan.instances * per_instance)
            .map(|index| Shell::new(index / per_instance, index % per_instance))
            .collect();
        Self {
            oracle: Oracle::new(&plan),
            rng: rng.clone(),
            now: 0,
            wall_skews: plan.wall_skews.clone(),
            broker_skew: plan.broker_skew,
            options: plan
                .destinations
                .iter()
                .map(|d| d.options.clone())
                .collect(),
            removed: BTreeSet::new(),
            alone: false,
            asking: (0..plan.instances).map(|_| Asking::default()).collect(),
            removed_rules: BTreeSet::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            plan,
            faults_over: false,
            broker,
            shells,
            requests: Vec::new(),
            writes: Vec::new(),
            coverage: Coverage::default(),
            watching,
            violation: None,
            done: false,
        }
    }

    /// Runs to the end: everything settled and committed, or something wrong.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.coverage.see(match self.plan.class {
            Class::Calm => Seen::CalmRuns,
            Class::Isolation => Seen::IsolationRuns,
            Class::Rough => Seen::RoughRuns,
            Class::Long => Seen::LongRuns,
        });
        trace!(self, "{:#?}", self.plan);
        self.commit_foreign_metadata();
        for (at, step) in self.plan.script.clone() {
            self.at(at, What::Step(step));
        }
        self.at(self.plan.healthy_due, What::HealthyDue);
        for _ in 0..EVENTS_MAX {
            let Some(Reverse(due)) = self.queue.pop() else {
                break;
            };
            self.now = due.at;
            self.happen(due.what);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            if self.done {
                return Ok(());
            }
        }
        Err(Violation::new(
            Check::Liveness,
            format!("too many events; {}", self.stuck()),
        ))
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Step(step) => self.step(step),
            What::Rebalance { group } => self.rebalance(group),
            What::SessionEnds { group, member } => self.session_ends(group, member),
            What::CommitArrives(request) => self.commit_arrives(*request),
            What::QuestionArrives { shell, life } => self.question_arrives(shell, life),
            What::RequestArrives(request) => self.request_arrives(request),
            What::WriteLands(write) => self.write_lands(write),
            What::Note { shell, life, note } => self.deliver(shell, life, note),
            What::HealthyDue => self.healthy_due(),
            What::Look => self.look(),
            What::Dies { shell, life } => self.dies(shell, life),
        }
    }

    // === Time ===

    /// The clocks of a shell's instance.
    pub(crate) fn now(&self, shell: usize) -> Now {
        let skew = self.wall_skews[self.shells[shell].instance];
        Now {
            tick: tick(self.now),
            wall: Timestamp(self.true_wall().0 + skew),
        }
    }

    pub(crate) fn broker_wall(&self) -> Timestamp {
        Timestamp(self.true_wall().0 + self.broker_skew)
    }

    /// The wall clock of those whose clock is right.
    fn true_wall(&self) -> Timestamp {
        Timestamp(WALL_AT_START + (self.now / MILLISECOND) as i64)
    }

    pub(crate) fn at(&mut self, at: Time, what: What) {
        self.sequence += 1;
        self.queue.push(Reverse(Due {
            at: at.max(self.now),
            sequence: self.sequence,
            what,
        }));
    }

    pub(crate) fn after(&mut self, wait: Time, what: What) {
        self.at(self.now + wait, what);
    }

    pub(crate) fn note(&mut self, shell: usize, wait: Time, note: Note) {
        let life = self.shells[shell].life;
        self.after(wait, What::Note { shell, life, note });
    }

    /// A wait from `low` to `high` tenths of a millisecond.
    pub(crate) fn wait(&mut self, low: u64, high: u64) -> Time {
        self.rng
            .between(low * (MILLISECOND / 10), high * (MILLISECOND / 10))
    }

    // === Judging ===

    pub(crate) fn fail(&mut self, violation: Violation) {
        trace!(self, "VIOLATION {violation}");
        self.violation.get_or_insert(violation);
    }

    pub(crate) fn judge(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fail(violation);
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.violation.is_some()
    }

    pub(crate) fn print(&self, words: fmt::Arguments<'_>) {
        println!("{:>12.6} s  {words}", self.now as f64 / SECOND as f64);
    }

    fn healthy_due(&mut self) {
        for (destination, plan) in self.plan.destinations.iter().enumerate() {
            if plan.healthy
                && let Err(violation) =
                    self.oracle
                        .all_settled(destination, &self.broker, Check::Healthy)
            {
                return self.fail(violation);
            }
        }
    }

    /// Whether the run is over: all is settled and committed.
    fn look(&mut self) {
        if self.everything_committed() && self.shells.iter().all(Shell::is_idle) {
            for destination in 0..self.plan.destinations.len() {
                let result = self
                    .oracle
                    .all_settled(destination, &self.broker, Check::Liveness);
                self.judge(result);
            }
            self.done = true;
        } else if self.now > self.plan.faults_end + self.plan.patience {
            self.fail(Violation::new(Check::Liveness, self.stuck()));
        } else {
            let calm = self.now - self.plan.faults_end.min(self.now);
            let wait = (calm / 100).clamp(100 * MILLISECOND, 600 * SECOND);
            self.after(wait, What::Look);
        }
    }

    fn everything_committed(&self) -> bool {
        let partitions = self.broker.partitions();
        self.broker.groups.iter().all(|group| {
            let at_end = |tp: &Tp| {
                let end = self.broker.log(*tp).map(|log| log.end);
                group.committed.get(tp).map(|committed| committed.offset) == end
            };
            partitions.iter().all(at_end)
        })
    }

    fn stuck(&self) -> String {
        let mut words = format!(
            "not settled {} s after the last fault:",
            (self.now - self.plan.faults_end.min(self.now)) / SECOND
        );
        for (number, group) in self.broker.groups.iter().enumerate() {
            for tp in self.broker.partitions() {
                let end = self.broker.log(tp).map_or(0, |log| log.end);
                let committed = group.committed.get(&tp).map(|committed| committed.offset);
                if committed != Some(end) {
                    words += &format!(
                        "\n  {tp:?} of destination {number}: committed {committed:?}, end {end}"
                    );
                }
            }
        }
        for shell in self.shells.iter().filter(|shell| !shell.is_idle()) {
            words += &format!("\n  {}", shell.describe());
        }
        words
    }
}
