//! The series of one lane. Those that change with every record are looked up once; a lookup by labels costs more than counting.

use std::sync::{Arc, PoisonError};

use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge};

use crate::clock::Timestamp;
use crate::delivery::{CommitFailure, DeadLetterReason, FailureReason, Outcome};
use crate::lane::{Counts, EndpointStates, Settlement, Waiting};

use super::{Metrics, seconds};

/// The outcomes that are attempts. The other two never reached a receiver.
const ATTEMPT_OUTCOMES: [Outcome; 7] = [
    Outcome::Delivered,
    Outcome::Retry,
    Outcome::PushBack,
    Outcome::Reject,
    Outcome::EndpointFault,
    Outcome::Gone,
    Outcome::Dropped,
];

const LANE_STATES: [&str; 8] = [
    "starting", "running", "paused", "quiet", "braked", "blocked", "stopping", "stopped",
];

/// The states of an endpoint.
const WINDOW_BOUNDS: [&str; 3] = ["records", "bytes", "distance"];

const REBALANCES: [&str; 3] = ["assigned", "revoked", "lost"];

/// The series of one lane.
#[derive(Debug)]
pub struct LaneMetrics {
    /// How long attempts took, in seconds.
    pub attempt_duration: Histogram,
    /// How old records were when delivered, in seconds.
    pub delivery_age: Histogram,
    /// From topics, and from the ladder.
    read: [IntCounter; 3],
    copies: IntCounter,
    opens: IntCounter,
    endpoints: [IntGauge; 5],
    released: IntCounter,
    settled: [IntCounter; Settlement::ALL.len()],
    attempts: [IntCounter; ATTEMPT_OUTCOMES.len()],
    rate_wait: Counter,
    foreign: IntCounter,
    /// In the order of [`Waiting::by_state`].
    waiting: Vec<IntGauge>,
    oldest_waiting: Gauge,
    /// In the order of [`WINDOW_BOUNDS`].
    window_usage: [Gauge; 3],
    partitions: IntGauge,
    consumer_loop: Gauge,
    last_delivery: Gauge,
    destination: String,
    published: Counts,
    all: Arc<Metrics>,
}

/// What is written to the topics of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnedWrite {
    /// A record that ends.
    DeadLetter,
    /// A record that is tried again later.
    Ladder,
    /// What operators ask for.
    State,
}

impl OwnedWrite {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::DeadLetter, Self::Ladder, Self::State];

    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead_letter",
            Self::Ladder => "ladder",
            Self::State => "state",
        }
    }
}

/// What a lane shows of itself at one moment.
#[derive(Debug, Clone, Copy)]
pub struct LaneLevels {
    /// What waits.
    pub waiting: Waiting,
    /// The oldest record that waits.
    pub oldest_waiting: Option<Timestamp>,
    /// How full the window is by records, by bytes and by distance; 1 is full.
    pub window_usage: [f64; 3],
    /// How many endpoints are in which state.
    pub endpoints: EndpointStates,
    /// Partitions held.
    pub partitions: usize,
    /// When the consumer's loop last turned.
    pub consumer_loop: Timestamp,
}

impl Metrics {
    /// The series of one lane, every fixed label value at 0.
    #[must_use]
    pub fn lane(self: &Arc<Self>, destination: &str, rules: &[Arc<str>]) -> LaneMetrics {
        let d = destination;
        for reason in DeadLetterReason::ALL {
            self.dead_letters
                .with_label_values(&[d, reason.name()])
                .inc_by(0);
        }
        for reason in FailureReason::ALL {
            self.attempt_failures
                .with_label_values(&[d, reason.name()])
                .inc_by(0);
        }
        for reason in CommitFailure::ALL {
            self.commit_errors
                .with_label_values(&[d, reason.name()])
                .inc_by(0);
        }
        for kind in REBALANCES {
            self.rebalances.with_label_values(&[d, kind]).inc_by(0);
        }
        self.last_commit.with_label_values(&[d]).set(0.0);
        let waiting =
            |(state, _): (&str, usize)| self.records_waiting.with_label_values(&[d, state]);
        let lane = LaneMetrics {
            attempt_duration: self.attempt_duration.with_label_values(&[d]),
            delivery_age: self.delivery_age.with_label_values(&[d]),
            read: ["topic", "ladder", "replay"]
                .map(|source| self.records_read.with_label_values(&[d, source])),
            copies: self.ladder_duplicates.with_label_values(&[d]),
            opens: self.breaker_opens.with_label_values(&[d]),
            endpoints: EndpointStates::default()
                .by_name()
                .map(|(state, _)| self.endpoints.with_label_values(&[d, state])),
            released: self.records_released.with_label_values(&[d]),
            settled: Settlement::ALL
                .map(|how| self.records_settled.with_label_values(&[d, how.name()])),
            attempts: ATTEMPT_OUTCOMES
                .map(|outcome| self.attempts.with_label_values(&[d, outcome.name()])),
            rate_wait: self.rate_wait.with_label_values(&[d]),
            foreign: self.ladder_foreign.with_label_values(&[d]),
            waiting: Waiting::default().by_state().map(waiting).into(),
            oldest_waiting: self.oldest_waiting.with_label_values(&[d]),
            window_usage: WINDOW_BOUNDS
                .map(|bound| self.window_usage.with_label_values(&[d, bound])),
            partitions: self.partitions_assigned.with_label_values(&[d]),
            consumer_loop: self.consumer_loop.with_label_values(&[d]),
            last_delivery: self.last_delivery.with_label_values(&[d]),
            destination: d.to_owned(),
            published: Counts::default(),
            all: Arc::clone(self),
        };
        lane.rules(rules);
        lane.set_state("starting");
        lane
    }
}

impl LaneMetrics {
    /// These rules have something for it; each counts from 0.
    pub fn rules<'a>(&self, rules: impl IntoIterator<Item = &'a Arc<str>>) {
        for rule in rules {
            self.all.rule_matches.with_label_values(&[rule]).inc_by(0);
        }
    }

    /// Publishes everything at one moment.
    pub fn publish(&mut self, counts: &Counts, levels: LaneLevels) {
        let _gate = self.all.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.publish_counts(counts);
        for (gauge, (_, records)) in self.waiting.iter().zip(levels.waiting.by_state()) {
            gauge.set(records as i64);
        }
        self.oldest_waiting
            .set(levels.oldest_waiting.map_or(0.0, seconds));
        for (gauge, usage) in self.window_usage.iter().zip(levels.window_usage) {
            gauge.set(usage);
        }
        for (gauge, (_, endpoints)) in self.endpoints.iter().zip(levels.endpoints.by_name()) {
            gauge.set(endpoints as i64);
        }
        self.partitions.set(levels.partitions as i64);
        self.consumer_loop.set(seconds(levels.consumer_loop));
        if self.published != *counts {
            self.published.clone_from(counts);
        }
    }

    /// Adds what has happened since the last time.
    fn publish_counts(&self, counts: &Counts) {
        let before = &self.published;
        let since = |now: Option<&u64>, then: Option<&u64>| {
            now.copied().unwrap_or(0) - then.copied().unwrap_or(0)
        };
        let from_ladder = counts.read_from_ladder - before.read_from_ladder;
        let replayed = counts.read_from_replay - before.read_from_replay;
        let [topic, ladder, replay] = &self.read;
        topic.inc_by(counts.read - before.read - from_ladder - replayed);
        ladder.inc_by(from_ladder);
        replay.inc_by(replayed);
        self.copies.inc_by(counts.copies - before.copies);
        self.opens.inc_by(counts.opens - before.opens);
        self.released.inc_by(counts.released - before.released);
        for (counter, how) in self.settled.iter().zip(Settlement::ALL) {
            counter.inc_by(since(counts.settled.get(&how), before.settled.get(&how)));
        }
        for (counter, how) in self.attempts.iter().zip(ATTEMPT_OUTCOMES) {
            counter.inc_by(since(counts.attempts.get(&how), before.attempts.get(&how)));
        }
        let waited = counts.rate_wait.saturating_sub(before.rate_wait);
        self.rate_wait.inc_by(waited.as_secs_f64());
        self.foreign.inc_by(counts.foreign - before.foreign);
        // These are rare, and there are many of them.
        let d = self.destination.as_str();
        for (reason, now) in &counts.dead_letters {
            let by = since(Some(now), before.dead_letters.get(reason));
            if by > 0 {
                let counter = &self.all.dead_letters;
                counter.with_label_values(&[d, reason.name()]).inc_by(by);
            }
        }
        for (reason, now) in &counts.attempt_failures {
            let by = since(Some(now), before.attempt_failures.get(reason));
            if by > 0 {
                let counter = &self.all.attempt_failures;
                counter.with_label_values(&[d, reason.name()]).inc_by(by);
            }
        }
    }

    /// Puts the lane into one of the states of the contract.
    pub fn set_state(&self, state: &str) {
        let gate = &self.all.gate;
        let _gate = gate.read().unwrap_or_else(PoisonError::into_inner);
        for name in LANE_STATES {
            let value = i64::from(name == state);
            self.all
                .lane_state
                .with_label_values(&[&self.destination, name])
                .set(value);
        }
    }

    /// A write to a topic of our own ended.
    pub fn wrote(&self, kind: OwnedWrite, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        let counter = &self.all.owned_writes;
        counter.with_label_values(&[kind.name(), result]).inc();
    }

    /// A record on the ladder is for a destination that the file does not know.
    pub fn unknown_on_ladder(&self) {
        self.all.ladder_unknown.inc();
    }

    /// No rule took records.
    pub fn unmatched(&self, topic: &str, records: u64) {
        self.all
            .unmatched_records
            .with_label_values(&[topic])
            .inc_by(records);
    }

    /// A rule took records.
    pub fn matched(&self, rule: &str, records: u64) {
        self.all
            .rule_matches
            .with_label_values(&[rule])
            .inc_by(records);
    }

    /// A record was delivered.
    pub fn delivered(&self, at: Timestamp) {
        self.last_delivery.set(seconds(at));
    }

    /// The broker acknowledged a commit.
    pub fn committed(&self, at: Timestamp) {
        self.all
            .last_commit
            .with_label_values(&[&self.destination])
            .set(seconds(at));
    }

    /// The broker refused a commit.
    pub fn commit_failed(&self, reason: CommitFailure) {
        self.all
            .commit_errors
            .with_label_values(&[&self.destination, reason.name()])
            .inc();
    }

    /// Partitions came or went: `assigned`, `revoked` or `lost`.
    pub fn rebalanced(&self, kind: &str) {
        self.all
            .rebalances
            .with_label_values(&[&self.destination, kind])
            .inc();
    }

    /// Records were gone before they could be read.
    pub fn records_lost(&self, topic: &str, records: u64) {
        self.lost(topic, "retention", records);
    }

    /// Records cannot be read by anybody, and were stepped over.
    pub fn records_damaged(&self, topic: &str, records: u64) {
        self.lost(topic, "damaged", records);
    }

    fn lost(&self, topic: &str, cause: &str, records: u64) {
        let labels = [self.destination.as_str(), topic, cause];
        self.all
            .records_lost
            .with_label_values(&labels)
            .inc_by(records);
    }
}
