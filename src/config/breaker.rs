//! `breaker` and `dead_letters`: when a destination is left alone, and when its lane asks for a person.

use std::time::Duration;

use super::reader::Reader;
use crate::lane::{BrakeMode, BrakeOptions, BreakerOptions};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads `breaker` over what `options` holds.
pub(super) fn breaker(reader: &Reader<'_>, options: &mut BreakerOptions) {
    let window = Duration::from_secs(1)..=DAY;
    options.window = reader.read("window", options.window, |value| value.duration(window));
    options.failure_ratio = part(reader, "failure_ratio", options.failure_ratio);
    options.min_attempts = number(reader, "min_attempts", options.min_attempts);
    let wait = Duration::from_millis(10)..=DAY;
    let first = reader.take("probe_interval");
    if let Some(value) = &first {
        let read = value.duration(wait.clone());
        options.probe_interval = read.unwrap_or(options.probe_interval);
    }
    let most = reader.take("probe_interval_max");
    if let Some(value) = &most {
        let read = value.duration(wait);
        options.probe_interval_max = read.unwrap_or(options.probe_interval_max);
    }
    if options.probe_interval <= options.probe_interval_max {
        return;
    }
    let hint =
        "the waits between probes begin with probe_interval and double up to probe_interval_max";
    match (&most, &first) {
        (Some(value), _) => value.error("is shorter than `probe_interval`", hint),
        (None, Some(value)) => value.error("is longer than `probe_interval_max`", hint),
        (None, None) => {}
    }
    options.probe_interval_max = options.probe_interval;
}

/// Reads `dead_letters` over what is there: how much of an answer a dead letter keeps, and the brake.
pub(super) fn dead_letters(
    reader: &Reader<'_>,
    excerpt_bytes: &mut usize,
    options: &mut BrakeOptions,
) {
    let excerpt = 0..=64 * 1024;
    *excerpt_bytes = reader.read("excerpt", *excerpt_bytes, |value| value.size(excerpt));
    options.rejected = number(reader, "brake_rejected", options.rejected);
    options.ratio = part(reader, "brake_ratio", options.ratio);
    let window = Duration::from_secs(1)..=30 * DAY;
    options.window = reader.read("brake_window", options.window, |value| {
        value.duration(window)
    });
    let modes = [("slow", BrakeMode::Slow), ("stop", BrakeMode::Stop)];
    options.mode = reader.read("brake", options.mode, |value| value.one_of(&modes, &[]));
}

/// A part of one, of which nothing at all would be reached by everything.
fn part(reader: &Reader<'_>, key: &'static str, default: f64) -> f64 {
    reader.read(key, default, |value| {
        let ratio = value.ratio()?;
        if ratio == 0.0 {
            value.error(
                "is out of range",
                "write a number above 0, up to 1, like 0.5",
            );
            return None;
        }
        Some(ratio)
    })
}

fn number(reader: &Reader<'_>, key: &'static str, default: u32) -> u32 {
    reader.read(key, default, |value| {
        u32::try_from(value.integer(1..=1_000_000)?).ok()
    })
}
