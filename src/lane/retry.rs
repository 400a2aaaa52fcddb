//! When a failed record is tried again, and how long a held endpoint is left alone.

use std::time::Duration;

use crate::clock::Tick;
use crate::delivery::DeliveryId;

use super::options::RetryOptions;

/// The wait after the attempt number `attempts`, stretched or shortened by the jitter; `None` when the schedule has ended.
///
/// The jitter comes from the delivery's id and the attempt's number. It needs no random source, spreads the records that failed together,
/// and is the same in every replay of a run.
#[must_use]
pub(super) fn delay_after(
    options: &RetryOptions,
    id: DeliveryId,
    attempts: u32,
) -> Option<Duration> {
    let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
    let delay = options.schedule.get(index)?;
    Some(delay.mul_f64((1.0 + options.jitter * spread(id, attempts)).max(0.0)))
}

/// A number from -1 to 1, evenly spread over ids and attempts: the mixing function of SplitMix64.
fn spread(id: DeliveryId, attempts: u32) -> f64 {
    let folded = u128::from_be_bytes(id.0);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both halves are folded into one"
    )]
    let mut x = (folded ^ (folded >> 64)) as u64;
    x = x.wrapping_add(u64::from(attempts).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits are kept, as many as fit"
    )]
    let unit = (x >> 11) as f64 / (1_u64 << 53) as f64;
    unit.mul_add(2.0, -1.0)
}

/// The wait before a dead letter that could not be written is written again: 1 s, doubling up to 30 s.
#[must_use]
pub(super) fn write_delay(failures: u32) -> Duration {
    Duration::from_secs(1_u64 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(30))
}

/// How long an endpoint is held when it asks for less without saying for how long: 1 s, doubling up to a minute.
const HOLD_MIN: Duration = Duration::from_secs(1);
const HOLD_MAX: Duration = Duration::from_secs(60);

/// The time until which an endpoint is left alone because it asked for it.
#[derive(Debug, Default)]
pub(super) struct Hold {
    until: Tick,
    /// Push-backs in a row, none of them during a hold.
    in_a_row: u32,
}

impl Hold {
    /// Whether the endpoint is held.
    pub(super) fn is_held(&self, now: Tick) -> bool {
        now < self.until
    }

    /// The end of the hold.
    pub(super) fn until(&self) -> Tick {
        self.until
    }

    /// Ends the hold: a person says so.
    pub(super) fn release(&mut self) {
        self.until = Tick::default();
        self.in_a_row = 0;
    }

    /// The receiver took a record: its next push-back starts small again.
    pub(super) fn delivered(&mut self) {
        self.in_a_row = 0;
    }

    /// The receiver asks for less. Answers to requests that were sent before the hold began do not lengthen it by themselves.
    pub(super) fn push_back(&mut self, now: Tick, asked: Option<Duration>, cap: Duration) {
        let was_held = self.is_held(now);
        if let Some(asked) = asked {
            self.hold(now, asked.min(cap));
        }
        // "Come back at once" is no hold at all: taken at its word, a receiver that pushes everything back would be asked without a pause.
        if asked.is_none_or(|asked| asked < HOLD_MIN) && !was_held {
            let wait = HOLD_MIN
                .saturating_mul(1 << self.in_a_row.min(6))
                .min(HOLD_MAX)
                .min(cap);
            self.in_a_row = self.in_a_row.saturating_add(1);
            self.hold(now, wait);
        }
    }

    /// Holds the endpoint for `wait` from now, or longer if it is held longer already.
    pub(super) fn hold(&mut self, now: Tick, wait: Duration) {
        self.until = self.until.max(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tick(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    #[test]
    fn the_schedule_is_followed_within_its_jitter_and_then_ends() {
        let options = RetryOptions {
            schedule: vec![10 * SECOND, 100 * SECOND],
            jitter: 0.2,
            ..RetryOptions::default()
        };
        let mut seen = Vec::new();
        for n in 0..200_u128 {
            let id = DeliveryId(n.to_be_bytes());
            let delay = delay_after(&options, id, 1).expect("the schedule has a first entry");
            assert!(delay >= 8 * SECOND && delay <= 12 * SECOND, "{delay:?}");
            seen.push(delay);
            assert!(delay_after(&options, id, 2).is_some());
            assert_eq!(delay_after(&options, id, 3), None);
            assert_eq!(delay_after(&options, id, 0), None);
        }
        let early = seen.iter().filter(|d| **d < 10 * SECOND).count();
        assert!(
            (60..140).contains(&early),
            "the jitter leans to one side: {early} of 200"
        );
    }

    #[test]
    fn a_longer_hold_wins() {
        let mut hold = Hold::default();
        assert!(!hold.is_held(tick(0)));
        hold.hold(tick(10), 5 * SECOND);
        hold.hold(tick(12), 6 * SECOND);
        hold.hold(tick(13), SECOND);
        assert_eq!(hold.until(), tick(18));
        assert!(!hold.is_held(tick(18)));
    }

    #[test]
    fn a_push_back_that_says_at_once_is_held_all_the_same() {
        let mut hold = Hold::default();
        hold.push_back(tick(1), Some(Duration::ZERO), 3600 * SECOND);
        assert_eq!(hold.until(), tick(2));
        hold.push_back(tick(2), Some(Duration::ZERO), 3600 * SECOND);
        assert_eq!(hold.until(), tick(4), "and doubles like any other");
    }

    #[test]
    fn answers_that_arrive_together_double_the_hold_once() {
        let mut hold = Hold::default();
        let cap = 3600 * SECOND;
        for _ in 0..16 {
            hold.push_back(tick(0), None, cap);
        }
        assert_eq!(hold.until(), tick(1));
        hold.push_back(tick(1), None, cap);
        assert_eq!(hold.until(), tick(3));
        hold.delivered();
        hold.push_back(tick(4), None, cap);
        assert_eq!(hold.until(), tick(5));
        hold.push_back(tick(5), Some(7200 * SECOND), cap);
        assert_eq!(
            hold.until(),
            tick(3605),
            "the setting caps what a receiver may ask for"
        );
    }
}
