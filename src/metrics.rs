//! Every metric, by its name in the contract. No other file knows these names.
//!
//! A lane publishes all its numbers at one moment, and a scrape happens between such moments: so the balance read = settled + released +
//! waiting holds in every scrape, not only in the end.

mod balance;

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::clock::Timestamp;
use crate::delivery::{DeadLetterReason, FailureReason, Outcome};
use crate::lane::{Counts, Settlement, Waiting};

pub use balance::Balance;

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

const REBALANCES: [&str; 3] = ["assigned", "revoked", "lost"];

/// The registry and the families in it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Lanes publish under a read lock, a scrape gathers under the write lock.
    gate: RwLock<()>,
    kafka_connected: IntGauge,
    lane_state: IntGaugeVec,
    records_read: IntCounterVec,
    records_settled: IntCounterVec,
    records_released: IntCounterVec,
    records_waiting: IntGaugeVec,
    records_lost: IntCounterVec,
    rule_matches: IntCounterVec,
    unmatched_records: IntCounterVec,
    dead_letters: IntCounterVec,
    owned_writes: IntCounterVec,
    attempts: IntCounterVec,
    attempt_failures: IntCounterVec,
    attempt_duration: HistogramVec,
    delivery_age: HistogramVec,
    oldest_waiting: GaugeVec,
    last_delivery: GaugeVec,
    last_commit: GaugeVec,
    commit_errors: IntCounterVec,
    window_usage: GaugeVec,
    partitions_assigned: IntGaugeVec,
    rebalances: IntCounterVec,
    consumer_loop: GaugeVec,
}

impl Metrics {
    /// A registry with every family in it.
    ///
    /// # Errors
    /// When two families have one name, which a test rules out.
    pub fn new() -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        let build = IntGaugeVec::new(
            Opts::new("postrider_build_info", "The version that runs; always 1."),
            &["version", "revision"],
        )?;
        registry.register(Box::new(build.clone()))?;
        let revision = option_env!("POSTRIDER_REVISION").unwrap_or("unknown");
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION"), revision])
            .set(1);
        let families = Families(&registry);
        let metrics = Self {
            gate: RwLock::new(()),
            kafka_connected: {
                let gauge = IntGauge::new(
                    "postrider_kafka_connected",
                    "Whether a broker has answered within the last 30 seconds.",
                )?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            lane_state: families.gauge(
                "lane_state",
                "1 for the state the lane is in.",
                &["destination", "state"],
            )?,
            records_read: families.counter(
                "records_read_total",
                "Records read, by where they came from.",
                &["destination", "source"],
            )?,
            records_settled: families.counter(
                "records_settled_total",
                "Records whose delivery has ended, by how.",
                &["destination", "settlement"],
            )?,
            records_released: families.counter(
                "records_released_total",
                "Records given back unsettled; they are read again.",
                &["destination"],
            )?,
            records_waiting: families.gauge(
                "records_waiting",
                "Records read and not settled, by what they wait for.",
                &["destination", "state"],
            )?,
            records_lost: families.counter(
                "records_lost_total",
                "Records that were gone before they could be read.",
                &["destination", "topic", "cause"],
            )?,
            rule_matches: families.counter(
                "rule_matches_total",
                "Records that a rule took.",
                &["rule"],
            )?,
            unmatched_records: families.counter(
                "unmatched_records_total",
                "Records that no rule took.",
                &["topic"],
            )?,
            dead_letters: families.counter(
                "dead_letters_total",
                "Dead letters written, by reason.",
                &["destination", "reason"],
            )?,
            owned_writes: families.counter(
                "owned_writes_total",
                "Writes to topics of our own, by result.",
                &["kind", "result"],
            )?,
            attempts: families.counter(
                "attempts_total",
                "Attempts ended, by outcome.",
                &["destination", "outcome"],
            )?,
            attempt_failures: families.counter(
                "attempt_failures_total",
                "Attempts that failed, by reason.",
                &["destination", "reason"],
            )?,
            attempt_duration: families.histogram(
                "attempt_duration_seconds",
                "How long attempts took.",
                &[
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
                ],
            )?,
            delivery_age: families.histogram(
                "delivery_age_seconds",
                "From a record's timestamp to its delivery.",
                &[
                    0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21600.0, 86400.0,
                    259_200.0,
                ],
            )?,
            oldest_waiting: families.seconds(
                "oldest_waiting_timestamp_seconds",
                "The timestamp of the oldest record that waits; 0: nothing waits.",
                &["destination"],
            )?,
            last_delivery: families.seconds(
                "last_delivery_timestamp_seconds",
                "When a record was last delivered.",
                &["destination"],
            )?,
            last_commit: families.seconds(
                "last_commit_timestamp_seconds",
                "When the broker last acknowledged a commit.",
                &["destination"],
            )?,
            commit_errors: families.counter(
                "commit_errors_total",
                "Commits that the broker refused, by reason.",
                &["destination", "reason"],
            )?,
            window_usage: families.seconds(
                "window_usage_ratio",
                "How full the window is, by bound.",
                &["destination", "bound"],
            )?,
            partitions_assigned: families.gauge(
                "partitions_assigned",
                "Partitions this instance reads.",
                &["destination"],
            )?,
            rebalances: families.counter(
                "rebalances_total",
                "Changes of the partitions this instance reads.",
                &["destination", "kind"],
            )?,
            consumer_loop: families.seconds(
                "consumer_loop_timestamp_seconds",
                "When the consumer's loop last turned, or until when it waits on purpose.",
                &["destination"],
            )?,
            registry,
        };
        for result in ["ok", "error"] {
            metrics
                .owned_writes
                .with_label_values(&["dead_letter", result])
                .inc_by(0);
        }
        Ok(metrics.into())
    }

    /// Whether a broker has answered lately.
    pub fn set_kafka_connected(&self, connected: bool) {
        self.kafka_connected.set(i64::from(connected));
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When a family cannot be written.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let families = {
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            self.registry.gather()
        };
        TextEncoder::new().encode_to_string(&families)
    }

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
        for kind in REBALANCES {
            self.rebalances.with_label_values(&[d, kind]).inc_by(0);
        }
        for rule in rules {
            self.rule_matches.with_label_values(&[rule]).inc_by(0);
        }
        self.last_delivery.with_label_values(&[d]).set(0.0);
        self.last_commit.with_label_values(&[d]).set(0.0);
        let lane = LaneMetrics {
            attempt_duration: self.attempt_duration.with_label_values(&[d]),
            delivery_age: self.delivery_age.with_label_values(&[d]),
            read: self.records_read.with_label_values(&[d, "topic"]),
            released: self.records_released.with_label_values(&[d]),
            destination: d.to_owned(),
            published: Counts::default(),
            all: Arc::clone(self),
        };
        for settlement in Settlement::ALL {
            self.records_settled
                .with_label_values(&[d, settlement.name()])
                .inc_by(0);
        }
        for outcome in ATTEMPT_OUTCOMES {
            self.attempts
                .with_label_values(&[d, outcome.name()])
                .inc_by(0);
        }
        lane.set_state("starting");
        lane
    }
}

/// Makes and registers families, each under the program's prefix.
struct Families<'a>(&'a Registry);

impl Families<'_> {
    fn add<T: prometheus::core::Collector + Clone + 'static>(
        &self,
        family: Result<T, prometheus::Error>,
    ) -> Result<T, prometheus::Error> {
        let family = family?;
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    fn seconds(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        self.add(GaugeVec::new(opts(name, help), labels))
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
        self.add(HistogramVec::new(options, &["destination"]))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("postrider_{name}"), help)
}

/// The series of one lane.
#[derive(Debug)]
pub struct LaneMetrics {
    /// How long attempts took, in seconds.
    pub attempt_duration: Histogram,
    /// How old records were when delivered, in seconds.
    pub delivery_age: Histogram,
    read: IntCounter,
    released: IntCounter,
    destination: String,
    published: Counts,
    all: Arc<Metrics>,
}

/// What a lane shows of itself at one moment.
#[derive(Debug, Clone, Copy)]
pub struct LaneLevels {
    /// What waits.
    pub waiting: Waiting,
    /// The oldest record that waits.
    pub oldest_waiting: Option<Timestamp>,
    /// How full the window is by records and by bytes, 0 to 1.
    pub window_usage: [f64; 2],
    /// Partitions held.
    pub partitions: usize,
    /// When the consumer's loop last turned.
    pub consumer_loop: Timestamp,
}

impl LaneMetrics {
    /// Publishes everything at one moment.
    pub fn publish(&mut self, counts: &Counts, levels: LaneLevels) {
        let all = Arc::clone(&self.all);
        let d = self.destination.as_str();
        let _gate = all.gate.read().unwrap_or_else(PoisonError::into_inner);
        let before = &self.published;
        self.read.inc_by(counts.read - before.read);
        self.released.inc_by(counts.released - before.released);
        let since = |now: Option<&u64>, then: Option<&u64>| {
            now.copied().unwrap_or(0) - then.copied().unwrap_or(0)
        };
        for settlement in Settlement::ALL {
            let by = since(
                counts.settled.get(&settlement),
                before.settled.get(&settlement),
            );
            all.records_settled
                .with_label_values(&[d, settlement.name()])
                .inc_by(by);
        }
        for reason in counts.dead_letters.keys() {
            let by = since(
                counts.dead_letters.get(reason),
                before.dead_letters.get(reason),
            );
            all.dead_letters
                .with_label_values(&[d, reason.name()])
                .inc_by(by);
        }
        for outcome in ATTEMPT_OUTCOMES {
            let by = since(counts.attempts.get(&outcome), before.attempts.get(&outcome));
            all.attempts
                .with_label_values(&[d, outcome.name()])
                .inc_by(by);
        }
        for reason in counts.attempt_failures.keys() {
            let by = since(
                counts.attempt_failures.get(reason),
                before.attempt_failures.get(reason),
            );
            all.attempt_failures
                .with_label_values(&[d, reason.name()])
                .inc_by(by);
        }
        let writes = |result| all.owned_writes.with_label_values(&["dead_letter", result]);
        writes("ok").inc_by(counts.writes_ok - before.writes_ok);
        writes("error").inc_by(counts.writes_failed - before.writes_failed);
        for (state, records) in levels.waiting.by_state() {
            all.records_waiting
                .with_label_values(&[d, state])
                .set(records as i64);
        }
        all.oldest_waiting
            .with_label_values(&[d])
            .set(levels.oldest_waiting.map_or(0.0, seconds));
        for (bound, usage) in ["records", "bytes"].into_iter().zip(levels.window_usage) {
            all.window_usage.with_label_values(&[d, bound]).set(usage);
        }
        all.partitions_assigned
            .with_label_values(&[d])
            .set(levels.partitions as i64);
        all.consumer_loop
            .with_label_values(&[d])
            .set(seconds(levels.consumer_loop));
        self.published.clone_from(counts);
    }

    /// Puts the lane into one of the states of the contract.
    pub fn set_state(&self, state: &str) {
        for name in LANE_STATES {
            let value = i64::from(name == state);
            self.all
                .lane_state
                .with_label_values(&[&self.destination, name])
                .set(value);
        }
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
        self.all
            .last_delivery
            .with_label_values(&[&self.destination])
            .set(seconds(at));
    }

    /// The broker acknowledged a commit.
    pub fn committed(&self, at: Timestamp) {
        self.all
            .last_commit
            .with_label_values(&[&self.destination])
            .set(seconds(at));
    }

    /// The broker refused a commit.
    pub fn commit_failed(&self, reason: &str) {
        self.all
            .commit_errors
            .with_label_values(&[&self.destination, reason])
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
        let labels = [self.destination.as_str(), topic, "retention"];
        self.all
            .records_lost
            .with_label_values(&labels)
            .inc_by(records);
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.0 as f64 / 1000.0
}
