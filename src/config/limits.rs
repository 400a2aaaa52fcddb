//! `[limits]`: what the process as a whole may hold, and how long it may take to end.

use std::time::Duration;

use super::Config;
use super::reader::Reader;
use super::units::size_text;
use super::value::Value;
use crate::kafka::QUEUED_BYTES_MIN;

/// The limits of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitOptions {
    /// How many bytes all windows may hold, with what waits inside librdkafka; `None`: [`WINDOW_BYTES`], or what so many lanes need.
    pub window_bytes: Option<usize>,
    /// How many requests may be in flight; `None`: [`IN_FLIGHT`], or one for each lane.
    pub in_flight: Option<usize>,
    /// How long attempts in flight may take to end at a stop.
    pub drain: Duration,
}

/// The bytes of all windows, unless the file says otherwise.
pub const WINDOW_BYTES: usize = 256 << 20;
/// The requests in flight, unless the file says otherwise.
pub const IN_FLIGHT: usize = 512;
/// The smallest window that a lane is left with, in bytes.
pub const WINDOW_BYTES_MIN: usize = 64 << 10;
/// What a lane needs of the bytes at least.
const LANE_BYTES_MIN: usize = WINDOW_BYTES_MIN + QUEUED_BYTES_MIN;

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            window_bytes: None,
            in_flight: None,
            drain: Duration::from_secs(30),
        }
    }
}

/// The limits of a file with so many destinations that are enabled.
pub(super) fn read(root: &Reader<'_>, destinations: usize) -> LimitOptions {
    let mut options = LimitOptions::default();
    root.section("limits", |reader| {
        options.window_bytes = reader.read("window_bytes", None, |value| {
            window_bytes(value, destinations).map(Some)
        });
        options.in_flight = reader.read("in_flight", None, |value| {
            in_flight(value, destinations).map(Some)
        });
        let range = Duration::ZERO..=Duration::from_secs(3600);
        options.drain = reader.read("drain", options.drain, |value| value.duration(range));
    });
    options
}

fn window_bytes(value: &Value<'_>, destinations: usize) -> Option<usize> {
    let bytes = value.size(1 << 20..=1 << 40)?;
    let needed = destinations.saturating_mul(LANE_BYTES_MIN);
    if bytes < needed {
        let needed = size_text(needed as u64);
        let hint = format!(
            "{destinations} destinations need {needed} at least, or take destinations out of the file"
        );
        value.error("is too small for its destinations", hint);
        return None;
    }
    Some(bytes)
}

fn in_flight(value: &Value<'_>, destinations: usize) -> Option<usize> {
    let requests = value.count(1..=1_000_000)?;
    if requests < destinations {
        let hint = format!(
            "each destination needs one: write {destinations} at least, or take destinations out of the file"
        );
        value.error("is too small for its destinations", hint);
        return None;
    }
    Some(requests)
}

impl Config {
    /// How many lanes there are, the audit included.
    #[must_use]
    pub fn lanes(&self) -> usize {
        let audit = self.rule_file().needs_audit() && !self.destinations.is_empty();
        self.destinations.len() + usize::from(audit)
    }

    /// How many requests may be in flight in the whole process.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let default = IN_FLIGHT.max(self.destinations.len());
        self.limits.in_flight.unwrap_or(default)
    }

    /// How many bytes all windows may hold, with what waits inside librdkafka.
    #[must_use]
    pub fn window_bytes(&self) -> usize {
        let needed = self.lanes().saturating_mul(LANE_BYTES_MIN);
        self.limits.window_bytes.unwrap_or(WINDOW_BYTES.max(needed))
    }
}
