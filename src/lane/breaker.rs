//! When an endpoint's failures are too many to go on: by their part in a sliding window, or in a row.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Tick;
use crate::delivery::DeliveryId;

use super::options::BreakerOptions;

/// The window is cut into so many parts; what is counted leaves it a part at a time.
const PARTS: u32 = 12;

/// Failures in a row that open the endpoint, however far apart, when they come from at least two records.
const IN_A_ROW: u32 = 5;

/// What was heard of an endpoint lately.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    parts: VecDeque<Part>,
    row: Failures,
}

/// What was heard in one part of the window.
#[derive(Debug, Default)]
struct Part {
    number: u128,
    passed: u32,
    failed: Failures,
}

/// Failures, and whether they are all one record's.
#[derive(Debug, Default, Clone, Copy)]
struct Failures {
    count: u32,
    of: Option<DeliveryId>,
    several: bool,
}

impl Failures {
    fn add(&mut self, id: DeliveryId) {
        self.count = self.count.saturating_add(1);
        self.several |= *self.of.get_or_insert(id) != id;
    }
}

impl Breaker {
    /// The receiver took a record, or said that it never will: it does its work.
    pub(super) fn passed(&mut self, options: &BreakerOptions, now: Tick) {
        self.row = Failures::default();
        self.part(options, now).passed += 1;
    }

    /// The receiver failed. True when that is one failure too many.
    ///
    /// One record alone never opens its endpoint: it may be the record.
    pub(super) fn failed(&mut self, options: &BreakerOptions, now: Tick, id: DeliveryId) -> bool {
        self.row.add(id);
        self.part(options, now).failed.add(id);
        if self.row.count >= IN_A_ROW && self.row.several {
            return true;
        }
        let mut all = Failures::default();
        let mut passed = 0_u32;
        for part in &self.parts {
            passed = passed.saturating_add(part.passed);
            all.count = all.count.saturating_add(part.failed.count);
            all.several |= part.failed.several
                || part
                    .failed
                    .of
                    .is_some_and(|of| *all.of.get_or_insert(of) != of);
        }
        let total = f64::from(all.count) + f64::from(passed);
        all.several
            && total >= f64::from(options.min_attempts)
            && f64::from(all.count) >= options.failure_ratio * total
    }

    /// Whether it has heard of a failure after which nothing has passed.
    pub(super) fn has_failures(&self) -> bool {
        self.row.count > 0
    }

    fn part(&mut self, options: &BreakerOptions, now: Tick) -> &mut Part {
        let length = (options.window / PARTS).max(Duration::from_millis(1));
        let number = now.0.as_nanos() / length.as_nanos();
        let old = |part: &Part| part.number + u128::from(PARTS) <= number;
        while self.parts.front().is_some_and(old) {
            self.parts.pop_front();
        }
        if self.parts.back().is_none_or(|part| part.number != number) {
            self.parts.push_back(Part {
                number,
                ..Part::default()
            });
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> DeliveryId {
        DeliveryId(n.to_be_bytes())
    }

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    const OPTIONS: BreakerOptions = BreakerOptions {
        window: Duration::from_secs(60),
        failure_ratio: 0.5,
        min_attempts: 10,
        probe_interval: Duration::from_secs(10),
        probe_interval_max: Duration::from_secs(300),
    };

    #[test]
    fn five_failures_in_a_row_open_however_far_apart() {
        let mut breaker = Breaker::default();
        for n in 0..4 {
            assert!(!breaker.failed(&OPTIONS, at(n * 100_000), id(u128::from(n))));
        }
        assert!(breaker.failed(&OPTIONS, at(900_000), id(1)));
    }

    #[test]
    fn one_record_alone_opens_nothing() {
        let mut breaker = Breaker::default();
        for n in 0..100 {
            assert!(!breaker.failed(&OPTIONS, at(n), id(7)));
        }
        assert!(breaker.failed(&OPTIONS, at(100), id(8)));
    }

    #[test]
    fn a_success_ends_the_row_and_the_ratio_decides() {
        let mut breaker = Breaker::default();
        let mut opened_after = None;
        for n in 0..40 {
            breaker.passed(&OPTIONS, at(1));
            for k in 0..2 {
                if breaker.failed(&OPTIONS, at(1), id(2 * n + k)) && opened_after.is_none() {
                    opened_after = Some(3 * n + k + 2);
                }
            }
        }
        assert_eq!(
            opened_after,
            Some(11),
            "two of three fail, and ten are needed"
        );
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let mut breaker = Breaker::default();
        for n in 0..9 {
            breaker.failed(&OPTIONS, at(0), id(n % 2));
            breaker.passed(&OPTIONS, at(0));
        }
        for _ in 0..30 {
            breaker.passed(&OPTIONS, at(30));
        }
        assert!(!breaker.failed(&OPTIONS, at(70), id(1)));
        assert_eq!(breaker.parts.iter().map(|p| p.failed.count).sum::<u32>(), 1);
    }
}
