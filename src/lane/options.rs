//! What the file may say about a lane.

use std::num::NonZeroU32;
use std::time::Duration;

/// One lane's settings, already checked: every number is at least what its field says.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneOptions {
    /// Requests in flight at once; at least 1.
    pub concurrency: usize,
    /// The limits of the rate, all of which hold; empty: none.
    pub rate: Vec<RateOptions>,
    /// The bounds of the window.
    pub window: WindowOptions,
    /// The schedule of retries.
    pub retry: RetryOptions,
    /// When the endpoint is left alone because it fails.
    pub breaker: BreakerOptions,
    /// When a lane stops filling its dead letters.
    pub brake: BrakeOptions,
    /// How long after its first attempt a record may still be tried; time held does not count.
    pub max_age: Duration,
    /// What becomes of a record for which nothing can be sent.
    pub on_render_error: RenderErrorPolicy,
    /// How old a record may be, by its own timestamp, to be sent at all; one that is older is settled as dropped. All time counts.
    pub expire_after: Option<Duration>,
    /// How often positions are committed; at least 10 ms.
    pub commit_interval: Duration,
    /// Whether records with one key go one after the other.
    pub order: OrderOptions,
}

/// In which order a partition's records are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OrderOptions {
    /// In none: a record that fails lets the others by.
    #[default]
    None,
    /// Those with one key one after the other, each when the one before it is settled. Records without a key are in no order.
    Key(AfterDeadLetter),
}

/// What becomes of the other records of a key of which one ended as a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterDeadLetter {
    /// They go on.
    #[default]
    Continue,
    /// They wait for a person.
    Hold,
}

/// When an endpoint counts as broken, and how often it is tried then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerOptions {
    /// How far back outcomes are counted; more than nothing.
    pub window: Duration,
    /// The part of failures among them from which on the breaker opens, above 0 to 1.
    pub failure_ratio: f64,
    /// Below so many outcomes the ratio says nothing; at least 1.
    pub min_attempts: u32,
    /// The wait before the first probe; doubles after each that fails; more than nothing.
    pub probe_interval: Duration,
    /// The longest wait between probes; not below `probe_interval`.
    pub probe_interval_max: Duration,
}

/// When suddenly most records are rejected, the lane slows down and asks for a person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BrakeOptions {
    /// Below so many rejected records within the window nothing is braked; at least 1.
    pub rejected: u32,
    /// The part of rejected among the settled ones from which on the lane is braked, above 0 to 1.
    pub ratio: f64,
    /// How far back is counted; more than nothing.
    pub window: Duration,
    /// What a braked lane does.
    pub mode: BrakeMode,
}

/// What a braked lane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BrakeMode {
    /// One record a minute.
    #[default]
    Slow,
    /// Nothing, until a person says so.
    Stop,
}

/// What becomes of a record for which nothing can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RenderErrorPolicy {
    /// Written to the dead letters.
    #[default]
    DeadLetter,
    /// Settled as dropped.
    Drop,
}

/// One limit of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateOptions {
    /// The time after which another unit may go; more than nothing.
    pub period: Duration,
    /// How many units may go at once after a pause.
    pub burst: NonZeroU32,
    /// What is counted.
    pub unit: RateUnit,
}

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateUnit {
    /// Requests, retries among them.
    Requests,
    /// Bytes of the records' values.
    Bytes,
}

/// The bounds of the window. A record that is larger than `bytes` still passes, alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowOptions {
    /// Records read and not yet settled; at least 1.
    pub records: usize,
    /// Their weight in bytes; at least 1.
    pub bytes: usize,
    /// How far a partition is read ahead of its oldest unsettled record, in offsets; at least 1.
    pub distance: i64,
}

/// The schedule of retries.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryOptions {
    /// The wait before the second attempt, before the third, and so on. There is one attempt more than there are entries.
    pub schedule: Vec<Duration>,
    /// Each wait is stretched or shortened by up to this part of itself, 0 to 1.
    pub jitter: f64,
    /// `Retry-After` holds the endpoint for this long at most.
    pub retry_after_max: Duration,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            concurrency: 16,
            rate: Vec::new(),
            window: WindowOptions::default(),
            retry: RetryOptions::default(),
            breaker: BreakerOptions::default(),
            brake: BrakeOptions::default(),
            max_age: Duration::from_secs(7 * 24 * 3600),
            on_render_error: RenderErrorPolicy::default(),
            expire_after: None,
            commit_interval: Duration::from_millis(500),
            order: OrderOptions::None,
        }
    }
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self {
            records: 4096,
            bytes: 8 * 1024 * 1024,
            distance: 100_000,
        }
    }
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            failure_ratio: 0.5,
            min_attempts: 80,
            probe_interval: Duration::from_secs(10),
            probe_interval_max: Duration::from_secs(5 * 60),
        }
    }
}

impl Default for BrakeOptions {
    fn default() -> Self {
        Self {
            rejected: 20,
            ratio: 0.5,
            window: Duration::from_secs(5 * 60),
            mode: BrakeMode::Slow,
        }
    }
}

impl Default for RetryOptions {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 3600;
        let schedule = [
            5,
            30,
            5 * MINUTE,
            30 * MINUTE,
            2 * HOUR,
            5 * HOUR,
            10 * HOUR,
            10 * HOUR,
        ];
        Self {
            schedule: schedule.map(Duration::from_secs).to_vec(),
            jitter: 0.2,
            retry_after_max: Duration::from_secs(HOUR),
        }
    }
}
