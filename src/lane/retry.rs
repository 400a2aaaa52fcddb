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

/// How long an endpoint is held when most of what it answers is that, and it does not say for how
/// long: 1 s, doubling up to a minute.
const HOLD_MIN: Duration = Duration::from_secs(1);
const HOLD_MAX: Duration = Duration::from_secs(60);

/// A hold of an endpoint that pushes back some and takes most: at least this.
const SHORT_HOLD_MIN: Duration = Duration::from_millis(1);

/// One answer of so many may be a push-back, or the endpoint counts as one that asks for less.
const ANSWERS_PER_PUSH_BACK: u32 = 4;

/// So many records are taken as passed before anything is heard: a first push-back is no share yet.
const CREDIT: u32 = 32;

/// What was heard counts half as much when there are so many answers.
const ANSWERS_MAX: u32 = 256;

/// The time until which an endpoint is left alone because it asked for it.
///
/// A receiver that pushes back here and there, and takes the rest, is left alone for as long as it
/// had been asked since the last hold, so that it gets about half of what it might take. One that
/// pushes back much more is left alone for a second, and for twice as long each time.
#[derive(Debug)]
pub(super) struct Hold {
    until: Tick,
    /// Push-backs in a row, none of them during a hold.
    in_a_row: u32,
    /// Since when it has been asked without a hold.
    asked_since: Option<Tick>,
    /// What it answered lately.
    passes: u32,
    push_backs: u32,
    /// Whether the push-backs in a row are of an endpoint that takes little else.
    asks_for_less: bool,
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            until: Tick::default(),
            in_a_row: 0,
            asked_since: None,
            passes: CREDIT,
            push_backs: 0,
            asks_for_less: false,
        }
    }
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
        *self = Self::default();
    }

    /// The receiver took a record: its next push-back starts small again.
    pub(super) fn delivered(&mut self, now: Tick) {
        self.in_a_row = 0;
        self.asked_since.get_or_insert(now);
        self.passes += 1;
        self.forget_half();
    }

    fn forget_half(&mut self) {
        if self.passes + self.push_backs >= ANSWERS_MAX {
            self.passes /= 2;
            self.push_backs /= 2;
        }
    }

    /// It fails: what it took before counts no more, and it is not asked again at once.
    pub(super) fn distrust(&mut self) {
        self.passes = 0;
    }

    /// How long it is left alone when it does not say for how long.
    fn length(&mut self, now: Tick) -> Duration {
        let much = self.push_backs * ANSWERS_PER_PUSH_BACK > self.passes + self.push_backs;
        if std::mem::replace(&mut self.asks_for_less, much) != much {
            self.in_a_row = 0;
        }
        let doubled = |least: Duration| least.saturating_mul(1 << self.in_a_row.min(16));
        if much {
            return doubled(HOLD_MIN).min(HOLD_MAX);
        }
        let asked_for = self
            .asked_since
            .map_or(Duration::ZERO, |since| now.since(since));
        asked_for.max(doubled(SHORT_HOLD_MIN)).min(HOLD_MIN)
    }

    /// The receiver asks for less. Answers to requests that were sent before the hold began do not lengthen it by themselves.
    pub(super) fn push_back(&mut self, now: Tick, asked: Option<Duration>, cap: Duration) {
        let was_held = self.is_held(now);
        self.asked_since.get_or_insert(now);
        self.push_backs += 1;
        self.forget_half();
        let wait = (!was_held).then(|| self.length(now).min(cap));
        if let Some(asked) = asked {
            self.hold(now, asked.min(cap));
        }
        // "Come back at once" is no hold at all: taken at its word, a receiver that pushes everything back would be asked without a pause.
        if let Some(wait) = wait
            && asked.is_none_or(|asked| asked < HOLD_MIN)
        {
            self.in_a_row = self.in_a_row.saturating_add(1);
            self.hold(now, wait);
        }
    }

    /// Holds the endpoint for `wait` from now, or longer if it is held longer already.
    pub(super) fn hold(&mut self, now: Tick, wait: Duration) {
        self.until = self.until.max(now + wait);
        self.asked_since = Some(self.until);
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

    /// A hold of a receiver that has pushed back nearly all of late.
    fn pushed_back_before() -> Hold {
        Hold {
            passes: 0,
            push_backs: 20,
            ..Hold::default()
        }
    }

    #[test]
    fn one_push_back_of_many_holds_for_as_long_as_was_asked_before() {
        let ms = |ms| Tick(Duration::from_millis(ms));
        let mut hold = Hold::default();
        hold.delivered(ms(1000));
        hold.push_back(ms(1010), None, SECOND);
        assert_eq!(hold.until(), ms(1020));
        hold.push_back(ms(1015), None, SECOND);
        assert_eq!(hold.until(), ms(1020), "answers that arrive together");
        hold.delivered(ms(1016));
        hold.push_back(ms(1025), None, SECOND);
        assert_eq!(hold.until(), ms(1030));
        hold.delivered(ms(1100));
        hold.push_back(ms(9000), None, SECOND);
        assert_eq!(hold.until(), ms(10_000), "a second at most");
    }

    #[test]
    fn an_endpoint_that_pushes_back_everything_is_soon_held_for_a_second_and_longer() {
        let mut hold = Hold::default();
        let (mut now, mut asked) = (tick(1), 0);
        while now < tick(600) {
            hold.push_back(now, None, 3600 * SECOND);
            now = hold.until();
            asked += 1;
        }
        assert!(asked < 30, "asked {asked} times in ten minutes");
    }

    #[test]
    fn a_push_back_that_says_at_once_is_held_all_the_same() {
        let mut hold = pushed_back_before();
        hold.push_back(tick(1), Some(Duration::ZERO), 3600 * SECOND);
        assert_eq!(hold.until(), tick(2));
        hold.push_back(tick(2), Some(Duration::ZERO), 3600 * SECOND);
        assert_eq!(hold.until(), tick(4), "and doubles like any other");
    }

    #[test]
    fn answers_that_arrive_together_double_the_hold_once() {
        let mut hold = pushed_back_before();
        let cap = 3600 * SECOND;
        for _ in 0..16 {
            hold.push_back(tick(0), None, cap);
        }
        assert_eq!(hold.until(), tick(1));
        hold.push_back(tick(1), None, cap);
        assert_eq!(hold.until(), tick(3));
        hold.delivered(tick(4));
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
