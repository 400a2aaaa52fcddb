//! When an endpoint's failures are too many to go on: by their part in a sliding window, or in a row.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Tick;
use crate::delivery::DeliveryId;

use super::options::BreakerOptions;

/// The window is cut into so many parts; what is counted leaves it a part at a time.
const PARTS: u32 = 12;

/// Failures in a row that open the endpoint, however far apart, when they come from at least two
/// records and the window holds too little for the ratio to say anything. With many in flight a few
/// in a row are chance.
const IN_A_ROW: u32 = 5;

/// A record that passed within the window asks for one failure more, and so many ask for no more
/// than that.
const IN_A_ROW_MORE: u32 = 3;

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
        if total < f64::from(options.min_attempts) {
            let needed = IN_A_ROW + passed.min(IN_A_ROW_MORE);
            return self.row.count >= needed && self.row.several;
        }
        all.several && f64::from(all.count) >= options.failure_ratio * total
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
    fn a_row_says_nothing_where_the_ratio_does() {
        let mut breaker = Breaker::default();
        for n in 0..10 {
            breaker.passed(&OPTIONS, at(n));
        }
        let opened = (0..20).position(|n| breaker.failed(&OPTIONS, at(10), id(n)));
        assert_eq!(opened, Some(9), "ten of twenty");
        let mut breaker = Breaker::default();
        for n in 0..4 {
            breaker.passed(&OPTIONS, at(n));
        }
        let few = BreakerOptions {
            min_attempts: 30,
            ..OPTIONS
        };
        let opened = (0..20).position(|n| breaker.failed(&few, at(10), id(n)));
        assert_eq!(opened, Some(7), "a few have passed, so five may be chance");
    }

    /// The part of minutes in which an endpoint opens that fails so often at random, asked so often
    /// a minute, and for how long it was looked at.
    fn opening_minutes(options: &BreakerOptions, failing: f64, a_minute: u64, fresh: bool) -> f64 {
        let minutes = (400_000 / a_minute).clamp(200, 20_000);
        let mut seed = 0x9e37_79b9_u64 + a_minute;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut breaker = Breaker::default();
        let mut opened = 0_u32;
        for minute in 0..minutes {
            let mut opens = false;
            if fresh {
                breaker = Breaker::default();
            }
            for n in 0..a_minute {
                let ms = minute * 60_000 + n * 60_000 / a_minute;
                let now = Tick(Duration::from_millis(ms));
                if random() >= failing {
                    breaker.passed(options, now);
                } else if breaker.failed(options, now, id(u128::from(n))) {
                    opens = true;
                    breaker = Breaker::default();
                }
            }
            opened += u32::from(opens);
        }
        f64::from(opened) / minutes as f64
    }

    #[test]
    fn a_receiver_that_fails_three_times_of_ten_opens_in_less_than_one_minute_of_a_hundred() {
        let options = BreakerOptions::default();
        let mut worst = 0.0_f64;
        for a_minute in [
            2, 5, 8, 12, 20, 30, 40, 50, 60, 80, 100, 150, 300, 1000, 3000,
        ] {
            for fresh in [false, true] {
                // What a fresh window says is said by its first hundreds of answers.
                if fresh && a_minute > 300 {
                    continue;
                }
                let part = opening_minutes(&options, 0.3, a_minute, fresh);
                println!("{a_minute} a minute, fresh: {fresh}: {part}");
                worst = worst.max(part);
            }
        }
        assert!(worst < 0.01, "{worst}");
    }

    #[test]
    fn a_receiver_that_fails_eight_times_of_ten_opens_in_nearly_every_minute() {
        for a_minute in [100, 300, 3000] {
            let part = opening_minutes(&BreakerOptions::default(), 0.8, a_minute, true);
            assert!(part > 0.99, "{a_minute} a minute: {part}");
        }
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
