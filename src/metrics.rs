//! Every metric, by its name in the contract. No other file knows these names.
//!
//! A lane publishes all its numbers at one moment, and a scrape happens between such moments: so the balance read = settled + released +
//! waiting holds in every scrape, not only in the end.

mod balance;
mod families;
mod lane;

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::{
    CounterVec, Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::clock::Timestamp;

pub use balance::Balance;
pub use lane::{LaneLevels, LaneMetrics, OwnedWrite};

use families::{Families, opts};

/// The registry and the families in it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Those to which nobody adds up others. They are as large as all the rest.
    histograms: Registry,
    /// Lanes publish under a read lock, a scrape gathers under the write lock.
    gate: RwLock<()>,
    kafka_connected: IntGauge,
    reload_successful: IntGauge,
    reload_success: Gauge,
    config_hash: Gauge,
    log_lines_suppressed: IntCounter,
    panics: IntCounter,
    lane_state: IntGaugeVec,
    records_read: IntCounterVec,
    records_settled: IntCounterVec,
    records_released: IntCounterVec,
    records_waiting: IntGaugeVec,
    records_lost: IntCounterVec,
    ladder_foreign: IntCounterVec,
    ladder_duplicates: IntCounterVec,
    endpoints: IntGaugeVec,
    breaker_opens: IntCounterVec,
    ladder_unknown: IntCounter,
    ladder_records: IntGaugeVec,
    rule_matches: IntCounterVec,
    unmatched_records: IntCounterVec,
    dead_letters: IntCounterVec,
    dead_letters_open: IntGaugeVec,
    owned_writes: IntCounterVec,
    attempts: IntCounterVec,
    attempt_failures: IntCounterVec,
    attempt_duration: HistogramVec,
    delivery_age: HistogramVec,
    oldest_waiting: GaugeVec,
    last_delivery: GaugeVec,
    last_commit: GaugeVec,
    commit_errors: IntCounterVec,
    rate_wait: CounterVec,
    lag: IntGaugeVec,
    retention_margin: IntGaugeVec,
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
        let (registry, histograms) = (Registry::new(), Registry::new());
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
        let families = Families {
            registry: &registry,
            histograms: &histograms,
        };
        let metrics = Self {
            gate: RwLock::new(()),
            kafka_connected: families.plain_gauge(
                "kafka_connected",
                "Whether a broker has answered within the last 30 seconds.",
            )?,
            reload_successful: families.plain_gauge(
                "config_last_reload_successful",
                "Whether the file was taken over when it was last read.",
            )?,
            reload_success: families.add(Gauge::with_opts(opts(
                "config_last_reload_success_timestamp_seconds",
                "When a file was last taken over.",
            )))?,
            config_hash: families.add(Gauge::with_opts(opts(
                "config_hash",
                "Tells the text of the file that is in force from others: instances with one file have one number.",
            )))?,
            log_lines_suppressed: families.plain_counter(
                "log_lines_suppressed_total",
                "Lines of the Kafka client kept back because they had been said.",
            )?,
            panics: families.plain_counter("panics_total", "Panics of the code, caught or not.")?,
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
            ladder_foreign: families.counter(
                "ladder_records_foreign_total",
                "Records of other destinations on the ladder, stepped over.",
                &["destination"],
            )?,
            ladder_duplicates: families.counter(
                "ladder_records_duplicate_total",
                "Second copies of records on the ladder, dropped: their first write was not known to have succeeded.",
                &["destination"],
            )?,
            endpoints: families.gauge(
                "endpoints",
                "Endpoints, by the state they are in.",
                &["destination", "state"],
            )?,
            breaker_opens: families.counter(
                "breaker_opens_total",
                "How often an endpoint was left alone because it failed.",
                &["destination"],
            )?,
            ladder_unknown: families.plain_counter(
                "ladder_records_unknown_total",
                "Records on the ladder for destinations that are not in the file, counted as the first lane reads past them: those that it has passed before this start are not in it. `postrider retries list -d ID` shows what stands there.",
            )?,
            ladder_records: families.gauge(
                "ladder_topic_records",
                "Records in the topics of the ladder, those that have been read among them.",
                &["topic"],
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
            dead_letters_open: families.gauge(
                "dead_letters_open",
                "Dead letters that were neither replayed nor deleted, as far as all of them are known to this instance.",
                &["destination"],
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
            rate_wait: families.add(CounterVec::new(
                opts(
                    "rate_wait_seconds_total",
                    "How long the next record in turn waited for the rate.",
                ),
                &["destination"],
            ))?,
            lag: families.gauge(
                "lag_records",
                "Records in the partitions of this instance that are not settled, those that are not read yet included.",
                &["destination", "topic"],
            )?,
            retention_margin: families.gauge(
                "retention_margin_seconds",
                "Time until Kafka deletes the oldest record that waits.",
                &["destination", "topic"],
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
            histograms,
        };
        for kind in OwnedWrite::ALL {
            for result in ["ok", "error"] {
                let counter = &metrics.owned_writes;
                counter.with_label_values(&[kind.name(), result]).inc_by(0);
            }
        }
        Ok(metrics.into())
    }

    /// A file was taken over.
    pub fn configuration_taken(&self, at: Timestamp, hash: u64) {
        self.reload_successful.set(1);
        self.reload_success.set(seconds(at));
        self.config_hash.set(hash as f64);
    }

    /// A file was refused: the one before is in force.
    pub fn configuration_refused(&self) {
        self.reload_successful.set(0);
    }

    /// A destination has no lane any more: nothing is shown of it, as after a start without it.
    pub fn forget(&self, destination: &str) {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        families::forget(&self.lane_state, destination);
        families::forget(&self.records_read, destination);
        families::forget(&self.records_settled, destination);
        families::forget(&self.records_released, destination);
        families::forget(&self.records_waiting, destination);
        families::forget(&self.records_lost, destination);
        families::forget(&self.ladder_foreign, destination);
        families::forget(&self.ladder_duplicates, destination);
        families::forget(&self.endpoints, destination);
        families::forget(&self.breaker_opens, destination);
        families::forget(&self.dead_letters, destination);
        families::forget(&self.dead_letters_open, destination);
        families::forget(&self.attempts, destination);
        families::forget(&self.attempt_failures, destination);
        families::forget(&self.attempt_duration, destination);
        families::forget(&self.delivery_age, destination);
        families::forget(&self.oldest_waiting, destination);
        families::forget(&self.last_delivery, destination);
        families::forget(&self.last_commit, destination);
        families::forget(&self.commit_errors, destination);
        families::forget(&self.rate_wait, destination);
        families::forget(&self.lag, destination);
        families::forget(&self.retention_margin, destination);
        families::forget(&self.window_usage, destination);
        families::forget(&self.partitions_assigned, destination);
        families::forget(&self.rebalances, destination);
        families::forget(&self.consumer_loop, destination);
    }

    /// Whether a broker has answered lately.
    pub fn set_kafka_connected(&self, connected: bool) {
        self.kafka_connected.set(i64::from(connected));
    }

    /// How many records are in a topic of the ladder.
    pub fn set_ladder_records(&self, topic: &str, records: i64) {
        self.ladder_records.with_label_values(&[topic]).set(records);
    }

    /// How many dead letters of a destination are open.
    pub fn set_dead_letters_open(&self, destination: &str, count: u64) {
        let gauge = self.dead_letters_open.with_label_values(&[destination]);
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many lines of the log were kept back since the start.
    pub fn set_log_lines_suppressed(&self, lines: u64) {
        let counter = &self.log_lines_suppressed;
        counter.inc_by(lines.saturating_sub(counter.get()));
    }

    /// How much waits for a destination in a topic.
    pub fn lag(&self, destination: &str, topic: &str, records: u64) {
        let gauge = self.lag.with_label_values(&[destination, topic]);
        gauge.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// A destination has no partition of this topic here any more.
    pub fn lag_forgotten(&self, destination: &str, topic: &str) {
        if let Err(error) = self.lag.remove_label_values(&[destination, topic]) {
            tracing::debug!(%error, "the lag was not shown");
        }
    }

    /// The time until Kafka deletes the oldest record that waits for a destination in a topic.
    pub fn retention_margin(&self, destination: &str, topic: &str, seconds: i64) {
        let gauge = &self.retention_margin;
        gauge.with_label_values(&[destination, topic]).set(seconds);
    }

    /// Nothing waits there, or it is kept for good.
    pub fn retention_margin_forgotten(&self, destination: &str, topic: &str) {
        if let Err(error) = self
            .retention_margin
            .remove_label_values(&[destination, topic])
        {
            tracing::debug!(%error, "the margin was not shown");
        }
    }

    /// A write to the state topic has ended.
    pub fn state_written(&self, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        let counter = &self.owned_writes;
        let kind = OwnedWrite::State.name();
        counter.with_label_values(&[kind, result]).inc();
    }

    /// How often the code panicked since the start.
    pub fn set_panics(&self, panics: u64) {
        self.panics.inc_by(panics.saturating_sub(self.panics.get()));
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
        let mut text = TextEncoder::new().encode_to_string(&families)?;
        // With a thousand destinations what is gathered is tens of megabytes: never all of it at once.
        drop(families);
        TextEncoder::new().encode_utf8(&self.histograms.gather(), &mut text)?;
        Ok(text)
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.0 as f64 / 1000.0
}
